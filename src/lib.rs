//! overskill facade.
