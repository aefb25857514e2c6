//! A strategy as data.

use super::{DeploymentStrategy, Failback, Fallback, PlacementPolicy};
use crate::{BackendName, Environment, Error, Result};
use serde::{Deserialize, Serialize};
use std::{collections::BTreeSet, num::NonZeroU32, time::Duration};

/// What is otherwise for one app than in the platform's strategy, as data that is stored with the app
/// ([`AppRecord::strategy`](crate::AppRecord::strategy)). What is left out stays as the platform has it.
///
/// A deployment keeps what was stored when it was asked for. Targets go by the names under which the platform's strategy
/// has them; gates, notifier and breaker are the platform's.
///
/// ```
/// use overskill_core::{BackendName, DeploymentStrategy, StrategyConfig, memory::MemoryTarget};
/// let target = |name| MemoryTarget::new(BackendName::parse(name).unwrap());
/// let platform = DeploymentStrategy::prefer(target("edge")).then(target("servers"));
///
/// let stored: StrategyConfig = serde_json::from_str(r#"{"targets": ["servers"], "fallback": "cautious"}"#).unwrap();
/// assert_eq!(platform.configured(&stored).unwrap().names(), [BackendName::parse("servers").unwrap()]);
///
/// let unknown: StrategyConfig = serde_json::from_str(r#"{"targets": ["moon"]}"#).unwrap();
/// let refused = platform.configured(&unknown).unwrap_err().to_string();
/// assert!(refused.contains("moon") && refused.contains("edge, servers"), "{refused}");
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct StrategyConfig {
    /// The targets that are asked, in this order; at least one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub targets: Option<Vec<BackendName>>,
    /// What to do when an outcome stays unknown.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fallback: Option<Fallback>,
    /// How often each target is asked; at most 20 times.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tries_per_target: Option<NonZeroU32>,
    /// How long one call of a target may take, in milliseconds: 1,000 to 900,000.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub attempt_timeout_ms: Option<u64>,
    /// How long it waits for targets that are down, in milliseconds; at most a week.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub patience_ms: Option<u64>,
    /// Ask a person where it would fail otherwise, who has so many milliseconds to answer: 60,000 to a month.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ask_operator_within_ms: Option<u64>,
    /// Where nothing goes live before a person agreed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub permission_for: Option<BTreeSet<Environment>>,
    /// When it goes back to the first target after it fell back.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failback: Option<Failback>,
    /// How many artifacts that were live are kept; at most 100.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub keep: Option<NonZeroU32>,
    /// How the targets are ordered for the app.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub place: Option<PlacementPolicy>,
}

const DAY: u64 = 24 * 3_600_000;

impl StrategyConfig {
    /// Refuses what no platform takes; whether the targets are there, [`DeploymentStrategy::configured`] tells.
    pub fn admit(&self) -> Result<()> {
        if let Some(targets) = &self.targets {
            let mut seen = BTreeSet::new();
            if targets.is_empty() {
                return Err(refused("targets", "must name at least one target, or be left out", "none"));
            }
            if let Some(twice) = targets.iter().find(|name| !seen.insert(*name)) {
                return Err(refused("targets", "must name each target once", twice));
            }
        }
        let count = |field, value: Option<NonZeroU32>, most: u32| match value {
            Some(value) if value.get() > most => Err(refused(field, &format!("must be at most {most}"), value)),
            _ => Ok(()),
        };
        let millis = |field, value: Option<u64>, least: u64, most: u64| match value {
            Some(value) if value < least || value > most => {
                Err(refused(field, &format!("must be {least} to {most} milliseconds"), value))
            }
            _ => Ok(()),
        };
        count("tries_per_target", self.tries_per_target, 20)?;
        count("keep", self.keep, 100)?;
        millis("attempt_timeout_ms", self.attempt_timeout_ms, 1_000, 900_000)?;
        millis("patience_ms", self.patience_ms, 0, 7 * DAY)?;
        millis("ask_operator_within_ms", self.ask_operator_within_ms, 60_000, 30 * DAY)?;
        match self.failback {
            Some(Failback::After(wait)) if wait > Duration::from_millis(30 * DAY) => {
                Err(refused("failback", &format!("must be at most {} milliseconds", 30 * DAY), wait.as_millis()))
            }
            _ => Ok(()),
        }
    }
}

fn refused(field: &str, rule: &str, given: impl std::fmt::Display) -> Error {
    Error::invalid(format!("strategy's `{field}` {rule}, but was {given}"))
}

