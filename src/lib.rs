#![doc = include_str!("../README.md")]

mod builder;

pub use builder::OverskillBuilder;
pub use overskill_core as core;
pub use overskill_core::*;

#[cfg(feature = "http")]
pub use overskill_http as http;
#[cfg(any(feature = "sqlite", feature = "postgres"))]
pub use overskill_sql as sql;

use std::ops::Deref;

/// The whole control plane, every part with an embedded default. It is a [`Platform`] and derefs to one.
#[derive(Clone, Debug)]
pub struct Overskill {
    platform: Platform,
    tokens: LocalTokens,
}

impl Overskill {
    /// Begins to put it together. Every setter is optional: what is not set is embedded.
    ///
    /// The embedded defaults of this version keep everything in memory; set [`records`](OverskillBuilder::records) to keep
    /// it in a file.
    pub fn builder() -> OverskillBuilder {
        OverskillBuilder::new()
    }

    /// What makes tokens that the embedded validator accepts. Of no use with a validator of one's own.
    pub fn local_tokens(&self) -> &LocalTokens {
        &self.tokens
    }
}

impl Deref for Overskill {
    type Target = Platform;

    fn deref(&self) -> &Platform {
        &self.platform
    }
}
