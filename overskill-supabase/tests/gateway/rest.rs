//! What stands behind the gateway: `PostgREST`'s transaction on real Postgres, and a storage that asks the tables of
//! Supabase's own, as whoever calls, and decides nothing by itself.

use axum::{
    Router,
    body::Bytes,
    extract::{Path, State},
    http::{HeaderMap, Method, StatusCode, Uri},
    response::IntoResponse,
    routing::any,
};
use jsonwebtoken::{Algorithm, DecodingKey, Validation, decode, decode_header, jwk::JwkSet};
use overskill_supabase::tokio_postgres::{Client, NoTls, connect};
use serde::de::IgnoredAny;
use serde_json::{Value, json};
use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Mutex},
};
use tokio::net::TcpListener;

pub(crate) const PUBLISHABLE: &str = "sb_publishable_for_browsers";
pub(crate) const SECRET: &str = "sb_secret_passes_by_all_policies";

pub(crate) struct Behind {
    database: String,
    jwks: JwkSet,
    /// By the ids of their rows.
    pub(crate) files: Mutex<HashMap<String, Vec<u8>>>,
    /// The keys that were shown, call by call.
    pub(crate) shown: Mutex<Vec<String>>,
}

/// Serves on loopback, and gives the address.
pub(crate) async fn serve(database: String, jwks: &Value) -> (String, Arc<Behind>) {
    let jwks = serde_json::from_value(jwks.clone()).unwrap();
    let behind = Arc::new(Behind { database, jwks, files: Mutex::default(), shown: Mutex::default() });
    let router = Router::new()
        .route("/rest/v1/{table}", any(rest))
        .route("/rest/v1/rpc/{function}", any(rest))
        .route("/storage/v1/object/{*path}", any(storage))
        .with_state(behind.clone());
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
    (format!("http://{address}"), behind)
}

/// Somebody else's server, which takes note of what it is shown.
pub(crate) async fn elsewhere() -> (String, Arc<Mutex<Vec<HeaderMap>>>) {
    let heard = Arc::new(Mutex::new(Vec::new()));
    let its = heard.clone();
    let hear = move |headers: HeaderMap| async move {
        its.lock().unwrap().push(headers);
        "[]"
    };
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, Router::new().fallback(any(hear))).await.unwrap() });
    (address.to_string(), heard)
}

type Refusal = (StatusCode, String);

fn refuse(status: u16, code: &str, message: impl std::fmt::Display) -> Refusal {
    let body = json!({ "code": code, "message": message.to_string(), "details": null, "hint": null });
    (StatusCode::from_u16(status).unwrap(), body.to_string())
}

impl Behind {
    /// The claims of a call, with its role.
    fn claims(&self, headers: &HeaderMap) -> Result<Value, Refusal> {
        let text = |name: &str| headers.get(name).and_then(|it| it.to_str().ok()).unwrap_or_default();
        let (key, bearer) = (text("apikey"), text("authorization").strip_prefix("Bearer ").unwrap_or_default());
        self.shown.lock().unwrap().push(format!("{key} {bearer}"));
        if key == SECRET {
            return Ok(json!({ "role": "service_role" }));
        }
        if key != PUBLISHABLE {
            return Err(refuse(401, "", "Invalid API key"));
        }
        if bearer.is_empty() {
            return Ok(json!({ "role": "anon" }));
        }
        let bad = |_| refuse(401, "PGRST301", "JWT is not valid");
        let kid = decode_header(bearer).map_err(bad)?.kid.unwrap_or_default();
        let jwk = self.jwks.find(&kid).ok_or_else(|| refuse(401, "PGRST301", "No suitable key"))?;
        let mut validation = Validation::new(Algorithm::ES256);
        validation.set_audience(&["authenticated"]);
        let decoded = decode::<Value>(bearer, &DecodingKey::from_jwk(jwk).unwrap(), &validation).map_err(bad)?;
        Ok(decoded.claims)
    }
}

async fn rest(
    State(behind): State<Arc<Behind>>,
    method: Method,
    headers: HeaderMap,
    uri: Uri,
    body: Bytes,
) -> impl IntoResponse {
    let answer = answer(&behind, &method, &headers, &uri, &body).await;
    answer.unwrap_or_else(|(status, body)| (status, body))
}

