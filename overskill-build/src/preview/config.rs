//! How an app wants its imports resolved: `tsconfig.json`, the aliases of `vite.config`, `imports` of `package.json`.

use super::files::Files;
use crate::{Problem, ProblemKind, compiler::CompilerOptions};
use overskill_core::FilePath;
use serde_json::Value;
use std::collections::BTreeSet;

/// What was found; nothing of it is run.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Config {
    /// `resolve.alias` of Vite: a prefix and the path that takes its place.
    pub(super) aliases: Vec<(String, String)>,
    /// `compilerOptions.paths`: exact ones first, then the longest prefix.
    pub(super) paths: Vec<PathPattern>,
    /// `compilerOptions.baseUrl`, from which bare names may lead to files.
    pub(super) base_urls: Vec<String>,
    /// `imports` of `package.json`.
    pub(super) imports: Vec<PathPattern>,
    /// What `package.json` names as dependencies of any sort.
    pub(super) dependencies: BTreeSet<String>,
    /// The app aliases `@`, whether or not the target could be read.
    pub(super) at_alias: bool,
    /// The files that were read: a change of one resolves everything anew.
    pub(super) read: BTreeSet<FilePath>,
    /// `compilerOptions`, the first one read counting most.
    pub(crate) compiler: CompilerOptions,
    /// What is wrong with them.
    pub(crate) problems: Vec<Problem>,
}

/// A pattern with at most one `*`, and what it may lead to, in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct PathPattern {
    pub(super) before: String,
    /// `None` without a `*`.
    pub(super) after: Option<String>,
    /// Paths within the app; in `imports`, names of packages too.
    pub(super) targets: Vec<String>,
}

impl PathPattern {
    fn new(pattern: &str, targets: Vec<String>) -> Self {
        let (before, after) = pattern.split_once('*').map_or((pattern, None), |(b, a)| (b, Some(a.to_owned())));
        Self { before: before.to_owned(), after, targets }
    }

    /// The targets for `specifier`, if it matches.
    pub(super) fn targets_of(&self, specifier: &str) -> Option<Vec<String>> {
        let Some(after) = &self.after else {
            return (specifier == self.before).then(|| self.targets.clone());
        };
        let star = specifier.strip_prefix(self.before.as_str())?.strip_suffix(after.as_str())?;
        Some(self.targets.iter().map(|target| target.replace('*', star)).collect())
    }
}

/// Most `tsconfig.json` files that are read; they lead to each other.
const MOST_TSCONFIGS: usize = 64;

/// The config files of Vite, in its order.
pub(super) const VITE_CONFIGS: [&str; 6] =
    ["vite.config.js", "vite.config.mjs", "vite.config.ts", "vite.config.cjs", "vite.config.mts", "vite.config.cts"];

impl Config {
    pub(crate) fn read(files: &Files) -> Self {
        let mut config = Self::default();
        config.read_manifest(files);
        if let Some(path) = VITE_CONFIGS.into_iter().find(|path| files.has(path)) {
            config.note(path);
            let text = files.text(path).unwrap_or_default();
            config.aliases = aliases(text);
            config.at_alias = ["\"@\"", "'@'", "\"@/\"", "'@/'"].iter().any(|at| text.contains(at));
        }
        if let Some(root) = ["tsconfig.json", "jsconfig.json"].into_iter().find(|path| files.has(path)) {
            let (mut seen, mut options) = (BTreeSet::new(), Vec::new());
            config.read_tsconfig(files, root, &mut seen, &mut options);
            config.compiler = options.iter().rev().fold(CompilerOptions::development(), CompilerOptions::tsconfig);
            config.read.extend(seen.iter().filter_map(|path| FilePath::parse(path).ok()));
        }
        config.paths.sort_by_key(|p| (p.after.is_some(), std::cmp::Reverse(p.before.len())));
        config.imports.sort_by_key(|p| (p.after.is_some(), std::cmp::Reverse(p.before.len())));
        config
    }

    /// Whether imports of an app with the same files lead to the same places.
    pub(super) fn resolves_like(&self, other: &Self) -> bool {
        self.paths_like(other) && self.dependencies == other.dependencies
    }

    /// Whether paths and aliases are the same.
    pub(super) fn paths_like(&self, other: &Self) -> bool {
        (&self.aliases, &self.paths, &self.base_urls, &self.imports, self.at_alias)
            == (&other.aliases, &other.paths, &other.base_urls, &other.imports, other.at_alias)
    }

    fn note(&mut self, path: &str) {
        self.read.extend(FilePath::parse(path));
    }

