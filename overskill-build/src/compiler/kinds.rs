//! What a file is by its name and query, and what is made of it.

use super::{
    Compiler, CompilerOptions, Module, Query, data, depth,
    link::quote,
    script::{self, Dialect},
    style,
};
use crate::{Problem, ProblemKind};
use overskill_core::{AppFile, FilePath};
use std::fmt::Write as _;

/// Sorts of files that can be imported.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Script(Dialect),
    Style,
    Json,
    Asset,
    Wasm,
}

/// Compiles a file for what its name and query say that it is.
pub(super) fn compile(
    path: &FilePath,
    file: &AppFile,
    query: Query,
    options: &CompilerOptions,
) -> Result<Module, Problem> {
    match (query, kind(path)) {
        (Query::Raw, _) => {
            limit(path, file, "file that is imported with `?raw`", Compiler::MAX_INLINE_BYTES)?;
            Ok(data::default_export(&quote(text(file)?)))
        }
        (Query::Url, _) | (Query::None, Ok(Kind::Asset)) => Ok(data::default_export(&quote(&address(path)))),
        (Query::Worker, Ok(Kind::Script(_))) => Ok(data::worker(path)),
        (Query::Init, Ok(Kind::Wasm)) => Ok(data::wasm(path)),
        (Query::None | Query::Inline, Ok(Kind::Style)) => {
            limit(path, file, "style sheet", Compiler::MAX_TEXT_BYTES)?;
            let source = text(file)?;
            stacker::maybe_grow(style::STACK_BYTES, style::STACK_BYTES, || style::compile(path.as_str(), source))
        }
        (Query::Inline, Ok(Kind::Asset | Kind::Wasm | Kind::Json) | Err(_)) => {
            limit(path, file, "file that is imported with `?inline`", Compiler::MAX_INLINE_BYTES)?;
            Ok(data::inline(path, file.contents()))
        }
        (Query::None, Ok(Kind::Script(dialect))) => {
            limit(path, file, "script", Compiler::MAX_SCRIPT_BYTES)?;
            let source = text(file)?;
            let stack_bytes = depth::stack_bytes(source, dialect != Dialect::TypeScript)?;
            stacker::maybe_grow(stack_bytes, stack_bytes, || script::compile(path.as_str(), source, dialect, options))
        }
        (Query::None, Ok(Kind::Json)) => {
            limit(path, file, "JSON file", Compiler::MAX_TEXT_BYTES)?;
            data::json(text(file)?)
        }
        (Query::None, Ok(Kind::Wasm)) => Err(unsupported("`.wasm` files cannot be imported as they are")
            .help("import it with `?init` for a function that instantiates it, or with `?url`")),
        (Query::None, Err(problem)) => Err(problem),
        (Query::Worker, _) => Err(unsupported("`?worker` is for scripts")),
        (Query::Init, _) => Err(unsupported("`?init` is for `.wasm` files")),
        (Query::Inline, _) => {
            Err(unsupported("`?inline` is for style sheets and assets").help("import scripts without it"))
        }
    }
}

/// A script through oxc alone; `None` for other files, and for what it refuses.
#[cfg(feature = "bare-peer")]
pub(super) fn bare_script(path: &FilePath, source: &str, options: &CompilerOptions) -> Option<(String, String)> {
    match kind(path) {
        Ok(Kind::Script(dialect)) => script::bare(path.as_str(), source, dialect, options),
        _ => None,
    }
}

/// The address of an app's file on its own page: its path from the root, percent-encoded.
pub fn address(path: &FilePath) -> String {
    let mut address = String::with_capacity(path.as_str().len() + 1);
    address.push('/');
    for byte in path.as_str().bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' => address.push(byte.into()),
            b'-' | b'_' | b'.' | b'~' | b'/' | b'@' | b'$' | b'+' | b',' | b';' | b'=' | b':' | b'!' => {
                address.push(byte.into());
            }
            _ => write!(address, "%{byte:02X}").expect("a string takes all"),
        }
    }
    address
}

/// What Vite takes for an asset without being told.
const ASSETS: [&str; 39] = [
    "apng",
    "avif",
    "bmp",
    "cur",
    "gif",
    "ico",
    "jfif",
    "jpeg",
    "jpg",
    "jxl",
    "pjp",
    "pjpeg",
    "png",
    "svg",
    "webp", // pictures
    "aac",
    "flac",
    "m4a",
    "mov",
    "mp3",
    "mp4",
    "ogg",
    "opus",
    "wav",
    "webm",
    "vtt", // sound and film
    "eot",
    "otf",
    "ttf",
    "woff",
    "woff2", // fonts
    "glb",
    "gltf",
    "hdr",
    "md",
    "pdf",
    "txt",
    "webmanifest",
    "csv",
];

