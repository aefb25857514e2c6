//! What sources may hold, in small.

use super::support::{asset, built, names, path, sources};
use overskill_core::{
    AppFacts, EnvKey, EnvRevision, EnvSnapshot, EnvValue, Environment, ErrorKind, Incarnation, StreamPosition,
};

const PAGE: &str = "<!doctype html><html><head><title>%VITE_TITLE%</title></head><body>\
                    <script type=\"module\" src=\"/src/main.ts\"></script></body></html>";

fn env(list: &[(&str, EnvValue)]) -> EnvSnapshot {
    let values = list.iter().map(|(key, value)| (EnvKey::parse(key).unwrap(), value.clone())).collect();
    EnvSnapshot { revision: EnvRevision(StreamPosition::start(Incarnation::from_u64(1))), values }
}

#[tokio::test]
async fn every_form_of_import() {
    let large = "x".repeat(5_000);
    let artifact = built(sources(&[
        ("index.html", PAGE),
        ("tsconfig.json", r#"{ "compilerOptions": { "paths": { "@/*": ["./src/*"] } } }"#),
        (
            "src/main.ts",
            r#"
            import "./main.css";
            import raw from "./note.txt?raw";
            import small from "./small.svg";
            import url from "./large.svg?url";
            import css from "./inline.css?inline";
            import data, { name } from "@/data.json";
            import styles from "./box.module.css";
            const all = import.meta.glob("./parts/*.ts");
            const eager = import.meta.glob("./parts/*.ts", { eager: true, import: "part" });
            const worker = new Worker(new URL("./work.ts", import.meta.url), { type: "module" });
            console.log(raw, small, url, css, data, name, styles.box, all, eager, worker);
            console.log(import.meta.env.DEV ? "in development" : "in production", import.meta.env.VITE_KEY);
            export const later = () => import("./later");
        "#,
        ),
        ("src/main.css", "@import \"./base.css\" layer(base);\n.a { background: url(./large.svg) }"),
        ("src/base.css", ".base { color: red }"),
        ("src/inline.css", ".quoted::before { content: \"`${x}'\" }"),
        ("src/box.module.css", ".box { display: grid }"),
        ("src/note.txt", "a note\n"),
        ("src/small.svg", "<svg/>"),
        ("src/large.svg", &large),
        ("src/data.json", r#"{ "name": "the data", "other": [1, 2] }"#),
        ("src/parts/one.ts", "export const part = 'part one';"),
        ("src/parts/two.ts", "export const part = 'part two';"),
        ("src/work.ts", "import { part } from './parts/one'; postMessage(part);"),
        ("src/later.ts", "import './later.css'; export const late = 'late';"),
        ("src/later.css", ".late { color: blue }"),
        ("public/robots.txt", "User-agent: *"),
        (".env", "VITE_KEY=from the sources\nVITE_TITLE=Own & title\nSECRET=hush"),
    ]))
    .await
    .unwrap_or_else(|e| panic!("{e}"));

    let (_, code) = asset(&artifact, "assets/index-", ".js");
    let (large_at, _) = asset(&artifact, "assets/large-", ".svg");
    let (worker_at, worker) = asset(&artifact, "assets/work-", ".js");
    let (later_at, _) = asset(&artifact, "assets/later-", ".js");
    let (late_css_at, late_css) = asset(&artifact, "assets/later-", ".css");
    let (_, css) = asset(&artifact, "assets/index-", ".css");
    for part in ["a note", "data:image/svg+xml;base64,", "in production", "the data", "_box", "quoted"] {
        assert!(code.contains(part), "{part} in {code}");
    }
    let file = |at: &overskill_core::FilePath| at.as_str().rsplit('/').next().unwrap().to_owned();
    for at in [large_at, worker_at, later_at, late_css_at] {
        assert!(code.contains(&file(at)), "{at} in {code}");
    }
    assert!(!code.contains("in development") && !code.contains("hush") && !code.contains("from the sources"), "{code}");
    assert!(worker.contains("part one") && !worker.contains("import"), "a worker is one file: {worker}");
    assert!(css.contains("@layer base{.base{color:red}}") && css.contains(&format!("/{large_at}")), "{css}");
    assert_eq!(late_css, ".late{color:#00f}");
    assert!(names(&artifact).contains(&"robots.txt"));

    // The environment's values are not in it, and reach it all the same.
    let (_, page) = asset(&artifact, "index.html", "");
    assert!(page.contains("<title>Own &amp; title</title>"), "{page}");
    let plain = env(&[("VITE_KEY", EnvValue::plain("set")), ("VITE_TITLE", EnvValue::plain("<Set>"))]);
    let filled = artifact.page_assets(Environment::Production, &plain);
    let text = |name: &str| String::from_utf8(filled[&path(name)].contents().to_vec()).unwrap();
    assert!(text("overskill-env.js").contains(r#""VITE_KEY":"set""#), "{}", text("overskill-env.js"));
    assert!(text("index.html").contains("<title>&lt;Set&gt;</title>"));
    assert!(!text("overskill-env.js").contains("hush"));
}

#[tokio::test]
async fn a_server_side_is_one_module_with_its_wasm() {
    let artifact = built(sources(&[
        ("index.html", "<!doctype html><h1>hi</h1>"),
        (
            "src/worker.ts",
            r#"
            import { Buffer } from "node:buffer";
            import { greet } from "./server/greet";
            import sum from "./server/sum.wasm";
            export default { async fetch(request: Request): Promise<Response> {
                return new Response(greet(String(Buffer), sum)); } };
        "#,
        ),
        ("src/server/greet.ts", "export const greet = (name: string, sum: unknown) => `hello ${name} ${sum}`;"),
        ("src/server/sum.wasm", "\0asm\u{1}\0\0\0"),
    ]))
    .await
    .unwrap_or_else(|e| panic!("{e}"));
    let server = artifact.server().unwrap();
    let code = std::str::from_utf8(server.module.contents()).unwrap();
    let (wasm, _) = server.wasm.first_key_value().unwrap();
    assert!(
        code.contains("hello ") && code.contains("node:buffer") && code.contains(&format!("\"./{wasm}\"")),
        "{code}"
    );
    assert!(code.contains("as default") || code.contains("export default"), "{code}");
    assert_eq!(names(&artifact), ["index.html"]);

    let alone =
        built(sources(&[("src/worker.js", "export default { fetch: () => new Response('x') };")])).await.unwrap();
    assert!(alone.assets().is_empty() && alone.server().is_some());
}

#[tokio::test]
async fn what_an_app_says_of_itself_decides_where_it_is_placed() {
    let page = ("index.html", "<!doctype html><h1>hi</h1>");
    let said = |manifest| sources(&[page, ("package.json", manifest)]);
    let artifact = built(said(r#"{"overskill": {"sockets": true, "node": true}}"#)).await.unwrap();
    let facts = AppFacts::of(&artifact);
    assert!(facts.many_sockets && facts.needs_node && !facts.has_crons && !facts.has_server);
    let plain = built(said("{}")).await.unwrap();
    let (plain, bytes) = (AppFacts::of(&plain), plain.size_bytes());
    assert!(!plain.many_sockets && !plain.needs_node && plain.bytes == bytes);
    let e = built(said(r#"{"overskill": {"socket": true}}"#)).await.unwrap_err();
    assert!(e.public_message().contains("`socket`"), "{}", e.public_message());
}

#[tokio::test]
async fn mistakes_name_the_file_and_the_line() {
    let page = ("index.html", PAGE);
    for (files, says) in [
        (vec![page, ("src/main.ts", "const a = ;")], "src/main.ts:1:11: "),
        (vec![page, ("src/main.ts", "\nimport './gone';")], "src/main.ts:2:1: `./gone` is not found"),
        (
            vec![page, ("src/main.ts", "import 'nowhere-to-be-found';")],
            "src/main.ts:1:1: `nowhere-to-be-found` is not in package.json",
        ),
        (
            vec![
                page,
                ("src/main.ts", "import { a } from './b';\n\nimport { nothing } from './c';\nconsole.log(a, nothing);"),
                ("src/b.ts", "export const a = 1;"),
                ("src/c.ts", "export const c = 1;"),
            ],
            "src/main.ts:3:",
        ),
        (vec![page, ("src/main.ts", "console.log(import.meta.env.SECRET);")], "src/main.ts:1:13: "),
        (vec![("src/main.ts", "1")], "there is no index.html"),
        (vec![page, ("src/main.ts", "import '../../../../etc/passwd';")], "leads out of the app"),
    ] {
        let error = built(sources(&files)).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Invalid, "{error}");
        assert!(error.public_message().contains(says), "{says} in {}", error.public_message());
    }
}
