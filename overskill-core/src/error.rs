//! The one error of every seam: what went wrong, whether to try again, and whether it may have happened anyway.
//!
//! # What an error means for a deployment
//!
//! | kind | [`Consequence`] | why |
//! |---|---|---|
//! | [`Invalid`](ErrorKind::Invalid), [`Conflict`](ErrorKind::Conflict), [`Unexpected`](ErrorKind::Unexpected) without effect | `StopDeployment` | the request itself is wrong: no other target would take it |
//! | [`Unauthenticated`](ErrorKind::Unauthenticated), [`Denied`](ErrorKind::Denied) | `StopDeployment` | somebody must mend the credentials; falling back would hide it |
//! | [`LimitExceeded`](ErrorKind::LimitExceeded), [`Unsupported`](ErrorKind::Unsupported), [`NotFound`](ErrorKind::NotFound) | `NextTarget` | this target cannot; another one may |
//! | [`RateLimited`](ErrorKind::RateLimited), [`Unavailable`](ErrorKind::Unavailable), [`Timeout`](ErrorKind::Timeout) without effect | `RetryThenNext` | nothing happened; it may work later |
//! | anything with [`Effect::Unknown`] | `Observe` | it may have happened: ask before acting again |
//!
//! The table is [`Error::consequence`]; a test compares the two.
//!
//! ```
//! use overskill_core::{Effect, Error, ErrorKind, Consequence, Retry};
//!
//! let e = Error::new(ErrorKind::Timeout, "no answer within 30 s").at("kv", "apply").with("app", "todo42");
//! assert_eq!((e.retry(), e.effect()), (Retry::Backoff, Effect::Unknown));
//! assert_eq!(e.consequence(), Consequence::Observe);
//! assert_eq!(e.public_message(), "The service did not answer in time.");
//! ```

use std::{borrow::Cow, error::Error as StdError, fmt, time::Duration};

/// `Result` with this crate's [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What went wrong, whichever backend said it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The caller gave something malformed. Trying again changes nothing.
    Invalid,
    /// The subject does not exist (or not for this caller).
    NotFound,
    /// It exists already, or a condition (a position, a fence, a digest) did not hold.
    Conflict,
    /// Credentials are missing, wrong or expired.
    Unauthenticated,
    /// The credentials are fine, the action is not allowed.
    Denied,
    /// A documented limit of the backend; the message names it.
    LimitExceeded,
    /// The backend asked to slow down.
    RateLimited,
    /// A deadline passed.
    Timeout,
    /// The backend is down or out of reach.
    Unavailable,
    /// The backend cannot do this at all.
    Unsupported,
    /// A fault: of the backend, or of this library.
    Unexpected,
}

impl ErrorKind {
    /// Every kind, for tables and tests.
    pub const ALL: [Self; 11] = [
        Self::Invalid,
        Self::NotFound,
        Self::Conflict,
        Self::Unauthenticated,
        Self::Denied,
        Self::LimitExceeded,
        Self::RateLimited,
        Self::Timeout,
        Self::Unavailable,
        Self::Unsupported,
        Self::Unexpected,
    ];

    /// A stable word for logs, metrics and stored records.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Invalid => "invalid",
            Self::NotFound => "not_found",
            Self::Conflict => "conflict",
            Self::Unauthenticated => "unauthenticated",
            Self::Denied => "denied",
            Self::LimitExceeded => "limit_exceeded",
            Self::RateLimited => "rate_limited",
            Self::Timeout => "timeout",
            Self::Unavailable => "unavailable",
            Self::Unsupported => "unsupported",
            Self::Unexpected => "unexpected",
        }
    }
}

impl fmt::Display for ErrorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// May the same call be made again?
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Retry {
    /// No: the answer would be the same.
    Never,
    /// Yes, after the caller's own backoff.
    Backoff,
    /// Yes, but not before this long has passed.
    After(Duration),
}

/// May the failed call have changed something?
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Effect {
    /// Provably not.
    None,
    /// It may have. **Observe before acting again.**
    Unknown,
}

/// What a failed call means for the deployment that made it: the table of this module.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Consequence {
    /// No target would take it, or nobody should try before a person has looked.
    StopDeployment,
    /// This target cannot; ask the next one.
    NextTarget,
    /// Nothing happened: retry, then ask the next one.
    RetryThenNext,
    /// It may have happened: ask the target what it runs, adopt what landed, and only then go on.
    Observe,
}

