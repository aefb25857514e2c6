//! [`SupabaseEmulator`]: a project's Management API in this process, with state and over a real database.
//!
//! It knows nothing of `overskill-supabase`; shapes and statuses are those of the real API. With `overskill-http` it becomes
//! a transport like this:
//!
//! ```ignore
//! let transport = transport_fn(move |request: Request| {
//!     let supabase = supabase.clone();
//!     async move {
//!         let mut call = Call::new(request.method.as_str(), request.url.path()).body(request.body);
//!         call.query.extend(request.url.query_pairs());
//!         for (name, value) in request.headers.iter() {
//!             call.headers.insert(name.into(), String::from_utf8_lossy(value).into_owned());
//!         }
//!         let Some(answer) = supabase.call(call).await else { return Err(cut_off("the connection ended")) };
//!         answer.headers.iter().try_fold(Response::new(answer.status, answer.body), |r, (name, value)| r.with_header(name, value))
//!     }
//! });
//! ```
//!
//! What it has: `database/query` on a Postgres of yours, `functions` and `functions/deploy`, `secrets`, `api-keys`,
//! `advisors`, `types/typescript`, `postgrest`, `config/realtime`, `config/auth/signing-keys` and `config/auth/third-party-auth`, and the limit of 120
//! calls a minute by the clock that it was given. `types` and `advisors` answer with what a test put there.

mod auth;
mod form;
mod project;
mod sql;

use bytes::Bytes;
use overskill_core::Clock;
use project::Project;
use serde_json::{Value, json};
use std::{
    collections::{BTreeMap, VecDeque},
    fmt,
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

/// A call as it comes in.
#[derive(Clone, Debug, Default)]
pub struct Call {
    /// The method, in capitals.
    pub method: String,
    /// The path, percent-encoded, with `/v1`.
    pub path: String,
    /// The query, decoded.
    pub query: BTreeMap<String, String>,
    /// Header fields, with names in lower case.
    pub headers: BTreeMap<String, String>,
    /// The body.
    pub body: Bytes,
}

impl Call {
    /// A call without query, header fields and body.
    pub fn new(method: &str, path: &str) -> Self {
        Self { method: method.to_owned(), path: path.to_owned(), ..Self::default() }
    }

    /// With this body.
    pub fn body(mut self, body: impl Into<Bytes>) -> Self {
        self.body = body.into();
        self
    }
}

/// An answer.
#[derive(Clone, Debug)]
pub struct Answer {
    /// The status.
    pub status: u16,
    /// Header fields, with names in lower case.
    pub headers: BTreeMap<String, String>,
    /// The body.
    pub body: Bytes,
}

impl Answer {
    pub(crate) fn json(status: u16, body: &Value) -> Self {
        let headers = [("content-type".to_owned(), "application/json".to_owned())].into();
        Self { status, headers, body: body.to_string().into() }
    }

    pub(crate) fn refusal(status: u16, message: impl fmt::Display) -> Self {
        Self::json(status, &json!({ "message": message.to_string() }))
    }
}

/// What goes wrong with the next call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trouble {
    /// It is carried out, and the answer is lost.
    AnswerLost,
    /// It is not carried out, and answered with this status.
    Status(u16),
}

/// One project behind the Management API. Clones share it.
#[derive(Clone)]
pub struct SupabaseEmulator(Arc<Inner>);

struct Inner {
    project_ref: String,
    token: String,
    clock: Arc<dyn Clock>,
    database: Option<String>,
    state: Mutex<State>,
}

struct State {
    project: Project,
    /// When the calls of the last minute came.
    calls: VecDeque<Duration>,
    troubles: VecDeque<Trouble>,
    asked: Vec<(String, String)>,
}

impl SupabaseEmulator {
    /// Calls in a minute.
    pub const QUOTA: usize = 120;

    /// A new project, whose `postgres` is whoever `database` (a URL) logs in.
    pub fn new(clock: Arc<dyn Clock>, database: Option<String>) -> Self {
        let project = Project::new();
        let state = State { project, calls: VecDeque::new(), troubles: VecDeque::new(), asked: Vec::new() };
        Self(Arc::new(Inner {
            project_ref: "emulatoremulatoremul".to_owned(),
            token: "sbp_emulated0123456789".to_owned(),
            clock,
            database,
            state: Mutex::new(state),
        }))
    }

