//! Files that are no code: JSON, text, pictures and other bytes, as modules.

use super::{Import, ImportKind, Module, kinds::address, link::quote, script::is_identifier_name};
use crate::{Location, Problem, ProblemKind};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use overskill_core::FilePath;
use serde::{
    Deserialize, Deserializer,
    de::{IgnoredAny, MapAccess, Visitor},
};
use std::{
    collections::BTreeSet,
    fmt::{self, Write as _},
};

/// A module whose only export is `value`.
pub(super) fn default_export(value: &str) -> Module {
    Module {
        code: format!("export default {value};\n"),
        exports: Some(["default".to_owned()].into()),
        ..Module::default()
    }
}

/// JSON: the value as default export, and the members of an object that are named like variables by their names.
pub(super) fn json(text: &str) -> Result<Module, Problem> {
    /// From here on parsing a string is faster for browsers than parsing an expression.
    const BIG_BYTES: usize = 10 << 10;
    let text = text.trim_start_matches('\u{feff}').trim();
    let names: Vec<String> = if text.starts_with('{') {
        let Members(names) = parsed(text)?;
        names.into_iter().filter(|name| is_identifier_name(name) && !RESERVED.contains(&&**name)).collect()
    } else {
        parsed::<IgnoredAny>(text)?;
        Vec::new()
    };
    // In an expression `__proto__`, however it is spelled, would set the prototype.
    let prototype = text.contains("__proto__") || text.contains("\\u00");
    let value =
        if text.len() > BIG_BYTES || prototype { format!("JSON.parse({})", quote(text)) } else { text.to_owned() };
    let mut code = format!("const __overskill_json = {value};\nexport default __overskill_json;\n");
    for name in &names {
        writeln!(code, "export const {name} = __overskill_json.{name};").expect("a string takes all");
    }
    let exports = names.into_iter().chain(["default".to_owned()]).collect();
    Ok(Module { code, exports: Some(exports), ..Module::default() })
}

/// The names of an object's members.
struct Members(BTreeSet<String>);

impl<'de> Deserialize<'de> for Members {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(Self(BTreeSet::new()))
    }
}

impl<'de> Visitor<'de> for Members {
    type Value = Self;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut map: A) -> Result<Self, A::Error> {
        while let Some((name, _)) = map.next_entry::<String, IgnoredAny>()? {
            self.0.insert(name);
        }
        Ok(self)
    }
}

fn parsed<'t, T: Deserialize<'t>>(text: &'t str) -> Result<T, Problem> {
    serde_json::from_str(text).map_err(|error| {
        let line_start = text.split_inclusive('\n').take(error.line().saturating_sub(1)).map(str::len).sum::<usize>();
        let message = error.to_string();
        let message = message.split(" at line ").next().unwrap_or_default();
        let offset = line_start + error.column().saturating_sub(1);
        let problem = Problem::new(ProblemKind::Syntax, format!("not valid JSON: {message}")).at_offset(text, offset);
        let comment = text.as_bytes().get(offset) == Some(&b'/');
        if comment { problem.help("JSON knows no comments") } else { problem }
    })
}

/// Names that no variable can have in a module.
const RESERVED: [&str; 50] = [
    "arguments",
    "await",
    "break",
    "case",
    "catch",
    "class",
    "const",
    "continue",
    "debugger",
    "default",
    "delete",
    "do",
    "else",
    "enum",
    "eval",
    "export",
    "extends",
    "false",
    "finally",
    "for",
    "function",
    "if",
    "implements",
    "import",
    "in",
    "instanceof",
    "interface",
    "let",
    "new",
    "null",
    "package",
    "private",
    "protected",
    "public",
    "return",
    "static",
    "super",
    "switch",
    "this",
    "throw",
    "true",
    "try",
    "typeof",
    "var",
    "void",
    "while",
    "with",
    "yield",
    "__overskill_json",
    "async",
];

