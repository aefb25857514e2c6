//! custom backend.
