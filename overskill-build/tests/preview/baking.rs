//! What is baked is all that pages reach, and is what requests get.

use super::app::{App, INDEX, MANIFEST, path, todo};
use overskill_build::preview::{Baked, BakedFile, PageRequest};
use overskill_core::{Changes, Digest};
use std::collections::BTreeSet;

fn studio() -> Vec<(&'static str, &'static str)> {
    let mut files = todo();
    files.retain(|(path, _)| *path != INDEX.0);
    files.push((
        "index.html",
        "<!doctype html><html><head><link rel=\"stylesheet\" href=\"/src/linked.css\"></head><body>\
         <script type=\"module\">import '/src/inline.ts';</script>\
         <script type=\"module\" src=\"/src/main.tsx\"></script></body></html>",
    ));
    files.extend([
        ("about.html", "<!doctype html><html><head></head><body>about</body></html>"),
        ("src/linked.css", "@import './part.css'; body { background: url(./back.png) }"),
        ("src/part.css", "p { color: red }"),
        ("src/back.png", "png"),
        (
            "src/inline.ts",
            "import text from './notes.md?raw';\nimport at from './back.png';\nimport css from './part.css?inline';\n\
             import url from './loud.ts?url';\nimport Work from './work.ts?worker';\nimport 'pretty/css';\n\
             import sheet from 'pretty/css?inline';\nimport '@fresh/css?url';\n\
             export const all = import.meta.glob('./many/*.ts');\nconsole.log(text, at, css, url, Work, sheet);\n\
             void import('./late.ts');\n",
        ),
        ("src/notes.md", "# notes"),
        ("src/work.ts", "postMessage(1);"),
        ("src/late.ts", "export const late: number = 1;"),
        ("src/many/a.ts", "export const a: number = 1;"),
        ("src/many/b.ts", "export const b: number = 2;"),
        ("public/deep/file.json", "{}"),
        (".env", "SECRET=1"),
    ]);
    files
}

/// Finds a file as a host does.
fn find<'b>(baked: &'b Baked, path: &str, query: &str, css: bool) -> Option<&'b BakedFile> {
    let names: BTreeSet<&str> = query.split('&').map(|pair| pair.split('=').next().unwrap()).collect();
    if names.contains("html-proxy") {
        let index = query.split('&').find_map(|pair| pair.strip_prefix("index=")).unwrap();
        return baked.files.get(&format!("proxy{index}:{path}"));
    }
    let form = ["raw", "url", "inline", "worker", "init"].into_iter().find(|form| names.contains(form));
    let forms = [form, names.contains("import").then_some("import"), css.then_some("css"), Some("")];
    forms.into_iter().flatten().find_map(|form| baked.files.get(&format!("{form}:{path}")))
}

/// Every address that stands in a text.
fn addresses(text: &str) -> Vec<String> {
    let ends = ['"', '\'', '`', ')', '<', '\\', ' '];
    let places = text.match_indices(['"', '\'', '(']).filter(|(at, _)| text[at + 1..].starts_with('/'));
    places
        .map(|(at, _)| text[at + 1..].split(ends).next().unwrap().replace("&amp;", "&"))
        .filter(|it| !it.starts_with("//"))
        .collect()
}