async fn answer(
    behind: &Behind,
    method: &Method,
    headers: &HeaderMap,
    uri: &Uri,
    body: &Bytes,
) -> Result<Refusal, Refusal> {
    let claims = behind.claims(headers)?;
    let reads = *method == Method::GET;
    let profile = if reads { "accept-profile" } else { "content-profile" };
    let schema = headers.get(profile).and_then(|it| it.to_str().ok()).unwrap_or("public");
    if !["public", "overskill_data", "backoffice", "plain"].contains(&schema) {
        return Err(refuse(406, "PGRST106", "The schema is not exposed"));
    }
    let name = uri.path().rsplit('/').next().unwrap_or_default();
    let statement = if uri.path().contains("/rpc/") {
        call(schema, name, body)
    } else {
        statement(method, schema, name, uri.query().unwrap_or_default(), body)
    };
    let (statement, takes_body) = statement.ok_or_else(|| refuse(400, "PGRST100", "failed to parse the query"))?;

    let (client, connection) = connect(&behind.database, NoTls).await.map_err(|e| refuse(503, "PGRST000", e))?;
    tokio::spawn(connection);
    client.batch_execute("SET ROLE authenticator").await.unwrap();
    client.batch_execute(if reads { "BEGIN READ ONLY" } else { "BEGIN" }).await.unwrap();
    let done = run(&client, schema, &claims, method, uri, &statement, takes_body.then_some(body)).await;
    match done {
        Ok(rows) => {
            client.batch_execute("COMMIT").await.unwrap();
            let status = if *method == Method::POST { StatusCode::CREATED } else { StatusCode::OK };
            Ok((status, rows))
        }
        Err(e) => {
            let code = e.code().map_or("", |it| it.code());
            let status = match code {
                "42501" => 403,
                "23505" => 409,
                "42P01" => 404,
                // `PostgREST`: whoever raises it says the status.
                said => said.strip_prefix("PT").and_then(|it| it.parse().ok()).unwrap_or(400),
            };
            Err(refuse(
                status,
                code,
                e.as_db_error().map_or_else(|| e.to_string(), |it| format!("{it} {:?}", it.detail())),
            ))
        }
    }
}

/// `PostgREST`'s preamble: one statement, all of it local to the transaction.
async fn run(
    client: &Client,
    schema: &str,
    claims: &Value,
    method: &Method,
    uri: &Uri,
    statement: &str,
    body: Option<&Bytes>,
) -> Result<String, overskill_supabase::tokio_postgres::Error> {
    const PREAMBLE: &str = "SELECT set_config('search_path', $1, true), set_config('role', $2, true), \
        set_config('request.jwt.claims', $3, true), set_config('request.method', $4, true), \
        set_config('request.path', $5, true), set_config('request.headers', '{}', true), \
        set_config('request.cookies', '{}', true)";
    let role = claims["role"].as_str().unwrap_or("anon");
    let path = format!("\"{schema}\"");
    client.query(PREAMBLE, &[&path, &role, &claims.to_string(), &method.as_str(), &uri.path()]).await?;
    let row = match body {
        Some(body) => client.query_one(statement, &[&String::from_utf8_lossy(body).as_ref()]).await?,
        None => client.query_one(statement, &[]).await?,
    };
    Ok(row.get(0))
}

/// The statement that calls a function with the body's members by name.
fn call(schema: &str, function: &str, body: &[u8]) -> Option<(String, bool)> {
    let sound = |it: &str| it.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
    let given = named(body)?.iter().map(|it| format!("\"{it}\" => $1::text::json ->> '{it}'")).collect::<Vec<_>>();
    let call = format!("SELECT coalesce(to_json(\"{schema}\".\"{function}\"({}))::text, 'null')", given.join(", "));
    (sound(schema) && sound(function)).then_some((call, !given.is_empty()))
}

