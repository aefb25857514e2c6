//! What Postgres says went wrong, as an [`Error`].

use overskill_core::{Effect, Error, ErrorKind};
use tokio_postgres::error::SqlState;

/// The backend's name in errors and reports.
pub(crate) const BACKEND: &str = "supabase";

/// A failure before anything was committed.
pub(crate) fn failed(operation: &'static str) -> impl Fn(tokio_postgres::Error) -> Error {
    move |e| described(&e, operation).effect_as(Effect::None)
}

/// A failure of a commit: the server's own word means that nothing happened, a lost connection means nothing at all.
pub(crate) fn failed_commit(operation: &'static str) -> impl Fn(tokio_postgres::Error) -> Error {
    move |e| {
        let effect = if e.as_db_error().is_some() && !is_gone(&e) { Effect::None } else { Effect::Unknown };
        described(&e, operation).effect_as(effect)
    }
}

/// Whether the connection is of no more use.
pub(crate) fn is_gone(e: &tokio_postgres::Error) -> bool {
    e.is_closed()
        || e.as_db_error().is_none_or(|e| e.code().code().starts_with("57P") || e.code().code().starts_with("08"))
}

/// Neither rows nor arguments are told: `DETAIL` may hold them, and so may messages of a few codes.
fn described(e: &tokio_postgres::Error, operation: &'static str) -> Error {
    let Some(db) = e.as_db_error() else {
        let message = if e.is_closed() {
            "the connection to the database was lost".to_owned()
        } else {
            format!("the database did not answer: {e}")
        };
        return Error::new(ErrorKind::Unavailable, message).at(BACKEND, operation);
    };
    let code = db.code();
    let (kind, message) = match code {
        &SqlState::QUERY_CANCELED => (ErrorKind::Timeout, "the statement took too long, or was cancelled"),
        &SqlState::LOCK_NOT_AVAILABLE => (ErrorKind::Timeout, "what the statement needs is locked by another"),
        &SqlState::T_R_SERIALIZATION_FAILURE | &SqlState::T_R_DEADLOCK_DETECTED => {
            (ErrorKind::Unavailable, "it met with another transaction: try again")
        }
        &SqlState::INSUFFICIENT_PRIVILEGE => (ErrorKind::Denied, "the database does not allow this"),
        &SqlState::UNIQUE_VIOLATION => (ErrorKind::Conflict, "there is one already"),
        &SqlState::READ_ONLY_SQL_TRANSACTION => (ErrorKind::Denied, "nothing can be written here"),
        &SqlState::PROGRAM_LIMIT_EXCEEDED => (ErrorKind::LimitExceeded, "a limit of the database was passed"),
        &SqlState::UNTRANSLATABLE_CHARACTER => (ErrorKind::Invalid, "text may not hold the character NUL"),
        code => match &code.code()[..2] {
            "22" | "23" => (ErrorKind::Invalid, "the database does not take this value"),
            "28" => (ErrorKind::Unauthenticated, "the database does not know the role or its password"),
            "08" | "53" | "57" => (ErrorKind::Unavailable, "the database is not available"),
            _ => (ErrorKind::Unexpected, "the database refused the statement"),
        },
    };
    // Our own rule says which field it is, and nothing of what was in it.
    let field = db.constraint().filter(|rule| rule.starts_with("field ") && db.table().is_none());
    let message = field.map_or_else(|| message.into(), |rule| std::borrow::Cow::from(rule.to_owned()));
    let mut error = Error::new(kind, message).at(BACKEND, operation).with("sqlstate", code.code());
    if let Some(constraint) = db.constraint() {
        error = error.with("constraint", constraint);
    }
    if let Some(table) = db.table() {
        error = error.with("table", table);
    }
    // Of these classes the message names objects of ours or the caller's own statement, and no rows.
    if matches!(&code.code()[..2], "42" | "3F" | "0A" | "28" | "57" | "53" | "54" | "55" | "25") {
        error = error.with("said", db.message());
    }
    error
}
