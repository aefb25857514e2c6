//! Tailwind: what the server does for a compiler that runs in the page.
//!
//! An app's configuration and plugins are its authors' code, so Tailwind runs where that code may run: in the page. The
//! server brings it what it names ([`TailwindStyle`]), the compiler itself ([`core_request`], [`core_module`]), and the
//! words of the sources that may be classes ([`Words`]).

mod sheet;
mod words;

pub use sheet::{TailwindForm, TailwindNeed, TailwindNeedKind, TailwindStyle};
pub use words::Words;

use crate::{
    Problem, ProblemKind,
    packages::{PackageEntry, PackageRequest, Prepared},
};
use serde_json::Value;
use std::{collections::BTreeMap, fmt::Write as _};

/// What the page's compiler is made of. An app that has Tailwind 4 itself asks for these beside its own imports; for another
/// there is [`core_request`].
pub const CORE_ENTRIES: [&str; 5] = [
    "tailwindcss",
    "tailwindcss/index.css",
    "tailwindcss/preflight.css",
    "tailwindcss/theme.css",
    "tailwindcss/utilities.css",
];

/// Under which name of [`ClientFile::FOLDER`](super::ClientFile::FOLDER) [`core_module`] is served.
pub const CORE_FILE: &str = "tailwind-core.js";

/// Under which name of [`ClientFile::FOLDER`](super::ClientFile::FOLDER) [`Words::module`] is served.
pub const CANDIDATES_FILE: &str = "tailwind-candidates.js";

const PINNED_MANIFEST: &str = r#"{"name":"overskill-tailwind","private":true,"dependencies":{"tailwindcss":"4.3.5"}}"#;
const PINNED_LOCK: &str = r#"{"name":"overskill-tailwind","lockfileVersion":3,"requires":true,"packages":{
"":{"name":"overskill-tailwind","dependencies":{"tailwindcss":"4.3.5"}},
"node_modules/tailwindcss":{"version":"4.3.5","license":"MIT",
"integrity":"sha512-FcQk9BuffmEHJP2G0XmB2SplU1aLTI7j07Kunk+U74Ny+XiWOtzXz9aujFZ/avntw1e2cOv/3PkgzflQ7gX2vQ=="}}}"#;

/// Which major version of Tailwind an app has: from its lock, or else from what its manifest allows. `None` if it names none.
///
/// ```
/// use overskill_build::preview::tailwind::app_major;
/// assert_eq!(app_major(br#"{"devDependencies":{"tailwindcss":"^3.4.17"}}"#, None), Some(3));
/// assert_eq!(app_major(b"{}", None), None);
/// ```
pub fn app_major(manifest: &[u8], lock: Option<&[u8]>) -> Option<u32> {
    let read = |text: &[u8]| serde_json::from_slice::<Value>(text).unwrap_or_default();
    let major = |version: &str| {
        let digits = version.trim_start_matches(|c: char| !c.is_ascii_digit());
        digits.split(|c: char| !c.is_ascii_digit()).next().and_then(|it| it.parse().ok())
    };
    let locked = lock.map(read).unwrap_or_default();
    if let Some(version) = locked["packages"]["node_modules/tailwindcss"]["version"].as_str() {
        return major(version);
    }
    let manifest = read(manifest);
    let range = ["dependencies", "devDependencies"].iter().find_map(|it| manifest[it]["tailwindcss"].as_str())?;
    // `latest`, `next` and the like name no number; all of them are 4 by now.
    Some(major(range).unwrap_or(4))
}

/// Asks for the pinned compiler, with its integrity: for an app that has none of Tailwind 4.
pub fn core_request() -> PackageRequest {
    let entries = CORE_ENTRIES.into_iter().map(str::to_owned).collect();
    PackageRequest::new(PINNED_MANIFEST, Some(PINNED_LOCK.into()), entries)
}

