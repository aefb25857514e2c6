//! A service with its own login that shows its customers live previews of their apps, and lets them write code.
//!
//! ```sh
//! cargo run --example embed_axum    # then open http://localhost:3000 and sign in as ada or bob, password `open sesame`
//! cargo run --example embed_axum -- 8080 /tmp/embedding    # at another port (0: any), with another folder
//! ```
//!
//! The service decides who somebody is; overskill decides what they may do: each request turns the session into a short
//! token, and the token into a grant for one app, or an audited refusal. The preview is another origin, in a frame.

use axum::{
    Form, Router,
    extract::{Path, State},
    http::{HeaderMap, StatusCode, header},
    response::{Html, IntoResponse, Redirect, Response},
    routing::{get, post},
};
use overskill::{
    AppHandle, AppId, AppRecord, Claims, Clock, Digest, Error, ErrorKind, Ids, Overskill, Rights, Secret, Sources,
    SubjectId, SystemClock, SystemIds, SystemScopes, TenantId, local::LocalOptions,
};
use serde::Deserialize;
use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
    time::Duration,
};

const PORT: u16 = 3000;
const PASSWORD: &str = "open sesame";

#[derive(Clone)]
struct Service {
    platform: Overskill,
    sessions: Arc<Mutex<HashMap<String, SubjectId>>>,
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let port = arguments.next().map_or(Ok(PORT), |port| port.parse())?;
    let data = arguments.next().unwrap_or_else(|| concat!(env!("CARGO_MANIFEST_DIR"), "/target/embed_axum").into());
    let listener = tokio::net::TcpListener::bind(("127.0.0.1", port)).await?;
    let url = format!("http://localhost:{}", listener.local_addr()?.port());
    // Only pages of this service may show the previews in a frame.
    let server = LocalOptions::new().embeddable_by(&url)?;
    let platform = Overskill::local(data).server(server).await?;

    // Each customer owns an app. A real service does this when somebody signs up.
    let host = platform.gate().system("signup", "the example's customers", SystemScopes::All).await?;
    for (owner, app) in [("ada", "adasnotes"), ("bob", "bobshop")] {
        let record = AppRecord::new(AppId::parse(app)?, format!("{owner}’s app"), SystemClock.now());
        platform.put_app(&host, &record.owned_by(SubjectId::parse(owner)?)).await?;
    }

    let service = Service { platform: platform.clone(), sessions: Arc::default() };
    let routes = Router::new()
        .route("/", get(home).post(sign_in))
        .route("/apps/{app}", get(editor))
        .route("/apps/{app}/page", post(write))
        .with_state(service);
    println!("open {url} and sign in as ada or bob, password `{PASSWORD}`");

    // One shutdown for both: the service's own server, and overskill's with its background work.
    let (stop, stopped) = tokio::sync::watch::channel(());
    let wait = |mut stopped: tokio::sync::watch::Receiver<()>| async move { while stopped.changed().await.is_ok() {} };
    let work = platform.run(wait(stopped.clone()));
    let web = axum::serve(listener, routes).with_graceful_shutdown(wait(stopped));
    let ctrl_c = async move {
        let _ = tokio::signal::ctrl_c().await;
        drop(stop);
    };
    let (ended, (), ()) = tokio::join!(async { web.await }, work, ctrl_c);
    Ok(ended?)
}

#[derive(Deserialize)]
struct SignIn {
    name: String,
    password: String,
}

async fn home(State(service): State<Service>, headers: HeaderMap) -> Response {
    let Some(subject) = service.subject(&headers) else {
        return page(
            "<form method=post><input name=name placeholder=name> <input name=password type=password \
             placeholder=password> <button>Sign in</button></form>",
        );
    };
    let app = if subject.as_str() == "ada" { "adasnotes" } else { "bobshop" };
    page(&format!("<p>Hello {}. <a href=\"/apps/{app}\">{app}</a></p>", escape(subject.as_str())))
}

