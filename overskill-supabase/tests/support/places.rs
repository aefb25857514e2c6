//! Places that apps are moved to.

use super::{DATABASE, ROLES, Way, World, key, passwords, server};
use async_trait::async_trait;
use overskill_core::{ApiRequest, ApiResponse, ApiUpstream, Readiness, Result, Scope, SystemGrant};
use overskill_supabase::{ContextKeys, Mover, Placement, Project, ProjectList, ProjectName, Schema, Server};
use std::{collections::HashSet, sync::Arc};
use tokio::sync::Mutex;

/// The database of another project, on the same server.
pub const ACME: &str = "acme";

pub fn acme() -> ProjectName {
    ProjectName::parse(ACME).unwrap()
}

impl World {
    pub fn mover(&self, way: Way) -> Mover {
        Mover::new(Schema::new(server(&self.url(way, "host")), self.gate.clone()), self.keys.clone())
    }

    /// As a role, in any database.
    pub fn server_in(&self, way: Way, role: &str, database: &str) -> Server {
        server(&self.url_in(way, role, database))
    }

    pub fn url_in(&self, way: Way, role: &str, database: &str) -> String {
        match way {
            Way::Direct => self.url(way, role).replace(&format!("/{DATABASE}"), &format!("/{database}")),
            Way::Pooled => self.pooler.url(role, database),
        }
    }

    /// A project with the schema installed, under a key of its own.
    pub async fn projects(&self, way: Way) -> ProjectList {
        assert!(ROLES.contains(&"host"));
        self.cluster.execute("postgres", &format!("CREATE DATABASE {ACME} OWNER host")).unwrap();
        let keys = ContextKeys::new(key("acme", 21));
        let schema = Schema::new(self.server_in(Way::Direct, "host", ACME), self.gate.clone());
        schema.install(&self.system, &passwords(), &keys).await.unwrap();
        ProjectList::new().with(acme(), self.project_as(way, ACME, keys))
    }

    pub fn project_as(&self, way: Way, database: &str, keys: ContextKeys) -> Project {
        let role = |role| self.server_in(way, role, database);
        Project::new(role("host"), role("overskill_app"), role("overskill_explorer"), keys)
    }
}

/// Moves each app before its first call.
#[derive(Debug)]
pub struct Placing {
    api: Arc<dyn ApiUpstream>,
    mover: Mover,
    grant: SystemGrant,
    to: Placement,
    moved: Mutex<HashSet<Scope>>,
}

impl Placing {
    pub fn new(api: impl ApiUpstream, mover: Mover, grant: SystemGrant, to: Placement) -> Self {
        Self { api: Arc::new(api), mover, grant, to, moved: Mutex::default() }
    }
}

#[async_trait]
impl ApiUpstream for Placing {
    async fn check(&self) -> Result<Readiness> {
        self.api.check().await
    }

    async fn call(&self, request: &ApiRequest) -> Result<ApiResponse> {
        let mut moved = self.moved.lock().await;
        if !moved.contains(&request.scope) {
            if self.mover.placement(&self.grant, &request.scope).await? != self.to {
                self.mover.relocate(&self.grant, &request.scope, &self.to).await?;
            }
            moved.insert(request.scope.clone());
        }
        drop(moved);
        self.api.call(request).await
    }
}
