use super::driver::{Db, run};
use crate::row;
use async_trait::async_trait;
use overskill_core::{
    AppDirectory, AppId, AppRecord, AppState, Error, Page, Readiness, Result, StrategyConfig, SubjectId, Timestamp,
};
use sqlx::{query, query_as};
use std::num::NonZeroU32;

/// An [`AppDirectory`] in a table.
#[derive(Clone, Debug)]
pub struct Apps {
    db: Db,
}

impl Apps {
    pub(super) fn new(db: Db) -> Self {
        Self { db }
    }
}

/// App, name, owner, state, time of creation, and strategy.
type Row = (String, String, Option<String>, String, i64, Option<String>);

#[async_trait]
impl AppDirectory for Apps {
    async fn check(&self) -> Result<Readiness> {
        self.db.check().await
    }

    async fn put(&self, app: &AppRecord) -> Result<()> {
        run("put", || async {
            app.admit()?;
            let strategy = app.strategy.as_ref().map(json).transpose()?;
            let sql =
                "INSERT INTO apps (app, name, owner, state, created_at_ms, strategy) VALUES ($1, $2, $3, $4, $5, $6)
                       ON CONFLICT (app) DO UPDATE
                       SET name = excluded.name, owner = excluded.owner, state = excluded.state,
                           strategy = excluded.strategy";
            let put = query(sql)
                .bind(app.app.as_str())
                .bind(&app.name)
                .bind(app.owner.as_ref().map(SubjectId::as_str))
                .bind(app.state.as_str())
                .bind(app.created_at.as_unix_millis())
                .bind(strategy);
            self.db.writer().await?.alone(put).await?;
            Ok(())
        })
        .await
    }

    async fn get(&self, app: &AppId) -> Result<Option<AppRecord>> {
        run("get", || async {
            let sql = "SELECT app, name, owner, state, created_at_ms, strategy FROM apps WHERE app = $1";
            let mut reader = self.db.reader().await?;
            let found = query_as::<_, Row>(sql).bind(app.as_str()).fetch_optional(&mut *reader).await?;
            Ok(found.map(record).transpose()?)
        })
        .await
    }

    async fn list(&self, after: Option<AppId>, limit: NonZeroU32) -> Result<Page<AppRecord, AppId>> {
        run("list", || async {
            let sql = "SELECT app, name, owner, state, created_at_ms, strategy FROM apps WHERE app > $1 ORDER BY app LIMIT $2";
            let mut reader = self.db.reader().await?;
            let after = after.as_ref().map_or("", |app| app.as_str());
            let found = query_as::<_, Row>(sql).bind(after).bind(i64::from(limit.get()) + 1);
            let found = found.fetch_all(&mut *reader).await?;
            let records = found.into_iter().map(record).collect::<Result<Vec<_>>>()?;
            Ok(Page::cut(records, limit.get() as usize, |record| record.app.clone()))
        })
        .await
    }
}

fn record((app, name, owner, state, created_at, strategy): Row) -> Result<AppRecord> {
    const STATES: [AppState; 3] = [AppState::Active, AppState::Suspended, AppState::Removed];
    let known = STATES.into_iter().find(|known| known.as_str() == state);
    let state = known.ok_or_else(|| row::altered(format!("app state {state:?}")))?;
    let mut record = AppRecord::new(row::stored(&app)?, name, Timestamp::from_unix_millis(created_at)).state(state);
    record.owner = owner.as_deref().map(row::stored).transpose()?;
    record.strategy = strategy.as_deref().map(serde_json::from_str).transpose().map_err(row::altered)?;
    Ok(record)
}

fn json(strategy: &StrategyConfig) -> Result<String> {
    serde_json::to_string(strategy).map_err(|e| Error::unexpected("a strategy does not go into JSON", e))
}
