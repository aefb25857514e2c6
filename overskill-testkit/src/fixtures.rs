//! Apps, files and artifacts for tests: the same for the same seed.

use bytes::Bytes;
use overskill_core::{
    AppFile, AppId, Artifact, ArtifactConfig, Environment, FilePath, Ids, Scope, SeededIds, ServerModule,
};
use std::collections::BTreeMap;

/// A path that is written in a test's source.
///
/// # Panics
///
/// When it is no [`FilePath`].
#[track_caller]
pub fn path(path: &str) -> FilePath {
    FilePath::parse(path).unwrap_or_else(|e| panic!("{e}"))
}

/// A scope that is written in a test's source, such as `todo42/production`.
///
/// # Panics
///
/// When it is no [`Scope`].
#[track_caller]
pub fn scope(scope: &str) -> Scope {
    scope.parse().unwrap_or_else(|e| panic!("{e}"))
}

/// An app that is written in a test's source, in its development environment.
///
/// # Panics
///
/// When it is no [`AppId`].
#[track_caller]
pub fn sources_of(app: &str) -> Scope {
    Scope::new(AppId::parse(app).unwrap_or_else(|e| panic!("{e}")), Environment::Development)
}

/// `bytes` bytes that do not compress and depend on `seed` alone.
pub fn noise(bytes: usize, seed: u64) -> Bytes {
    let mut noise = vec![0; bytes];
    SeededIds::new(seed).fill(&mut noise);
    noise.into()
}

/// The sources of an app with `n` components, each a few hundred bytes of TypeScript.
pub fn app_files(n: usize, seed: u64) -> BTreeMap<FilePath, AppFile> {
    (0..n)
        .map(|i| {
            let mut number = [0; 8];
            SeededIds::new(seed.wrapping_add(i as u64)).fill(&mut number);
            let number = u64::from_le_bytes(number);
            let source = format!(
                "import {{ useState }} from \"react\";\n\n\
                 // Component {i} of seed {seed}.\n\
                 export function Part{i}() {{\n  \
                   const [count, setCount] = useState({number});\n  \
                   return <button onClick={{() => setCount(count + {i})}}>part {i}: {{count}}</button>;\n\
                 }}\n"
            );
            (path(&format!("src/parts/{:02}/Part{i}.tsx", i % 16)), AppFile::new(source))
        })
        .collect()
}

/// The sources of a small app as a generator writes them: a page, an entry and a component that keeps a list.
pub fn todo_app() -> BTreeMap<FilePath, AppFile> {
    const FILES: [(&str, &str); 5] = [
        (
            "index.html",
            "<!doctype html>\n<html lang=\"en\">\n  <head><title>Todo</title></head>\n  <body>\n    <div id=\"root\"></div>\n    \
             <script type=\"module\" src=\"/src/main.tsx\"></script>\n  </body>\n</html>\n",
        ),
        (
            "package.json",
            "{\n  \"name\": \"todo\",\n  \"private\": true,\n  \"type\": \"module\",\n  \
             \"dependencies\": { \"react\": \"19.2.0\", \"react-dom\": \"19.2.0\" }\n}\n",
        ),
        (
            "src/App.tsx",
            "import { useState } from \"react\";\n\nexport default function App() {\n  \
             const [items, setItems] = useState<string[]>([]);\n  const [text, setText] = useState(\"\");\n  \
             const add = () => { setItems([...items, text]); setText(\"\"); };\n  return (\n    <main>\n      \
             <h1>Todo</h1>\n      <input value={text} onChange={(e) => setText(e.target.value)} />\n      \
             <button onClick={add}>Add</button>\n      <ul>{items.map((item, i) => <li key={i}>{item}</li>)}</ul>\n    \
             </main>\n  );\n}\n",
        ),
        ("src/index.css", "main { font-family: sans-serif; max-width: 40rem; margin: 2rem auto; }\n"),
        (
            "src/main.tsx",
            "import { createRoot } from \"react-dom/client\";\nimport App from \"./App\";\nimport \"./index.css\";\n\n\
             createRoot(document.getElementById(\"root\")!).render(<App />);\n",
        ),
    ];
    FILES.into_iter().map(|(at, text)| (path(at), AppFile::new(text))).collect()
}

/// A built single-page app of `files` assets, the first of them `index.html`.
///
/// # Panics
///
/// When `files` is 0: an artifact holds something.
pub fn artifact(files: usize, seed: u64) -> Artifact {
    Artifact::new(assets(files, seed), None, ArtifactConfig::single_page()).expect("it has an index.html")
}

/// A built app of `files` assets with a server module and a Wasm module.
///
/// # Panics
///
/// When `files` is 0: an artifact holds something.
pub fn artifact_with_server(files: usize, seed: u64) -> Artifact {
    let module = format!("export default {{ fetch: () => new Response(\"seed {seed}\") }};\n");
    let wasm = [b"\0asm\x01\0\0\0".as_slice(), &noise(64, seed)].concat();
    let server = ServerModule { module: module.into(), wasm: [(path("lib/codec.wasm"), wasm.into())].into() };
    let mut config = ArtifactConfig::single_page();
    config.settings.insert("compatibility_date".into(), "2026-11-01".into());
    Artifact::new(assets(files, seed), Some(server), config).expect("it has an index.html")
}

fn assets(files: usize, seed: u64) -> BTreeMap<FilePath, AppFile> {
    let page = format!("<!doctype html><title>app {seed}</title><script src=\"/assets/1.js\"></script>\n");
    let asset = |i: usize| match i {
        0 => (path("index.html"), AppFile::new(page.clone())),
        _ => (path(&format!("assets/{i}.js")), AppFile::new(noise(256 + i, seed.wrapping_add(i as u64)))),
    };
    (0..files).map(asset).collect()
}
