//! One style sheet for the page's compiler.

use overskill_core::FilePath;
use serde_json::{Map, Value, json};
use std::{
    collections::{BTreeSet, VecDeque},
    fmt::Write as _,
};

/// How many things one style sheet may name, those that its imports name among them.
const MOST_NEEDS: usize = 200;

/// In which form a style sheet is written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TailwindForm {
    /// `@tailwind base` and the like, with the address of the project's `tailwind.config` if it has one.
    Three {
        /// Where [`config_module`](super::config_module) is served.
        config: Option<String>,
    },
    /// `@import "tailwindcss"`, `@theme`, `@config`.
    Four,
}

impl TailwindForm {
    /// Whether a style sheet is written for Tailwind 3: it says so itself, or else the app's version does.
    pub fn is_three(css: &str, app_major: Option<u32>) -> bool {
        let mut found = None;
        at_rules(css, |name, rest| {
            let first = rest.split(|c: char| c.is_whitespace() || c == ';').next().unwrap_or_default();
            match (name, first.trim_matches(['"', '\''])) {
                ("tailwind", "base" | "components")
                | ("import", "tailwindcss/base" | "tailwindcss/components")
                | ("screen", _) => found = Some(true),
                ("import", "tailwindcss") | ("theme" | "plugin" | "utility" | "custom-variant" | "reference", _) => {
                    found = found.or(Some(false));
                }
                _ => {}
            }
        });
        found.unwrap_or(app_major == Some(3))
    }
}

/// Something that a style sheet names and the server has to find.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct TailwindNeed {
    /// The path of the sheet that names it, from the root: `/src/index.css`.
    pub from: String,
    /// As its author wrote it.
    pub specifier: String,
    /// What sort of thing.
    pub kind: TailwindNeedKind,
}

/// Sorts of things that a style sheet names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TailwindNeedKind {
    /// A script: of `@plugin`, or of `@config` (which has to be served as [`config_module`](super::config_module)).
    Script,
    /// A style sheet: of `@import` or `@reference`.
    Sheet,
}

/// A style sheet on its way into the page: ask it what it needs, give it that, and take the module that brings it there.
///
/// ```
/// use overskill_build::preview::tailwind::{TailwindForm, TailwindStyle};
/// use overskill_core::FilePath;
///
/// let css = r#"@import "tailwindcss"; @plugin "@tailwindcss/typography"; @import "./buttons.css";"#;
/// let mut style = TailwindStyle::new(&FilePath::parse("src/index.css")?, css, TailwindForm::Four);
/// while let Some(need) = style.next_need() {
///     match need.specifier.as_str() {
///         "./buttons.css" => style.sheet(&need, "/src/buttons.css", "@utility button { color: red }"),
///         "@tailwindcss/typography" => style.script(&need, "/@npm/…/typography.js"),
///         other => style.failed(&need, format!("`{other}` was not found")),
///     }
/// }
/// assert!(style.into_module(None).contains(r#"await tailwindStyle("/src/index.css""#));
/// # Ok::<(), overskill_core::ParseError>(())
/// ```
#[derive(Clone, Debug)]
pub struct TailwindStyle {
    path: String,
    css: String,
    form: TailwindForm,
    needs: VecDeque<TailwindNeed>,
    asked: BTreeSet<(String, String)>,
    scripts: Vec<(TailwindNeed, Result<String, String>)>,
    sheets: Vec<(TailwindNeed, String, String)>,
}

impl TailwindStyle {
    /// Begins with the sheet itself, whose `url()`s lead somewhere already.
    pub fn new(path: &FilePath, css: impl Into<String>, form: TailwindForm) -> Self {
        let (path, css) = (format!("/{path}"), css.into());
        let mut style = Self {
            path: path.clone(),
            css: String::new(),
            form,
            needs: VecDeque::new(),
            asked: BTreeSet::new(),
            scripts: Vec::new(),
            sheets: Vec::new(),
        };
        style.ask(&path, &css);
        style.css = css;
        style
    }

    /// What it needs next. Everything has to be given, or said to have [`failed`](Self::failed).
    pub fn next_need(&mut self) -> Option<TailwindNeed> {
        self.needs.pop_front()
    }

    /// Gives the address of a script.
    pub fn script(&mut self, need: &TailwindNeed, address: impl Into<String>) {
        self.scripts.push((need.clone(), Ok(address.into())));
    }