/// Why a call failed. One word wide.
///
/// It has two messages: [`public_message`](Error::public_message) may be shown to anybody; `Display` and `Debug`
/// are for operators and name backend, operation and context. **Neither may hold a secret**: URLs go in without their
/// query, tokens never.
pub struct Error(Box<Inner>);

struct Inner {
    kind: ErrorKind,
    retry: Retry,
    effect: Effect,
    backend: Cow<'static, str>,
    operation: &'static str,
    message: Cow<'static, str>,
    public: Option<Cow<'static, str>>,
    context: Vec<(&'static str, String)>,
    source: Option<Box<dyn StdError + Send + Sync>>,
}

impl Error {
    /// An error of `kind` with that kind's usual [`Retry`] and [`Effect`].
    ///
    /// `message` is internal: it says what happened, with names and limits, and never holds a secret.
    pub fn new(kind: ErrorKind, message: impl Into<Cow<'static, str>>) -> Self {
        let retry = match kind {
            ErrorKind::RateLimited | ErrorKind::Timeout | ErrorKind::Unavailable => Retry::Backoff,
            _ => Retry::Never,
        };
        let effect = match kind {
            ErrorKind::Timeout | ErrorKind::Unavailable | ErrorKind::Unexpected => Effect::Unknown,
            _ => Effect::None,
        };
        Self(Box::new(Inner {
            kind,
            retry,
            effect,
            backend: Cow::Borrowed(""),
            operation: "",
            message: message.into(),
            public: None,
            context: Vec::new(),
            source: None,
        }))
    }

    /// Malformed input; the message names the field, the limit and what was given.
    pub fn invalid(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(ErrorKind::Invalid, message)
    }

    /// The subject does not exist.
    pub fn not_found(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(ErrorKind::NotFound, message)
    }

    /// A condition did not hold.
    pub fn conflict(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(ErrorKind::Conflict, message)
    }

    /// A fault, with its cause. The effect is unknown unless said otherwise.
    pub fn unexpected(
        message: impl Into<Cow<'static, str>>,
        source: impl Into<Box<dyn StdError + Send + Sync>>,
    ) -> Self {
        Self::new(ErrorKind::Unexpected, message).caused_by(source)
    }

    /// Names the backend (a runtime value: two accounts of one provider can live side by side) and the operation.
    pub fn at(mut self, backend: impl Into<Cow<'static, str>>, operation: &'static str) -> Self {
        self.0.backend = backend.into();
        self.0.operation = operation;
        self
    }

    /// Adds context, such as an app or a path. Never a secret.
    pub fn with(mut self, key: &'static str, value: impl fmt::Display) -> Self {
        self.0.context.push((key, value.to_string()));
        self
    }

    /// Sets what may be shown to anybody, in place of the kind's own sentence.
    pub fn public(mut self, message: impl Into<Cow<'static, str>>) -> Self {
        self.0.public = Some(message.into());
        self
    }

    /// The underlying cause, for `source()`.
    pub fn caused_by(mut self, source: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        self.0.source = Some(source.into());
        self
    }

    /// Overrides the kind's [`Retry`].
    pub fn retry_as(mut self, retry: Retry) -> Self {
        self.0.retry = retry;
        self
    }

    /// Overrides the kind's [`Effect`].
    pub fn effect_as(mut self, effect: Effect) -> Self {
        self.0.effect = effect;
        self
    }

    /// What went wrong.
    pub fn kind(&self) -> ErrorKind {
        self.0.kind
    }

    /// Whether the same call may be made again.
    pub fn retry(&self) -> Retry {
        self.0.retry
    }

    /// Whether the call may have happened anyway.
    pub fn effect(&self) -> Effect {
        self.0.effect
    }

    /// The backend that failed, or `""`.
    pub fn backend(&self) -> &str {
        &self.0.backend
    }

    /// The operation that failed, or `""`.
    pub fn operation(&self) -> &'static str {
        self.0.operation
    }

    /// The internal message, without backend and context.
    pub fn message(&self) -> &str {
        &self.0.message
    }

    /// The context that was added, in order.
    pub fn context(&self) -> impl Iterator<Item = (&'static str, &str)> {
        self.0.context.iter().map(|(k, v)| (*k, v.as_str()))
    }

