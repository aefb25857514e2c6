use super::{NAME, Shared};
use crate::{
    ApiMethod, ApiRequest, ApiResponse, ApiUpstream, Clock, FilePath, Readiness, Refusal, Result, Right, Scope,
    TenantId, TenantValidator,
};
use async_trait::async_trait;
use bytes::Bytes;
use serde_json::{Value, json};
use std::{collections::HashMap, sync::Arc};

/// An app's data in memory: JSON documents by path, each scope's apart from all others. Clones share them.
///
/// | call | answer |
/// |---|---|
/// | `GET`, `HEAD` | 200 with the document, or 404 |
/// | `PUT` with `application/json` of at most 1 MiB | 201 for a new document, else 204 |
/// | `DELETE` | 204, or 404 |
/// | any, with a token that does not speak for the app | 401; without the right `Data`, 403 |
#[derive(Clone, Debug)]
pub struct MemoryApi {
    validator: Arc<dyn TenantValidator>,
    clock: Arc<dyn Clock>,
    documents: Shared<HashMap<Scope, HashMap<FilePath, Bytes>>>,
}

impl MemoryApi {
    /// Largest document in bytes.
    pub const MAX_DOCUMENT_BYTES: usize = 1024 * 1024;

    /// No documents yet; `validator` says whose a token is.
    pub fn new(validator: Arc<dyn TenantValidator>, clock: Arc<dyn Clock>) -> Self {
        Self { validator, clock, documents: Shared::default() }
    }

    /// The answer to a caller who may not, or `None` if they may.
    async fn refusal(&self, request: &ApiRequest) -> Option<ApiResponse> {
        let (app, now) = (&request.scope.app, self.clock.now());
        match self.validator.validate(&request.token, &TenantId::of_app(app.clone()), now).await {
            Ok(claims) if claims.app() != app || claims.expires_at <= now => Some(problem(401, Refusal::PUBLIC)),
            Ok(claims) if claims.environment.is_some_and(|e| e != request.scope.environment) => {
                Some(problem(403, Refusal::PUBLIC))
            }
            Ok(claims) if !claims.rights.has(Right::Data) => Some(problem(403, Refusal::PUBLIC)),
            Ok(_) => None,
            Err(Refusal::Undecided(_)) => Some(problem(503, "The service is not available; try again later.")),
            Err(_) => Some(problem(401, Refusal::PUBLIC)),
        }
    }

    fn put(&self, request: &ApiRequest) -> ApiResponse {
        let media_type = request.content_type.as_deref().and_then(|t| t.split(';').next()).unwrap_or_default().trim();
        if !media_type.eq_ignore_ascii_case("application/json") {
            return problem(415, "The body must be application/json.");
        }
        if request.body.len() > Self::MAX_DOCUMENT_BYTES {
            return problem(413, "The body must be at most 1 MiB.");
        }
        if serde_json::from_slice::<Value>(&request.body).is_err() {
            return problem(400, "The body is not JSON.");
        }
        let mut documents = self.documents.lock();
        let documents = documents.entry(request.scope.clone()).or_default();
        let before = documents.insert(request.path.clone(), request.body.clone());
        ApiResponse::new(if before.is_none() { 201 } else { 204 }, "")
    }
}

#[async_trait]
impl ApiUpstream for MemoryApi {
    async fn check(&self) -> Result<Readiness> {
        Ok(Readiness::ready(NAME))
    }

    async fn call(&self, request: &ApiRequest) -> Result<ApiResponse> {
        if let Some(refusal) = self.refusal(request).await {
            return Ok(refusal);
        }
        let missing = || problem(404, "There is no such document.");
        Ok(match request.method {
            ApiMethod::Get | ApiMethod::Head => {
                let documents = self.documents.lock();
                let found = documents.get(&request.scope).and_then(|documents| documents.get(&request.path));
                let body = |found: &Bytes| if request.method == ApiMethod::Get { found.clone() } else { Bytes::new() };
                found.map_or_else(missing, |found| json_body(200, body(found)))
            }
            ApiMethod::Put => self.put(request),
            ApiMethod::Delete => {
                let mut documents = self.documents.lock();
                let removed = documents.get_mut(&request.scope).and_then(|documents| documents.remove(&request.path));
                removed.map_or_else(missing, |_| ApiResponse::new(204, ""))
            }
            ApiMethod::Post | ApiMethod::Patch => {
                problem(405, "Use GET, PUT or DELETE.").header("allow", "GET, HEAD, PUT, DELETE")
            }
        })
    }
}

