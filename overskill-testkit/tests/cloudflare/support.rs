//! Calls of the API, as plain as they can be.

use bytes::Bytes;
use overskill_testkit::{
    RawAnswer,
    cloudflare::{CloudflareEmulator, CloudflareOptions, http::Request},
};
use serde_json::{Value, json};
use std::{fmt::Write as _, time::Duration};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::timeout,
};

pub(crate) struct Api {
    pub(crate) cloudflare: CloudflareEmulator,
}

/// `(status, body)`
pub(crate) type Answer = (u16, Value);

impl Api {
    pub(crate) fn in_process() -> Self {
        Self::with(CloudflareEmulator::options())
    }

    pub(crate) fn with(options: CloudflareOptions) -> Self {
        Self { cloudflare: options.in_process() }
    }

    /// With workerd.
    pub(crate) async fn with_edge(options: CloudflareOptions) -> Self {
        Self { cloudflare: options.start().await.unwrap() }
    }

    /// Asks the edge.
    pub(crate) async fn visit(&self, host: &str, path: &str) -> Visit {
        self.visit_with(&format!("GET {path} HTTP/1.1\r\nHost: {host}\r\n"), "").await
    }

    /// Asks the edge with a head of its own; without `Connection` and `Content-Length`.
    pub(crate) async fn visit_with(&self, head: &str, body: &str) -> Visit {
        let address = self.cloudflare.edge_address().unwrap();
        let length = body.len();
        let request = format!("{head}Connection: close\r\nContent-Length: {length}\r\n\r\n{body}");
        let asking = async {
            let mut stream = TcpStream::connect(address).await.unwrap();
            stream.write_all(request.as_bytes()).await.unwrap();
            let mut answer = Vec::new();
            stream.read_to_end(&mut answer).await.unwrap();
            answer
        };
        let answer = timeout(Duration::from_mins(1), asking).await.expect("the edge answers");
        let answer = RawAnswer::read(&answer, false).expect("a whole answer");
        let body = String::from_utf8_lossy(&answer.body).into_owned();
        Visit { status: answer.status, headers: answer.headers, body }
    }

    pub(crate) async fn text(&self, host: &str, path: &str) -> String {
        self.visit(host, path).await.body
    }

    /// Routes `pattern` to a script of the account.
    pub(crate) async fn route(&self, pattern: &str, script: &str) {
        let routes = format!("/zones/{}/workers/routes", self.cloudflare.zone_id("example.com").unwrap());
        self.ok("POST", &routes, &json!({ "pattern": pattern, "script": script })).await;
    }

    pub(crate) async fn raw(&self, request: Request<Bytes>) -> (u16, Bytes) {
        let answer = self.cloudflare.call(request).await.unwrap();
        (answer.status().as_u16(), answer.into_body())
    }

    pub(crate) fn request(&self, method: &str, path: &str) -> overskill_testkit::cloudflare::http::request::Builder {
        let path = path.replace("{a}", &self.cloudflare.account());
        let builder = Request::builder().method(method).uri(format!("/client/v4{path}"));
        builder.header("authorization", format!("Bearer {}", self.cloudflare.token()))
    }

    /// A call with JSON; `{a}` in the path is the account.
    pub(crate) async fn call(&self, method: &str, path: &str, body: &Value) -> Answer {
        let body = if body.is_null() { String::new() } else { body.to_string() };
        let request = self.request(method, path).header("content-type", "application/json").body(body.into()).unwrap();
        let (status, body) = self.raw(request).await;
        (status, serde_json::from_slice(&body).unwrap_or_default())
    }

    /// The result of a call that must succeed.
    pub(crate) async fn ok(&self, method: &str, path: &str, body: &Value) -> Value {
        let (status, answer) = self.call(method, path, body).await;
        assert!((200..300).contains(&status) && answer["success"] == true, "{method} {path}: {status} {answer}");
        answer["result"].clone()
    }

