//! The client for URLs that a tenant gave: webhooks, integrations, imports.

mod address;
mod call;
mod client;
mod connect;
mod resolve;

pub use address::{AddressPolicy, Refused};
pub use call::TenantCall;
pub use client::{TenantUrlClient, TenantUrlClientBuilder};
pub use connect::{PinnedNetwork, PinnedTransport};
pub use resolve::{Resolver, SystemResolver};
