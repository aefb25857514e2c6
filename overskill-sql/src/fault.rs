//! What the database said, as core's error.

use overskill_core::{Effect, Error, ErrorKind, Retry};
use std::borrow::Cow;

/// How often a body that lost a race is run again before the caller hears of it.
#[cfg(feature = "postgres")]
pub(crate) const MAX_REPEATS: u32 = 4;

/// A failure inside of an operation, before it knows the operation's name.
#[derive(Debug)]
pub(crate) struct Fault {
    error: Error,
    /// Nothing happened, and the same again may well succeed at once.
    again: bool,
}

impl Fault {
    /// What the caller gets.
    pub(crate) fn at(self, backend: &'static str, operation: &'static str) -> Error {
        if self.error.backend().is_empty() { self.error.at(backend, operation) } else { self.error }
    }

    /// Adds context. Never a secret.
    pub(crate) fn with(self, key: &'static str, value: impl std::fmt::Display) -> Self {
        Self { error: self.error.with(key, value), ..self }
    }

    /// Whether the body may be run again.
    #[cfg(feature = "postgres")] // SQLite has one writer: nothing is lost in a race
    pub(crate) fn is_worth_repeating(&self) -> bool {
        self.again
    }

    /// The failure of a commit, or of a statement that commits itself: whether it happened is unknown, unless the
    /// database said no.
    pub(crate) fn of_commit(e: sqlx::Error) -> Self {
        let said_no = matches!(&e, sqlx::Error::Database(db) if said_no(db.code()));
        let fault = Self::from(e);
        let (effect, again) = if said_no { (Effect::None, fault.again) } else { (Effect::Unknown, false) };
        Self { error: fault.error.effect_as(effect), again }
    }
}

impl From<Error> for Fault {
    fn from(error: Error) -> Self {
        Self { error, again: false }
    }
}

/// A failure before anything was committed: nothing happened.
impl From<sqlx::Error> for Fault {
    fn from(e: sqlx::Error) -> Self {
        let (kind, message, again) = match &e {
            sqlx::Error::Database(db) => match db.code() {
                Some(code) => of_code(&code),
                None => (ErrorKind::Unexpected, "the database refused the statement", false),
            },
            sqlx::Error::Io(_) => (ErrorKind::Unavailable, "the connection to the database was lost", true),
            sqlx::Error::Tls(_) => (ErrorKind::Unavailable, "no TLS with the database: check `sslmode`", false),
            sqlx::Error::PoolTimedOut => (ErrorKind::Unavailable, "no connection became free in time", false),
            sqlx::Error::PoolClosed => (ErrorKind::Unavailable, "the stores were closed", false),
            sqlx::Error::WorkerCrashed => (ErrorKind::Unavailable, "the connection's thread ended", false),
            // May quote the URL, which may hold a password: not passed on.
            sqlx::Error::Configuration(_) => {
                let message = "database URL is malformed: it must be `postgres://user@host:port/database`";
                return Error::invalid(message).into();
            }
            _ => (ErrorKind::Unexpected, "the database answered what this library does not understand", false),
        };
        let error = Error::new(kind, message).effect_as(Effect::None).caused_by(e);
        Self { error: if again { error.retry_as(Retry::Backoff) } else { error }, again }
    }
}

/// SQLite's codes are numbers, Postgres' SQLSTATEs have five characters.
fn of_code(code: &str) -> (ErrorKind, &'static str, bool) {
    match code.parse::<i32>() {
        Ok(extended) if code.len() != 5 => of_sqlite(extended & 0xff),
        _ => of_sqlstate(code),
    }
}

fn of_sqlite(primary: i32) -> (ErrorKind, &'static str, bool) {
    use ErrorKind::{Denied, Invalid, LimitExceeded, Unavailable, Unexpected};
    let (kind, message) = match primary {
        5 | 6 => (Unavailable, "another process keeps the database locked for longer than `busy_timeout`"),
        7 => (Unavailable, "no memory left"),
        8 => (Denied, "the database cannot be written to: check the permissions of the file and of its folder"),
        10 => (Unavailable, "reading or writing the database file failed"),
        11 => (Unexpected, "the database file is damaged: restore a copy"),
        13 => (Unavailable, "the disk is full: free some space"),
        14 => (Unavailable, "the database file cannot be opened: check its path and permissions"),
        18 => (LimitExceeded, "a value is larger than a database row may be"),
        26 => (Invalid, "the file is not an SQLite database: name another path"),
        _ => (Unexpected, "the database refused the statement"),
    };
    (kind, message, false)
}

