use super::driver::{Db, Fault, row, run};
use async_trait::async_trait;
use overskill_core::{Error, Fence, Handle, Readiness, Result, Route, RouteTable, Scope};
use sqlx::{query, query_as};
use std::time::Duration;

/// A [`RouteTable`] in a table. Readers see a new route at once.
#[derive(Clone, Debug)]
pub struct Routes {
    db: Db,
}

impl Routes {
    pub(super) fn new(db: Db) -> Self {
        Self { db }
    }
}

/// Target, deployment, reference, address and fence; nulls but for the fence when the scope was cleared.
type Row = (Option<String>, Option<String>, Option<String>, Option<String>, i64);

#[async_trait]
impl RouteTable for Routes {
    fn staleness(&self) -> Duration {
        Duration::ZERO
    }

    async fn check(&self) -> Result<Readiness> {
        self.db.check().await
    }

    async fn get(&self, scope: &Scope) -> Result<Option<Route>> {
        self.found("get", scope).await.map(|(route, _)| route)
    }

    async fn set(&self, scope: &Scope, route: &Route) -> Result<()> {
        run("set", || async {
            let sql = "INSERT INTO routes (app, environment, target, deployment, reference, url, fence)
                       VALUES ($1, $2, $3, $4, $5, $6, $7)
                       ON CONFLICT (app, environment) DO UPDATE
                       SET target = excluded.target, deployment = excluded.deployment,
                           reference = excluded.reference, url = excluded.url, fence = excluded.fence
                       WHERE routes.fence < excluded.fence
                          OR (routes.fence = excluded.fence AND routes.deployment = excluded.deployment)";
            let set = query(sql)
                .bind(scope.app.as_str())
                .bind(scope.environment.as_str())
                .bind(route.target.as_str())
                .bind(route.deployment.to_string())
                .bind(&route.handle.reference)
                .bind(route.handle.url.as_ref().map(ToString::to_string))
                .bind(row::int(route.fence.as_u64())?);
            let changed = self.db.writer().await?.alone(set).await?;
            if changed == 1 { Ok(()) } else { Err(overtaken(scope, route.fence)) }
        })
        .await
    }

    async fn clear(&self, scope: &Scope, fence: Fence) -> Result<()> {
        run("clear", || async {
            let sql = "INSERT INTO routes (app, environment, fence) VALUES ($1, $2, $3)
                       ON CONFLICT (app, environment) DO UPDATE
                       SET target = NULL, deployment = NULL, reference = NULL, url = NULL, fence = excluded.fence
                       WHERE routes.fence < excluded.fence";
            let clear =
                query(sql).bind(scope.app.as_str()).bind(scope.environment.as_str()).bind(row::int(fence.as_u64())?);
            let changed = self.db.writer().await?.alone(clear).await?;
            if changed == 1 { Ok(()) } else { Err(overtaken(scope, fence)) }
        })
        .await
    }

    async fn fence(&self, scope: &Scope) -> Result<Fence> {
        self.found("fence", scope).await.map(|(_, fence)| fence)
    }

    async fn standing(&self, scope: &Scope) -> Result<(Option<Route>, Fence)> {
        self.found("standing", scope).await
    }
}

impl Routes {
    async fn found(&self, operation: &'static str, scope: &Scope) -> Result<(Option<Route>, Fence)> {
        run(operation, || async {
            let sql =
                "SELECT target, deployment, reference, url, fence FROM routes WHERE app = $1 AND environment = $2";
            let mut reader = self.db.brief_reader().await?;
            let found = query_as::<_, Row>(sql).bind(scope.app.as_str()).bind(scope.environment.as_str());
            let found = found.fetch_optional(&mut *reader).await?;
            Ok(found.map(route).transpose()?.unwrap_or((None, Fence::ZERO)))
        })
        .await
    }
}

fn route((target, deployment, reference, url, fence): Row) -> Result<(Option<Route>, Fence)> {
    let fence = Fence::from_u64(row::number(fence)?);
    let (Some(target), Some(deployment), Some(reference)) = (target, deployment, reference) else {
        return Ok((None, fence));
    };
    let mut handle = Handle::new(reference);
    if let Some(url) = url {
        handle = handle.served_at(row::stored(&url)?);
    }
    Ok((Some(Route::new(row::stored(&target)?, row::stored(&deployment)?, handle, fence)), fence))
}

fn overtaken(scope: &Scope, fence: Fence) -> Fault {
    let message = "route has a fence that is at least as high: somebody newer changed it";
    Error::conflict(message).with("scope", scope).with("fence", fence).into()
}