    fn wrong(&mut self, path: &str, why: impl std::fmt::Display, help: &str) {
        let problem = Problem::new(ProblemKind::Syntax, format!("{path} is not read: {why}")).help(help);
        self.problems.push(match FilePath::parse(path) {
            Ok(path) => problem.in_file(path),
            Err(_) => problem,
        });
    }

    fn read_manifest(&mut self, files: &Files) {
        self.note("package.json");
        let Some((_, file)) = files.get("package.json") else { return };
        let manifest: Value = match serde_json::from_slice(file.contents()) {
            Ok(manifest) => manifest,
            Err(error) => {
                return self.wrong("package.json", error, "mend the JSON; until then no package is known");
            }
        };
        for field in ["dependencies", "devDependencies", "optionalDependencies", "peerDependencies"] {
            let names = manifest.get(field).and_then(Value::as_object).into_iter().flat_map(|deps| deps.keys());
            self.dependencies.extend(names.cloned());
        }
        for (name, target) in manifest.get("imports").and_then(Value::as_object).into_iter().flatten() {
            let mut targets = Vec::new();
            conditional(target, &mut targets);
            self.imports.push(PathPattern::new(name, targets));
        }
    }

    /// A later file's `paths` stand behind an earlier one's; `extends` gives way to who extends.
    fn read_tsconfig(&mut self, files: &Files, path: &str, seen: &mut BTreeSet<String>, all_options: &mut Vec<Value>) {
        if seen.len() >= MOST_TSCONFIGS || !seen.insert(path.to_owned()) {
            return;
        }
        let Some(text) = files.text(path) else { return };
        let value: Value = match jsonc_parser::parse_to_serde_value(text, &jsonc_parser::ParseOptions::default()) {
            Ok(value) => value,
            Err(error) => {
                return self.wrong(path, error, "mend it; until then its `paths` are not known");
            }
        };
        let folder = path.rsplit_once('/').map_or("", |(folder, _)| folder);
        let options = &value["compilerOptions"];
        // How the tools' own files are compiled is nothing to the page.
        if !path.ends_with("tsconfig.node.json") {
            all_options.push(options.clone());
        }
        let base = options["baseUrl"].as_str().and_then(|base| join(folder, base));
        let paths = options["paths"].as_object();
        for (pattern, targets) in paths.into_iter().flatten() {
            let from = base.as_deref().unwrap_or(folder);
            let targets = targets.as_array().into_iter().flatten().filter_map(Value::as_str);
            let pattern = PathPattern::new(pattern, targets.filter_map(|target| join(from, target)).collect());
            if !self.paths.iter().any(|known| known.before == pattern.before && known.after == pattern.after) {
                self.paths.push(pattern);
            }
        }
        self.base_urls.extend(base.filter(|base| !self.base_urls.contains(base)));
        let extended: Vec<&str> = match &value["extends"] {
            Value::String(one) => vec![one],
            Value::Array(many) => many.iter().filter_map(Value::as_str).collect(),
            _ => Vec::new(),
        };
        // The last extended file wins over those before it.
        for name in extended.into_iter().rev().filter(|name| name.starts_with('.')) {
            let found = join(folder, name).into_iter().flat_map(|p| [format!("{p}.json"), p]).find(|p| files.has(p));
            if let Some(found) = found {
                self.read_tsconfig(files, &found, seen, all_options);
            }
        }
        for reference in value["references"].as_array().into_iter().flatten() {
            let named = reference["path"].as_str().and_then(|path| join(folder, path));
            let found = named.into_iter().flat_map(|p| [format!("{p}/tsconfig.json"), p]).find(|p| files.has(p));
            if let Some(found) = found {
                self.read_tsconfig(files, &found, seen, all_options);
            }
        }
    }
}

/// What a target in `imports` may be, for a browser in development.
fn conditional(target: &Value, targets: &mut Vec<String>) {
    match target {
        Value::String(path) => targets.push(path.clone()),
        Value::Array(any) => any.iter().for_each(|target| conditional(target, targets)),
        Value::Object(conditions) => {
            let holds = |name: &str| matches!(name, "browser" | "development" | "import" | "module" | "default");
            if let Some((_, target)) = conditions.iter().find(|(name, _)| holds(name)) {
                conditional(target, targets);
            }
        }
        _ => {}
    }
}

