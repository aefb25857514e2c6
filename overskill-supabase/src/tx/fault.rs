//! What Postgres says went wrong, as an [`Error`].

use overskill_core::{Effect, Error, ErrorKind, Retry};
use std::time::Duration;
use tokio_postgres::error::SqlState;

/// The backend's name in errors and reports.
pub(crate) const BACKEND: &str = "supabase";

/// What the database says when writes of an app are paused, and when its tables are others.
const PAUSED: &str = "OS001";
const MOVED: &str = "OS002";

const PAUSED_PUBLIC: &str =
    "The app's data is being moved, and nothing can be changed for the moment. Try again in a few seconds.";

/// Whether writes have to wait for a move.
pub(crate) fn is_paused(e: &Error) -> bool {
    e.context().any(|(key, value)| key == "sqlstate" && value == PAUSED)
}

/// Whether a transaction found that its app's tables are elsewhere by now, or gone: it did nothing, and can begin anew.
pub(crate) fn is_moved(e: &Error) -> bool {
    let gone = [MOVED, SqlState::UNDEFINED_TABLE.code(), SqlState::INVALID_SCHEMA_NAME.code()];
    e.context().any(|(key, value)| key == "sqlstate" && gone.contains(&value))
}

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
        let source = std::error::Error::source(e).map(ToString::to_string);
        let message = match source {
            _ if e.is_closed() => "the connection to the database was lost".to_owned(),
            // The driver has no name for it.
            Some(why) if e.to_string().contains("TLS") => {
                format!("no TLS with the database: {why}; check `sslmode`, and by which certificates it is trusted")
            }
            _ => format!("the database did not answer: {e}"),
        };
        return Error::new(ErrorKind::Unavailable, message).at(BACKEND, operation);
    };
    let code = db.code();
    match code.code() {
        PAUSED => {
            let message = "the app is being moved: writes have to wait until that is done; try again";
            let error = Error::new(ErrorKind::Unavailable, message).retry_as(Retry::After(Duration::from_secs(2)));
            return error.public(PAUSED_PUBLIC).at(BACKEND, operation).with("sqlstate", PAUSED);
        }
        MOVED => {
            let message = "the app was moved, and its data is in other tables: begin anew";
            return Error::new(ErrorKind::Unavailable, message).at(BACKEND, operation).with("sqlstate", MOVED);
        }
        _ => {}
    }
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