fn of_sqlstate(code: &str) -> (ErrorKind, &'static str, bool) {
    use ErrorKind::{Conflict, Denied, Invalid, LimitExceeded, Timeout, Unauthenticated, Unavailable, Unexpected};
    match code {
        "40001" | "40P01" => (Conflict, "another transaction got in between", true),
        // Contents that somebody else collects while they are used again; the repeat puts them anew.
        "23503" => (Unexpected, "a row that is referred to is gone", true),
        "42501" => (Denied, "the database role lacks a right", false),
        "55P03" | "57014" => (Timeout, "the statement took longer than the database allows", false),
        "57P01" | "57P02" | "57P03" => (Unavailable, "the database shuts down or starts", true),
        "3D000" => (Invalid, "the database of the URL does not exist: create it", false),
        "22021" => (Invalid, "text may hold no NUL character, which Postgres cannot store", false),
        "25006" => (Unavailable, "the database is read-only: is it a replica?", false),
        _ => match &code[..2.min(code.len())] {
            "08" => (Unavailable, "the connection to the database was lost", true),
            "28" => (Unauthenticated, "the database refused user or password", false),
            "53" => (Unavailable, "the database has no resources left", false),
            "54" => (LimitExceeded, "a value or statement is larger than the database takes", false),
            _ => (Unexpected, "the database refused the statement", false),
        },
    }
}

/// Whether the database itself refused a commit, which it then rolled back. An I/O error of SQLite's is not a refusal:
/// what was written may be found after a restart. Nor is the shutdown of a server. A statement that was cancelled, by its
/// timeout or by hand, is: a commit that has begun is not cancelled any more.
fn said_no(code: Option<Cow<'_, str>>) -> bool {
    let Some(code) = code else { return false };
    match code.parse::<i32>() {
        Ok(extended) if code.len() != 5 => !matches!(extended & 0xff, 7 | 10 | 11),
        _ if code == "57014" => true,
        // 40003: `statement_completion_unknown`, of databases that speak Postgres.
        _ => code != "40003" && !(code.starts_with("08") || code.starts_with("57") || code.starts_with("XX")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_of_both_databases_are_told_apart() {
        assert_eq!(of_code("5").0, ErrorKind::Unavailable);
        assert_eq!(of_code("2067").1, "the database refused the statement"); // 19, a constraint
        assert_eq!(of_code("40001"), (ErrorKind::Conflict, "another transaction got in between", true));
        assert_eq!(of_code("08006").0, ErrorKind::Unavailable);
        assert_eq!(of_code("28P01").0, ErrorKind::Unauthenticated);
        assert_eq!(of_code("").0, ErrorKind::Unexpected);
    }

    #[cfg(feature = "postgres")]
    #[test]
    fn a_lost_commit_is_unknown_and_not_repeated() {
        let lost = || sqlx::Error::Io(std::io::ErrorKind::ConnectionReset.into());
        let before = Fault::from(lost());
        assert!(before.is_worth_repeating());
        assert_eq!(before.at("x", "y").effect(), Effect::None);
        let commit = Fault::of_commit(lost());
        assert!(!commit.is_worth_repeating());
        assert_eq!(commit.at("x", "y").effect(), Effect::Unknown);
    }

    #[test]
    fn an_url_is_never_repeated() {
        let secret = "postgres://u:hunter2@h/d";
        let e = Fault::from(sqlx::Error::Configuration(secret.into())).at("postgres", "connect");
        assert!(!format!("{e} {e:?}").contains("hunter2"));
    }

    #[test]
    fn a_refused_commit_did_not_happen() {
        assert!(said_no(Some("13".into())) && said_no(Some("40001".into())));
        assert!(!said_no(Some("10".into())) && !said_no(Some("778".into())));
        assert!(!said_no(Some("57P01".into())) && !said_no(None));
        assert!(said_no(Some("57014".into())) && !said_no(Some("40003".into())));
    }
}
