//! Names to addresses.

use crate::not_sent;
use async_trait::async_trait;
use overskill_core::Result;
use std::{fmt, net::IpAddr, sync::Arc};

/// Resolves the names in tenants' URLs.
///
/// What it answers is not trusted: every address is checked, and only checked ones are connected to.
#[async_trait]
pub trait Resolver: fmt::Debug + Send + Sync + 'static {
    /// The addresses of `host`, which is a name, never an address.
    ///
    /// # Errors
    /// [`not_sent`](crate::not_sent) when the name does not resolve.
    async fn resolve(&self, host: &str) -> Result<Vec<IpAddr>>;
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl<R: Resolver + ?Sized> Resolver for Arc<R> {
    async fn resolve(&self, host: &str) -> Result<Vec<IpAddr>> {
        (**self).resolve(host).await
    }
}

/// The operating system's resolver. Needs a tokio runtime.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemResolver;

#[async_trait]
impl Resolver for SystemResolver {
    async fn resolve(&self, host: &str) -> Result<Vec<IpAddr>> {
        let found = tokio::net::lookup_host((host, 0)).await.map_err(not_sent)?;
        Ok(found.map(|address| address.ip()).collect())
    }
}
