//! The protocol of apps' `/api/entities/{Entity}`: what is asked and answered, whatever keeps the records.
//!
//! Records are JSON objects that the app names and shapes as it likes.
//!
//! | call | answer |
//! |---|---|
//! | `POST entities/{Entity}` | 201 with the new record; 409 if its `id` was given and is taken |
//! | `GET entities/{Entity}` | 200 with `{"items": […], "next": "cursor" or null}`, oldest first |
//! | `GET entities/{Entity}/{id}` | 200 with the record, or 404 |
//! | `PUT entities/{Entity}/{id}` | 200 with the record, its fields replaced; or 404 |
//! | `PATCH entities/{Entity}/{id}` | 200 with the record, these fields replaced, those that are `null` gone; or 404 |
//! | `DELETE entities/{Entity}/{id}` | 204, or 404. The row stays in the file, marked as deleted |
//!
//! A record is its fields with `id`, `created_at` and `updated_at` (RFC 3339), which writes may repeat but not change. A
//! list takes `limit` (1 to 1,000; 100 otherwise), `cursor` (what `next` was) or `offset`, `sort` (a field, `-` before it for
//! descending), and any other name as a filter: `?done=false&priority=2`. A page may end before its limit, at 8 MiB: `next`
//! alone says whether there is more. Cursors neither skip nor repeat when records come, go or change between two pages, unless
//! the change moves a record itself in the order. Errors are `{"error": "…"}`.
//!
//! Names of entities and fields: 1 to 64 of `A-Z a-z 0-9 _`, not beginning with a digit. A record is at most 256 KiB of
//! JSON.
//!
//! An [`ApiUpstream`](crate::ApiUpstream) finds out whose records a token opens, and has [`answer`] do the rest with
//! [`EntityRows`] of that scope. `entity_api_conformance!` of overskill-testkit proves it.

mod query;

pub use query::{ListQuery, Sort, Start, not_a_cursor};

use crate::{ApiMethod, ApiRequest, ApiResponse, DeploymentId, Error, ErrorKind, Ids, Result, Timestamp};
use async_trait::async_trait;
use serde_json::{Map, Value, json};

/// Largest record in bytes of JSON.
pub const MAX_RECORD_BYTES: usize = 256 * 1024;
/// How many records a list has unless `limit` says otherwise.
pub const DEFAULT_LIMIT: u32 = 100;
/// The largest `limit`.
pub const MAX_LIMIT: u32 = 1_000;
/// Most bytes of fields in one page: it ends early rather than hold 1,000 of the largest records in memory.
pub const MAX_PAGE_BYTES: usize = 8 * 1024 * 1024;

/// The records of one app in one environment, for one caller. What else there is, it can neither see nor change.
///
/// Records come and go as [`record`] shows them. Names and ids were parsed.
#[async_trait]
pub trait EntityRows: Send + Sync {
    /// `None` if the id is taken, even by a record that was deleted.
    async fn create(&self, entity: &str, id: &str, fields: Map<String, Value>, now: Timestamp)
    -> Result<Option<Value>>;

    /// `None` if there is no such record.
    async fn read(&self, entity: &str, id: &str) -> Result<Option<Value>>;

    /// The records, and the cursor at which the next page begins. Cursors neither skip nor repeat when records come and go.
    async fn list(&self, entity: &str, query: &ListQuery) -> Result<(Vec<Value>, Option<String>)>;

    /// `None` if there is no such record. `LimitExceeded` if it would be larger than [`MAX_RECORD_BYTES`].
    async fn update(&self, entity: &str, id: &str, change: Change, now: Timestamp) -> Result<Option<Value>>;

    /// Whether there was such a record. Its id stays taken.
    async fn delete(&self, entity: &str, id: &str, now: Timestamp) -> Result<bool>;
}

/// What a write does to a record that is there.
#[derive(Clone, Debug)]
pub enum Change {
    /// These are its fields now.
    Replace(Map<String, Value>),
    /// These fields change; those that are `null` go (RFC 7396, one level deep).
    Merge(Map<String, Value>),
}

impl Change {
    /// The fields after it; `LimitExceeded` if they are too large.
    pub fn apply(self, mut fields: Map<String, Value>) -> Result<Map<String, Value>> {
        match self {
            Self::Replace(new) => fields = new,
            Self::Merge(new) => {
                for (name, value) in new {
                    if value.is_null() {
                        fields.remove(&name);
                    } else {
                        fields.insert(name, value);
                    }
                }
            }
        }
        let size = Value::Object(fields.clone()).to_string().len();
        if size > MAX_RECORD_BYTES {
            let message = format!("record must be at most {MAX_RECORD_BYTES} bytes of JSON, but would have {size}");
            return Err(Error::new(ErrorKind::LimitExceeded, message));
        }
        Ok(fields)
    }
}