impl DeploymentStrategy {
    /// This strategy with what `config` has otherwise. `Invalid` when it names a target that this one does not have, or is
    /// out of bounds.
    pub fn configured(&self, config: &StrategyConfig) -> Result<Self> {
        config.admit()?;
        let mut strategy = self.clone();
        if let Some(names) = &config.targets {
            let named = |name: &BackendName| {
                let found = self.registered().iter().find(|target| target.info().name == *name);
                found.cloned().ok_or_else(|| {
                    let known: Vec<_> = self.registered().iter().map(|target| target.info().name.to_string()).collect();
                    let rule = format!("must name targets of this platform ({})", known.join(", "));
                    refused("targets", &rule, name)
                })
            };
            strategy.choose(names.iter().map(named).collect::<Result<_>>()?);
        }
        if let Some(fallback) = config.fallback {
            strategy = strategy.fall_back(fallback);
        }
        if let Some(tries) = config.tries_per_target {
            strategy = strategy.tries_per_target(tries);
        }
        if let Some(limit) = config.attempt_timeout_ms {
            strategy = strategy.attempt_timeout(Duration::from_millis(limit));
        }
        if let Some(patience) = config.patience_ms {
            strategy = strategy.patience(Duration::from_millis(patience));
        }
        if let Some(within) = config.ask_operator_within_ms {
            strategy = strategy.ask_operator(Duration::from_millis(within));
        }
        if let Some(environments) = &config.permission_for {
            strategy.permission.clone_from(environments);
        }
        if let Some(failback) = config.failback {
            strategy = strategy.failback(failback);
        }
        if let Some(keep) = config.keep {
            strategy = strategy.keep(keep);
        }
        if let Some(policy) = config.place {
            strategy = strategy.place(policy);
        }
        Ok(strategy)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::memory::MemoryTarget;

    fn platform() -> DeploymentStrategy {
        let target = |name| MemoryTarget::new(BackendName::parse(name).unwrap());
        DeploymentStrategy::prefer(target("edge")).then(target("servers")).then(target("pages"))
    }

    fn config(json: &str) -> StrategyConfig {
        serde_json::from_str(json).unwrap()
    }

    #[test]
    fn what_is_out_of_bounds_names_field_limit_and_value() {
        for (json, words) in [
            (r#"{"targets": []}"#, ["targets", "at least one", "none"]),
            (r#"{"targets": ["edge", "edge"]}"#, ["targets", "once", "edge"]),
            (r#"{"targets": ["moon"]}"#, ["targets", "edge, servers, pages", "moon"]),
            (r#"{"tries_per_target": 21}"#, ["tries_per_target", "20", "21"]),
            (r#"{"keep": 101}"#, ["keep", "100", "101"]),
            (r#"{"attempt_timeout_ms": 999}"#, ["attempt_timeout_ms", "1000", "999"]),
            (r#"{"attempt_timeout_ms": 900001}"#, ["attempt_timeout_ms", "900000", "900001"]),
            (r#"{"patience_ms": 604800001}"#, ["patience_ms", "604800000", "604800001"]),
            (r#"{"ask_operator_within_ms": 59999}"#, ["ask_operator_within_ms", "60000", "59999"]),
            (r#"{"failback": {"after_ms": 2592000001}}"#, ["failback", "2592000000", "2592000001"]),
        ] {
            let e = platform().configured(&config(json)).unwrap_err().to_string();
            assert!(words.iter().all(|word| e.contains(word)), "{json}: {e}");
        }
    }

    #[test]
    fn a_field_that_nobody_knows_is_refused() {
        for json in [r#"{"target": ["edge"]}"#, r#"{"tries_per_target": 0}"#, r#"{"targets": ["two words"]}"#] {
            assert!(serde_json::from_str::<StrategyConfig>(json).is_err(), "{json}");
        }
    }

    #[test]
    fn what_is_said_replaces_what_the_platform_has() {
        let json = r#"{"targets":["pages","edge"],"fallback":"cautious","tries_per_target":1,"attempt_timeout_ms":2000,
            "patience_ms":3000,"ask_operator_within_ms":60000,"permission_for":["production"],
            "failback":{"after_ms":5000},"keep":2,"place":"suitable"}"#;
        let strategy = platform().configured(&config(json)).unwrap();
        let names: Vec<_> = strategy.names().iter().map(ToString::to_string).collect();
        assert_eq!(names, ["pages", "edge"]);
        assert_eq!((strategy.fallback, strategy.tries_per_target.get()), (Fallback::Cautious, 1));
        assert_eq!(strategy.attempt_timeout, Duration::from_secs(2));
        assert_eq!(strategy.patience, Duration::from_secs(3));
        assert_eq!(strategy.ask_within, Some(Duration::from_mins(1)));
        assert!(strategy.asks_before(Environment::Production) && !strategy.asks_before(Environment::Staging));
        assert_eq!((strategy.failback, strategy.keep.get()), (Failback::After(Duration::from_secs(5)), 2));
        assert_eq!(strategy.registered().len(), 3, "what was live elsewhere is still looked after");
    }

    #[test]
    fn it_is_written_as_it_is_read() {
        let json = r#"{"targets":["edge"],"failback":{"after_ms":5000},"place":"cheapest"}"#;
        assert_eq!(serde_json::to_string(&config(json)).unwrap(), json);
        assert_eq!(serde_json::to_string(&StrategyConfig::default()).unwrap(), "{}");
    }
}
