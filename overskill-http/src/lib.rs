#![doc = include_str!("../README.md")]

mod body;
mod call;
mod classify;
mod client;
mod credential;
mod headers;
mod limit;
mod message;
mod multipart;
mod network;
mod probe;
mod record;
mod retry_after;
mod tenant;
mod transport;
mod url;
mod webhook;

pub use body::{Body, Event};
pub use call::Call;
pub use classify::{ByStatus, Classify, classify_status};
pub use client::{Client, ClientBuilder};
pub use credential::Credential;
pub use headers::Headers;
pub use limit::{FairKey, Limiter, Permit, Priority, Quota};
pub use message::{Method, Repeat, Request, Response};
pub use multipart::Multipart;
pub use network::{NetworkTransport, NetworkTransportBuilder};
pub use overskill_core::{Effect, Error, ErrorKind, ParseError, Result, Retry};
pub use probe::HttpProbe;
pub use record::{Answer, Recorded, Recording};
pub use retry_after::{MAX_RETRY_AFTER, parse_retry_after};
pub use tenant::{
    AddressPolicy, PinnedNetwork, PinnedTransport, Refused, Resolver, SystemResolver, TenantCall, TenantUrlClient,
    TenantUrlClientBuilder,
};
pub use transport::{Transport, cut_off, not_sent, transport_fn};
pub use url::{Target, Url};
pub use webhook::WebhookNotifier;