/// `path` from `folder`, both within the app; `None` if it leads out of it. `""` is the app itself.
pub(crate) fn join(folder: &str, path: &str) -> Option<String> {
    let mut segments: Vec<&str> = folder.split('/').filter(|segment| !segment.is_empty()).collect();
    for segment in path.split('/') {
        match segment {
            "" | "." => {}
            ".." => drop(segments.pop()?),
            name => segments.push(name),
        }
    }
    Some(segments.join("/"))
}

/// The aliases of a `vite.config` that are written out: `"@": "/src"`, `"@": path.resolve(__dirname, "./src")`,
/// `{ find: "@", replacement: … }`, `fileURLToPath(new URL("./src", import.meta.url))`.
fn aliases(text: &str) -> Vec<(String, String)> {
    let tokens = tokens(text);
    let start = tokens.windows(3).position(|w| {
        w[0] == Token::Word("alias") && w[1] == Token::Mark(':') && matches!(w[2], Token::Mark('{' | '['))
    });
    let Some(start) = start else { return Vec::new() };
    let mut found = Vec::new();
    let (mut depth, mut calls, mut key, mut value) = (0usize, 0usize, None, Vec::new());
    let mut finding = None;
    for pair in tokens[start + 2..].windows(2) {
        let (token, next) = (&pair[0], &pair[1]);
        match token {
            Token::Mark('{' | '[') => depth += 1,
            Token::Mark('}' | ']') => depth = depth.saturating_sub(1),
            Token::Mark('(') => calls += 1,
            Token::Mark(')') => calls = calls.saturating_sub(1),
            // `find`'s value waits for `replacement`'s.
            Token::Word(name) | Token::Text(name) if *next == Token::Mark(':') && key.is_none() => {
                key = Some((*name).to_owned());
                continue;
            }
            Token::Text(part) if key.is_some() => value.push(*part),
            _ => {}
        }
        // A comma between the arguments of a call ends nothing.
        let ends = matches!(token, Token::Mark(',')) && calls == 0 || matches!(token, Token::Mark('}' | ']'));
        if ends && let Some(name) = key.take() {
            let parts = std::mem::take(&mut value);
            match name.as_str() {
                "find" => finding = parts.first().map(|part| (*part).to_owned()),
                "replacement" => found.extend(finding.take().zip(join("", &parts.join("/")))),
                _ if parts.is_empty() => {}
                _ => found.extend(join("", &parts.join("/")).map(|path| (name, path))),
            }
        }
        if depth == 0 {
            break;
        }
    }
    found.retain(|(name, path)| !name.is_empty() && !path.is_empty() && !name.contains(['^', '$', '*']));
    for (name, _) in &mut found {
        name.truncate(name.trim_end_matches('/').len());
    }
    found
}

