//! The embedded upstream of apps' `/api/*`: entities on SQLite.

mod store;

use async_trait::async_trait;
use overskill_core::{
    ApiRequest, ApiResponse, ApiUpstream, Claims, Clock, Ids, Readiness, Refusal, Result, Right, Scope, TenantId,
    TenantValidator,
    entities::{self, problem},
};
use std::{path::Path, sync::Arc};
use store::{Rows, Store};

/// Apps' data in one SQLite file, `/api/entities/{Entity}`: JSON objects that the app names and shapes as it likes.
///
/// | call | answer |
/// |---|---|
/// | `POST entities/{Entity}` | 201 with the new record; 409 if its `id` was given and is taken |
/// | `GET entities/{Entity}` | 200 with `{"items": […], "next": "cursor" or null}`, oldest first |
/// | `GET entities/{Entity}/{id}` | 200 with the record, or 404 |
/// | `PUT entities/{Entity}/{id}` | 200 with the record, its fields replaced; or 404 |
/// | `PATCH entities/{Entity}/{id}` | 200 with the record, these fields replaced, those that are `null` gone; or 404 |
/// | `DELETE entities/{Entity}/{id}` | 204, or 404. The row stays in the file, marked as deleted |
///
/// A record is its fields with `id`, `created_at` and `updated_at` (RFC 3339), which writes may repeat but not change. A
/// list takes `limit` (1 to 1,000; 100 otherwise), `cursor` (what `next` was) or `offset`, `sort` (a field, `-` before it for
/// descending), and any other name as a filter: `?done=false&priority=2`. A page may end before its limit, at 8 MiB: `next`
/// alone says whether there is more. Cursors neither skip nor repeat when records come, go or change between two pages, unless
/// the change moves a record itself in the order. Errors are `{"error": "…"}`.
///
/// Names of entities and fields: 1 to 64 of `A-Z a-z 0-9 _`, not beginning with a digit. A record is at most 256 KiB of
/// JSON. Whose data it is comes from the token: the app and the environment that it was signed for, and nothing that a
/// request says.
#[derive(Clone, Debug)]
pub struct EntityApi {
    validator: Arc<dyn TenantValidator>,
    clock: Arc<dyn Clock>,
    ids: Arc<dyn Ids>,
    store: Store,
}

impl EntityApi {
    /// Largest record in bytes of JSON.
    pub const MAX_RECORD_BYTES: usize = entities::MAX_RECORD_BYTES;
    /// How many records a list has unless `limit` says otherwise.
    pub const DEFAULT_LIMIT: u32 = entities::DEFAULT_LIMIT;
    /// The largest `limit`.
    pub const MAX_LIMIT: u32 = entities::MAX_LIMIT;

    /// Opens the file, and makes it if it is missing; `validator` says whose a token is.
    pub async fn open(
        file: &Path,
        validator: impl TenantValidator,
        clock: Arc<dyn Clock>,
        ids: Arc<dyn Ids>,
    ) -> Result<Self> {
        let store = Store::open(file).await?;
        Ok(Self { validator: Arc::new(validator), clock, ids, store })
    }

    /// Closes the file once the calls that run have ended.
    pub async fn close(&self) {
        self.store.close().await;
    }

    /// Whose data the token opens, or the answer to a caller who may not.
    async fn admit(&self, request: &ApiRequest) -> Result<Claims, ApiResponse> {
        let (scope, now) = (&request.scope, self.clock.now());
        match self.validator.validate(&request.token, &TenantId::of_app(scope.app.clone()), now).await {
            Ok(claims) if claims.app() != &scope.app || claims.expires_at <= now => Err(problem(401, Refusal::PUBLIC)),
            Ok(claims) if claims.environment.is_some_and(|e| e != scope.environment) => {
                Err(problem(403, Refusal::PUBLIC))
            }
            Ok(claims) if !claims.rights.has(Right::Data) => Err(problem(403, Refusal::PUBLIC)),
            Ok(claims) => Ok(claims),
            Err(Refusal::Undecided(_)) => Err(problem(503, "The service is not available; try again later.")),
            Err(_) => Err(problem(401, Refusal::PUBLIC)),
        }
    }
}

#[async_trait]
impl ApiUpstream for EntityApi {
    async fn check(&self) -> Result<Readiness> {
        self.store.check().await
    }

    async fn call(&self, request: &ApiRequest) -> Result<ApiResponse> {
        let claims = match self.admit(request).await {
            Ok(claims) => claims,
            Err(refusal) => return Ok(refusal),
        };
        // The scope is the token's: a request names an app too, but that was compared above.
        let scope = Scope::new(claims.app().clone(), request.scope.environment);
        let rows = Rows { store: &self.store, scope: &scope, by: claims.subject.as_str() };
        entities::answer(&rows, request, &*self.ids, self.clock.now()).await
    }
}
