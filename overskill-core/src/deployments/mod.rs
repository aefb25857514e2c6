//! Deployments: the policy ([`DeploymentStrategy`]), the record, and the service that runs the one and keeps the other.
//!
//! This is the simple form: ordered targets, tries, time limits, observe-then-adopt, one lease per scope. What it fixes for
//! good are the traits it stands on: [`DeploymentTarget`](crate::DeploymentTarget),
//! [`DeploymentStore`](crate::DeploymentStore) and [`RouteTable`](crate::RouteTable).

mod attempt;
mod journal;
mod record;
mod service;
mod strategy;

pub use record::{DeploymentRecord, DeploymentState, Outcome};
pub use service::{Deployments, DeploymentsParts, NewDeployment};
pub use strategy::{DeploymentStrategy, Fallback};
