//! Previews with a script per app: files in KV, on an emulated account.

use crate::{
    conformance::{failing, lossy, throttling},
    edge::seen_by_a_viewer,
    support::{at, engine, env, path, scope, snapshot},
    world::World,
};
use overskill_cloudflare::{CloudflarePreviews, PreviewMode};
use overskill_core::{Changes, DeploymentTarget as _, PreviewHost as _, Update};
use overskill_http::Method;
use overskill_testkit::{PreviewHostFixture, cloudflare::FaultPlan};
use std::{sync::Arc, time::Duration};

fn host(world: &World) -> CloudflarePreviews {
    world.edge.previews(engine()).mode(PreviewMode::Script(world.cf.clone()))
}

async fn previews(plan: FaultPlan) -> PreviewHostFixture {
    let world = Arc::new(World::start().await);
    world.emulator.set_faults(plan);
    let (host, outside) = (host(&world), seen_by_a_viewer(&world));
    PreviewHostFixture::with(Arc::new(host), outside).keep(world)
}

/// The same for an account in each state of health. What KV gives late is late for a viewer, too: that is no fault here.
macro_rules! suites {
    ($($health:ident: $plan:expr;)*) => {$(
        mod $health {
            use super::*;
            overskill_testkit::preview_host_conformance!(v1, previews($plan));
        }
    )*};
}

suites! {
    well: FaultPlan::none();
    throttled: throttling();
    failing: failing();
    lossy: lossy().kv_staleness(Duration::ZERO);
}

const PAGE: &str =
    "<!doctype html><html><head></head><body><script type=\"module\" src=\"/src/main.ts\"></script></body></html>";
const LABEL: &str = "preview-todo42";

/// What there is of previews in the account: scripts, whether there are files, and whether one of them is a note.
fn there(world: &World) -> (Vec<String>, bool, bool) {
    let state = world.emulator.state();
    let scripts = state.namespaces["overskill-preview"].keys().cloned().collect();
    let (kv, files) = &state.kv["overskill-preview"];
    let note = format!("preview_todo42_preview_{}", overskill_core::Digest::of(b"a note"));
    (scripts, *files > 0, world.emulator.kv_value(kv, &note).is_some())
}

#[tokio::test]
async fn a_script_of_the_apps_own_serves_its_files_and_goes_with_the_preview() {
    let world = World::start().await;
    let (previews, todo) = (host(&world), scope("todo42/preview"));
    let files = [("index.html", PAGE), ("src/main.ts", "console.log('first');\n"), ("public/note.txt", "a note")];
    previews.open(&todo, &snapshot(at(1), &files), &env(1)).await.unwrap();
    assert_eq!(there(&world), (vec!["todo42-preview-preview".to_owned()], true, true));
    assert_eq!(world.cf.target().observe(&todo).await.unwrap(), [], "it is no deployed version");

    // A page has what it is told, and both know what they hold.
    let get = async |path: &str, headers: &[(&str, &str)]| {
        world.ask(Method::Get, &format!("{}{path}", world.at(LABEL)), headers, "").await
    };
    let page = get("/", &[("accept", "text/html")]).await;
    assert!(page.text().contains("overskill-preview") && page.text().contains("\"seq\":1"), "{}", page.text());
    assert_eq!(page.header("x-content-type-options"), Some("nosniff"));
    assert_eq!(page.header("x-overskill-script"), None);
    let note = get("/note.txt", &[]).await;
    let tag = note.header("etag").unwrap().to_owned();
    assert_eq!((note.status, note.text().as_str()), (200, "a note"));
    assert_eq!(get("/note.txt", &[("if-none-match", &tag)]).await.status, 304);
    let head = world.ask(Method::Head, &format!("{}/note.txt", world.at(LABEL)), &[], "").await;
    assert_eq!((head.status, head.body.len(), head.header("etag")), (200, 0, Some(tag.as_str())));
    assert_eq!(get("/nothing.txt", &[]).await.status, 404);

    // An edit is one call of the account: its contents. What is as it was is not written again.
    world.emulator.clear_requests();
    let edit = Changes::new().put(path("src/main.ts"), "console.log('second');\n");
    assert_eq!(previews.apply(&todo, at(1), at(2), &edit).await.unwrap(), Update::Applied);
    assert!(get("/src/main.ts", &[]).await.text().contains("second"));
    let calls: Vec<_> = world.emulator.requests().into_iter().map(|call| call.method).collect();
    assert_eq!(calls, ["PUT"]);

    // Another process finds it as it is, and brings it back where it was lost.
    let again = host(&world);
    again.evict(&todo).await.unwrap();
    assert_eq!(get("/note.txt", &[]).await.status, 503);
    again.open(&todo, &snapshot(at(2), &files), &env(1)).await.unwrap();
    assert_eq!(get("/note.txt", &[]).await.text(), "a note");

    // The other mode takes it over with all of its files, and it goes back.
    for (n, host) in [(3, world.edge.previews(engine())), (4, self::host(&world))] {
        host.open(&todo, &snapshot(at(n), &files), &env(1)).await.unwrap();
        assert_eq!(get("/note.txt", &[]).await.text(), "a note");
    }

    previews.close(&todo).await.unwrap();
    assert_eq!(there(&world), (Vec::new(), false, false));
    assert_eq!(get("/note.txt", &[]).await.status, 404);
    previews.close(&todo).await.unwrap();
}

#[tokio::test]
async fn no_viewer_names_what_another_apps_script_serves() {
    const SECRET: &str = "only for the bank";
    let world = World::start().await;
    let previews = host(&world);
    for (app, note) in [("bank7", SECRET), ("mallory", "of mallory")] {
        let files = [("index.html", PAGE), ("src/main.ts", "1;\n"), ("public/note.txt", note)];
        previews.open(&scope(&format!("{app}/preview")), &snapshot(at(1), &files), &env(1)).await.unwrap();
    }
    let digest = overskill_core::Digest::of(SECRET.as_bytes()).to_string();
    let named = format!("{{\"digest\":\"{digest}\",\"type\":\"text/plain\",\"status\":200,\"cache\":\"no-store\"}}");
    let leaks = async |method: Method, label: &str, path: &str, headers: &[(&str, &str)], body: &str| {
        let answer = world.ask(method, &format!("{}{path}", world.at(label)), headers, body).await;
        answer.text().contains(SECRET)
    };
    assert!(leaks(Method::Get, "preview-bank7", "/note.txt", &[], "").await, "the control: it is there for its owner");
    let forged = [("x-overskill-room", "script"), ("x-overskill-script", "bank7-preview-preview")];
    let json = [("content-type", "application/json"), forged[0], forged[1]];
    assert!(!leaks(Method::Get, "preview-mallory", "/note.txt", &forged, "").await);
    assert!(!leaks(Method::Post, "preview-mallory", "/note.txt", &json, &named).await);
    assert!(!leaks(Method::Get, "preview-mallory", &format!("/{digest}"), &forged, "").await);
    assert!(!leaks(Method::Get, "preview-mallory", "/../bank7_preview_/note.txt", &[], "").await);
    // Neither script is an app's: no host leads to it.
    assert!(!leaks(Method::Post, "bank7-preview-preview", "/", &json, &named).await);
}
