//! What an attack is, and the two platforms that each is tried on.
//!
//! The first is as it is shipped. The second, the **weak twin**, lacks one defence at a time: each attack names the text of the
//! Workers that it takes away, and all of those hang on a switch. So the same code of an attack runs three times, each on two
//! apps that nobody used before: on the platform (it fails), on the twin with every defence (it fails), on the twin without that
//! one (it succeeds). What makes it succeed is therefore that one alone.

use crate::support::{
    Options, Workers, at, env, http,
    http::Answer,
    scope, snapshot,
    socket::{self, Page},
};
use overskill_build::{packages::NpmPackages, production::ModuleBuilder};
use overskill_cloudflare::CloudflarePreviews;
use overskill_core::{
    AccessToken, AppId, BackendName, Clock as _, DeploymentId, EnvKey, EnvValue, Environment, Fence, Handle,
    LocalTokens, PreviewHost as _, Route, RouteTable as _, SystemClock, SystemIds, TenantId, TenantValidator as _,
};
use serde_json::{Value, json};
use std::{future::Future, path::Path, pin::Pin, sync::Arc};

/// Whether an attack got what it is after.
pub(crate) type Tried<'a> = Pin<Box<dyn Future<Output = bool> + 'a>>;

/// One attack, on a platform `P`, with what a twin lacks on which it succeeds.
pub(crate) struct Attack<P: 'static, W> {
    /// Told from all others.
    pub(crate) name: &'static str,
    /// How it goes.
    pub(crate) by: &'static str,
    /// The defence that its twin lacks, in words.
    pub(crate) without: &'static str,
    /// The same for the machine.
    pub(crate) weak: W,
    pub(crate) run: for<'a> fn(&'a P) -> Tried<'a>,
}

