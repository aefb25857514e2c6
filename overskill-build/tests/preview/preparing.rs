//! While packages are on their way.

use super::app::{App, INDEX, MANIFEST, SharedPackages, at, env, path, scope, shown, snapshot, todo};
use futures::{FutureExt as _, future::BoxFuture, poll};
use overskill_build::preview::{CatchUp, PageRequest, PageResponse};
use overskill_core::{Changes, EnvValue, Progress};
use std::{sync::atomic::Ordering, time::Duration};
use tokio::sync::oneshot;

/// An app whose packages the test lets come.
async fn held(files: &[(&str, &str)]) -> (App, oneshot::Sender<()>) {
    let packages = SharedPackages::default();
    let open = packages.hold();
    let app = App::open_with(files, packages).await;
    assert!(app.preview.is_preparing());
    (app, open)
}

/// Asks for something that has to wait.
async fn waiting<'a>(app: &'a App, request: &'a PageRequest) -> BoxFuture<'a, PageResponse> {
    let mut answer = app.preview.respond(request).boxed();
    assert!(poll!(&mut answer).is_pending(), "{request:?} was answered");
    answer
}

async fn in_time<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(10), future).await.expect("an end in time")
}

fn text(response: &PageResponse) -> String {
    assert_eq!(response.status, 200, "{response:?}");
    String::from_utf8(response.body.to_vec()).unwrap()
}

#[tokio::test]
async fn pages_and_what_imports_no_package_are_answered_and_the_rest_waits() {
    let (app, open) = held(&todo()).await;
    assert_eq!(app.preview.position(), at(1));
    for address in ["/", "/index.html", "/about"] {
        assert!(text(&app.page(address)).contains("/src/main.tsx"), "{address}");
    }
    for address in [
        "/logo.svg",
        "/logo.svg?import",
        "/@overskill/client.js",
        "/@overskill/env.js",
        "/src/loud.ts",
        "/src/App.tsx?raw",
        "/src/d.json?import",
        "/src/index.css",
        "/src/a.module.css",
    ] {
        assert!(!app.text(address).is_empty(), "{address}");
    }
    assert_eq!((app.get("/src/gone.ts").status, app.get("/%").status), (404, 400));

    let asked = ["/src/main.tsx", "/src/App.tsx", "/src/Label.tsx", "/@npm/x/y.js"].map(PageRequest::get);
    let mut answers = Vec::new();
    for request in &asked {
        answers.push(waiting(&app, request).await);
    }
    open.send(()).unwrap();
    let answers = in_time(futures::future::join_all(answers)).await;
    let ready = App::open(&todo()).await;
    for (request, answer) in asked[..3].iter().zip(&answers) {
        assert_eq!(text(answer), ready.text(&request.path), "{request:?}");
        assert!(text(answer).contains("/@npm/"), "{request:?}");
    }
    assert_eq!(answers[3].status, 404);
    assert!(!app.preview.is_preparing());
    assert_eq!((app.preview.untold(), app.preview.problems()), (Vec::new(), Vec::new()));
    assert_eq!(app.packages.0.asked.lock().unwrap().len(), 1, "prepared once, for all who waited");
}