/// A `data:` URL.
pub(super) fn inline(path: &FilePath, contents: &[u8]) -> Module {
    let media_type = mime_guess::from_path(path.as_str()).first_or_octet_stream();
    default_export(&quote(&format!("data:{media_type};base64,{}", STANDARD.encode(contents))))
}

/// A constructor of a worker that runs the script, as Vite's `?worker` gives.
pub(super) fn worker(path: &FilePath) -> Module {
    naming(
        path,
        "export default function WorkerWrapper(options) {\n\treturn new Worker(",
        ", { type: \"module\", name: options?.name });\n}\n",
    )
}

/// A function that instantiates WebAssembly with given imports, as Vite's `?init` gives.
pub(super) fn wasm(path: &FilePath) -> Module {
    naming(
        path,
        "export default async (imports) => {\n\tconst source = fetch(",
        ");\n\treturn (await WebAssembly.instantiateStreaming(source, imports)).instance;\n};\n",
    )
}

/// A module with the address of the file itself between two pieces of code.
fn naming(path: &FilePath, before: &str, after: &str) -> Module {
    let specifier = address(path);
    let url = format!("new URL({}, import.meta.url)", quote(&specifier));
    let whole = before.len()..before.len() + url.len();
    let literal = whole.start + "new URL(".len()..whole.end - ", import.meta.url)".len();
    let import = Import { specifier, kind: ImportKind::Url, literal, whole, at: Location { line: 1, column: 1 } };
    Module { code: format!("{before}{url}{after}"), imports: vec![import], ..default_export("") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_keeps_its_order_and_names_what_it_can() {
        let module =
            json("\u{feff}{\n  \"b\": 1, \"a-b\": [2], \"default\": 3, \"class\": 4,\n  \"a\": null\n}\n").unwrap();
        assert_eq!(
            module.code,
            "const __overskill_json = {\n  \"b\": 1, \"a-b\": [2], \"default\": 3, \"class\": 4,\n  \"a\": null\n};\n\
             export default __overskill_json;\nexport const a = __overskill_json.a;\nexport const b = __overskill_json.b;\n"
        );
        assert_eq!(module.exports, Some(["a", "b", "default"].map(str::to_owned).into()));
        assert!(json("[1, 2]").unwrap().code.starts_with("const __overskill_json = [1, 2];\n"));
    }

    #[test]
    fn big_json_and_prototypes_are_parsed_from_a_string() {
        let big = format!("{{\"text\": \"{}\"}}", "x".repeat(20_000));
        assert!(json(&big).unwrap().code.starts_with("const __overskill_json = JSON.parse(\"{\\\"text\\\""));
        let prototype = json("{\"__proto__\": {\"admin\": true}}").unwrap();
        assert!(prototype.code.starts_with("const __overskill_json = JSON.parse("), "{}", prototype.code);
        let escaped = json(r#"{"\u005f_proto__": 1}"#).unwrap();
        assert!(escaped.code.starts_with("const __overskill_json = JSON.parse("), "{}", escaped.code);
    }

    #[test]
    fn bad_json_is_placed() {
        let problem = json("{\n  \"a\": 1,\n  // no\n  \"b\": 2\n}").unwrap_err();
        assert_eq!(problem.at.unwrap().line, 3, "{problem}");
        assert_eq!(problem.help.as_deref(), Some("JSON knows no comments"));
        assert!(json("").unwrap_err().message.contains("EOF"));
        // As deep as anyone likes: refused or taken, but without recursion.
        drop(json(&"[".repeat(200_000)));
    }

    #[test]
    fn bytes_become_addresses() {
        let path = FilePath::parse("src/a b.svg").unwrap();
        assert_eq!(inline(&path, b"<svg/>").code, "export default \"data:image/svg+xml;base64,PHN2Zy8+\";\n");
        let module = worker(&FilePath::parse("src/w.ts").unwrap());
        assert_eq!(&module.code[module.imports[0].literal.clone()], "\"/src/w.ts\"");
        assert_eq!(&module.code[module.imports[0].whole.clone()], "new URL(\"/src/w.ts\", import.meta.url)");
    }
}