    /// The status and the code of a call that must fail.
    pub(crate) async fn fails(&self, method: &str, path: &str, body: &Value) -> (u16, u64) {
        let (status, answer) = self.call(method, path, body).await;
        assert_eq!(answer["success"], false, "{method} {path}: {status} {answer}");
        (status, answer["errors"][0]["code"].as_u64().unwrap())
    }

    pub(crate) async fn namespace(&self, name: &str) {
        self.ok("POST", "/accounts/{a}/workers/dispatch/namespaces", &json!({ "name": name })).await;
    }

    pub(crate) async fn upload(&self, path: &str, metadata: &Value, modules: &[(&str, &str)]) -> Answer {
        let body = form(metadata, modules);
        let request = self.request("PUT", path).header("content-type", "multipart/form-data; boundary=edge");
        let (status, body) = self.raw(request.body(body.into()).unwrap()).await;
        (status, serde_json::from_slice(&body).unwrap_or_default())
    }

    /// Uploads a script of one module, with these bindings.
    pub(crate) async fn script(&self, path: &str, code: &str, bindings: Value) -> Value {
        let metadata = json!({ "main_module": "main.js", "bindings": bindings, "compatibility_date": "2026-10-01" });
        let (status, answer) = self.upload(path, &metadata, &[("main.js", code)]).await;
        assert_eq!(status, 200, "{path}: {answer}");
        answer["result"].clone()
    }

    /// Uploads files and returns the completion token.
    pub(crate) async fn assets(&self, script: &str, files: &[(&str, &str, &str)]) -> String {
        let manifest: serde_json::Map<_, _> = files
            .iter()
            .map(|(path, hash, body)| ((*path).to_owned(), json!({ "hash": hash, "size": body.len() })))
            .collect();
        let session =
            self.ok("POST", &format!("{script}/assets-upload-session"), &json!({ "manifest": manifest })).await;
        let mut jwt = session["jwt"].as_str().unwrap().to_owned();
        for bucket in session["buckets"].as_array().unwrap() {
            let mut body = String::new();
            for hash in bucket.as_array().unwrap() {
                let (path, hash, text) = files.iter().find(|it| it.1 == hash).unwrap();
                let kind = if path.contains(".html") { "text/html" } else { "text/plain" };
                let text = base64::Engine::encode(&base64::prelude::BASE64_STANDARD, text);
                let _ = write!(
                    body,
                    "--edge\r\nContent-Disposition: form-data; name=\"{hash}\"; filename=\"{hash}\"\r\nContent-Type: {kind}\r\n\r\n{text}\r\n"
                );
            }
            body.push_str("--edge--\r\n");
            let path = format!("/client/v4/accounts/{}/workers/assets/upload?base64=true", self.cloudflare.account());
            let request = Request::builder().method("POST").uri(path).header("authorization", format!("Bearer {jwt}"));
            let request =
                request.header("content-type", "multipart/form-data; boundary=edge").body(body.into()).unwrap();
            let (status, answer) = self.raw(request).await;
            let answer: Value = serde_json::from_slice(&answer).unwrap();
            assert!(status == 201 || status == 202, "{status} {answer}");
            if status == 201 {
                answer["result"]["jwt"].as_str().unwrap().clone_into(&mut jwt);
            }
        }
        jwt
    }
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Visit {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: String,
}

impl Visit {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let found = self.headers.iter().find(|(known, _)| known.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value.as_str())
    }
}

pub(crate) fn form(metadata: &Value, modules: &[(&str, &str)]) -> String {
    let mut body = format!(
        "--edge\r\nContent-Disposition: form-data; name=\"metadata\"\r\nContent-Type: application/json\r\n\r\n{metadata}\r\n"
    );
    for (name, code) in modules {
        let _ = write!(
            body,
            "--edge\r\nContent-Disposition: form-data; name=\"{name}\"; filename=\"{name}\"\r\nContent-Type: application/javascript+module\r\n\r\n{code}\r\n"
        );
    }
    body + "--edge--\r\n"
}
