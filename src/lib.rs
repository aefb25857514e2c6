#![doc = include_str!("../README.md")]

mod builder;
#[cfg(feature = "local")]
mod local_platform;
#[cfg(feature = "router")]
mod router;

#[cfg(feature = "router")]
pub use axum;
pub use builder::OverskillBuilder;
#[cfg(feature = "local")]
pub use local_platform::LocalPlatform;
#[cfg(feature = "local")]
pub use overskill_build as build;
#[cfg(feature = "cloudflare")]
pub use overskill_cloudflare as cloudflare;
pub use overskill_core as core;
pub use overskill_core::*;

#[cfg(feature = "http")]
pub use overskill_http as http;
#[cfg(feature = "local")]
pub use overskill_local as local;
#[cfg(any(feature = "sqlite", feature = "postgres"))]
pub use overskill_sql as sql;
#[cfg(feature = "supabase")]
pub use overskill_supabase as supabase;
#[cfg(feature = "router")]
pub use router::{RouterOptions, router};

use std::ops::Deref;

/// The whole control plane, every part with an embedded default. It is a [`Platform`] and derefs to one.
#[derive(Clone, Debug)]
pub struct Overskill {
    platform: Platform,
    tokens: LocalTokens,
    #[cfg(feature = "local")]
    local: Option<overskill_local::LocalBackends>,
}

impl Overskill {
    /// Begins to put it together. Every setter is optional: what is not set is embedded.
    ///
    /// The embedded defaults keep everything in memory; set [`records`](OverskillBuilder::records) to keep it in a file, or
    /// begin with `Overskill::local`.
    pub fn builder() -> OverskillBuilder {
        OverskillBuilder::new()
    }

    /// The whole thing on one machine: everything is kept in `folder`, and one server on loopback shows previews and deployed
    /// apps. `.await` it; [`run`](Self::run) is what answers.
    ///
    /// ```no_run
    /// # async fn example() -> overskill::Result<()> {
    /// use overskill::Overskill;
    /// let platform = Overskill::local("./data").await?;
    /// let server = platform.clone();
    /// tokio::spawn(async move { server.run(std::future::pending()).await }); // the host spawns; overskill never does
    /// # Ok(())
    /// # }
    /// ```
    #[cfg(feature = "local")]
    pub fn local(folder: impl Into<std::path::PathBuf>) -> LocalPlatform {
        LocalPlatform::new(folder.into())
    }

    /// The embedded backends and their server, if this platform was begun with [`local`](Self::local).
    #[cfg(feature = "local")]
    pub fn backends(&self) -> Option<&overskill_local::LocalBackends> {
        self.local.as_ref()
    }

    /// [`Platform::run`], and with [`local`](Self::local) the server: until `shutdown` ends, and then until requests that are
    /// under way were answered. The host spawns it.
    pub async fn run(&self, shutdown: impl Future<Output = ()> + Send) {
        #[cfg(feature = "local")]
        if let Some(local) = &self.local {
            return local_platform::run(self, local, shutdown).await;
        }
        self.platform.run(shutdown).await;
    }

    /// Routes about deployments for the host's own web server: [`router()`] with what is usual.
    ///
    /// ```
    /// # async fn example() -> overskill::Result<()> {
    /// use overskill::{Overskill, axum};
    ///
    /// let platform = Overskill::builder().build().await?;
    /// let web: axum::Router = axum::Router::new().nest("/overskill", platform.router());
    /// # Ok(())
    /// # }
    /// # tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(example()).unwrap();
    /// ```
    #[cfg(feature = "router")]
    pub fn router(&self) -> axum::Router {
        router(&self.platform, RouterOptions::new())
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