/// A text of a module, and what stands in its place in the twin: an expression for an expression, or text in which `WEAK` is
/// whether the defence is gone.
pub(crate) type Patch = (&'static str, &'static str, &'static str);

/// An attack on the Workers.
pub(crate) type EdgeAttack = Attack<Pair, &'static [Patch]>;

/// What only B may see.
const SECRET: &str = "only for";

/// The header that turns a switch of the twin.
const SWITCH: &str = "x-weaken";

/// Two apps that nobody used before: A, whose author attacks, and B, which holds something.
pub(crate) struct Pair {
    pub(crate) workers: Arc<Workers>,
    pub(crate) previews: CloudflarePreviews,
    /// A's id.
    pub(crate) a: String,
    /// B's id.
    pub(crate) b: String,
}

/// Tries each of them, on both platforms.
pub(crate) async fn withstands(attacks: &[EdgeAttack]) {
    let packages = tempfile::tempdir().unwrap();
    let (real, twin) = tokio::join!(Workers::with(options()), Workers::with(twin(attacks)));
    let (real, twin) = (Arc::new(real), Arc::new(twin));
    let hosts = (previews(&real, packages.path()), previews(&twin, packages.path()));
    let mut wrong = Vec::new();
    for (n, attack) in attacks.iter().enumerate() {
        // Their ids are of one length.
        let pair = |workers: &Arc<Workers>, previews: &CloudflarePreviews, n: usize| Pair {
            workers: workers.clone(),
            previews: previews.clone(),
            a: format!("mallory{n:03}"),
            b: format!("bank{n:03}"),
        };
        if (attack.run)(&pair(&real, &hosts.0, n)).await {
            wrong.push(format!("{}: it succeeds", attack.name));
        }
        if (attack.run)(&pair(&twin, &hosts.1, 2 * n)).await {
            wrong.push(format!("{}: it succeeds on the twin that lacks nothing", attack.name));
        }
        weaken(&twin, attack.name).await;
        if !(attack.run)(&pair(&twin, &hosts.1, 2 * n + 1)).await {
            wrong.push(format!("{}: it fails without {}", attack.name, attack.without));
        }
        weaken(&twin, "").await;
    }
    assert!(wrong.is_empty(), "{wrong:#?}\n{}", twin.log());
}

/// Previews whose apps may have server sides.
fn previews(workers: &Workers, packages: &Path) -> CloudflarePreviews {
    let packages = NpmPackages::builder(packages).build().unwrap();
    workers.previews().servers(ModuleBuilder::new(packages))
}

fn options() -> Options {
    // Names and addresses that apps' code may fetch, so that what it may not is all the platform's own doing.
    Options::new()
        .setting("domains", json!(["localhost", "apps.zz"]))
        .setting("egress", json!({ "allow": ["elsewhere.test", "data.test"] }))
        .setting("upstream", json!("http://data.test/v1"))
}

/// The Workers with all these defences on switches.
fn twin(attacks: &[EdgeAttack]) -> Options {
    let switch = format!(
        "if (request.headers.has('{SWITCH}')) {{\n      globalThis.weak = request.headers.get('{SWITCH}');\n      \
         return new Response(null);\n    }}\n    const site = "
    );
    let mut options = options().patched("dispatch.js", "const site = ", switch);
    for attack in attacks {
        let weak = format!("(globalThis.weak === {})", Value::from(attack.name));
        for (module, text, instead) in attack.weak {
            let by = if instead.contains("WEAK") {
                instead.replace("WEAK", &weak)
            } else {
                format!("({weak} ? {instead} : {text})")
            };
            options = options.patched(module, text, by);
        }
    }
    options
}

async fn weaken(twin: &Workers, name: &str) {
    let answer = http::ask(twin.port, "GET", "localhost", "/", &[(SWITCH, name)], b"").await;
    assert_eq!(answer.status, 200);
}

impl Pair {
    /// On the platform as it is shipped.
    pub(crate) async fn alone() -> Self {
        let workers = Arc::new(Workers::with(options()).await);
        let previews = workers.previews();
        Self { workers, previews, a: "mallory".to_owned(), b: "bank7".to_owned() }
    }

    /// The label of A's preview.
    pub(crate) fn a_preview(&self) -> String {
        format!("preview-{}", self.a)
    }

    /// The label of B's preview.
    pub(crate) fn b_preview(&self) -> String {
        format!("preview-{}", self.b)
    }

    /// What only B may see: in its files, its module, its scripts.
    pub(crate) fn secret(&self) -> String {
        format!("{SECRET} {}", self.b)
    }

    /// Opens the previews of both.
    pub(crate) async fn opened(&self) -> &Self {
        for app in [&self.a, &self.b] {
            self.open(app, &[], None).await;
        }
        self
    }

    /// Opens one, with more files and a variable.
    pub(crate) async fn open(&self, app: &str, more: &[(&str, &str)], variable: Option<&str>) {
        let text = if *app == self.b { self.secret() } else { format!("of {app}") };
        let main = format!("import {{ left }} from 'left';\nexport const what = {text:?};\nconsole.log(left);\n");
        let manifest = format!("{{\"name\":\"{app}\",\"dependencies\":{{\"left\":\"1.0.0\"}}}}");
        let mut files = vec![
            (
                "index.html",
                "<!doctype html><html><head></head><body><script type=\"module\" src=\"/src/main.ts\"></script></body></html>",
            ),
            ("package.json", manifest.as_str()),
            ("src/main.ts", &main),
            ("public/note.txt", &text),
        ];
        files.extend(more);
        let mut variables = env(1);
        if let Some(value) = variable {
            variables.values.insert(EnvKey::parse("KEY").unwrap(), EnvValue::sealed(value.to_owned()));
        }
        let preview = scope(&format!("{app}/preview"));
        self.previews.open(&preview, &snapshot(at(1), &files), &variables).await.unwrap();
    }

    /// Deploys both: a script of each, which tells whose it is and what it was told.
    pub(crate) async fn deployed(&self) -> &Self {
        let tells = "export default { async fetch(request, env) { return new Response(env.NAME + ' ' + request.headers.get('x-overskill-scope')); } }";
        let secret = format!(
            "export default {{ async fetch(request) {{ if (request.url.endsWith('?boom')) throw new Error({0:?}); return new Response({0:?}); }} }}",
            self.secret()
        );
        self.script(&self.a, 1, tells).await;
        self.script(&self.b, 1, &secret).await;
        for app in [&self.a, &self.b] {
            self.route(app, &format!("{app}-1")).await;
        }
        self
    }

    /// Puts a version of an app there, which no route names.
    pub(crate) async fn script(&self, app: &str, version: u64, code: &str) {
        self.workers.script(Environment::Production, &format!("{app}-{version}"), code).await;
    }

    pub(crate) async fn route(&self, app: &str, script: &str) {
        let deployment = DeploymentId::generate(&SystemIds, SystemClock.now());
        let backend = BackendName::parse("cloudflare").unwrap();
        let route = Route::new(backend, deployment, Handle::new(script), Fence::from_u64(1));
        self.workers.edge().routes().set(&scope(&format!("{app}/production")), &route).await.unwrap();
    }

    pub(crate) async fn get(&self, label: &str, path: &str, headers: &[(&str, &str)]) -> Answer {
        http::ask(self.workers.port, "GET", &self.workers.host(label), path, headers, b"").await
    }

    /// Whether B's secret is in the answer.
    pub(crate) async fn leaks(&self, label: &str, path: &str, headers: &[(&str, &str)]) -> bool {
        self.has_secret(&self.get(label, path, headers).await)
    }

    pub(crate) fn has_secret(&self, answer: &Answer) -> bool {
        String::from_utf8_lossy(&answer.body).contains(&self.secret())
    }

    /// The same for a request with a host of its own making.
    pub(crate) async fn leaks_at(&self, hosts: &[String], path: &str) -> bool {
        let hosts = hosts.join("\r\nhost: ");
        let request = format!("GET {path} HTTP/1.1\r\nhost: {hosts}\r\nconnection: close\r\n\r\n");
        self.has_secret(&http::raw(self.workers.port, request.as_bytes()).await)
    }

    /// The page of B's preview, as B's own viewers have it.
    pub(crate) async fn page(&self, label: &str) -> Page {
        Page::load(&self.workers, label).await
    }

    /// Whether a socket of B's preview opens.
    pub(crate) async fn opens(&self, query: &str, origin: Option<&str>) -> bool {
        socket::connect(&self.workers, &self.b_preview(), query, origin).await.is_ok()
    }

    /// Where B's package is.
    pub(crate) async fn package(&self) -> String {
        let module = self.workers.get(&self.b_preview(), "/src/main.ts").await;
        module.text().split('"').find(|part| part.starts_with("/@npm/")).unwrap().to_owned()
    }

    /// What the world outside was asked since this was asked last.
    pub(crate) async fn seen(&self) -> Vec<Value> {
        self.workers.seen().await
    }

    /// Whether a token that went upstream is one for B.
    pub(crate) async fn is_for_bank(&self, seen: &Value) -> bool {
        let Some(token) = seen["headers"]["authorization"].as_str().and_then(|it| it.strip_prefix("Bearer ")) else {
            return false;
        };
        let validator = LocalTokens::new(self.workers.keys.clone()).validator();
        let bank = TenantId::of_app(AppId::parse(&self.b).unwrap());
        validator.validate(&AccessToken::parse(token).unwrap(), &bank, SystemClock.now()).await.is_ok()
    }
}