#[tokio::test]
async fn sheets_wait_for_what_they_take_in_of_packages_and_tailwind_for_its_core() {
    let (app, open) = held(&[
        ("index.html", "<link rel=stylesheet href=/src/page.css><script type=module src=/src/main.ts></script>"),
        ("package.json", r#"{ "dependencies": { "tailwindcss": "3" } }"#),
        ("src/main.ts", "import './tw.css'; import './plain.css';"),
        ("src/page.css", "@import './deep.css';"),
        ("src/deep.css", "@import 'lib/x.css';"),
        ("src/plain.css", "a { color: red }"),
        ("src/tw.css", "@tailwind utilities;"),
    ])
    .await;
    for address in ["/", "/src/main.ts", "/src/plain.css", "/src/tw.css", "/@overskill/tailwind-candidates.js"] {
        assert!(!app.text(address).is_empty(), "{address}");
    }
    let core = PageRequest::get("/@overskill/tailwind-core.js");
    let mut page = PageRequest::get("/src/page.css");
    page.query = Some("direct".to_owned());
    let (core, page) = (waiting(&app, &core).await, waiting(&app, &page).await);
    let asked: Vec<_> = app.packages.0.asked.lock().unwrap().iter().map(|it| it.contains("tailwindcss")).collect();
    assert_eq!(asked, [false, true], "the core does not wait for the app's own");
    open.send(()).unwrap();
    let (core, page) = in_time(futures::future::join(core, page)).await;
    assert!(text(&page).contains("/x.png"), "{page:?}");
    assert_ne!(core.status, 404);
}

#[tokio::test]
async fn what_cannot_be_had_is_told_once_to_those_who_are_there_and_to_those_who_come() {
    let (app, open) = held(&todo()).await;
    assert!(matches!(app.preview.catch_up(Some(at(1)), Some(0)), CatchUp::Messages(m) if m.is_empty()));
    app.packages.0.down.store(true, Ordering::SeqCst);
    let main = PageRequest::get("/src/main.tsx");
    let answer = waiting(&app, &main).await;
    open.send(()).unwrap();
    assert!(text(&in_time(answer).await).contains("the registry does not answer"), "what it cannot run throws");
    in_time(app.preview.ready()).await;
    let told = app.preview.untold();
    assert_eq!(shown(&told).len(), 1);
    assert!(shown(&told)[0].starts_with("error the app's packages could not be prepared"), "{told:?}");
    assert_eq!((told[0].position, app.preview.untold()), (None, Vec::new()));
    assert!(
        matches!(app.preview.catch_up(Some(at(1)), Some(0)), CatchUp::Messages(m) if shown(&m)[0].starts_with("error"))
    );
    assert!(app.preview.problems().iter().all(|problem| problem.message.contains("does not answer")));

    // What nobody took comes before the next change, which may say that it is mended.
    let (app, open) = held(&todo()).await;
    app.packages.0.down.store(true, Ordering::SeqCst);
    open.send(()).unwrap();
    in_time(app.preview.ready()).await;
    let sent = app.edit("src/index.css", "body { margin: 1px }").await;
    assert!(sent[0].starts_with("error") && sent[1].starts_with("update"), "{sent:?}");
    assert_eq!(app.preview.untold(), []);
}

#[tokio::test]
async fn edits_do_not_wait_and_what_waits_gets_the_newest() {
    let (app, open) = held(&todo()).await;
    let main = PageRequest::get("/src/main.tsx");
    let answer = waiting(&app, &main).await;
    assert_eq!(app.edit("src/index.css", "b {}").await, ["update js:/src/index.css"]);
    let label = "export function Label({ text }: { text: string }) { return <i>{text}</i>; }";
    assert_eq!(app.edit("src/Label.tsx", label).await, ["update js:/src/Label.tsx", "prune /src/loud.ts"]);
    assert_eq!(app.preview.position(), at(3));
    let sent =
        app.edit("src/main.tsx", "import { createRoot } from 'react-dom/client'; import './Label'; createRoot;").await;
    assert_eq!(sent, ["full-reload *"], "nobody takes it");
    assert_eq!(app.packages.0.asked.lock().unwrap().len(), 1, "no more is needed than what is on its way");
    assert!(app.preview.is_preparing());
    open.send(()).unwrap();
    let code = text(&in_time(answer).await);
    assert!(code.contains("/src/Label.tsx") && !code.contains("/src/App.tsx") && code.contains("/@npm/"), "{code}");
    in_time(app.preview.ready()).await;
    assert_eq!((app.preview.position(), app.preview.untold()), (at(4), Vec::new()));
    assert!(app.text("/src/Label.tsx").contains("/@npm/"));
    // Nothing that a page has is of other packages: none is loaded anew.
    assert_eq!(app.edit("src/index.css", "i {}").await, Vec::<String>::new(), "it is not imported any more");
}

#[tokio::test]
async fn packages_that_are_wanted_meanwhile_take_the_place_of_those_on_their_way() {
    let (app, never) = held(&todo()).await;
    let main = PageRequest::get("/src/main.tsx");
    let mut answer = waiting(&app, &main).await;
    let open = app.packages.hold();
    // `package.json` is mended; what hangs is not waited for.
    let manifest = r#"{ "dependencies": { "react": "19", "react-dom": "19" } }"#;
    assert_eq!(app.edit("package.json", manifest).await, Vec::<String>::new());
    assert!(poll!(&mut answer).is_pending());
    assert!(never.is_closed(), "nobody waits for those of before");
    assert_eq!(app.packages.0.asked.lock().unwrap().len(), 2);
    // A new import is asked for with the others.
    let last = app.packages.hold();
    app.edit("src/loud.ts", "import 'zustand';\nexport const loud = String;").await;
    assert!(poll!(&mut answer).is_pending() && open.is_closed());
    last.send(()).unwrap();
    let code = text(&in_time(answer).await);
    let asked = app.packages.0.asked.lock().unwrap().clone();
    assert!(asked.len() == 3 && asked[2].contains("zustand") && asked[2].is_superset(&asked[1]), "{asked:?}");
    let mut files = todo();
    files.retain(|(name, _)| !matches!(*name, "package.json" | "src/loud.ts"));
    files.extend([("package.json", manifest), ("src/loud.ts", "import 'zustand';\nexport const loud = String;")]);
    let fresh = App::open(&files).await;
    let address = |code: &str| code.split('"').find(|part| part.starts_with("/@npm/")).unwrap().to_owned();
    assert_eq!(address(&code), address(&fresh.text("/src/main.tsx")));
    assert_eq!(app.preview.problems(), []);
}

#[tokio::test]
async fn variables_and_other_sources_are_taken_meanwhile() {
    let (app, open) = held(&todo()).await;
    let set = env(2, &[("VITE_TITLE", EnvValue::plain("Set"))]);
    assert_eq!(shown(&app.preview.replace(&snapshot(1, &todo()), &set).await.unwrap()), ["full-reload *"]);
    assert!(app.text("/").contains("<title>Set</title>") && app.text("/").contains(r#""epoch":1"#));
    let other = snapshot(7, &[INDEX, MANIFEST, ("src/main.tsx", "import React from 'react'; React;")]);
    app.preview.replace(&other, &set).await.unwrap();
    let refused = app.preview.apply(at(1), at(2), &Changes::new().put(path("a.ts"), "")).await.unwrap();
    assert_eq!((refused, app.preview.position()), (None, at(7)));
    open.send(()).unwrap();
    in_time(app.preview.ready()).await;
    assert!(app.text("/src/main.tsx").contains("/@npm/"));
    assert!(app.text("/").contains(r#""epoch":1"#), "packages that came load no page anew");
}

#[tokio::test]
async fn what_is_dropped_prepares_nothing() {
    let (app, open) = held(&todo()).await;
    let App { preview, packages, engine } = app;
    drop(preview);
    assert!(open.is_closed());
    // Who waited in vain does not keep others from it.
    let open = packages.hold();
    let preview = engine.open(&scope(), &snapshot(1, &todo()), &env(1, &[]), &Progress::discard()).await.unwrap();
    let given_up = preview.ready();
    assert!(given_up.now_or_never().is_none());
    let main = PageRequest::get("/src/main.tsx");
    assert!(preview.respond(&main).now_or_never().is_none(), "and this one gives up, too");
    open.send(()).unwrap();
    assert_eq!(in_time(preview.respond(&main)).await.status, 200);
}

#[tokio::test]
async fn what_is_prepared_already_is_there_at_once() {
    let app = App::open(&todo()).await;
    assert!(!app.preview.is_preparing());
    assert!(app.text("/src/main.tsx").contains("/@npm/"));
    let none = App::open(&[INDEX, ("src/main.tsx", "export {}")]).await;
    assert!(!none.preview.is_preparing() && none.packages.0.asked.lock().unwrap().is_empty());
}
