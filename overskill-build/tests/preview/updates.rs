//! What pages are told when sources change.

use super::app::{App, at, env, path, shown, snapshot, todo};
use overskill_build::preview::{CatchUp, HotMessage};
use overskill_core::{AppFile, Changes, EnvValue, Incarnation, StreamPosition};
use std::sync::atomic::Ordering;

const LABEL: &str = "export function Label() { return <i>2</i>; }\n";

#[tokio::test]
async fn edits_reach_pages_as_vite_was_recorded() {
    let app = App::open(&todo()).await;
    assert_eq!(app.preview.problems(), []);
    assert_eq!(
        app.edit(
            "src/Label.tsx",
            "import { loud } from './loud';\nexport function Label() { return <i>{loud('2')}</i>; }\n"
        )
        .await,
        ["update js:/src/Label.tsx"]
    );
    assert_eq!(app.edit("src/index.css", "body { margin: 1px }").await, ["update js:/src/index.css"]);
    assert_eq!(app.edit("src/a.module.css", ".box { color: blue }").await, ["update js:/src/App.tsx"]);
    assert_eq!(app.edit("src/d.json", r#"{ "x": "yo" }"#).await, ["update js:/src/App.tsx"]);
    assert_eq!(app.edit("src/loud.ts", "export const loud = (s: string) => s;").await, ["update js:/src/Label.tsx"]);
    assert_eq!(app.edit("src/main.tsx", "import './App';").await, ["full-reload *"]);
    let html = todo()[0].1.replace("<title>", "<title>x");
    assert_eq!(app.edit("index.html", &html).await, ["full-reload /index.html"]);
    assert_eq!(app.edit("README.md", "nothing to see").await, Vec::<String>::new());
    assert_eq!(app.edit("public/logo.svg", "<svg></svg>").await, ["full-reload *"]);
}

#[tokio::test]
async fn a_write_of_many_files_is_one_update() {
    let app = App::open(&todo()).await;
    let sent = app
        .write(&[
            ("src/Label.tsx", Some("import { New } from './New';\nexport function Label() { return <New />; }\n")),
            ("src/New.tsx", Some("export const New = () => <b>new</b>;\n")),
            ("src/index.css", Some("b { color: red }")),
            ("src/a.module.css", Some(".box { color: green }")),
        ])
        .await;
    assert_eq!(
        sent,
        [
            "update js:/src/App.tsx js:/src/Label.tsx js:/src/index.css",
            // Label imports it no more.
            "prune /src/loud.ts",
        ]
    );
    let label = app.text("/src/Label.tsx?t=2");
    assert!(label.contains("from \"/src/New.tsx\""), "{label}");
}

#[tokio::test]
async fn stamps_lead_to_one_instance_of_each_version() {
    let app = App::open(&todo()).await;
    assert!(app.text("/src/App.tsx").contains("from \"/src/Label.tsx\""));
    app.edit("src/loud.ts", "export const loud = (s: string) => s;").await;
    // What leads to who takes it has a new address; what is beyond has not.
    let app_code = app.text("/src/App.tsx");
    assert!(app_code.contains("from \"/src/Label.tsx?t=2\""), "{app_code}");
    assert!(app.text("/src/Label.tsx?t=2").contains("from \"/src/loud.ts?t=2\""));
    assert!(app.text("/src/main.tsx").contains("from \"/src/App.tsx\""));
    app.edit("src/d.json", r#"{ "x": "yo" }"#).await;
    let app_code = app.text("/src/App.tsx?t=3");
    assert!(
        app_code.contains("from \"/src/d.json?import&t=3\"") && app_code.contains("/src/Label.tsx?t=2"),
        "{app_code}"
    );
    app.edit("src/main.tsx", "import './App';").await;
    assert!(app.text("/src/App.tsx").contains("from \"/src/Label.tsx\""), "a new page begins anew");
}

#[tokio::test]
async fn what_is_broken_is_told_and_mended_in_place() {
    let app = App::open(&todo()).await;
    let sent = app.edit("src/Label.tsx", "export function Label( {").await;
    assert!(sent.len() == 1 && sent[0].starts_with("error "), "{sent:?}");
    let problem = &app.preview.problems()[0];
    assert_eq!(problem.file.as_ref().unwrap().as_str(), "src/Label.tsx");
    assert!(problem.at.is_some() && problem.frame.is_some());
    // Who comes now is told, too; and others' edits go on, with the overlay put back.
    assert!(matches!(app.preview.catch_up(None, None), CatchUp::Messages(m) if shown(&m) == sent));
    let other = app.edit("src/index.css", "b {}").await;
    assert_eq!(other, ["update js:/src/index.css", sent[0].as_str()]);
    assert_eq!(app.edit("src/Label.tsx", LABEL).await, ["update js:/src/Label.tsx", "prune /src/loud.ts"]);
    assert_eq!(app.preview.problems(), []);
    assert!(matches!(app.preview.catch_up(None, None), CatchUp::Messages(m) if m.is_empty()));
}

#[tokio::test]
async fn a_page_that_saw_it_broken_is_loaded_anew_once_it_is_mended() {
    let app = App::open(&todo()).await;
    app.edit("src/Label.tsx", "export function Label( {").await;
    let response = app.get("/src/Label.tsx");
    assert_eq!(response.status, 500);
    assert!(String::from_utf8_lossy(&response.body).contains("src/Label.tsx:1:"));
    assert_eq!(app.edit("src/Label.tsx", LABEL).await, ["full-reload *"]);
}

#[tokio::test]
async fn an_import_that_leads_nowhere_throws_and_the_file_that_comes_mends_it() {
    let app = App::open(&todo()).await;
    let label = "import { late } from './late';\nexport function Label() { return <b>{late}</b>; }\n";
    let sent = app.edit("src/Label.tsx", label).await;
    assert!(
        sent.len() == 1 && sent[0].starts_with("error `./late` is not found: tried src/late, src/late.mjs"),
        "{sent:?}"
    );
    let problem = &app.preview.problems()[0];
    assert_eq!((problem.at.unwrap().line, problem.file.as_ref().unwrap().as_str()), (1, "src/Label.tsx"));
    let code = app.text("/src/Label.tsx");
    assert!(code.contains("throw new Error(\"src/Label.tsx: `./late` is not found"), "{code}");
    assert_eq!(
        app.text("/src/loud.ts").lines().next().unwrap(),
        "export const loud = (s) => s + \"!\";",
        "the rest works"
    );
    assert_eq!(
        app.edit("src/late.ts", "export const late = 1;").await,
        ["update js:/src/Label.tsx", "prune /src/loud.ts"]
    );
    assert!(app.text("/src/Label.tsx?t=3").contains("from \"/src/late.ts\""));
    assert_eq!(app.preview.problems(), []);
}

#[tokio::test]
async fn what_imports_a_broken_file_waits_for_it() {
    let app = App::open(&todo()).await;
    let label = "import { New } from './New';\nexport function Label() { return <New />; }\n";
    let sent = app
        .write(&[
            ("src/Label.tsx", Some(label)),
            ("src/New.tsx", Some("export const New = (")),
            ("src/index.css", Some("i {}")),
        ])
        .await;
    assert!(sent.len() == 2 && sent[0] == "update js:/src/index.css" && sent[1].starts_with("error "), "{sent:?}");
    // An entry that changed waits, too: a page that runs is not given up for one that cannot.
    let sent = app.edit("src/main.tsx", "import './App';\n").await;
    assert!(sent.iter().all(|message| message.starts_with("error")), "{sent:?}");
    let sent = app.edit("src/New.tsx", "export const New = () => <b/>;").await;
    assert_eq!(sent, ["full-reload *"]);
}

#[tokio::test]
async fn deleted_and_renamed_files() {
    let app = App::open(&todo()).await;
    let sent = app.write(&[("src/loud.ts", None)]).await;
    assert!(sent.len() == 1 && sent[0].starts_with("error `./loud` is not found"), "{sent:?}");
    let sent = app.write(&[("src/loud.tsx", Some("export const loud = (s: string) => s;"))]).await;
    assert_eq!(sent, ["update js:/src/Label.tsx", "prune /src/loud.ts"]);
    assert!(app.text("/src/Label.tsx?t=3").contains("/src/loud.tsx\""));
    let label = todo()[5].1.replace("./loud", "./quiet");
    let sent = app
        .write(&[
            ("src/loud.tsx", None),
            ("src/quiet.ts", Some("export const loud = String;")),
            ("src/Label.tsx", Some(&label)),
        ])
        .await;
    assert_eq!(sent, ["update js:/src/Label.tsx", "prune /src/loud.tsx"]);
}

#[tokio::test]
async fn packages_that_come_and_go() {
    let app = App::open(&todo()).await;
    assert_eq!(app.packages.0.asked.lock().unwrap().len(), 1);
    let first = app.packages.0.asked.lock().unwrap()[0].clone();
    assert!(
        ["react", "react-dom/client", "react/jsx-dev-runtime"].iter().all(|name| first.contains(*name)),
        "{first:?}"
    );
    let old = app.text("/src/main.tsx");
    let old_address = old.split('"').find(|part| part.starts_with("/@npm/")).unwrap().to_owned();
    assert_eq!(app.edit("src/loud.ts", "import 'zustand';\nexport const loud = String;").await, ["full-reload *"]);
    assert!(app.packages.0.asked.lock().unwrap()[1].is_superset(&first));
    assert_eq!(app.get(&old_address).status, 200, "pages of before may still ask");
    // The manifest alone, with the same outcome but for its text.
    assert_eq!(app.edit("package.json", r#"{ "dependencies": { "react": "19" } }"#).await, ["full-reload *"]);
    assert_eq!(app.edit("src/loud.ts", "import 'unknown-pkg';\nexport const loud = String;").await, ["full-reload *"]);
    let problem = &app.preview.problems()[0];
    assert!(
        problem.message.contains("unknown-pkg") && problem.at.unwrap().line == 1 && problem.help.is_some(),
        "{problem}"
    );
    assert!(app.text("/src/loud.ts").contains("throw new Error(\"there is no package `unknown-pkg`"));
}

#[tokio::test]
async fn a_registry_that_is_down_is_a_problem_and_is_asked_again() {
    let app = App::open(&[super::app::INDEX, ("src/main.tsx", "import './a.css';")]).await;
    assert!(app.packages.0.asked.lock().unwrap().is_empty(), "nothing to ask for");
    app.packages.0.down.store(true, Ordering::SeqCst);
    let sent = app.edit("src/main.tsx", "import 'zustand';").await;
    assert!(app.preview.problems()[0].message.contains("the registry does not answer"), "{sent:?}");
    app.packages.0.down.store(false, Ordering::SeqCst);
    assert_eq!(app.edit("README.md", "again").await, ["full-reload *"]);
    assert_eq!(app.preview.problems(), []);

    // Tried again without a change, they come without a position.
    app.packages.0.down.store(true, Ordering::SeqCst);
    app.edit("src/main.tsx", "import 'zustand'; import 'mitt';").await;
    app.packages.0.down.store(false, Ordering::SeqCst);
    let (here, same) = (app.preview.position(), app.preview.sources());
    let sent = app.preview.replace(&same, &env(1, &[])).await.unwrap();
    assert_eq!((shown(&sent), sent[0].position), (vec!["full-reload *".to_owned()], None));
    assert!(matches!(app.preview.catch_up(Some(here), Some(0)), CatchUp::Reload(_)));
    assert!(matches!(app.preview.catch_up(Some(here), Some(1)), CatchUp::Messages(m) if m.is_empty()));
}

#[tokio::test]
async fn variables_and_configuration_load_pages_anew() {
    let app = App::open(&todo()).await;
    assert_eq!(app.edit(".env", "VITE_TITLE=File\nSECRET=x").await, ["full-reload *"]);
    assert!(
        app.text("/@overskill/env.js").contains("\"VITE_TITLE\":\"File\"")
            && !app.text("/@overskill/env.js").contains("SECRET")
    );
    let now = snapshot(2, &[]);
    let same = app.preview.replace(&now, &env(1, &[])).await.unwrap();
    assert_eq!(same, [], "older or equal sources leave those shown");
    let changed = env(2, &[("VITE_TITLE", EnvValue::plain("Set"))]);
    assert_eq!(shown(&app.preview.replace(&now, &changed).await.unwrap()), ["full-reload *"]);
    assert!(app.text("/@overskill/env.js").contains("\"VITE_TITLE\":\"Set\""));
    assert!(app.text("/").contains("<title>Set</title>"));
    // Who was cut at that moment stands where the others do, and is told when it comes back.
    let page = app.text("/");
    assert!(page.contains(r#""epoch":1"#), "{page}");
    assert!(matches!(app.preview.catch_up(Some(at(2)), Some(0)), CatchUp::Reload(HotMessage { position: None, .. })));
    assert!(matches!(app.preview.catch_up(Some(at(2)), Some(1)), CatchUp::Messages(m) if m.is_empty()));
    let sealed = env(3, &[("VITE_TITLE", EnvValue::sealed("hush"))]);
    app.preview.replace(&now, &sealed).await.unwrap();
    assert!(
        app.preview.problems()[0].message.contains("VITE_TITLE") && !app.text("/@overskill/env.js").contains("hush")
    );

    let sent = app.edit("tsconfig.json", r#"{ "compilerOptions": { "paths": { "~/*": ["./src/*"] } } }"#).await;
    assert_eq!(sent, ["full-reload *"]);
    assert!(app.preview.problems()[0].message.contains("`@/Label` is an alias that nothing defines"));
    assert_eq!(
        app.edit("vite.config.ts", "export default { resolve: { alias: { '@': '/src' } } }").await,
        ["full-reload *"]
    );
    assert!(app.preview.problems().iter().all(|problem| !problem.message.contains("alias")));
}

#[tokio::test]
async fn globs_follow_files_that_come() {
    let app = App::open(&[
        super::app::INDEX,
        ("src/main.ts", ""),
        ("src/main.tsx", "import { pages } from './pages'; import.meta.hot?.accept('./pages', () => {}); console.log(pages);"),
        ("src/pages.ts", "export const pages = import.meta.glob('./pages/*.ts');\nexport const eager = import.meta.glob('./pages/*.ts', { eager: true, import: 'default' });\n"),
        ("src/pages/a.ts", "export default 1;"),
    ])
    .await;
    assert_eq!(app.edit("src/pages/b.ts", "export default 2;").await, ["update js:/src/main.tsx<-/src/pages.ts"]);
    let code = app.text("/src/pages.ts?t=2");
    assert!(
        code.contains(
            r#""./pages/a.ts": () => import("/src/pages/a.ts"), "./pages/b.ts": () => import("/src/pages/b.ts")"#
        ),
        "{code}"
    );
    assert!(code.contains(r#"import { "default" as __overskill_glob1_1 } from "/src/pages/b.ts";"#), "{code}");
    assert!(app.text("/src/main.tsx").contains("accept(\"/src/pages.ts\""));
    assert_eq!(
        app.write(&[("src/pages/b.ts", None)]).await,
        ["update js:/src/main.tsx<-/src/pages.ts", "prune /src/pages/b.ts"]
    );
}

#[tokio::test]
async fn sheets_that_pages_link_to_and_sheets_within_sheets() {
    let app = App::open(&[
        ("index.html", "<link rel=stylesheet href=/src/page.css><script type=module>import './src/part.css'</script>"),
        ("src/page.css", "@import './part.css' screen; a { background: url(./pic.png) }"),
        ("src/part.css", "b { color: red }"),
        ("src/pic.png", "png"),
    ])
    .await;
    let css = app.text("/src/page.css?direct");
    assert!(
        css.contains("@media screen") && css.contains("color: red") && css.contains("url(\"/src/pic.png\")"),
        "{css}"
    );
    let sent = app.edit("src/part.css", "b { color: blue }").await;
    assert_eq!(sent, ["update css:/src/page.css js:/src/part.css"]);
    assert!(app.text("/").contains("href=\"/src/page.css?t=2\""));
    assert_eq!(app.edit("src/pic.png", "other").await, ["update css:/src/page.css"]);
    assert!(app.text("/src/page.css?direct").contains("/src/pic.png?t=3"));
}

#[tokio::test]
async fn a_module_that_refuses_its_update_passes_it_on() {
    let app = App::open(&todo()).await;
    let refuse = |path: &str, first: &str| {
        let text = serde_json::json!({ "type": "custom", "event": "vite:invalidate", "data": { "path": path, "message": "no", "firstInvalidatedBy": first } });
        shown(&app.preview.client_message(&text.to_string()))
    };
    assert_eq!(refuse("/src/Label.tsx", "/src/Label.tsx"), Vec::<String>::new(), "it was not updated");
    app.edit("src/Label.tsx", LABEL).await;
    assert_eq!(refuse("/src/Label.tsx", "/src/Label.tsx"), ["update js:/src/App.tsx"]);
    assert_eq!(refuse("/src/Label.tsx", "/src/Label.tsx"), Vec::<String>::new(), "one of many pages is enough");
    assert!(app.text("/src/main.tsx").contains("\"/src/App.tsx?t=2\""));
    assert!(
        matches!(app.preview.catch_up(Some(at(2)), None), CatchUp::Messages(m) if shown(&m) == ["update js:/src/App.tsx"])
    );
    assert_eq!(refuse("/src/App.tsx", "/src/Label.tsx"), ["full-reload *"], "nobody takes App's");
    assert!(matches!(app.preview.catch_up(Some(at(2)), Some(0)), CatchUp::Reload(_)), "for who was cut meanwhile");
    for junk in ["", "{", "null", "[]", r#"{"type":"custom","event":"vite:invalidate","data":{"path":"/../x"}}"#] {
        assert_eq!(app.preview.client_message(junk), []);
    }
}

#[tokio::test]
async fn who_comes_back_gets_what_it_missed() {
    let app = App::open(&todo()).await;
    let mut expected = Vec::new();
    for n in 0..20 {
        expected.extend(app.edit("src/index.css", &format!("b {{ top: {n}px }}")).await);
    }
    assert!(
        matches!(app.preview.catch_up(Some(at(1)), None), CatchUp::Messages(m) if shown(&m) == expected && m.len() == 20)
    );
    assert!(matches!(app.preview.catch_up(Some(at(21)), None), CatchUp::Messages(m) if m.is_empty()));
    assert!(matches!(app.preview.catch_up(Some(at(99)), None), CatchUp::Reload(_)));
    let other = StreamPosition::new(Incarnation::from_u64(8), 5);
    assert!(
        matches!(app.preview.catch_up(Some(other), None), CatchUp::Reload(HotMessage { position: Some(to), .. }) if to == at(21))
    );
    app.edit("src/main.tsx", "import './App';").await;
    assert!(matches!(app.preview.catch_up(Some(at(21)), None), CatchUp::Reload(_)));
}

#[tokio::test]
async fn changes_from_elsewhere_are_refused_and_replaced() {
    let app = App::open(&todo()).await;
    let changes = Changes::new().put(path("src/index.css"), "b {}");
    assert_eq!(app.preview.apply(at(3), at(4), &changes).await.unwrap(), None);
    let mut newer = snapshot(9, &todo());
    newer.files.insert(path("src/index.css"), AppFile::new("b {}"));
    newer.files.insert(path("src/d.json"), AppFile::new("{}"));
    let sent = app.preview.replace(&newer, &env(1, &[])).await.unwrap();
    assert_eq!(shown(&sent), ["update js:/src/App.tsx js:/src/index.css"]);
    assert_eq!((app.preview.position(), sent[0].position), (at(9), Some(at(9))));
    let mut restored = snapshot(3, &todo());
    restored.position.incarnation = Incarnation::from_u64(8);
    assert_eq!(shown(&app.preview.replace(&restored, &env(1, &[])).await.unwrap()), ["full-reload *"]);
    assert_eq!(app.preview.position(), restored.position);
}