fn problem(status: u16, message: &str) -> ApiResponse {
    json_body(status, json!({ "error": message }).to_string())
}

fn json_body(status: u16, body: impl Into<Bytes>) -> ApiResponse {
    ApiResponse::new(status, body).header("content-type", "application/json")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{AccessToken, AppId, Claims, Rights, SubjectId, TestClock, Timestamp};
    use std::time::Duration;

    /// A token is `{app}` with every right, `{app}-blind` with none, or `broken`.
    #[derive(Debug)]
    struct Fake;

    #[async_trait]
    impl TenantValidator for Fake {
        async fn check(&self) -> Result<Readiness> {
            Ok(Readiness::ready("fake"))
        }

        async fn validate(&self, token: &AccessToken, tenant: &TenantId, now: Timestamp) -> Result<Claims, Refusal> {
            let (app, blind) = token.expose().split_once('-').map_or((token.expose(), false), |(app, _)| (app, true));
            match app {
                "broken" => Err(crate::Error::new(crate::ErrorKind::Timeout, "no keys").into()),
                app if app != tenant.app().as_str() => Err(Refusal::OtherTenant),
                _ => {
                    let rights = if blind { Rights::NONE } else { Rights::ALL };
                    let until = now.plus(Duration::from_mins(1));
                    Ok(Claims::new(SubjectId::parse("u").unwrap(), tenant.clone(), rights, until))
                }
            }
        }
    }

    fn request(app: &str, token: &str, method: ApiMethod) -> ApiRequest {
        let scope = Scope::sources(AppId::parse(app).unwrap());
        ApiRequest::new(scope, AccessToken::parse(token).unwrap(), method, FilePath::parse("todos/1").unwrap())
    }

    #[tokio::test]
    async fn documents_are_kept_apart_and_tokens_are_asked_for() {
        let api = MemoryApi::new(Arc::new(Fake), Arc::new(TestClock::new()));
        let status = async |request: ApiRequest| api.call(&request).await.unwrap().status;
        let put =
            |body: &str| request("a1", "a1", ApiMethod::Put).body("application/json; charset=utf-8", body.to_owned());
        assert_eq!(status(put("{\"done\":false}")).await, 201);
        assert_eq!(status(put("{\"done\":true}")).await, 204);
        assert_eq!(status(put("{")).await, 400);
        assert_eq!(status(put(&format!("\"{}\"", "x".repeat(MemoryApi::MAX_DOCUMENT_BYTES)))).await, 413);
        assert_eq!(status(request("a1", "a1", ApiMethod::Put).body("text/plain", "{}")).await, 415);
        let read = api.call(&request("a1", "a1", ApiMethod::Get)).await.unwrap();
        assert_eq!((read.status, &read.body[..]), (200, &b"{\"done\":true}"[..]));
        assert!(api.call(&request("a1", "a1", ApiMethod::Head)).await.unwrap().body.is_empty());
        assert_eq!(status(request("a1", "a1", ApiMethod::Post)).await, 405);
        for (token, want) in [("b2", 401), ("a1-blind", 403), ("broken", 503)] {
            for method in [ApiMethod::Get, ApiMethod::Put, ApiMethod::Delete] {
                assert_eq!(status(request("a1", token, method)).await, want, "{token}");
            }
        }
        assert_eq!(status(request("b2", "b2", ApiMethod::Get)).await, 404);
        assert_eq!(status(request("a1", "a1", ApiMethod::Delete)).await, 204);
        assert_eq!(status(request("a1", "a1", ApiMethod::Delete)).await, 404);
    }
}