#[derive(Debug, PartialEq)]
enum Token<'a> {
    Word(&'a str),
    Text(&'a str),
    Mark(char),
}

/// Words, string literals and marks; comments are left out.
fn tokens(text: &str) -> Vec<Token<'_>> {
    let mut tokens = Vec::new();
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let word = rest.find(|c: char| !c.is_alphanumeric() && c != '_' && c != '$').unwrap_or(rest.len());
        let taken = if rest.starts_with("//") {
            rest.find('\n').unwrap_or(rest.len())
        } else if let Some(comment) = rest.strip_prefix("/*") {
            comment.find("*/").map_or(rest.len(), |end| end + 4)
        } else if matches!(first, '"' | '\'' | '`') {
            let end = rest[1..].find(first).map_or(rest.len() - 1, |end| end + 1);
            tokens.push(Token::Text(&rest[1..end]));
            (end + 1).min(rest.len())
        } else if word > 0 {
            tokens.push(Token::Word(&rest[..word]));
            word
        } else {
            if !first.is_whitespace() {
                tokens.push(Token::Mark(first));
            }
            first.len_utf8()
        };
        rest = &rest[taken..];
    }
    tokens
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::preview::testing::files;

    fn targets(config: &Config, specifier: &str) -> Option<Vec<String>> {
        config.paths.iter().find_map(|pattern| pattern.targets_of(specifier))
    }

    #[test]
    fn paths_come_from_the_root_its_references_and_what_they_extend() {
        let config = Config::read(&files(&[
            (
                "tsconfig.json",
                r#"{ "files": [], "references": [{ "path": "./tsconfig.app.json" }, { "path": "lib" }], }"#,
            ),
            (
                "tsconfig.app.json",
                r#"{ "extends": "./base/tsconfig.base", /* note */ "compilerOptions": { "paths": { "@/*": ["./src/*"], "~one": ["src/one.ts"], }, } }"#,
            ),
            (
                "base/tsconfig.base.json",
                r#"{ "compilerOptions": { "baseUrl": ".", "paths": { "@/*": ["no/*"], "base/*": ["b/*"] } } }"#,
            ),
            ("lib/tsconfig.json", r#"{ "compilerOptions": { "baseUrl": "..", "paths": { "@/ui/*": ["lib/ui/*"] } } }"#),
        ]));
        assert_eq!(targets(&config, "@/a/b"), Some(vec!["src/a/b".into()]));
        assert_eq!(targets(&config, "@/ui/x"), Some(vec!["lib/ui/x".into()]), "the longest prefix wins");
        assert_eq!(targets(&config, "~one"), Some(vec!["src/one.ts".into()]));
        assert_eq!(targets(&config, "base/x"), Some(vec!["base/b/x".into()]));
        assert_eq!(config.base_urls, ["base", ""]);
        assert!(config.read.len() == 5 && config.problems.is_empty(), "{config:?}");
    }

    #[test]
    fn a_broken_config_is_told_and_the_rest_is_read() {
        let config = Config::read(&files(&[
            ("tsconfig.json", "{ \"compilerOptions\": "),
            ("package.json", r#"{ "dependencies": "#),
            ("vite.config.ts", "export default { resolve: { alias: { '@': '/src' } } }"),
        ]));
        assert_eq!(config.problems.len(), 2);
        assert_eq!(config.aliases, [("@".to_owned(), "src".to_owned())]);
    }

    #[test]
    fn files_that_extend_each_other_end() {
        let config = Config::read(&files(&[
            ("tsconfig.json", r#"{ "extends": "./other.json", "references": [{ "path": "." }] }"#),
            (
                "other.json",
                r#"{ "extends": "./tsconfig.json", "compilerOptions": { "paths": { "x": ["../../out"] } } }"#,
            ),
        ]));
        assert_eq!(targets(&config, "x"), Some(vec![]), "a target outside the app is none");
    }

    #[test]
    fn aliases_as_people_write_them() {
        let written = |text: &str| aliases(&format!("export default defineConfig({{ plugins: [react()], {text} }})"));
        let at = [("@".to_owned(), "src".to_owned())];
        for text in [
            "resolve: { alias: { '@': '/src' } }",
            "resolve: { alias: { \"@\": path.resolve(__dirname, \"./src\"), }, }",
            "resolve: { alias: { '@': path.resolve(__dirname, '.', 'src') } }",
            "resolve: { alias: { '@': fileURLToPath(new URL('./src', import.meta.url)) } }",
            "resolve: { alias: [{ find: '@', replacement: path.resolve(__dirname, 'src') }] }",
            "resolve: { /* '@': no */ alias: { '@/': '/src/', // 'x': 'y'\n } }",
        ] {
            assert_eq!(written(text), at, "{text}");
        }
        let two = written(
            "resolve: { alias: { '@': path.resolve(__dirname, 'src'), shared: '/shared' } }, server: { x: 'y' }",
        );
        assert_eq!(two, [at[0].clone(), ("shared".to_owned(), "shared".to_owned())]);
        assert_eq!(written("resolve: { alias: someFunction() }"), []);
    }

    #[test]
    fn imports_of_the_manifest_choose_the_browser() {
        let config = Config::read(&files(&[(
            "package.json",
            r##"{ "imports": { "#a": { "node": "./n.js", "browser": { "default": "./b.js" } }, "#u/*": "./src/*.ts", "#react": "react" } }"##,
        )]));
        let find = |s: &str| config.imports.iter().find_map(|p| p.targets_of(s));
        assert_eq!(find("#a"), Some(vec!["./b.js".into()]));
        assert_eq!(find("#u/x"), Some(vec!["./src/x.ts".into()]));
        assert_eq!(find("#react"), Some(vec!["react".into()]));
    }

    #[test]
    fn configs_that_extend_each_other_without_end_have_one() {
        let chain: Vec<(String, String)> = (0..5_000)
            .map(|n| {
                let name = if n == 0 { "tsconfig.json".to_owned() } else { format!("c{n}.json") };
                (name, format!(r#"{{ "extends": "./c{}", "compilerOptions": {{ "baseUrl": "b{n}" }} }}"#, n + 1))
            })
            .collect();
        let list: Vec<_> = chain.iter().map(|(name, text)| (name.as_str(), text.as_str())).collect();
        let config = Config::read(&files(&list));
        assert_eq!(config.base_urls.len(), MOST_TSCONFIGS);
    }
}
