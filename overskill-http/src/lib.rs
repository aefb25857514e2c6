//! overskill-http.