    /// Gives a style sheet: its own path from the root, and its text with `url()`s that lead somewhere. What it names is
    /// needed, too.
    pub fn sheet(&mut self, need: &TailwindNeed, path: impl Into<String>, css: impl Into<String>) {
        let (path, css) = (path.into(), css.into());
        self.ask(&path, &css);
        self.sheets.push((need.clone(), path, css));
    }

    /// Says why something cannot be had: the overlay shows it, and the page goes on without this sheet.
    pub fn failed(&mut self, need: &TailwindNeed, message: impl Into<String>) {
        self.scripts.push((need.clone(), Err(message.into())));
    }

    /// The module that brings it into the page, takes its own updates, and leaves with it. It reads `import.meta.hot`, which
    /// has to be there before it.
    ///
    /// With `classes` it is that of a CSS module: it exports them, and leaves updates to its importers.
    pub fn into_module(self, classes: Option<&[(String, String)]>) -> String {
        let mut module = "import { removeTailwindStyle, tailwindStyle } from \"/@overskill/tailwind.js\";\n".to_owned();
        let mut given = Vec::new();
        if let TailwindForm::Three { config } = &self.form {
            module.push_str("import * as v3 from \"/@overskill/tailwind-v3.js\";\n");
            given.push("v3".to_owned());
            if let Some(config) = config {
                let _ = writeln!(module, "import * as config from {};", Value::from(config.as_str()));
                given.push("config".to_owned());
            }
        }
        // Computed names, so that a file called `__proto__` is one like others.
        let mut scripts = Vec::new();
        for (index, (need, script)) in self.scripts.iter().enumerate() {
            let value = match script {
                Ok(address) => {
                    let _ = writeln!(module, "import * as module{index} from {};", Value::from(address.as_str()));
                    format!("module{index}")
                }
                Err(message) => format!("new Error({})", Value::from(message.as_str())),
            };
            let (from, name) = (Value::from(need.from.as_str()), Value::from(need.specifier.as_str()));
            scripts.push(format!("[{from}, {name}, {value}]"));
        }
        let nested = |rows: &str| {
            format!("[{rows}].reduce((all, [from, name, it]) => ((all[from] ??= {{}})[name] = it, all), {{}})")
        };
        given.push(format!("modules: {}", nested(&scripts.join(", "))));
        let sheets: Vec<_> = self
            .sheets
            .iter()
            .map(|(need, path, css)| json!([need.from, need.specifier, { "path": path, "css": css }]).to_string())
            .collect();
        given.push(format!("sheets: {}", nested(&sheets.join(", "))));
        let (path, css) = (Value::from(self.path), Value::from(self.css));
        let _ = writeln!(module, "await tailwindStyle({path}, {css}, {{ {} }});", given.join(", "));
        match classes {
            None => module.push_str("import.meta.hot.accept();\n"),
            Some(classes) => module.push_str(&exports(classes)),
        }
        let _ = writeln!(module, "import.meta.hot.prune(() => removeTailwindStyle({path}));");
        module
    }

    fn ask(&mut self, from: &str, css: &str) {
        at_rules(css, |name, rest| {
            let kind = match name {
                "plugin" | "config" => TailwindNeedKind::Script,
                "import" | "reference" => TailwindNeedKind::Sheet,
                _ => return,
            };
            let Some(specifier) = quoted(rest) else { return };
            // Tailwind's own come with it; what is elsewhere is for the browser.
            let own = kind == TailwindNeedKind::Sheet
                && (specifier == "tailwindcss" || specifier.starts_with("tailwindcss/"));
            let elsewhere = specifier.contains("://") || specifier.starts_with("//") || specifier.starts_with("data:");
            if own || elsewhere || self.asked.len() >= MOST_NEEDS {
                return;
            }
            let need = TailwindNeed { from: from.to_owned(), specifier: specifier.to_owned(), kind };
            if self.asked.insert((need.from.clone(), need.specifier.clone())) {
                self.needs.push_back(need);
            }
        });
    }
}

/// Calls for each at-rule outside comments and strings, wherever it stands, with what follows its name.
fn at_rules<'a>(css: &'a str, mut found: impl FnMut(&'a str, &'a str)) {
    let bytes = css.as_bytes();
    let mut at = 0;
    while at < bytes.len() {
        match bytes[at] {
            b'\\' => at += 1,
            b'/' if bytes.get(at + 1) == Some(&b'*') => {
                at = css[at + 2..].find("*/").map_or(bytes.len(), |end| at + 2 + end + 1);
            }
            quote @ (b'"' | b'\'') => {
                at += 1;
                while at < bytes.len() && bytes[at] != quote {
                    at += if bytes[at] == b'\\' { 2 } else { 1 };
                }
            }
            b'@' => {
                let rest = &css[at + 1..];
                let end = rest.find(|c: char| !c.is_ascii_alphanumeric() && c != '-').unwrap_or(rest.len());
                found(&rest[..end], rest[end..].trim_start());
                at += end;
            }
            _ => {}
        }
        at += 1;
    }
}

