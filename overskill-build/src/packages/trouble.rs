//! Why something cannot be had, in a form that everybody who waits for it can be given.

use crate::{Error, Problem, ProblemKind};
use overskill_core::{Effect, ErrorKind};
use std::{io, sync::Arc};

/// Why something cannot be had.
#[derive(Clone, Debug)]
pub(crate) enum Trouble {
    /// It is the package's, or the app's.
    Problem {
        problem: Box<Problem>,
        /// It may be otherwise when asked again: nothing that follows from it is kept.
        passing: bool,
    },
    /// It is the machine's, or the settings'.
    Fault(Arc<Error>),
}

impl Trouble {
    pub(crate) fn problem(kind: ProblemKind, message: impl Into<String>) -> Self {
        Problem::new(kind, message).into()
    }

    pub(crate) fn passing(problem: Problem) -> Self {
        Self::Problem { problem: Box::new(problem), passing: true }
    }

    /// Puts which package it is about before a problem's message, and what to do after it.
    pub(crate) fn about(self, subject: &str, help: &str) -> Self {
        match self {
            Self::Problem { mut problem, passing } => {
                problem.message = format!("{subject}: {}", problem.message);
                problem.help.get_or_insert_with(|| help.to_owned());
                Self::Problem { problem, passing }
            }
            fault @ Self::Fault(_) => fault,
        }
    }

    pub(crate) fn into_error(self) -> Error {
        match self {
            Self::Problem { problem, .. } => Error::invalid(problem.to_string()),
            Self::Fault(e) => match Arc::try_unwrap(e) {
                Ok(e) => e,
                Err(e) => Error::new(e.kind(), e.to_string()).effect_as(Effect::None).caused_by(e),
            },
        }
    }
}

impl From<Problem> for Trouble {
    fn from(problem: Problem) -> Self {
        Self::Problem { problem: Box::new(problem), passing: false }
    }
}

impl From<Error> for Trouble {
    fn from(e: Error) -> Self {
        Self::Fault(Arc::new(e))
    }
}

/// What a failure on this machine's own disk means.
pub(crate) fn local(doing: &'static str) -> impl Fn(io::Error) -> Trouble {
    move |e| {
        Error::new(ErrorKind::Unavailable, format!("the package cache could not {doing}"))
            .effect_as(Effect::None)
            .at("npm", "prepare")
            .caused_by(e)
            .into()
    }
}

/// Runs what blocks where it may.
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Trouble> + Send + 'static,
) -> Result<T, Trouble> {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done,
        Err(e) => Err(Error::unexpected("work on packages was broken off", e).effect_as(Effect::None).into()),
    }
}
