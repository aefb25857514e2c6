//! Why a build failed, as an error.

use crate::{Error, Problem, packages::trouble::Trouble};

/// Why a build failed.
pub(super) enum Failure {
    /// The sources, or the packages.
    Problems(Vec<Problem>),
    /// Something else.
    Fault(Error),
}

/// How many problems an error tells of.
const MOST_TOLD: usize = 5;

impl From<Error> for Failure {
    fn from(e: Error) -> Self {
        Self::Fault(e)
    }
}

impl From<overskill_core::ParseError> for Failure {
    fn from(e: overskill_core::ParseError) -> Self {
        Self::Fault(e.into())
    }
}

impl From<Trouble> for Failure {
    fn from(trouble: Trouble) -> Self {
        match trouble {
            Trouble::Problem { problem, .. } => Self::Problems(vec![*problem]),
            fault @ Trouble::Fault(_) => Self::Fault(fault.into_error()),
        }
    }
}

/// The error that says all of it.
pub(super) fn failed(failure: Failure) -> Error {
    match failure {
        Failure::Fault(e) => e,
        Failure::Problems(problems) => {
            let mut told: Vec<String> = problems.iter().take(MOST_TOLD).map(ToString::to_string).collect();
            if problems.len() > MOST_TOLD {
                told.push(format!("and {} more", problems.len() - MOST_TOLD));
            }
            let message = told.join("; ");
            Error::invalid(message.clone()).public(message)
        }
    }
}

/// Fails if anything is wrong.
pub(super) fn none_of(problems: Vec<Problem>) -> Result<(), Failure> {
    if problems.is_empty() { Ok(()) } else { Err(Failure::Problems(problems)) }
}
