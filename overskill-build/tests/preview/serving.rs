//! What requests get.

use super::app::{App, INDEX, MANIFEST, respond, scope, snapshot, todo};
use overskill_build::{ProblemKind, preview::PageRequest};
use overskill_core::{AppFile, EnvRevision, EnvSnapshot, Progress};
use std::collections::BTreeMap;

#[tokio::test]
async fn a_page_has_the_client_first_and_no_markup_of_others() {
    let app = App::open(&todo()).await;
    let mut request = PageRequest::get("/");
    request.socket_token = Some("</script><b>\"".to_owned());
    let html = String::from_utf8(app.respond(&request).body.to_vec()).unwrap();
    let head = html.split("<head>").nth(1).unwrap();
    assert!(head.starts_with("<script id=\"overskill-preview\" type=\"application/json\">{"), "{html}");
    assert!(html.contains(r#""position":{"incarnation":"7","seq":1}"#) && html.contains("\\u003c/script>"), "{html}");
    let order =
        ["/@overskill/client.js", "injectIntoGlobalHook", "src=\"/src/main.tsx\""].map(|part| html.find(part).unwrap());
    assert!(order.is_sorted());
    let vanilla = App::open(&[INDEX, ("src/main.tsx", "export {}")]).await;
    assert!(!vanilla.text("/").contains("injectIntoGlobalHook"));
}

#[tokio::test]
async fn modules_are_linked() {
    let app = App::open(&todo()).await;
    let code = app.text("/src/App.tsx");
    assert!(code.starts_with("import { createHotContext as __overskill_hot } from \"/@overskill/client.js\"; import.meta.hot = __overskill_hot(\"/src/App.tsx\");import __overskill_env"), "{code}");
    for part in [
        "from \"/src/Label.tsx\"",
        "from \"/src/d.json?import\"",
        "from \"/src/a.module.css\"",
        "from \"/logo.svg?import\"",
        "import __overskill_cjs",
        "[\"useState\"]",
        "registerExportsForReactRefresh(\"/src/App.tsx\"",
        "//# sourceMappingURL=data:application/json;base64,",
    ] {
        assert!(code.contains(part), "{part} in {code}");
    }
    assert_eq!(app.text("/logo.svg?import"), "export default \"/logo.svg\";\n");
    assert!(app.text("/src/d.json?import").contains("hi"));
    assert_eq!(app.text("/src/d.json"), r#"{ "x": "hi" }"#);
    let css = app.text("/src/index.css");
    assert!(css.contains("__overskill_update(\"/src/index.css\"") && css.contains("hot.accept()"), "{css}");
    let module = app.text("/src/a.module.css");
    assert!(module.contains("as \"box\"") && !module.contains("hot.accept()"), "{module}");
    assert!(app.text("/src/index.css?inline").starts_with("export default \"body"));
    assert!(app.text("/src/loud.ts?raw").contains("(s: string)"));
    assert_eq!(app.text("/src/index.css?url"), "export default \"/src/index.css\";\n");
}

#[tokio::test]
async fn headers() {
    let app = App::open(&todo()).await;
    let header = |address: &str, name: &str| {
        let response = app.get(address);
        response.headers.iter().find(|(other, _)| *other == name).unwrap().1.clone()
    };
    for (address, content_type) in [
        ("/", "text/html; charset=utf-8"),
        ("/src/App.tsx", "text/javascript; charset=utf-8"),
        ("/logo.svg", "image/svg+xml"),
        ("/@overskill/env.js", "text/javascript; charset=utf-8"),
        ("/src/index.css?direct", "text/css; charset=utf-8"),
    ] {
        assert_eq!(
            (header(address, "content-type"), header(address, "cache-control")),
            (content_type.into(), "no-cache".into())
        );
        let mut request = PageRequest::get(address.split('?').next().unwrap());
        request.query = address.split_once('?').map(|(_, query)| query.to_owned());
        request.if_none_match = Some(format!("\"other\", W/{}", header(address, "etag")));
        let response = app.respond(&request);
        assert_eq!((response.status, response.body.len()), (304, 0), "{address}");
    }
    let main = app.text("/src/main.tsx");
    let package = main.split('"').find(|part| part.starts_with("/@npm/")).unwrap().to_owned();
    assert_eq!(header(&package, "cache-control"), "public, max-age=31536000, immutable");
    assert_eq!(app.get(&package.replace(".js", ".no")).status, 404);
}

#[tokio::test]
async fn pages_of_the_apps_own_router_and_nothing_else_fall_back() {
    let app = App::open(&todo()).await;
    for page in ["/about", "/users/john.doe", "/a/b/", "/caf%C3%A9"] {
        assert_eq!(app.page(page).status, 200, "{page}");
        assert_eq!(app.get(page).status, 404, "{page} without Accept");
    }
    for missing in [
        "/src/missing.tsx",
        "/nope.png",
        "/@fs/etc/passwd",
        "/@id/react",
        "/@overskill/nope.js",
        "/@npm/x/y",
        "/.git/config",
    ] {
        let response = app.page(missing);
        assert_eq!(response.status, 404, "{missing}");
        assert!(String::from_utf8_lossy(&response.body).starts_with("There is no "), "{missing}");
    }
}

#[tokio::test]
async fn nothing_outside_and_nothing_private_is_served() {
    let mut files = todo();
    files.extend([
        (".env", "SECRET=hush"),
        ("package-lock.json", "{}"),
        ("src/.hidden.ts", "hush"),
        ("key.pem", "hush"),
        ("public/.secret", "hush"),
    ]);
    let app = App::open(&files).await;
    for bad in [
        "/../etc/passwd",
        "/%2e%2e/etc/passwd",
        "/%252e%252e/etc/passwd",
        "/..%2f..%2fetc",
        "/src/..%5c..%5cx",
        "/src\\App.tsx",
        "/src/App.tsx%00.png",
        "/src/%00",
        "/%",
        "/%zz",
        "/.env",
        "/%2eenv",
        "/src/../.env",
        "/package.json",
        "/Package.json",
        "/package-lock.json",
        "/src/.hidden.ts",
        "/key.pem",
        "/.secret",
        "/public/.secret",
        "//etc/passwd",
        "/package.json?import",
        "/.env?raw",
    ] {
        for response in [app.get(bad), app.page(bad)] {
            let page_of_router =
                response.status == 200 && !bad.contains("..") && !bad.contains("%2") && bad.starts_with("//");
            assert!(matches!(response.status, 400 | 404) || page_of_router, "{bad}: {}", response.status);
            assert!(!String::from_utf8_lossy(&response.body).contains("hush"), "{bad}");
        }
    }
    // Unless the app itself imports it.
    let version =
        App::open(&[INDEX, MANIFEST, ("src/main.tsx", "import p from '../package.json'; console.log(p);")]).await;
    assert_eq!((version.get("/package.json").status, version.get("/package.json?import").status), (404, 200));
}

#[tokio::test]
async fn an_app_without_a_page_says_what_to_do_and_escapes_names() {
    let app = App::open(&[("src/main.ts", "")]).await;
    let response = app.page("/");
    let html = String::from_utf8_lossy(&response.body);
    assert_eq!(response.status, 404);
    assert!(
        html.contains("there is no index.html")
            && html.contains("&lt;script type=&quot;module&quot;")
            && html.contains("client.js"),
        "{html}"
    );
    assert_eq!(app.preview.problems()[0].kind, ProblemKind::Entry);
    let app = App::open(&[("index.html", "<h1>hi</h1>")]).await;
    assert!(app.preview.problems()[0].message.contains("loads no script"));
    let app = App::open(&[("index.html", "<script type=module src='/src/<img src=x>.ts'></script>")]).await;
    assert!(
        app.preview.problems().iter().any(|problem| problem.message.contains("<img src=x>")),
        "{:?}",
        app.preview.problems()
    );
    let page = app.text("/");
    assert!(!page.replace("'/src/<img src=x>.ts'", "").contains("<img"), "{page}");
}

#[tokio::test]
async fn files_that_are_too_large_or_no_text_are_a_problem_and_the_rest_works() {
    let mut snapshot = snapshot(1, &todo());
    let put = |files: &mut BTreeMap<_, _>, name: &str, contents: Vec<u8>| {
        files.insert(super::app::path(name), AppFile::new(contents));
    };
    put(&mut snapshot.files, "src/loud.ts", vec![b' '; 100 << 20]);
    put(&mut snapshot.files, "src/index.css", vec![0xff, 0xfe, b'a']);
    let app = App::open(&[]).await;
    let env = EnvSnapshot { revision: EnvRevision(snapshot.position), values: BTreeMap::new() };
    let preview = app.engine.open(&scope(), &snapshot, &env, &Progress::discard()).await.unwrap();
    let problems = preview.problems();
    let of = |name: &str| problems.iter().find(|p| p.file.as_ref().is_some_and(|f| f.as_str() == name)).unwrap();
    assert_eq!(of("src/loud.ts").kind, ProblemKind::Limit);
    assert_eq!(of("src/index.css").kind, ProblemKind::Syntax);
    assert_eq!(problems.len(), 2);
    assert_eq!(respond(&preview, &PageRequest::get("/src/App.tsx")).status, 200);
    assert_eq!(respond(&preview, &PageRequest::get("/src/loud.ts")).status, 500);
}

#[tokio::test]
async fn inline_scripts_circles_and_styles_of_packages() {
    let app = App::open(&[
        ("index.html", "<body><script type=module>import './src/a.ts';\nimport 'lib/x.css';</script>"),
        ("src/a.ts", "import { b } from './b'; export const a = () => b;"),
        ("src/b.ts", "import { a } from './a'; export const b = () => a;"),
    ])
    .await;
    assert_eq!(app.preview.problems(), []);
    let page = app.text("/");
    assert!(page.contains("<script src=\"/index.html?html-proxy&amp;index=0.js\" type=\"module\"></script>"), "{page}");
    let inline = app.text("/index.html?html-proxy&index=0.js");
    assert!(inline.contains("\"/src/a.ts\""), "{inline}");
    let style = inline.split('"').find(|part| part.starts_with("/@npm/")).unwrap();
    let module = app.text(style);
    let folder = style.rsplit_once('/').unwrap().0;
    assert!(module.contains(&format!("url(\\\"{folder}/x.png\\\")")), "{module}");
    assert_eq!(app.get("/index.html?html-proxy&index=1.js").status, 404);
}

#[tokio::test]
async fn an_idle_app_is_small() {
    let mut files = todo();
    let names: Vec<(String, String)> = (0..76).map(|n| (format!("src/components/C{n}.tsx"), format!("import {{ useState }} from 'react';\nexport const C{n} = () => <b>{n}{{useState(0)}}</b>;\n// {}\n", "x".repeat(3000)))).collect();
    let all = (0..76).map(|n| format!("import './components/C{n}';")).collect::<Vec<_>>().join("\n");
    files.extend(names.iter().map(|(name, text)| (name.as_str(), text.as_str())));
    files.push(("src/loud.ts", &all));
    let app = App::open(&files).await;
    let twin =
        app.engine.open(&scope(), &snapshot(1, &files), &super::app::env(1, &[]), &Progress::discard()).await.unwrap();
    assert!(twin.problems().is_empty());
    assert!(twin.retained_bytes() < 32 * 1024, "{} bytes", twin.retained_bytes());
}

/// The example apps, as their generators write them: everything leads somewhere and compiles.
#[tokio::test]
async fn the_example_apps_preview_unedited() {
    let apps = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/apps");
    let mut met = 0;
    for folder in std::fs::read_dir(&apps).unwrap().map(|entry| entry.unwrap().path()).filter(|path| path.is_dir()) {
        let files = super::app::example(&folder);
        if !files.keys().any(|path| path.as_str() == "index.html") {
            continue;
        }
        met += 1;
        let count = files.len();
        let snapshot = overskill_core::Snapshot::new(super::app::at(1), files);
        let engine = App::open(&[]).await.engine;
        let begun = std::time::Instant::now();
        let preview = engine.open(&scope(), &snapshot, &super::app::env(1, &[]), &Progress::discard()).await.unwrap();
        let opened = begun.elapsed();
        // Beside another app from the same template, as on a platform.
        let twin = engine.open(&scope(), &snapshot, &super::app::env(1, &[]), &Progress::discard()).await.unwrap();
        let problems = preview.problems();
        let problems: Vec<_> = problems.iter().map(ToString::to_string).collect();
        assert!(problems.is_empty(), "{folder:?}: {problems:#?}");
        let (mut todo, mut served) = (vec!["/".to_owned()], BTreeMap::new());
        while let Some(address) = todo.pop() {
            let (path, query) =
                address.split_once('?').map_or((address.as_str(), None), |(path, query)| (path, Some(query)));
            let mut request = PageRequest::get(path);
            request.query = query.map(|query| query.replace("&amp;", "&"));
            let response = respond(&preview, &request);
            assert_eq!(response.status, 200, "{address}: {}", String::from_utf8_lossy(&response.body));
            let text = String::from_utf8_lossy(&response.body).into_owned();
            let scripts = text.split("//# sourceMappingURL").next().unwrap_or_default().to_owned();
            let named = scripts.split('"').filter(|part| part.starts_with("/src/") || part.starts_with("/index.html?"));
            let named: Vec<String> = named.map(|part| part.split('#').next().unwrap().to_owned()).collect();
            served.insert(address, text.len());
            todo.extend(named.into_iter().filter(|part| !served.contains_key(part)));
            todo.sort();
            todo.dedup();
        }
        println!(
            "{}: {count} files, opened in {opened:?}, {} addresses, {} bytes idle",
            folder.display(),
            served.len(),
            twin.retained_bytes()
        );
        assert!(twin.retained_bytes() < 64 * 1024, "{}", twin.retained_bytes());
    }
    assert!(met >= 3, "{met} apps in {}", apps.display());
}

#[tokio::test]
async fn sheets_that_take_each_other_in_again_and_again_have_an_end() {
    let mut files: Vec<(String, String)> =
        (0..40).map(|n| (format!("src/{n}.css"), format!("@import './{}.css';", n + 1).repeat(10))).collect();
    files.push(("src/40.css".to_owned(), "a { color: red }".to_owned()));
    files.push(("src/main.tsx".to_owned(), "import './0.css';".to_owned()));
    let mut list: Vec<_> = files.iter().map(|(path, text)| (path.as_str(), text.as_str())).collect();
    list.push(INDEX);
    let app = App::open(&list).await;
    let response = app.get("/src/0.css");
    let said = String::from_utf8_lossy(&response.body);
    assert!(response.status == 500 && said.contains("takes in more than"), "{said}");
    assert_eq!(app.get("/src/38.css").status, 200);
}

#[tokio::test]
async fn a_thousand_unknown_packages_are_told_of_in_part() {
    let imports = (0..1_000).fold(String::new(), |all, n| all + &format!("import 'unknown{n}';\n"));
    let app = App::open(&[INDEX, MANIFEST, ("src/main.tsx", &imports)]).await;
    let problems = app.preview.problems();
    let unknown = problems.iter().filter(|problem| problem.message.contains("there is no package"));
    assert_eq!(unknown.count(), 20);
}

#[tokio::test]
async fn a_thousand_imports_that_lead_nowhere_are_told_of_in_part() {
    let imports = (0..1_000).fold(String::new(), |all, n| all + &format!("import './gone{n}';\n"));
    let app = App::open(&[INDEX, MANIFEST, ("src/main.tsx", &imports)]).await;
    let problems = app.preview.problems();
    assert_eq!(problems.iter().filter(|problem| problem.kind == ProblemKind::Unresolved).count(), 50);
    assert!(app.text("/src/main.tsx").contains("gone999"));
    let many = "import './a';\n".repeat(10_001);
    let app = App::open(&[INDEX, MANIFEST, ("src/main.tsx", &many), ("src/a.ts", "")]).await;
    let problems = app.preview.problems();
    assert!(problems.iter().any(|problem| problem.message.contains("at most 10000 imports")), "{problems:?}");
}