async fn sign_in(State(service): State<Service>, Form(form): Form<SignIn>) -> Response {
    // `Secret` compares in constant time.
    let known = matches!(form.name.as_str(), "ada" | "bob") && Secret::new(form.password) == Secret::from(PASSWORD);
    let Ok(subject) = SubjectId::parse(&form.name) else { return StatusCode::FORBIDDEN.into_response() };
    if !known {
        return (StatusCode::FORBIDDEN, page("<p>Name or password is wrong. <a href=/>Again</a></p>")).into_response();
    }
    let mut random = [0; 32];
    SystemIds.fill(&mut random);
    let session = Digest::from_bytes(random).to_string();
    service.sessions.lock().expect("nobody panics with this lock").insert(session.clone(), subject);
    let cookie = format!("session={session}; HttpOnly; SameSite=Strict; Path=/");
    ([(header::SET_COOKIE, cookie)], Redirect::to("/")).into_response()
}

/// The app's page: its code, and its live preview beside it.
async fn editor(State(service): State<Service>, Path(app): Path<String>, headers: HeaderMap) -> Response {
    let open = async {
        let app = service.app(&headers, &app).await?;
        if app.sources().await?.files.is_empty() {
            let start =
                "<!doctype html>\n<title>New</title>\n<h1>A new app</h1>\n<script type=module src=/main.ts></script>\n";
            app.write([
                ("index.html", start),
                ("main.ts", "document.body.append('made with TypeScript' as string);\n"),
            ])
            .await?;
        }
        let preview = app.preview().open(Sources::Stored).await?;
        let source = app.read("index.html").await?;
        let source = source.map(|file| String::from_utf8_lossy(file.contents()).into_owned()).unwrap_or_default();
        Ok((preview, source))
    };
    match open.await {
        Err(e) => refusal(&e),
        Ok((preview, source)) => page(&format!(
            "<form method=post action=\"/apps/{app}/page\"><textarea name=source rows=12 cols=80>{}</textarea><br>\
             <button>Save</button></form><iframe src=\"{}\" width=800 height=400 title=preview></iframe>",
            escape(&source),
            escape(preview.url.as_str()),
            app = escape(&app),
        )),
    }
}

#[derive(Deserialize)]
struct Source {
    source: String,
}

/// Durable first, then in the frame: the preview shows it without being loaded again by us.
async fn write(
    State(service): State<Service>,
    Path(app): Path<String>,
    headers: HeaderMap,
    Form(form): Form<Source>,
) -> Response {
    let saved = async { service.app(&headers, &app).await?.write([("index.html", form.source)]).await };
    match saved.await {
        Ok(_) => Redirect::to(&format!("/apps/{app}")).into_response(),
        Err(e) => refusal(&e),
    }
}

impl Service {
    fn subject(&self, headers: &HeaderMap) -> Option<SubjectId> {
        let cookies = headers.get(header::COOKIE)?.to_str().ok()?;
        let session = cookies.split("; ").find_map(|cookie| cookie.strip_prefix("session="))?;
        self.sessions.lock().expect("nobody panics with this lock").get(session).cloned()
    }

    /// The app in the hands of whoever is signed in: only its owner gets a token, and only a token gets a grant.
    async fn app(&self, headers: &HeaderMap, app: &str) -> overskill::Result<AppHandle> {
        let denied = || Error::new(ErrorKind::Denied, "not the owner's session");
        let subject = self.subject(headers).ok_or_else(denied)?;
        let owned = matches!((subject.as_str(), app), ("ada", "adasnotes") | ("bob", "bobshop"));
        if !owned {
            return Err(denied());
        }
        let (app, now) = (AppId::parse(app)?, SystemClock.now());
        let tenant = TenantId::of_app(app.clone());
        let claims = Claims::new(subject, tenant, Rights::ALL, now.plus(Duration::from_mins(1)));
        let token = self.platform.local_tokens().mint(&claims, now)?;
        self.platform.app(&token, app).await
    }
}

fn refusal(e: &Error) -> Response {
    let status = match e.kind() {
        ErrorKind::Denied | ErrorKind::Unauthenticated => StatusCode::FORBIDDEN,
        ErrorKind::Invalid => StatusCode::BAD_REQUEST,
        _ => StatusCode::INTERNAL_SERVER_ERROR,
    };
    (status, page(&format!("<p>{}</p><a href=/>Back</a>", escape(e.public_message())))).into_response()
}

fn page(body: &str) -> Response {
    Html(format!("<!doctype html><meta charset=utf-8><title>Embedding</title>{body}")).into_response()
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}
