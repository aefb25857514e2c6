//! The embedded upstream of apps' `/api/*`: entities on SQLite.

mod query;
mod store;

use crate::disk;
use async_trait::async_trait;
use overskill_core::{
    ApiMethod, ApiRequest, ApiResponse, ApiUpstream, Claims, Clock, Error, ErrorKind, Ids, ParseError, Readiness,
    Refusal, Result, Right, Scope, TenantId, TenantValidator,
};
use query::ListQuery;
use serde_json::{Map, Value, json};
use std::{path::Path, sync::Arc};
use store::{Change, Store};

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
    pub const MAX_RECORD_BYTES: usize = 256 * 1024;
    /// How many records a list has unless `limit` says otherwise.
    pub const DEFAULT_LIMIT: u32 = 100;
    /// The largest `limit`.
    pub const MAX_LIMIT: u32 = 1_000;

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

    async fn answer(&self, request: &ApiRequest, claims: &Claims) -> Result<ApiResponse> {
        let mut segments = request.path.as_str().split('/');
        if segments.next() != Some("entities") {
            let message = "There is no such API here: /api/entities/{Entity} is what there is.";
            return Ok(problem(404, message));
        }
        let (entity, id, more) = (segments.next(), segments.next(), segments.next());
        let Some(entity) = entity.filter(|_| more.is_none()) else {
            return Ok(problem(404, "The path must be /api/entities/{Entity} or /api/entities/{Entity}/{id}."));
        };
        query::name("entity name", entity)?;
        // The scope is the token's: a request names an app too, but that was compared above.
        let scope = Scope::new(claims.app().clone(), request.scope.environment);
        let rows = Rows { api: self, scope: &scope, entity, claims };
        Ok(match (request.method, id) {
            (ApiMethod::Get | ApiMethod::Head, None) => rows.list(request).await?,
            (ApiMethod::Post, None) => rows.create(request).await?,
            (ApiMethod::Get | ApiMethod::Head, Some(id)) => rows.read(id).await?,
            (ApiMethod::Put, Some(id)) => rows.update(id, Change::Replace(fields(request)?)).await?,
            (ApiMethod::Patch, Some(id)) => rows.update(id, Change::Merge(fields(request)?)).await?,
            (ApiMethod::Delete, Some(id)) => rows.delete(id).await?,
            (_, None) => problem(405, "Use GET or POST here.").header("allow", "GET, HEAD, POST"),
            (_, Some(_)) => {
                let allow = "GET, HEAD, PUT, PATCH, DELETE";
                problem(405, "Use GET, PUT, PATCH or DELETE here.").header("allow", allow)
            }
        })
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
        match self.answer(request, &claims).await {
            Err(e) => {
                // What is wrong with the caller's own input is an answer; a failure of ours is an error.
                let status = match e.kind() {
                    ErrorKind::Invalid => 400,
                    ErrorKind::Conflict => 409,
                    ErrorKind::LimitExceeded => 413,
                    ErrorKind::Unsupported => 415,
                    _ => return Err(e),
                };
                Ok(problem(status, e.public_message()))
            }
            answered => answered,
        }
    }
}

/// The records of one entity in one scope.
struct Rows<'a> {
    api: &'a EntityApi,
    scope: &'a Scope,
    entity: &'a str,
    claims: &'a Claims,
}