/// The statement of a call, as text, and whether it takes the body.
fn statement(method: &Method, schema: &str, table: &str, query: &str, body: &[u8]) -> Option<(String, bool)> {
    let name = |text: &str| text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_').then(|| format!("\"{text}\""));
    let table = format!("{}.{}", name(schema)?, name(table)?);
    let (mut select, mut wheres, mut order, mut limit) = ("t.*".to_owned(), Vec::new(), String::new(), String::new());
    for (key, value) in pairs(query) {
        match key.as_str() {
            "select" if value != "*" => {
                select = value.split(',').map(column).collect::<Option<Vec<_>>>()?.join(", ");
            }
            "select" => {}
            "limit" => limit = format!(" LIMIT {}", value.parse::<u32>().ok()?),
            "order" => {
                let terms = value.split(',').map(|term| {
                    let (of, way) = term.split_once('.').unwrap_or((term, "asc"));
                    Some(format!("{} {}", column(of)?, if way == "desc" { "DESC" } else { "ASC" }))
                });
                order = format!(" ORDER BY {}", terms.collect::<Option<Vec<_>>>()?.join(", "));
            }
            "or" | "and" => wheres.push(condition(&format!("{key}{value}"))?),
            _ => wheres.push(condition(&format!("{key}.{value}"))?),
        }
    }
    let wheres = if wheres.is_empty() { "true".to_owned() } else { wheres.join(" AND ") };
    let all = |inner: &str| format!("WITH r AS ({inner}) SELECT coalesce(json_agg(r), '[]')::text FROM r");
    Some(match method.as_str() {
        "GET" => (all(&format!("SELECT {select} FROM {table} t WHERE {wheres}{order}{limit}")), false),
        "POST" => {
            let columns = named(body)?.iter().map(|it| format!("\"{it}\"")).collect::<Vec<_>>().join(", ");
            let from = format!("json_populate_record(null::{table}, $1::text::json)");
            (
                all(&format!("INSERT INTO {table} AS t ({columns}) SELECT {columns} FROM {from} RETURNING {select}")),
                true,
            )
        }
        "PATCH" => {
            let sets = named(body)?.iter().map(|it| format!("\"{it}\" = s.\"{it}\"")).collect::<Vec<_>>().join(", ");
            let from = format!("json_populate_record(null::{table}, $1::text::json) s");
            (all(&format!("UPDATE {table} AS t SET {sets} FROM {from} WHERE {wheres} RETURNING {select}")), true)
        }
        _ => return None,
    })
}

/// The names of the body's members, which are columns.
#[allow(clippy::zero_sized_map_values, reason = "whatever the values are: they are the database's to read")]
fn named(body: &[u8]) -> Option<Vec<String>> {
    let body: BTreeMap<String, IgnoredAny> = serde_json::from_slice(body).ok()?;
    let sound = |it: &str| it.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
    body.keys().map(|it| sound(it).then(|| it.clone())).collect()
}

/// `a.eq.1`, `or(…)` and `and(…)`, one within the other.
fn condition(text: &str) -> Option<String> {
    for (word, joint) in [("or(", " OR "), ("and(", " AND ")] {
        if let Some(inner) = text.strip_prefix(word) {
            let inner = inner.strip_suffix(')')?;
            let parts = parts(inner).into_iter().map(condition).collect::<Option<Vec<_>>>()?;
            return Some(format!("({})", parts.join(joint)));
        }
    }
    let (of, rest) = text.split_once('.')?;
    let (operator, value) = rest.split_once('.')?;
    let value = value.strip_prefix('"').and_then(|it| it.strip_suffix('"')).unwrap_or(value);
    let operator = match operator {
        "is" if value == "null" => return Some(format!("{} IS NULL", column(of)?)),
        "eq" => "=",
        "gt" => ">",
        "lt" => "<",
        _ => return None,
    };
    Some(format!("{} {operator} '{}'", column(of)?, value.replace('\'', "''")))
}

/// Splits at commas that stand in no parentheses and no quotes.
fn parts(text: &str) -> Vec<&str> {
    let (mut found, mut from, mut depth, mut quoted) = (Vec::new(), 0, 0, false);
    for (at, c) in text.char_indices() {
        match c {
            '"' => quoted = !quoted,
            '(' if !quoted => depth += 1,
            ')' if !quoted => depth -= 1,
            ',' if !quoted && depth == 0 => {
                found.push(&text[from..at]);
                from = at + 1;
            }
            _ => {}
        }
    }
    found.push(&text[from..]);
    found
}

