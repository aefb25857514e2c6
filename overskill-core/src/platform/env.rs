use super::AppHandle;
use crate::{EnvChanges, EnvEntry, EnvRevision, EnvSnapshot, Environment, Result, Right};

/// An app's environment variables and secrets in one environment.
#[derive(Debug)]
pub struct AppEnv<'a> {
    app: &'a AppHandle,
    environment: Environment,
}

impl<'a> AppEnv<'a> {
    pub(super) fn new(app: &'a AppHandle, environment: Environment) -> Self {
        Self { app, environment }
    }

    /// The newest revision. Needs `Develop`.
    pub async fn current(&self) -> Result<EnvRevision> {
        let call = async {
            let scope = self.app.permit(self.environment, Right::Develop)?;
            self.app.parts.env.current(&scope).await
        };
        self.app.measured("env.current", call).await
    }

    /// The variables of the newest revision without their values. Needs `Develop`.
    pub async fn entries(&self) -> Result<Vec<EnvEntry>> {
        let call = async {
            let scope = self.app.permit(self.environment, Right::Develop)?;
            let current = self.app.parts.env.current(&scope).await?;
            self.app.parts.env.entries(&scope, current).await
        };
        self.app.measured("env.entries", call).await
    }

    /// Sets and removes variables, all or none; with `expected`, only if that is the newest revision. Audited by name.
    /// What is live keeps its variables until the next deploy. Needs `Operate`.
    #[tracing::instrument(name = "overskill.env.put", skip_all, fields(app = %self.app.id()))]
    pub async fn put(&self, changes: &EnvChanges, expected: Option<EnvRevision>) -> Result<EnvRevision> {
        let call = async {
            let scope = self.app.permit_change(self.environment, Right::Operate).await?;
            changes.admit()?;
            let names: Vec<_> = changes
                .iter()
                .map(|(key, value)| format!("{}{key}", if value.is_some() { "+" } else { "-" }))
                .collect();
            self.app.audited(&scope, "env.put", names.join(" ")).await?;
            self.app.parts.env.put(&scope, changes, expected).await
        };
        self.app.measured("env.put", call).await
    }

    /// The variables with their values, secrets included. Audited. Needs `Operate`.
    pub async fn reveal(&self, revision: EnvRevision) -> Result<EnvSnapshot> {
        let call = async {
            let scope = self.app.permit(self.environment, Right::Operate)?;
            self.app.audited(&scope, "env.revealed", revision.to_string()).await?;
            self.app.parts.env.get(&scope, revision).await
        };
        self.app.measured("env.reveal", call).await
    }

    /// Seals every secret under the newest key; returns how many were under another. Needs `Operate`.
    pub async fn reseal(&self) -> Result<u64> {
        let call = async {
            let scope = self.app.permit(self.environment, Right::Operate)?;
            self.app.parts.env.reseal(&scope).await
        };
        self.app.measured("env.reseal", call).await
    }
}
