//! Connecting to addresses that were checked, and to no others.

use crate::{Body, Request, Response, network};
use async_trait::async_trait;
use overskill_core::Result;
use std::{
    collections::HashMap,
    fmt,
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

/// Carries a request to one of a few given addresses.
///
/// The host of the URL goes into `Host`, SNI and the certificate's check as usual, but **it must not be resolved
/// again**: between two resolutions a hostile name server changes its answer.
#[async_trait]
pub trait PinnedTransport: fmt::Debug + Send + Sync + 'static {
    /// Sends the request to one of `addresses`, which are not empty and bear the URL's port.
    async fn send_to(&self, request: Request, addresses: &[SocketAddr]) -> Result<Response<Body>>;
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl<T: PinnedTransport + ?Sized> PinnedTransport for Arc<T> {
    async fn send_to(&self, request: Request, addresses: &[SocketAddr]) -> Result<Response<Body>> {
        (**self).send_to(request, addresses).await
    }
}

/// Over the network. Keeps no connection alive, and ignores proxies that the environment names: a proxy would resolve
/// the name again.
pub struct PinnedNetwork {
    client: reqwest::Client,
    pins: Pins,
}

impl PinnedNetwork {
    /// A connection may take this long to come about, TLS included.
    ///
    /// # Errors
    /// `Unexpected` when TLS cannot be set up, such as when the system has no trusted roots.
    pub fn new(connect_timeout: Duration) -> Result<Self> {
        let pins = Pins::default();
        let builder =
            network::hardened(connect_timeout).no_proxy().pool_max_idle_per_host(0).dns_resolver(pins.clone());
        Ok(Self { client: network::finish(builder)?, pins })
    }
}

impl fmt::Debug for PinnedNetwork {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PinnedNetwork")
    }
}

#[async_trait]
impl PinnedTransport for PinnedNetwork {
    async fn send_to(&self, request: Request, addresses: &[SocketAddr]) -> Result<Response<Body>> {
        // An address as host is never resolved: it is connected to as it is, and was checked as it is.
        let _pin = self.pins.add(request.url.host(), addresses);
        network::execute(&self.client, request).await
    }
}

/// What names resolve to inside reqwest: the addresses of the calls that are under way, and nothing else.
///
/// Two calls to one name at the same time may use each other's addresses, which were checked by the same policy.
#[derive(Clone, Default)]
struct Pins(Arc<Mutex<ByHost>>);

type ByHost = HashMap<String, Vec<Arc<[SocketAddr]>>>;

impl Pins {
    fn add(&self, host: &str, addresses: &[SocketAddr]) -> Pin<'_> {
        let addresses: Arc<[SocketAddr]> = addresses.into();
        let mut pins = self.lock();
        pins.entry(host.to_owned()).or_default().push(Arc::clone(&addresses));
        Pin { pins: self, host: host.to_owned(), addresses }
    }

    fn lock(&self) -> MutexGuard<'_, ByHost> {
        self.0.lock().expect("no holder of the pins panics")
    }
}

impl reqwest::dns::Resolve for Pins {
    fn resolve(&self, name: reqwest::dns::Name) -> reqwest::dns::Resolving {
        let pinned = self.lock().get(name.as_str()).and_then(|pins| pins.last().cloned());
        Box::pin(async move {
            let pinned = pinned.ok_or("no address was checked for this name")?;
            let addresses: reqwest::dns::Addrs = Box::new((0..pinned.len()).map(move |i| pinned[i]));
            Ok(addresses)
        })
    }
}

/// Keeps the addresses of a name for as long as its call is under way.
struct Pin<'a> {
    pins: &'a Pins,
    host: String,
    addresses: Arc<[SocketAddr]>,
}

impl Drop for Pin<'_> {
    fn drop(&mut self) {
        let mut pins = self.pins.lock();
        let Some(of_host) = pins.get_mut(&self.host) else {
            return;
        };
        of_host.retain(|other| !Arc::ptr_eq(other, &self.addresses));
        if of_host.is_empty() {
            pins.remove(&self.host);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use reqwest::dns::Resolve as _;

    async fn resolved(pins: &Pins, host: &str) -> Option<Vec<SocketAddr>> {
        pins.resolve(host.parse().unwrap()).await.ok().map(Iterator::collect)
    }

    #[tokio::test]
    async fn a_name_resolves_to_its_pin_only_while_the_pin_lasts() {
        let pins = Pins::default();
        let [a, b] = ["192.0.2.1:443", "192.0.2.2:443"].map(|a| a.parse::<SocketAddr>().unwrap());
        assert_eq!(resolved(&pins, "x.test").await, None);
        let first = pins.add("x.test", &[a]);
        let second = pins.add("x.test", &[b]);
        assert_eq!(resolved(&pins, "x.test").await, Some(vec![b]));
        drop(second);
        assert_eq!(resolved(&pins, "x.test").await, Some(vec![a]));
        assert_eq!(resolved(&pins, "y.test").await, None);
        drop(first);
        assert_eq!(resolved(&pins, "x.test").await, None);
        assert!(pins.lock().is_empty());
    }
}
