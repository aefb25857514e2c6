#![doc = include_str!("../README.md")]

pub mod error;
mod ids;
mod parse;
mod secret;
mod time;

pub use error::{Consequence, Effect, Error, ErrorKind, Result, Retry};
pub use ids::{Ids, IdsExt, SeededIds, SystemIds};
pub use parse::ParseError;
pub use secret::{AccessToken, Secret};
pub use time::{Clock, SystemClock, TestClock, Timestamp, timeout};
