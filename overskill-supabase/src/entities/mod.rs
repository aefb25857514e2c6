//! Apps' `/api/entities/{Entity}` on their tables in Postgres.

mod rows;

use crate::{
    pool::TenantPool,
    tx::fault::{is_moved, is_paused},
};
use async_trait::async_trait;
use overskill_core::{
    ApiMethod, ApiRequest, ApiResponse, ApiUpstream, Clock, ErrorKind, Ids, Readiness, Refusal, Result, SystemClock,
    SystemIds, TenantGrant, TenantId,
    entities::{self, problem},
};
use rows::Rows;
use std::sync::Arc;

/// Apps' data in the shared tables: the twin of the embedded one, by the same [protocol](overskill_core::entities). An app
/// that was [moved](crate::Mover) is served from where it is; a write while it is being moved is answered 503, with
/// `retry-after`, and changed nothing.
///
/// Whose data it is comes from the token, twice: the pool's gate compares it with the app and the environment of the
/// request, and the database shows the rows of the app that was signed for. Records are common to an app's users unless its
/// developers [said otherwise](crate::TenantTx::define); then the database also compares the owner.
///
/// A field that has a column of its own is found through an index; with a column for numbers, a filter on it finds numbers
/// alone and not text that looks like one. Text may not hold the character NUL.
#[derive(Clone, Debug)]
pub struct EntityApi {
    pool: TenantPool,
    clock: Arc<dyn Clock>,
    ids: Arc<dyn Ids>,
}

impl EntityApi {
    /// On a pool whose role is `overskill_app`.
    pub fn new(pool: TenantPool) -> Self {
        Self { pool, clock: Arc::new(SystemClock), ids: Arc::new(SystemIds) }
    }

    /// Sets where times of records come from.
    pub fn clock(mut self, clock: impl Clock) -> Self {
        self.clock = Arc::new(clock);
        self
    }

    /// Sets where ids of records come from.
    pub fn ids(mut self, ids: impl Ids) -> Self {
        self.ids = Arc::new(ids);
        self
    }

    async fn answer(&self, request: &ApiRequest) -> Result<ApiResponse> {
        let tenant = TenantId::of_app(request.scope.app.clone());
        let grant = self.pool.gate().admit(&request.token, &tenant).await?;
        let mut answered = self.answer_once(request, &grant).await;
        for _ in 0..2 {
            match &answered {
                // It was moved between the beginning of the transaction and its first statement.
                Err(e) if is_moved(e) => answered = self.answer_once(request, &grant).await,
                _ => break,
            }
        }
        answered
    }

    async fn answer_once(&self, request: &ApiRequest, grant: &TenantGrant) -> Result<ApiResponse> {
        let reads = matches!(request.method, ApiMethod::Get | ApiMethod::Head);
        let tx = if reads {
            self.pool.begin_read_only(grant, &request.scope).await?
        } else {
            self.pool.begin(grant, &request.scope).await?
        };
        let answered = entities::answer(&Rows { tx: &tx }, request, &*self.ids, self.clock.now()).await;
        match answered {
            Ok(answer) if answer.status < 400 => tx.commit().await.map(|()| answer),
            answered => {
                drop(tx.rollback().await); // what was answered stands
                answered
            }
        }
    }
}

#[async_trait]
impl ApiUpstream for EntityApi {
    async fn check(&self) -> Result<Readiness> {
        self.pool.check().await
    }

    async fn call(&self, request: &ApiRequest) -> Result<ApiResponse> {
        match self.answer(request).await {
            Err(e) => match e.kind() {
                ErrorKind::Unauthenticated => Ok(problem(401, Refusal::PUBLIC)),
                ErrorKind::Denied => Ok(problem(403, Refusal::PUBLIC)),
                ErrorKind::RateLimited => Ok(problem(429, e.public_message())),
                // The gate could not decide; nothing was asked of the tables yet.
                ErrorKind::Unavailable if e.operation() == "admit" => {
                    Ok(problem(503, "The service is not available; try again later."))
                }
                // Nothing was written; reads go on.
                _ if is_paused(&e) => Ok(problem(503, e.public_message()).header("retry-after", "2")),
                _ => Err(e),
            },
            answered => answered,
        }
    }
}