    /// What may be shown to anybody: one sentence, no names of ours.
    pub fn public_message(&self) -> &str {
        if let Some(public) = &self.0.public {
            return public;
        }
        match self.0.kind {
            // What is wrong with the caller's own input is the caller's to know.
            ErrorKind::Invalid | ErrorKind::LimitExceeded => &self.0.message,
            ErrorKind::NotFound => "It does not exist, or you may not see it.",
            ErrorKind::Conflict => "It was changed in the meantime, or exists already.",
            ErrorKind::Unauthenticated => "Sign in again.",
            ErrorKind::Denied => "You may not do this.",
            ErrorKind::RateLimited => "Too many requests; try again later.",
            ErrorKind::Timeout => "The service did not answer in time.",
            ErrorKind::Unavailable => "The service is not available; try again later.",
            ErrorKind::Unsupported => "This is not supported here.",
            ErrorKind::Unexpected => "Something went wrong on our side.",
        }
    }

    /// What this failure means for a deployment: the table of [this module](crate::error).
    pub fn consequence(&self) -> Consequence {
        match (self.0.effect, self.0.kind) {
            (Effect::Unknown, _) => Consequence::Observe,
            (
                _,
                ErrorKind::Invalid
                | ErrorKind::Conflict
                | ErrorKind::Unauthenticated
                | ErrorKind::Denied
                | ErrorKind::Unexpected,
            ) => Consequence::StopDeployment,
            (_, ErrorKind::LimitExceeded | ErrorKind::Unsupported | ErrorKind::NotFound) => Consequence::NextTarget,
            (_, ErrorKind::RateLimited | ErrorKind::Unavailable | ErrorKind::Timeout) => Consequence::RetryThenNext,
        }
    }
}

/// For what parses without fail, such as an id that is one already.
impl From<std::convert::Infallible> for Error {
    fn from(never: std::convert::Infallible) -> Self {
        match never {}
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Inner { backend, operation, message, kind, context, .. } = &*self.0;
        match (backend.is_empty(), operation.is_empty()) {
            (false, false) => write!(f, "{backend}/{operation}: ")?,
            (false, true) => write!(f, "{backend}: ")?,
            (true, false) => write!(f, "{operation}: ")?,
            (true, true) => {}
        }
        write!(f, "{message} ({kind})")?;
        for (key, value) in context {
            write!(f, " {key}={value}")?;
        }
        Ok(())
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self} [{:?}, {:?}]", self.0.retry, self.0.effect)?;
        let mut source = StdError::source(self);
        while let Some(cause) = source {
            write!(f, "\n  caused by: {cause}")?;
            source = cause.source();
        }
        Ok(())
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.0.source.as_deref().map(|s| s as _)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_is_one_word_wide() {
        assert_eq!(size_of::<Error>(), size_of::<usize>());
        assert_eq!(size_of::<Result<()>>(), size_of::<usize>());
    }

    #[test]
    fn the_consequence_table_holds_for_every_kind_and_effect() {
        for kind in ErrorKind::ALL {
            let unknown = Error::new(kind, "x").effect_as(Effect::Unknown);
            assert_eq!(unknown.consequence(), Consequence::Observe, "{kind}");
            let want = match kind.as_str() {
                "invalid" | "conflict" | "unauthenticated" | "denied" | "unexpected" => Consequence::StopDeployment,
                "limit_exceeded" | "unsupported" | "not_found" => Consequence::NextTarget,
                "rate_limited" | "unavailable" | "timeout" => Consequence::RetryThenNext,
                other => panic!("{other} is not in the table"),
            };
            let none = Error::new(kind, "x").effect_as(Effect::None);
            assert_eq!(none.consequence(), want, "{kind}");
        }
    }

    #[test]
    fn display_names_backend_operation_kind_and_context() {
        let e = Error::not_found("no such script").at("edge-eu", "status").with("app", "todo42");
        assert_eq!(e.to_string(), "edge-eu/status: no such script (not_found) app=todo42");
    }

    #[test]
    fn debug_walks_the_causes() {
        let e = Error::unexpected("outer", Error::invalid("inner"));
        assert_eq!(format!("{e:?}"), "outer (unexpected) [Never, Unknown]\n  caused by: inner (invalid)");
    }

    #[test]
    fn only_input_errors_tell_the_public_what_was_wrong() {
        for kind in ErrorKind::ALL {
            let e = Error::new(kind, "internal detail");
            let tells = matches!(kind, ErrorKind::Invalid | ErrorKind::LimitExceeded);
            assert_eq!(e.public_message() == "internal detail", tells, "{kind}");
            assert!(!e.public_message().is_empty());
        }
    }
}