impl Rows<'_> {
    async fn list(&self, request: &ApiRequest) -> Result<ApiResponse> {
        let query = ListQuery::parse(&request.query)?;
        let (items, next) = self.api.store.list(self.scope, self.entity, &query).await?;
        Ok(json_body(200, &json!({ "items": items, "next": next })))
    }

    async fn create(&self, request: &ApiRequest) -> Result<ApiResponse> {
        let mut fields = fields(request)?;
        let now = self.api.clock.now();
        let id = match fields.remove("id") {
            None | Some(Value::Null) => uuid(&*self.api.ids, now),
            Some(Value::String(id)) => {
                query::id(&id)?;
                id
            }
            Some(_) => return Err(Error::invalid("field `id` must be a string, or be left out")),
        };
        let (id, by) = (id.as_str(), self.claims.subject.as_str());
        let record = self.api.store.create(self.scope, self.entity, id, by, &without_own(fields), now).await?;
        let record = record.ok_or_else(|| {
            let message = format!("field `id` must be new, but `{id}` is taken: leave it out to get one");
            Error::conflict(message.clone()).public(message)
        })?;
        Ok(json_body(201, &record))
    }

    async fn read(&self, id: &str) -> Result<ApiResponse> {
        let found = self.api.store.read(self.scope, self.entity, id).await?;
        Ok(found.map_or_else(missing, |record| json_body(200, &record)))
    }

    async fn update(&self, id: &str, change: Change) -> Result<ApiResponse> {
        let change = match change {
            Change::Replace(fields) => Change::Replace(own_id(id, fields)?),
            Change::Merge(fields) => Change::Merge(own_id(id, fields)?),
        };
        let updated = self.api.store.update(self.scope, self.entity, id, change, self.api.clock.now()).await?;
        Ok(updated.map_or_else(missing, |record| json_body(200, &record)))
    }

    async fn delete(&self, id: &str) -> Result<ApiResponse> {
        let deleted = self.api.store.delete(self.scope, self.entity, id, self.api.clock.now()).await?;
        Ok(if deleted { ApiResponse::new(204, "") } else { missing() })
    }
}

/// What is said of a record besides its fields.
const OWN: [&str; 3] = ["id", "created_at", "updated_at"];

fn without_own(mut fields: Map<String, Value>) -> Map<String, Value> {
    fields.retain(|name, _| !OWN.contains(&name.as_str()));
    fields
}

/// Whoever sends back a record that was read sends its id too.
fn own_id(id: &str, fields: Map<String, Value>) -> Result<Map<String, Value>> {
    if fields.get("id").is_some_and(|given| given.as_str() != Some(id)) {
        return Err(Error::invalid("field `id` must be the one in the path, or be left out"));
    }
    Ok(without_own(fields))
}

/// The object that a request brings.
fn fields(request: &ApiRequest) -> Result<Map<String, Value>> {
    let media_type = request.content_type.as_deref().and_then(|t| t.split(';').next()).unwrap_or_default().trim();
    if !media_type.eq_ignore_ascii_case("application/json") {
        let message = "The body must be application/json: set the header content-type.";
        return Err(Error::new(ErrorKind::Unsupported, message).public(message));
    }
    if request.body.len() > EntityApi::MAX_RECORD_BYTES {
        let (limit, size) = (EntityApi::MAX_RECORD_BYTES, request.body.len());
        let message = format!("record must be at most {limit} bytes of JSON, but has {size}");
        return Err(Error::new(ErrorKind::LimitExceeded, message));
    }
    let fields: Map<String, Value> = serde_json::from_slice(&request.body)
        .map_err(|e| Error::invalid(format!("body must be a JSON object, but {e}")).caused_by(e))?;
    for name in fields.keys() {
        query::name("field name", name)?;
    }
    Ok(fields)
}

fn uuid(ids: &dyn Ids, now: overskill_core::Timestamp) -> String {
    overskill_core::DeploymentId::generate(ids, now).to_string()
}

fn missing() -> ApiResponse {
    problem(404, "There is no such record.")
}

fn problem(status: u16, message: &str) -> ApiResponse {
    json_body(status, &json!({ "error": message }))
}

fn json_body(status: u16, body: &Value) -> ApiResponse {
    ApiResponse::new(status, body.to_string())
        .header("content-type", "application/json")
        .header("cache-control", "no-store")
}

/// An error of this module's own.
fn refuse(field: &'static str, rule: &'static str, given: &str) -> Error {
    Error::from(ParseError::new(field, rule, given)).at(disk::BACKEND, "entities")
}
