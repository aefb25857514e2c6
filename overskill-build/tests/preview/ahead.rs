//! What a page is told of what it is going to import.

use super::app::{App, at, env, example, respond, scope, todo};
use overskill_build::preview::{AppPreview, PageRequest};
use overskill_core::{Progress, Snapshot};
use std::{collections::BTreeSet, path::Path};

const CLIENT: &str = "/@overskill/client.js";

fn get(preview: &AppPreview, address: &str) -> String {
    let (path, query) = address.split_once('?').map_or((address, None), |(path, query)| (path, Some(query)));
    let mut request = PageRequest::get(path);
    request.query = query.map(str::to_owned);
    let response = respond(preview, &request);
    assert_eq!(response.status, 200, "{address}: {}", String::from_utf8_lossy(&response.body));
    String::from_utf8(response.body.to_vec()).unwrap()
}

/// The addresses that a page's head tells.
fn told(page: &str) -> BTreeSet<String> {
    let links = page.split("<link rel=\"modulepreload\" href=\"").skip(1);
    let told: Vec<String> = links.map(|link| link.split('"').next().unwrap().replace("&amp;", "&")).collect();
    let unique: BTreeSet<_> = told.iter().cloned().collect();
    assert_eq!(told.len(), unique.len(), "each once: {told:?}");
    unique
}

/// What a browser asks for that starts with `roots` and is told nothing.
fn imported(preview: &AppPreview, roots: &[&str]) -> BTreeSet<String> {
    let (mut found, mut left) = (BTreeSet::new(), Vec::from(roots).into_iter().map(str::to_owned).collect::<Vec<_>>());
    while let Some(address) = left.pop() {
        let whole = get(preview, &address);
        let code = whole.split("//# sourceMappingURL").next().unwrap();
        let folder = &address[..=address.rfind('/').unwrap()];
        let marks = ["from \"", "from\"", "import \"", "import\""];
        let named = marks.iter().flat_map(|mark| code.split(mark).skip(1)).map(|rest| rest.split('"').next().unwrap());
        for named in named.filter(|it| it.starts_with('/') || it.starts_with("./")) {
            let address = named.strip_prefix("./").map_or_else(|| named.to_owned(), |name| format!("{folder}{name}"));
            if found.insert(address.clone()) {
                left.push(address);
            }
        }
    }
    for root in roots {
        found.remove(*root);
    }
    found
}

#[tokio::test]
async fn a_page_is_told_all_that_it_imports_and_nothing_else() {
    let app = App::open(&todo()).await;
    let page = app.text("/");
    let imported = imported(&app.preview, &[CLIENT, "/src/main.tsx"]);
    for part in ["/src/d.json?import", "/@overskill/socket.js", "/@overskill/refresh.js", "/react.js", "/chunk-b.js"] {
        assert!(imported.iter().any(|it| it.ends_with(part)), "{part} in {imported:?}");
    }
    let mut told = told(&page);
    told.remove(CLIENT);
    assert_eq!(told, imported);
}

#[tokio::test]
async fn what_lies_elsewhere_is_not_told() {
    let main = "import 'https://cdn.example/a.js';\nimport '//cdn.example/b.js';\nimport './near';\n";
    let index =
        "<!doctype html><html><head></head><body><script type=\"module\" src=\"/src/main.ts\"></script></body></html>";
    let app = App::open(&[("index.html", index), ("src/main.ts", main), ("src/near.ts", "export {};")]).await;
    let told = told(&app.text("/"));
    assert!(told.contains("/src/near.ts") && !told.iter().any(|it| it.contains("cdn.example")), "{told:?}");
}

/// With Tailwind 3, its configuration and its plugins, and eager globs.
#[tokio::test]
async fn so_is_that_of_a_real_app() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/apps/todo-studio");
    let (engine, snapshot) = (App::open(&[]).await.engine, Snapshot::new(at(1), example(&folder)));
    let preview = engine.open(&scope(), &snapshot, &env(1, &[]), &Progress::discard()).await.unwrap();
    let page = get(&preview, "/");
    let imported = imported(&preview, &[CLIENT, "/src/main.tsx"]);
    for part in ["/tailwind-v3.js", "/tailwindcss.js", "/tailwindcss-animate.js", "focus.md?import&raw"] {
        assert!(imported.iter().any(|it| it.ends_with(part)), "{part} in {imported:?}");
    }
    let mut told = told(&page);
    told.remove(CLIENT);
    assert_eq!(told, imported);
}