/// Follows all that pages lead to, and compares.
async fn compared(app: &App) -> BTreeSet<String> {
    let baked = app.preview.bake().await;
    let mut known = BTreeSet::new();
    let mut wanted = vec!["/".to_owned(), "/about.html".to_owned(), "/deep/file.json".to_owned()];
    while let Some(address) = wanted.pop() {
        for css in [false, true] {
            let (path, query) = address.split_once('?').unwrap_or((&address, ""));
            let mut request = PageRequest::get(path);
            request.query = (!query.is_empty()).then(|| query.to_owned());
            request.accept = css.then(|| "text/css,*/*;q=0.1".to_owned());
            let answer = app.preview.respond(&request).await;
            if answer.status != 200 {
                continue;
            }
            let text = String::from_utf8_lossy(&answer.body).into_owned();
            let package = path.strip_prefix("/@npm/").and_then(|rest| rest.split_once('/'));
            if let (Some((digest, name)), "") = (package, query) {
                let set = baked.packages.iter().find(|set| set.digest.to_string() == digest).expect("the app's set");
                assert_eq!(set.files[name].contents, answer.body, "{address}");
            } else {
                // A sheet that no page links to is a module, whoever asks.
                let Some(file) = find(&baked, &path[1..], query, css) else {
                    // A sheet that pages link to and nothing imports.
                    assert!(!css && baked.files.contains_key(&format!("css{path}").replacen('/', ":", 1)), "{address}");
                    continue;
                };
                let is_page = file.config_at.is_some();
                assert!(is_page || css || file.body == answer.body, "{address}: {text}");
                assert_eq!(file.digest, Digest::of(&file.body));
                if is_page {
                    let whole = file.config_at.unwrap();
                    let page = [&file.body[..whole], b"{".as_slice()].concat();
                    assert!(answer.body.starts_with(&page), "{address}");
                    assert!(answer.body.ends_with(&file.body[whole..]));
                }
            }
            if known.insert(address.clone()) {
                wanted.extend(addresses(&text));
            }
        }
    }
    known
}

#[tokio::test]
async fn all_that_pages_reach_is_baked_as_it_is_served() {
    let app = App::open(&studio()).await;
    let reached = compared(&app).await;
    for address in [
        "/src/App.tsx",
        "/src/linked.css",
        "/src/back.png",
        "/src/back.png?import",
        "/src/notes.md?import&raw",
        "/src/part.css?inline",
        "/src/loud.ts?url",
        "/src/work.ts?worker",
        "/src/work.ts",
        "/src/late.ts",
        "/src/many/b.ts",
        "/src/d.json?import",
        "/@overskill/client.js",
        "/@overskill/env.js",
        "/index.html?html-proxy&index=0.js",
    ] {
        assert!(reached.contains(address), "{address} was not reached: {reached:?}");
    }
    let of_packages = |query: &str| reached.iter().any(|it| it.starts_with("/@npm/") && it.ends_with(query));
    for query in ["css?import", "?import&inline", "?import&url", ".js"] {
        assert!(of_packages(query), "{query} of a package: {reached:?}");
    }
    // After an update, addresses have stamps; what they lead to is the same.
    let label = "export function Label({ text }: { text: string }) { return <i>{text}</i>; }\n";
    let change = Changes::new().put(path("src/Label.tsx"), label);
    app.preview.apply(super::app::at(1), super::app::at(2), &change).await.unwrap();
    let reached = compared(&app).await;
    assert!(reached.iter().any(|address| address.contains("t=2")), "{reached:?}");
}

#[tokio::test]
async fn what_is_nobodys_business_is_not_baked_and_what_is_broken_says_so() {
    let app = App::open(&[
        INDEX,
        MANIFEST,
        ("src/main.tsx", "import.meta.hot?.accept();"),
        (".env", "SECRET=1"),
        ("x.pem", "key"),
    ])
    .await;
    let (one, two, three) = (super::app::at(1), super::app::at(2), super::app::at(3));
    app.preview.apply(one, two, &Changes::new().put(path("src/main.tsx"), "let (")).await.unwrap();
    let baked = app.preview.bake().await;
    for hidden in [":.env", "raw:.env", ":package.json", "import:package.json", ":x.pem", "import:x.pem"] {
        assert!(!baked.files.contains_key(hidden), "{hidden}");
    }
    let broken = &baked.files[":src/main.tsx"];
    assert_eq!((broken.status, broken.cache_control), (500, "no-store"));
    assert!(String::from_utf8_lossy(&broken.body).contains("src/main.tsx"));
    // Nobody was served it: it is mended where it stands.
    let mended = Changes::new().put(path("src/main.tsx"), "import.meta.hot?.accept();\n");
    let told = app.preview.apply(two, three, &mended).await.unwrap().unwrap();
    assert!(told.iter().all(|it| !it.text.contains("full-reload")), "{told:?}");
    assert_eq!(app.preview.bake().await.files[":src/main.tsx"].status, 200);
    let nothing = App::open(&[MANIFEST]).await.preview.bake().await;
    assert_eq!(nothing.files[":"].status, 404, "a page that says what is missing");
}