/// The module that the page gets as [`CORE_FILE`]: the compiler, and Tailwind's own style sheets as texts.
///
/// `address` says where a file of `prepared` is served.
///
/// # Errors
/// If a part could not be had, with what to do about it.
pub fn core_module(prepared: &Prepared, address: impl Fn(&str) -> String) -> Result<String, Box<Problem>> {
    let missing = |name: &str| {
        let told = prepared.failed.get(name).cloned();
        told.unwrap_or_else(|| {
            Problem::new(ProblemKind::Package, format!("`{name}` was not found in Tailwind's package"))
        })
    };
    let Some(PackageEntry::Module { file, common_js }) = prepared.entries.get("tailwindcss") else {
        return Err(Box::new(missing("tailwindcss")));
    };
    let address = Value::from(address(file));
    let mut module = if *common_js {
        format!("import library from {address};\nexport const compile = library.compile;\n")
    } else {
        format!("export {{ compile }} from {address};\n")
    };
    let mut sheets = BTreeMap::new();
    for name in CORE_ENTRIES.into_iter().skip(1) {
        let Some(PackageEntry::Style { file } | PackageEntry::Asset { file }) = prepared.entries.get(name) else {
            return Err(Box::new(missing(name)));
        };
        let Some(text) = prepared.files.get(file) else { return Err(Box::new(missing(name))) };
        sheets.insert(name, Value::from(String::from_utf8_lossy(&text.contents)));
    }
    sheets.insert("tailwindcss", sheets["tailwindcss/index.css"].clone());
    let sheets = serde_json::json!(sheets);
    let _ = writeln!(module, "export const sheets = {sheets};");
    Ok(module)
}

/// The project's configuration, if it has one: the first of Tailwind's usual names that `exists`.
pub fn config_file(mut exists: impl FnMut(&str) -> bool) -> Option<&'static str> {
    ["tailwind.config.ts", "tailwind.config.js", "tailwind.config.mjs", "tailwind.config.cjs"]
        .into_iter()
        .find(|name| exists(name))
}

/// What a configuration takes by `require("…")`; it may, even where the rest of it is an ES module.
///
/// ```
/// use overskill_build::preview::tailwind::config_requires;
/// let config = "export default { plugins: [require('tailwindcss-animate')] }";
/// assert_eq!(config_requires(config), ["tailwindcss-animate"]);
/// ```
pub fn config_requires(source: &str) -> Vec<String> {
    const MOST: usize = 200;
    let mut all: Vec<String> = Vec::new();
    for (at, word) in source.match_indices("require") {
        let named =
            source[..at].chars().next_back().is_some_and(|c| c.is_alphanumeric() || matches!(c, '_' | '$' | '.'));
        let Some(rest) = source[at + word.len()..].trim_start().strip_prefix('(') else { continue };
        let rest = rest.trim_start();
        let Some(quote) = rest.chars().next().filter(|c| matches!(c, '"' | '\'' | '`')) else { continue };
        let Some((specifier, _)) = rest[1..].split_once(quote) else { continue };
        if all.len() < MOST && !named && !specifier.contains(['\n', '$']) && !all.iter().any(|it| it == specifier) {
            all.push(specifier.to_owned());
        }
    }
    all
}

