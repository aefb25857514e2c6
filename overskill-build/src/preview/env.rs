//! `import.meta.env`: what a page may know of the variables.

use super::files::Files;
use crate::{Problem, ProblemKind};
use overskill_core::{Digest, EnvRevision, EnvSnapshot, EnvValue, FilePath};
use serde_json::{Map, Value};
use std::collections::BTreeMap;

/// The files that Vite reads in development; a later one counts more, and the platform's variables count most.
pub(crate) const FILES: [&str; 4] = [".env", ".env.local", ".env.development", ".env.development.local"];

/// What a page may have of the platform's variables: nothing sealed is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Variables {
    pub(super) revision: EnvRevision,
    /// `None` for what is sealed.
    values: BTreeMap<String, Option<String>>,
}

impl Variables {
    pub(super) fn of(env: &EnvSnapshot) -> Self {
        let vite = env.values.iter().filter(|(key, _)| key.as_str().starts_with("VITE_"));
        let open = |value: &EnvValue| (!value.is_sealed()).then(|| value.expose().to_owned());
        Self { revision: env.revision, values: vite.map(|(key, value)| (key.to_string(), open(value))).collect() }
    }
}

/// The variables of a page.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct PreviewEnv {
    values: BTreeMap<String, String>,
    pub(super) problems: Vec<Problem>,
}

impl PreviewEnv {
    pub(super) fn of(files: &Files, env: &Variables) -> Self {
        let mut all = BTreeMap::new();
        let mut problems = Vec::new();
        for name in FILES {
            let Some((path, file)) = files.get(name) else { continue };
            if let Ok(text) = str::from_utf8(file.contents()) {
                parse(text, &mut all);
            } else {
                let problem = Problem::new(ProblemKind::Syntax, format!("{name} is not UTF-8, and is not read"));
                problems.push(problem.help("save it as UTF-8").in_file(FilePath::clone(path)));
            }
        }
        let mut values: BTreeMap<String, String> =
            all.into_iter().filter(|(key, _)| key.starts_with("VITE_")).collect();
        for (key, value) in &env.values {
            if let Some(value) = value {
                values.insert(key.clone(), value.clone());
            } else {
                values.remove(key);
                problems.push(
                    Problem::new(
                        ProblemKind::Unsupported,
                        format!("the variable {key} is sealed, but every visitor can read what begins with VITE_"),
                    )
                    .help("keep it as a plain variable, or give it another name and use it on the server"),
                );
            }
        }
        Self { values, problems }
    }

    /// The module that pages import.
    pub(super) fn module(&self) -> String {
        let mut env: Map<String, Value> =
            self.values.iter().map(|(key, value)| (key.clone(), Value::from(value.as_str()))).collect();
        env.insert("BASE_URL".to_owned(), "/".into());
        env.insert("MODE".to_owned(), "development".into());
        env.insert("DEV".to_owned(), true.into());
        env.insert("PROD".to_owned(), false.into());
        env.insert("SSR".to_owned(), false.into());
        format!("export default {};\n", Value::Object(env))
    }

    /// The value that stands for `%name%` in a page.
    pub(super) fn in_page(&self, name: &str) -> Option<&str> {
        match name {
            "BASE_URL" => Some("/"),
            "MODE" => Some("development"),
            "DEV" => Some("true"),
            "PROD" | "SSR" => Some("false"),
            name => self.values.get(name).map(String::as_str),
        }
    }

    pub(super) fn digest(&self) -> Digest {
        Digest::of_parts(self.values.iter().flat_map(|(key, value)| [key.as_bytes(), value.as_bytes()]))
    }

    pub(super) fn retained_bytes(&self) -> usize {
        self.values.iter().map(|(key, value)| key.len() + value.len() + 64).sum()
    }
}