fn quoted(text: &str) -> Option<&str> {
    let quote = text.chars().next().filter(|c| matches!(c, '"' | '\''))?;
    text[1..].split_once(quote).map(|(inside, _)| inside)
}

/// A CSS module's classes: as a default export, and by name where the name is one that can be bound.
fn exports(classes: &[(String, String)]) -> String {
    let all: Map<_, _> = classes.iter().map(|(name, class)| (name.clone(), Value::from(class.as_str()))).collect();
    let mut code = format!("const classes = {};\nexport default classes;\n", Value::from(all));
    for (index, (name, _)) in classes.iter().enumerate() {
        let name = Value::from(name.as_str());
        if name != "default" {
            // A name in quotes may be anything, a reserved word or `a-b`.
            let _ = writeln!(code, "const class{index} = classes[{name}];\nexport {{ class{index} as {name} }};");
        }
    }
    code
}

#[cfg(test)]
mod tests {
    use super::*;

    fn style(css: &str) -> TailwindStyle {
        TailwindStyle::new(&FilePath::parse("src/index.css").unwrap(), css, TailwindForm::Four)
    }

    #[test]
    fn a_sheet_says_which_form_it_has() {
        for (css, form) in [
            ("@tailwind base;\n@tailwind utilities;", true),
            ("@import 'tailwindcss/base';", true),
            ("@import \"tailwindcss\";\n@config '../tailwind.config.js';", false),
            ("/* @tailwind base; */ @theme { --color-a: red }", false),
        ] {
            assert_eq!(TailwindForm::is_three(css, None), form, "{css}");
        }
        assert!(TailwindForm::is_three(".a { @apply flex }", Some(3)));
        assert!(!TailwindForm::is_three(".a { @apply flex }", Some(4)));
    }

    #[test]
    fn it_needs_what_it_and_its_imports_name() {
        let mut style = style(
            "@import 'tailwindcss'; @import \"tw-animate-css\"; @import url('x.css'); @import 'https://fonts.example/a';
             /* @plugin 'no' */ a { content: '@plugin \"no\"' } @config '../tailwind.config.ts'; @import './b.css' layer(base);",
        );
        let mut met = Vec::new();
        while let Some(need) = style.next_need() {
            met.push((need.from.clone(), need.specifier.clone(), need.kind));
            match need.kind {
                TailwindNeedKind::Script => style.script(&need, "/tailwind.config.ts"),
                TailwindNeedKind::Sheet if need.specifier == "./b.css" => {
                    style.sheet(&need, "/src/b.css", "@import './b.css'; @plugin 'p';");
                }
                TailwindNeedKind::Sheet => style.failed(&need, "gone"),
            }
        }
        let expected = [
            ("/src/index.css", "tw-animate-css", TailwindNeedKind::Sheet),
            ("/src/index.css", "../tailwind.config.ts", TailwindNeedKind::Script),
            ("/src/index.css", "./b.css", TailwindNeedKind::Sheet),
            ("/src/b.css", "./b.css", TailwindNeedKind::Sheet),
            ("/src/b.css", "p", TailwindNeedKind::Script),
        ];
        // The sheet that imports itself is asked for once more, and then never again.
        assert_eq!(met, expected.map(|(from, name, kind)| (from.to_owned(), name.to_owned(), kind)));
    }

    #[test]
    fn nothing_in_a_name_or_a_text_gets_out_of_its_string() {
        let mut style = style("@plugin '`${1}\\\"'; a { content: \"</script>\\\\\" }");
        let need = style.next_need().unwrap();
        style.failed(&need, "\"; alert(1); \"");
        let module =
            style.into_module(Some(&[("a-b".to_owned(), "x".to_owned()), ("delete".to_owned(), "y".to_owned())]));
        assert!(module.contains(r#"new Error("\"; alert(1); \"")"#), "{module}");
        assert!(module.contains("export { class1 as \"delete\" };"), "{module}");
        assert!(!module.contains("hot.accept"), "{module}");
    }
}