fn column(text: &str) -> Option<String> {
    let sound = |it: &str| !it.is_empty() && it.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
    match text.split_once("->>") {
        Some((of, field)) if sound(of) && sound(field) => Some(format!("(t.\"{of}\"->>'{field}')")),
        None if sound(text) => Some(format!("t.\"{text}\"")),
        _ => None,
    }
}

fn pairs(query: &str) -> Vec<(String, String)> {
    let url = overskill_http::Url::parse(&format!("http://x/?{query}")).unwrap();
    url.query_pairs().collect()
}

async fn storage(
    State(behind): State<Arc<Behind>>,
    Path(path): Path<String>,
    method: Method,
    headers: HeaderMap,
    body: Bytes,
) -> impl IntoResponse {
    match stored(&behind, &path, &method, &headers, &body).await {
        Ok(contents) => (StatusCode::OK, contents),
        // As Storage does: 400 whatever it is, and the status that it means within.
        Err((status, message)) => {
            let said = json!({ "statusCode": status.as_u16().to_string(), "error": "", "message": message });
            (StatusCode::BAD_REQUEST, said.to_string().into_bytes())
        }
    }
}

/// How large a file may be in this project.
pub(crate) const MAX_FILE: usize = 1 << 20;

/// Whether the caller may, `storage.objects` says; the file itself lies beside it, by the id of its row.
async fn stored(
    behind: &Behind,
    path: &str,
    method: &Method,
    headers: &HeaderMap,
    body: &Bytes,
) -> Result<Vec<u8>, Refusal> {
    const PREAMBLE: &str = "SELECT set_config('role', $1, true), set_config('request.jwt.claims', $2, true)";
    let claims = behind.claims(headers)?;
    let path = path.strip_prefix("authenticated/").unwrap_or(path);
    let (bucket, name) = path.split_once('/').ok_or_else(|| refuse(400, "InvalidKey", path))?;
    if body.len() > MAX_FILE {
        return Err(refuse(413, "EntityTooLarge", "The object exceeded the maximum allowed size"));
    }
    let upsert = headers.get("x-upsert").is_some_and(|it| it == "true");
    let statement = match method.as_str() {
        "GET" => "SELECT id::text FROM storage.objects WHERE bucket_id = $1 AND name = $2",
        "DELETE" => "DELETE FROM storage.objects WHERE bucket_id = $1 AND name = $2 RETURNING id::text",
        _ if upsert => {
            "INSERT INTO storage.objects (bucket_id, name) VALUES ($1, $2) \
             ON CONFLICT (bucket_id, name) DO UPDATE SET updated_at = now() RETURNING id::text"
        }
        _ => "INSERT INTO storage.objects (bucket_id, name) VALUES ($1, $2) RETURNING id::text",
    };
    let (mut client, connection) = connect(&behind.database, NoTls).await.map_err(|e| refuse(503, "", e))?;
    tokio::spawn(connection);
    client.batch_execute("SET ROLE authenticator").await.unwrap();
    let transaction = client.transaction().await.unwrap();
    let role = claims["role"].as_str().unwrap_or("anon");
    transaction.query(PREAMBLE, &[&role, &claims.to_string()]).await.unwrap();
    let row = transaction.query_opt(statement, &[&bucket, &name]).await.map_err(|e| {
        let code = e.code().map_or("", |it| it.code()).to_owned();
        refuse(if code == "23505" { 409 } else { 403 }, &code, e)
    })?;
    transaction.commit().await.unwrap();
    let id: String = row.ok_or_else(|| refuse(404, "NoSuchKey", "Object not found"))?.get(0);
    let mut files = behind.files.lock().unwrap();
    match method.as_str() {
        "GET" => Ok(files.get(&id).cloned().unwrap_or_default()),
        "DELETE" => Ok(files.remove(&id).map(|_| Vec::new()).unwrap_or_default()),
        _ => {
            files.insert(id, body.to_vec());
            Ok(Vec::new())
        }
    }
}
