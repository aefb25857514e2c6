//! Notices for people: as a line of text, and in the log.

use crate::{Notice, Notifier, Readiness, Result};
use async_trait::async_trait;
use std::fmt;

/// Writes notices to the log of the process, as warnings: for whoever has no other [`Notifier`].
#[derive(Clone, Copy, Debug, Default)]
pub struct LogNotifier;

#[async_trait]
impl Notifier for LogNotifier {
    async fn check(&self) -> Result<Readiness> {
        Ok(Readiness::ready("log"))
    }

    async fn notify(&self, notice: &Notice) -> Result<()> {
        if let Some((deployment, scope)) = notice.about() {
            tracing::warn!(%deployment, app = %scope.app, environment = %scope.environment, "{notice}");
        } else {
            tracing::warn!("{notice}");
        }
        Ok(())
    }
}

/// One line for people.
impl fmt::Display for Notice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::AwaitingOperator { scope, question, deadline, .. } => {
                write!(f, "a deployment of {scope} waits for an answer until {deadline}: {question}")
            }
            Self::DeploymentFailed { scope, reason, .. } => write!(f, "a deployment of {scope} failed: {reason}"),
            Self::FellBack { scope, target, .. } => write!(f, "{scope} is live on {target}, not where it should be"),
            Self::Backend { name, message } => write!(f, "{name}: {message}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{DeploymentId, OperatorChoice, SeededIds, Timestamp};

    #[test]
    fn a_notice_reads_as_a_sentence_and_as_data() {
        let deployment = DeploymentId::generate(&SeededIds::new(1), Timestamp::EPOCH);
        let notice = Notice::AwaitingOperator {
            deployment,
            scope: "todo42/production".parse().unwrap(),
            question: "may it go live?".into(),
            choices: vec![OperatorChoice::Approve, OperatorChoice::Abort],
            deadline: Timestamp::EPOCH,
        };
        assert_eq!(
            notice.to_string(),
            "a deployment of todo42/production waits for an answer until 1970-01-01T00:00:00.000Z: may it go live?"
        );
        let data = serde_json::to_value(&notice).unwrap();
        assert_eq!(data["type"], "deployment.awaiting_operator");
        assert_eq!(data["data"]["scope"], serde_json::json!({ "app": "todo42", "environment": "production" }));
        assert_eq!(data["data"]["choices"], serde_json::json!(["approve", "abort"]));
        assert_eq!(serde_json::from_value::<Notice>(data).unwrap(), notice);
    }
}
