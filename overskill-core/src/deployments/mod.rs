//! Deployments: the policy ([`DeploymentStrategy`]), the record, and the service that runs the one and keeps the other.
//!
//! | file | what happens there |
//! |---|---|
//! | `config` | a strategy as data, for one app |
//! | `service` | what is asked for, and who drives it |
//! | `drive` | from what is known to the targets, under the lease |
//! | `attempt` | one target after the other, until one serves it |
//! | `gate` | is it well? |
//! | `ending` | the end, a question, a place in the line, a rollback |
//! | `chores` | late arrivals, going back to the preferred target |
//! | `reconcile` | is what serves what the route names? |
//! | `admission` | breakers, pauses, budgets, the line |
//! | `placement` | which target suits which app |

mod admission;
mod attempt;
mod chores;
mod config;
mod drive;
mod ending;
mod gate;
mod journal;
mod placement;
mod reconcile;
mod record;
mod service;
mod strategy;

pub use config::StrategyConfig;
pub use gate::HealthGate;
pub use placement::{AppFacts, PlacementPolicy, PlatformFacts};
pub use reconcile::{Drift, Reconciled};
pub use record::{DeploymentCost, DeploymentRecord, DeploymentState, Outcome};
pub use service::{Deployments, DeploymentsParts, NewDeployment};
pub use strategy::{DeploymentStrategy, Failback, Fallback};
