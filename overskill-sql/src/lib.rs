//! overskill-sql.