/// A record as an app sees it: its fields with `id`, `created_at` and `updated_at`.
pub fn record(id: &str, fields: Map<String, Value>, created_at: Timestamp, updated_at: Timestamp) -> Value {
    let (created_at, updated_at) = (created_at.to_string(), updated_at.to_string());
    let mut record = json!({ "id": id, "created_at": created_at, "updated_at": updated_at });
    if let Some(record) = record.as_object_mut() {
        record.extend(fields);
    }
    record
}

/// Answers a call on `rows`. What is wrong with the caller's own input is an answer (400, 409, 413, 415); an error is a
/// failure of the store.
pub async fn answer(rows: &dyn EntityRows, request: &ApiRequest, ids: &dyn Ids, now: Timestamp) -> Result<ApiResponse> {
    match (Call { rows, request, ids, now }).answer().await {
        Err(e) => {
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

/// An answer that says what is wrong: `{"error": "…"}`.
pub fn problem(status: u16, message: &str) -> ApiResponse {
    json_body(status, &json!({ "error": message }))
}

struct Call<'a> {
    rows: &'a dyn EntityRows,
    request: &'a ApiRequest,
    ids: &'a dyn Ids,
    now: Timestamp,
}

impl Call<'_> {
    async fn answer(&self) -> Result<ApiResponse> {
        let Self { request, rows, now, .. } = *self;
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
        Ok(match (request.method, id) {
            (ApiMethod::Get | ApiMethod::Head, None) => {
                let (items, next) = rows.list(entity, &ListQuery::parse(&request.query)?).await?;
                json_body(200, &json!({ "items": items, "next": next }))
            }
            (ApiMethod::Post, None) => self.create(entity).await?,
            (ApiMethod::Get | ApiMethod::Head, Some(id)) => {
                rows.read(entity, id).await?.map_or_else(missing, |record| json_body(200, &record))
            }
            (ApiMethod::Put, Some(id)) => self.update(entity, id, Change::Replace).await?,
            (ApiMethod::Patch, Some(id)) => self.update(entity, id, Change::Merge).await?,
            (ApiMethod::Delete, Some(id)) => {
                if rows.delete(entity, id, now).await? {
                    ApiResponse::new(204, "")
                } else {
                    missing()
                }
            }
            (_, None) => problem(405, "Use GET or POST here.").header("allow", "GET, HEAD, POST"),
            (_, Some(_)) => {
                let allow = "GET, HEAD, PUT, PATCH, DELETE";
                problem(405, "Use GET, PUT, PATCH or DELETE here.").header("allow", allow)
            }
        })
    }

    async fn create(&self, entity: &str) -> Result<ApiResponse> {
        let mut fields = fields(self.request)?;
        let id = match fields.remove("id") {
            None | Some(Value::Null) => DeploymentId::generate(self.ids, self.now).to_string(),
            Some(Value::String(id)) => {
                query::id(&id)?;
                id
            }
            Some(_) => return Err(Error::invalid("field `id` must be a string, or be left out")),
        };
        let record = self.rows.create(entity, &id, without_own(fields), self.now).await?;
        let record = record.ok_or_else(|| {
            let message = format!("field `id` must be new, but `{id}` is taken: leave it out to get one");
            Error::conflict(message.clone()).public(message)
        })?;
        Ok(json_body(201, &record))
    }

    async fn update(
        &self,
        entity: &str,
        id: &str,
        change: impl Fn(Map<String, Value>) -> Change + Send,
    ) -> Result<ApiResponse> {
        let change = change(own_id(id, fields(self.request)?)?);
        let updated = self.rows.update(entity, id, change, self.now).await?;
        Ok(updated.map_or_else(missing, |record| json_body(200, &record)))
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
    if request.body.len() > MAX_RECORD_BYTES {
        let (limit, size) = (MAX_RECORD_BYTES, request.body.len());
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

fn missing() -> ApiResponse {
    problem(404, "There is no such record.")
}

fn json_body(status: u16, body: &Value) -> ApiResponse {
    ApiResponse::new(status, body.to_string())
        .header("content-type", "application/json")
        .header("cache-control", "no-store")
}
