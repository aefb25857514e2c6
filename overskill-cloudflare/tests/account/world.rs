//! A whole platform's edge: an account with the dispatch Worker in it, on real workerd.

use crate::{
    common::{GAP, connect, through_the_edge},
    support::weather::{Through, Weather},
};
use overskill_cloudflare::{Cloudflare, Edge, IngestKey, Install, WfpTarget};
use overskill_core::{KeyId, SystemIds};
use overskill_http::{Method, Request, Response, Transport as _, Url};
use overskill_testkit::cloudflare::{CloudflareEmulator, CloudflareOptions};
use std::{num::NonZeroU32, time::Duration};

/// Where its apps are.
pub(crate) const DOMAIN: &str = "apps.localhost";

/// An account with the dispatch Worker in it, on real workerd.
pub(crate) struct World {
    pub(crate) emulator: CloudflareEmulator,
    pub(crate) cf: Cloudflare,
    pub(crate) edge: Edge,
    pub(crate) base: String,
    pub(crate) key: IngestKey,
}

impl World {
    pub(crate) async fn start() -> Self {
        Self::with(|install| install).await
    }

    pub(crate) async fn with(how: impl FnOnce(Install) -> Install) -> Self {
        let options = CloudflareEmulator::options().quota(usize::MAX, Duration::from_mins(5));
        Self::on(options.kv_same_key_interval(GAP), how).await
    }

    pub(crate) async fn on(options: CloudflareOptions, how: impl FnOnce(Install) -> Install) -> Self {
        let emulator = options.zones(["example.com", DOMAIN]).start().await.unwrap();
        let cf = connect(&emulator).domains([DOMAIN]).zone(emulator.zone_id(DOMAIN).unwrap()).build().unwrap();
        let key = IngestKey::generate(KeyId::parse("k1").unwrap(), &SystemIds);
        cf.install(&how(Install::new(key.to_binding(), "a key for sockets"))).await.unwrap();
        let base = format!("http://{DOMAIN}:{}", emulator.edge_address().unwrap().port());
        let edge = Edge::builder(&base, key.clone()).transport(through_the_edge(&emulator)).build().unwrap();
        Self { emulator, cf, edge, base, key }
    }

    /// The same edge on a way where something goes wrong.
    pub(crate) fn edge_in(&self, weather: Weather) -> Edge {
        let way = Through::new(through_the_edge(&self.emulator), weather);
        let tries = NonZeroU32::new(6).unwrap();
        Edge::builder(&self.base, self.key.clone()).transport(way).max_tries(tries).build().unwrap()
    }

    pub(crate) fn target(&self) -> WfpTarget {
        self.cf.target().at(&self.edge)
    }

    /// Asks the edge for what is at an address.
    pub(crate) async fn ask(&self, method: Method, url: &str, headers: &[(&str, &str)], body: &str) -> Response {
        let mut request = Request::new(method, Url::parse(url).unwrap()).with_body(body.to_owned());
        for (name, value) in headers {
            request.headers.set(name, value).unwrap();
        }
        through_the_edge(&self.emulator).send(request).await.unwrap().collect(usize::MAX).await.unwrap()
    }

    /// The address of an app: `todo42` in production, `preview-todo42` in preview.
    pub(crate) fn at(&self, label: &str) -> String {
        self.base.replace("://", &format!("://{label}."))
    }
}