fn kind(path: &FilePath) -> Result<Kind, Problem> {
    let extension = path.extension().unwrap_or_default().to_ascii_lowercase();
    Ok(match &*extension {
        "js" | "mjs" | "cjs" => Kind::Script(Dialect::JavaScript),
        "jsx" => Kind::Script(Dialect::Jsx),
        "ts" | "mts" | "cts" => Kind::Script(Dialect::TypeScript),
        "tsx" => Kind::Script(Dialect::Tsx),
        "css" | "pcss" | "postcss" => Kind::Style,
        "json" => Kind::Json,
        "wasm" => Kind::Wasm,
        asset if ASSETS.contains(&asset) => Kind::Asset,
        "scss" | "sass" | "less" | "styl" | "stylus" => {
            return Err(unsupported(format!("`.{extension}` style sheets are not supported"))
                .help("write it as `.css`: nesting and variables work there"));
        }
        "vue" | "svelte" | "astro" | "mdx" => {
            return Err(unsupported(format!("`.{extension}` files are not supported"))
                .help("previews run TypeScript, JavaScript, JSX and CSS"));
        }
        "html" | "htm" => {
            return Err(unsupported("HTML files cannot be imported").help("import it with `?raw` for its text"));
        }
        "" => return Err(unsupported(format!("`{path}` has no extension that says what it is"))),
        _ => {
            return Err(unsupported(format!("nobody knows what to make of `.{}` files", shortened(&extension)))
                .help("import it with `?raw` for its text or `?url` for its address"));
        }
    })
}

fn shortened(text: &str) -> String {
    text.chars().take(20).collect()
}

fn unsupported(message: impl Into<String>) -> Problem {
    Problem::new(ProblemKind::Unsupported, message)
}

/// Refuses a file that is too large, before anything is done with it.
fn limit(path: &FilePath, file: &AppFile, what: &str, max_bytes: u64) -> Result<(), Problem> {
    if file.size_bytes() <= max_bytes {
        return Ok(());
    }
    let message = format!("`{path}` has {} bytes; a {what} may have {max_bytes}", file.size_bytes());
    Err(Problem::new(ProblemKind::Limit, message).help("put large data into `public/` and fetch it"))
}

/// The file's text.
fn text(file: &AppFile) -> Result<&str, Problem> {
    std::str::from_utf8(file.contents()).map_err(|error| {
        let valid = std::str::from_utf8(&file.contents()[..error.valid_up_to()]).unwrap_or_default();
        let message = format!("the file is not UTF-8 from byte {} on", error.valid_up_to());
        Problem::new(ProblemKind::Syntax, message).help("save it as UTF-8").at_offset(valid, valid.len())
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compiler::Compiled;

    fn compiled(path: &str, contents: impl Into<bytes::Bytes>, query: Query) -> Compiled {
        Compiler::default().compile(&FilePath::parse(path).unwrap(), &AppFile::new(contents), query)
    }

    #[test]
    fn every_sort_of_file() {
        for (path, query, code) in [
            ("src/a.png", Query::None, "export default \"/src/a.png\";\n"),
            ("src/a b%.PNG", Query::None, "export default \"/src/a%20b%25.PNG\";\n"),
            ("src/a.ts", Query::Url, "export default \"/src/a.ts\";\n"),
            ("src/a.glsl", Query::Raw, "export default \"const x: number = 1;\\n\";\n"),
            ("src/a.txt", Query::Inline, "export default \"data:text/plain;base64,Y29uc3QgeDogbnVtYmVyID0gMTsK\";\n"),
            ("src/a.ts", Query::None, "const x = 1;\n"),
            (
                "src/a.js",
                Query::Worker,
                "export default function WorkerWrapper(options) {\n\treturn new Worker(new URL(\"/src/a.js\", import.meta.url), { type: \"module\", name: options?.name });\n}\n",
            ),
        ] {
            let compiled = compiled(path, "const x: number = 1;\n", query);
            assert_eq!(
                compiled.map_or_else(|problem| problem.to_string(), |module| module.code.clone()),
                code,
                "{path}"
            );
        }
    }

    #[test]
    fn what_is_not_supported_says_what_to_do() {
        for (path, query, says) in [
            ("src/a.scss", Query::None, "write it as `.css`"),
            ("src/a.vue", Query::None, "previews run TypeScript"),
            ("src/a.wasm", Query::None, "`?init`"),
            ("src/a.glsl", Query::None, "`?raw`"),
            ("src/Makefile", Query::None, "no extension"),
            ("src/a.css", Query::Worker, "`?worker` is for scripts"),
            ("src/a.ts", Query::Inline, "import scripts without it"),
        ] {
            let problem = compiled(path, "", query).unwrap_err();
            assert!(problem.to_string().contains(says), "{problem}");
            assert_eq!(problem.file.as_ref().unwrap().as_str(), path);
        }
    }

    #[test]
    fn large_files_are_refused_by_name_and_at_once() {
        let huge = bytes::Bytes::from(vec![b'('; 100 << 20]);
        let path = FilePath::parse("src/huge.ts").unwrap();
        let file = AppFile::from_stored(huge, overskill_core::Digest::of(b"huge"));
        let begun = std::time::Instant::now();
        for query in [Query::None, Query::Raw, Query::Inline] {
            let problem = Compiler::default().compile(&path, &file, query).unwrap_err();
            assert_ne!(problem.kind, ProblemKind::Syntax, "{problem}");
            assert!(problem.to_string().contains("src/huge.ts"), "{problem}");
        }
        assert!(begun.elapsed().as_secs() < 1, "{:?}", begun.elapsed());
    }

    #[test]
    fn text_has_to_be_utf_8() {
        let problem = compiled("src/a.ts", &b"const a = 1;\nconst b = '\xff';\n"[..], Query::None).unwrap_err();
        assert_eq!((problem.kind, problem.at.unwrap().line), (ProblemKind::Syntax, 2));
        assert!(problem.to_string().contains("save it as UTF-8"), "{problem}");
    }
}