    /// The project's name in URLs.
    pub fn project_ref(&self) -> &str {
        &self.0.project_ref
    }

    /// The one access token it knows.
    pub fn token(&self) -> &str {
        &self.0.token
    }

    /// Lets the next call go wrong; given twice, the next two.
    pub fn trouble(&self, trouble: Trouble) {
        self.lock().troubles.push_back(trouble);
    }

    /// Method and path of every call, in order.
    pub fn asked(&self) -> Vec<(String, String)> {
        self.lock().asked.clone()
    }

    /// What the advisor is to say of `security` or `performance`.
    pub fn advise(&self, of: &str, lints: Value) {
        self.lock().project.advice.insert(of.to_owned(), lints);
    }

    /// What `types/typescript` is to say.
    pub fn types(&self, text: &str) {
        text.clone_into(&mut self.lock().project.types);
    }

    /// The files of a function, as they were deployed.
    pub fn function_files(&self, slug: &str) -> BTreeMap<String, Bytes> {
        self.lock().project.files_of(slug)
    }

    /// The value of a secret, which the API itself never tells.
    pub fn secret(&self, name: &str) -> Option<String> {
        self.lock().project.secrets.get(name).cloned()
    }

    /// The JWK Set that the project publishes: keys on standby, in use and of before.
    pub fn jwks(&self) -> Value {
        self.lock().project.jwks()
    }

    /// Answers a call; `None` when the connection ends without an answer.
    pub async fn call(&self, call: Call) -> Option<Answer> {
        let (trouble, early) = self.admit(&call);
        let remaining = Self::QUOTA.saturating_sub(self.lock().calls.len());
        let mut answer = match early {
            Some(answer) => answer,
            None => self.carry_out(&call).await,
        };
        if trouble == Some(Trouble::AnswerLost) {
            return None;
        }
        for (name, value) in [("limit", Self::QUOTA.to_string()), ("remaining", remaining.to_string())] {
            answer.headers.insert(format!("x-ratelimit-{name}"), value);
        }
        answer.headers.insert("x-ratelimit-reset".to_owned(), "60".to_owned());
        Some(answer)
    }

    /// What is to go wrong, and the answer to what is not carried out.
    fn admit(&self, call: &Call) -> (Option<Trouble>, Option<Answer>) {
        let now = self.0.clock.monotonic();
        let mut state = self.lock();
        state.asked.push((call.method.clone(), call.path.clone()));
        while state.calls.front().is_some_and(|at| now.saturating_sub(*at) >= Duration::from_mins(1)) {
            state.calls.pop_front();
        }
        if state.calls.len() >= Self::QUOTA {
            return (None, Some(Answer::refusal(429, "ThrottlerException: Too Many Requests")));
        }
        state.calls.push_back(now);
        let trouble = state.troubles.pop_front();
        let early = match trouble {
            Some(Trouble::Status(status)) => Some(Answer::refusal(status, "Something went wrong")),
            _ if call.headers.get("authorization") != Some(&format!("Bearer {}", self.0.token)) => {
                Some(Answer::refusal(401, "Unauthorized"))
            }
            _ => None,
        };
        (trouble, early)
    }

    async fn carry_out(&self, call: &Call) -> Answer {
        let base = format!("/v1/projects/{}/", self.0.project_ref);
        let Some(path) = call.path.strip_prefix(&base) else {
            return Answer::refusal(404, "Project not found");
        };
        if path == "database/query" && call.method == "POST" {
            return match &self.0.database {
                Some(url) => sql::answer(url, &call.body).await,
                None => Answer::refusal(400, "Failed to run sql query: the emulator was given no database"),
            };
        }
        let now = self.0.clock.now();
        self.lock().project.answer(call, path, now)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().expect("nothing panics while it is held")
    }
}

/// Shows no secret.
impl fmt::Debug for SupabaseEmulator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SupabaseEmulator({})", self.0.project_ref)
    }
}