/// Reads `KEY=value` lines as dotenv does: `export`, quotes, several lines in quotes, comments, `${OTHER}`.
pub(crate) fn parse(text: &str, values: &mut BTreeMap<String, String>) {
    let mut rest = text.trim_start_matches('\u{feff}');
    while !rest.is_empty() {
        let line_end = rest.find('\n').map_or(rest.len(), |end| end + 1);
        let line = rest[..line_end].trim_start();
        let named = line.strip_prefix("export ").unwrap_or(line).split_once('=').filter(|(key, _)| {
            let key = key.trim();
            !key.is_empty() && key.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-'))
        });
        let Some((key, value)) = named else {
            rest = &rest[line_end..];
            continue;
        };
        let value = value.trim_start_matches([' ', '\t']);
        // Where the value begins in `rest`: all of these are parts of it.
        let begin = line_end - value.len();
        let quote = value.chars().next().filter(|c| matches!(c, '"' | '\'' | '`'));
        let quoted = quote.and_then(|quote| Some((quote, closing(&rest[begin + 1..], quote)?)));
        let (value, used) = if let Some((quote, length)) = quoted {
            let inner = &rest[begin + 1..begin + 1 + length];
            let inner = if quote == '"' { inner.replace("\\n", "\n").replace("\\r", "\r") } else { inner.to_owned() };
            let after = begin + length + 2;
            (
                if quote == '\'' { inner } else { expand(&inner, values) },
                after + rest[after..].find('\n').map_or(rest.len() - after, |end| end + 1),
            )
        } else {
            let plain = value.split(" #").next().unwrap_or_default();
            let plain = if plain.starts_with('#') { "" } else { plain };
            (expand(plain.trim(), values), line_end)
        };
        values.insert(key.trim().to_owned(), value);
        rest = &rest[used..];
    }
}

fn closing(text: &str, quote: char) -> Option<usize> {
    text.match_indices(quote).map(|(at, _)| at).find(|at| !text[..*at].ends_with('\\'))
}

/// `$NAME` and `${NAME}` of what stands above; unknown ones are empty, `\$` is a dollar.
fn expand(text: &str, values: &BTreeMap<String, String>) -> String {
    let mut expanded = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('$') {
        let (before, after) = (&rest[..at], &rest[at + 1..]);
        if let Some(before) = before.strip_suffix('\\') {
            expanded.push_str(before);
            expanded.push('$');
            rest = after;
            continue;
        }
        expanded.push_str(before);
        let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
        let braced = after.strip_prefix('{').and_then(|inner| inner.split_once('}'));
        let bare = after.find(|c| !is_name(c)).unwrap_or(after.len());
        match braced {
            Some((name, left)) if name.chars().all(is_name) => {
                expanded.push_str(values.get(name).map_or("", String::as_str));
                rest = left;
            }
            _ if bare > 0 => {
                expanded.push_str(values.get(&after[..bare]).map_or("", String::as_str));
                rest = &after[bare..];
            }
            _ => {
                expanded.push('$');
                rest = after;
            }
        }
    }
    expanded + rest
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::preview::testing::{env, files};
    use proptest::prelude::*;

    fn parsed(text: &str) -> BTreeMap<String, String> {
        let mut values = BTreeMap::new();
        parse(text, &mut values);
        values
    }

    #[test]
    fn lines_as_dotenv_reads_them() {
        let values = parsed(
            "# note\nA=1\nexport B = two words # note\nC=\"x # y\\nz\" # note\nD='${A}'\nE=${A}/$B\\$\nF=\"first\nsecond\"\nbad line\nG=\nH=#no\nI=it's\r\n",
        );
        let expected = [
            ("A", "1"),
            ("B", "two words"),
            ("C", "x # y\nz"),
            ("D", "${A}"),
            ("E", "1/two words$"),
            ("F", "first\nsecond"),
            ("G", ""),
            ("H", ""),
            ("I", "it's"),
        ];
        assert_eq!(values, expected.map(|(k, v)| (k.to_owned(), v.to_owned())).into());
    }

    #[test]
    fn pages_see_vite_variables_only_and_no_sealed_ones() {
        let files = files(&[
            (".env", "VITE_A=file\nVITE_B=file\nSECRET=file"),
            (".env.development", "VITE_B=dev"),
            (".env.production", "VITE_A=prod"),
        ]);
        let env = PreviewEnv::of(
            &files,
            &Variables::of(&env(
                1,
                &[
                    ("VITE_A", EnvValue::plain("set")),
                    ("KEY", EnvValue::plain("no")),
                    ("VITE_S", EnvValue::sealed("hush")),
                ],
            )),
        );
        assert_eq!(
            env.module(),
            "export default {\"BASE_URL\":\"/\",\"DEV\":true,\"MODE\":\"development\",\"PROD\":false,\"SSR\":false,\"VITE_A\":\"set\",\"VITE_B\":\"dev\"};\n"
        );
        assert_eq!(
            (env.in_page("VITE_B"), env.in_page("KEY"), env.in_page("MODE")),
            (Some("dev"), None, Some("development"))
        );
        assert!(
            env.problems.len() == 1
                && env.problems[0].message.contains("VITE_S")
                && !format!("{env:?}").contains("hush")
        );
    }

    proptest! {
        #[test]
        fn nothing_panics(text in "([A-Z=\"'`#$\\{}\\\\ \n\ré]){0,40}") {
            parsed(&text);
        }
    }
}