/// A configuration as an ES module: `code` is the compiled and linked file, `requires` the addresses (or what is wrong) of
/// [`config_requires`] in the same order.
///
/// What it puts into `module.exports` is its default export. Its lines stay where they are: everything that is added stands on
/// its first line and after its last.
pub fn config_module(source: &str, code: &str, requires: &[(String, Result<String, String>)]) -> String {
    let common_js = source.contains("module.exports") || source.contains("exports.");
    if requires.is_empty() && !common_js {
        return code.to_owned();
    }
    let mut head = String::new();
    let mut table = String::new();
    for (index, (specifier, address)) in requires.iter().enumerate() {
        let specifier = Value::from(specifier.as_str());
        match address {
            Ok(address) => {
                let _ = write!(head, "import * as __required{index} from {}; ", Value::from(address.as_str()));
                let _ = write!(table, "{specifier}: () => __required{index}.default ?? __required{index}, ");
            }
            Err(message) => {
                let message = Value::from(message.as_str());
                let _ = write!(table, "{specifier}: () => {{ throw new Error({message}) }}, ");
            }
        }
    }
    let _ = write!(head, "const require = (name) => {{ const found = {{ {table}}}[name]; ");
    head.push_str("if (!found) throw new Error(`require(${JSON.stringify(name)}) is not possible here: use import`); ");
    head.push_str("return found(); }; ");
    if !common_js {
        return format!("{head}{code}");
    }
    format!(
        "{head}const module = {{ exports: {{}} }}; let exports = module.exports; {code}\nexport default module.exports;\n"
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::packages::PackageFile;
    use overskill_core::Digest;

    #[test]
    fn the_lock_tells_the_version_before_the_manifest() {
        let manifest = br#"{"devDependencies":{"tailwindcss":"^3.0.0 || ^4.0.0"}}"#;
        let lock = br#"{"packages":{"node_modules/tailwindcss":{"version":"4.1.12"}}}"#;
        assert_eq!(app_major(manifest, Some(lock)), Some(4));
        assert_eq!(app_major(manifest, None), Some(3));
        assert_eq!(app_major(br#"{"dependencies":{"tailwindcss":"latest"}}"#, Some(b"not JSON")), Some(4));
    }

    #[test]
    fn the_pinned_request_names_one_version_with_its_integrity() {
        let lock: Value = serde_json::from_slice(&core_request().lock.unwrap()).unwrap();
        let manifest: Value = serde_json::from_slice(&core_request().manifest).unwrap();
        let pinned = &lock["packages"]["node_modules/tailwindcss"];
        assert_eq!(manifest["dependencies"]["tailwindcss"], pinned["version"]);
        assert!(pinned["integrity"].as_str().unwrap().starts_with("sha512-"));
    }

    #[test]
    fn the_core_is_the_compiler_and_the_texts_of_its_sheets() {
        let mut entries = BTreeMap::new();
        let mut files = BTreeMap::new();
        for name in CORE_ENTRIES {
            let file = name.replace('/', "_");
            files.insert(file.clone(), PackageFile::new("text/css", format!("/* {name} \"quoted\" */")));
            let entry = if name == "tailwindcss" {
                PackageEntry::Module { file, common_js: false }
            } else {
                PackageEntry::Style { file }
            };
            entries.insert(name.to_owned(), entry);
        }
        let digest = Digest::of(b"");
        let mut prepared = Prepared { digest, entries, failed: BTreeMap::new(), lock: None, files };
        let module = core_module(&prepared, |file| format!("/@npm/d/{file}")).unwrap();
        assert!(module.starts_with("export { compile } from \"/@npm/d/tailwindcss\";\n"), "{module}");
        assert!(module.contains(r#""tailwindcss/theme.css":"/* tailwindcss/theme.css \"quoted\" */""#), "{module}");
        assert!(module.contains(r#""tailwindcss":"/* tailwindcss/index.css"#), "{module}");

        prepared.entries.remove("tailwindcss/theme.css");
        let problem = core_module(&prepared, str::to_owned).unwrap_err();
        assert!(problem.message.contains("tailwindcss/theme.css"), "{problem}");
    }

    #[test]
    fn a_configuration_may_require() {
        let source = "const a = require( \"a\" ), b = my.require('no'), c = require('./c'), d = require(name), e = require('a');";
        assert_eq!(config_requires(source), ["a", "./c"]);

        let requires =
            [("a".to_owned(), Ok("/@npm/a.js".to_owned())), ("./c".to_owned(), Err("`./c` is \"gone\"".to_owned()))];
        let module = config_module("module.exports = {}", "module.exports = {\n};", &requires);
        assert!(module.starts_with("import * as __required0 from \"/@npm/a.js\"; const require = "), "{module}");
        assert!(module.contains(r#"throw new Error("`./c` is \"gone\"")"#), "{module}");
        assert!(module.ends_with("module.exports = {\n};\nexport default module.exports;\n"), "{module}");
        assert_eq!(module.lines().count(), 3);

        assert_eq!(config_module("export default {}", "export default {}", &[]), "export default {}");
    }
}
