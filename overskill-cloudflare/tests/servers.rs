//! Previews of apps with a server side, through the Worker Loader.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on panics")]

mod support;

use overskill_build::{packages::NpmPackages, production::ModuleBuilder};
use overskill_cloudflare::CloudflarePreviews;
use overskill_core::{Changes, EnvKey, EnvValue, ErrorKind, PreviewHost as _, Update};
use support::{Workers, at, env, path, scope, snapshot, socket::Page};

const TODO: &str = "todo42/preview";
const LABEL: &str = "preview-todo42";

fn server(says: &str) -> String {
    format!(
        "import {{ text }} from './text';\nexport default {{ async fetch(request: Request, env: {{ GREETING: string }}) {{\n  \
         const url = new URL(request.url);\n  return new Response([{says:?}, env.GREETING, text, request.method, url.pathname, await request.text()].join(' '), \
         {{ headers: {{ 'set-cookie': 'a=1; Domain=localhost' }} }});\n}} }};\n"
    )
}

/// Previews whose apps may have server sides.
fn previews_of(workers: &Workers, packages: &tempfile::TempDir) -> CloudflarePreviews {
    workers.previews().servers(ModuleBuilder::new(NpmPackages::builder(packages.path()).build().unwrap()))
}

#[tokio::test]
async fn what_the_app_has_no_file_for_goes_to_its_server_side() {
    let workers = Workers::start().await;
    let folder = tempfile::tempdir().unwrap();
    let previews = previews_of(&workers, &folder);
    let first = server("first");
    let files = [
        (
            "index.html",
            "<!doctype html><html><head></head><body><script type=\"module\" src=\"/src/main.ts\"></script></body></html>",
        ),
        ("src/main.ts", "document.title = 'x';\nimport.meta.hot?.accept();\n"),
        ("src/text.ts", "export const text: string = 'shared';\n"),
        ("src/worker.ts", &first),
        ("public/note.txt", "a note"),
    ];
    let mut variables = env(1);
    variables.values.insert(EnvKey::parse("GREETING").unwrap(), EnvValue::sealed("hush"));
    previews.open(&scope(TODO), &snapshot(at(1), &files), &variables).await.unwrap();

    let answer = workers.ask("POST", LABEL, "/hello", &[], "body").await;
    assert_eq!((answer.status, answer.text()), (200, "first hush shared POST /hello body"), "{}", workers.log());
    assert_eq!(answer.header("set-cookie"), Some("a=1"));
    assert_eq!(workers.get(LABEL, "/other").await.text(), "first hush shared GET /other ");
    // What is a file stays one, and so does the page of the app's own router.
    assert_eq!(workers.get(LABEL, "/note.txt").await.text(), "a note");
    assert!(workers.page(LABEL, "/tasks").await.text().contains("overskill-preview"));
    // Another version is there with the next request; a page's edit leaves it as it is.
    let edits = [
        ("src/worker.ts", server("second")),
        ("src/main.ts", "document.title = 'y';\nimport.meta.hot?.accept();\n".into()),
    ];
    for (n, (file, text)) in (1..).zip(edits) {
        let update =
            previews.apply(&scope(TODO), at(n), at(n + 1), &Changes::new().put(path(file), text)).await.unwrap();
        assert_eq!(update, Update::Applied);
        assert_eq!(workers.get(LABEL, "/other").await.text(), "second hush shared GET /other ");
    }
    // One that does not build is told of; what ran goes on.
    let mut socket = Page::load(&workers, LABEL).await.connect(&workers, LABEL).await;
    let broken = Changes::new().put(path("src/worker.ts"), "export default {".to_owned());
    previews.apply(&scope(TODO), at(3), at(4), &broken).await.unwrap();
    let told = socket.so_far().await;
    assert!(
        told.iter().any(|it| it["type"] == "error" && it["err"]["message"].as_str().unwrap().contains("worker.ts")),
        "{told:?}"
    );
    assert_eq!(workers.get(LABEL, "/other").await.text(), "second hush shared GET /other ");
    // It is an app's own: of another's nothing is loaded, and without one nothing answers.
    previews.open(&scope("mallory/preview"), &snapshot(at(1), &files[..2]), &env(1)).await.unwrap();
    assert_eq!(workers.get("preview-mallory", "/other").await.status, 404);
    previews.apply(&scope(TODO), at(4), at(5), &Changes::new().delete(path("src/worker.ts"))).await.unwrap();
    assert_eq!(workers.get(LABEL, "/other").await.status, 404);
    assert_eq!(workers.ask("POST", LABEL, "/hello", &[], "body").await.status, 405);
}

#[tokio::test]
async fn a_server_side_finds_the_runtime_that_it_is_deployed_to() {
    let workers = Workers::start().await;
    let folder = tempfile::tempdir().unwrap();
    let previews = previews_of(&workers, &folder);
    let code = "import { Buffer } from 'node:buffer';\nimport { createHash } from 'node:crypto';\n\
        export default { fetch() {\n  const digest = createHash('sha256').update(Buffer.from('6869', 'hex')).digest('hex');\n  \
        return new Response([digest.slice(0, 8), typeof navigator].join(' '));\n} };\n";
    let app = |seq: u64, node: bool| {
        let manifest = format!(r#"{{"overskill": {{"node": {node}}}}}"#);
        let page = "<!doctype html><html><head></head><body>hi</body></html>";
        snapshot(at(seq), &[("index.html", page), ("src/worker.ts", code), ("package.json", &manifest)])
    };
    previews.open(&scope(TODO), &app(1, true), &env(1)).await.unwrap();
    assert_eq!(workers.get(LABEL, "/x").await.text(), "8f434346 object", "{}", workers.log());
    // The day is the host's: `navigator` came in March 2022, and long after it what is Node's without being asked for.
    let older = previews.compatibility_date("2022-02-01").unwrap();
    older.open(&scope(TODO), &app(2, true), &env(1)).await.unwrap();
    assert_eq!(workers.get(LABEL, "/x").await.text(), "8f434346 undefined", "{}", workers.log());
    older.open(&scope(TODO), &app(3, false), &env(1)).await.unwrap();
    assert_eq!(workers.get(LABEL, "/x").await.status, 500);
    let e = older.compatibility_date("today").unwrap_err();
    assert!(e.kind() == ErrorKind::Invalid && e.message().contains("compatibility date must be like"), "{e}");
}
