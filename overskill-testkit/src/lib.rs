//! overskill-testkit.
