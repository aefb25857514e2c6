//! Who may do what: the gate that makes grants, and the grants that every use case asks for.

mod gate;
mod grant;
#[cfg(feature = "local-keys")]
mod local;
mod refusals;

pub use gate::TenantGate;
pub use grant::{Grant, SystemGrant, SystemScopes, TenantGrant};
#[cfg(feature = "local-keys")]
pub use local::{LocalKeys, LocalTokens, LocalValidator};
