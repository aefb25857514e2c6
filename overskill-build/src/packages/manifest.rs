//! `package.json`, and what is asked for in it.

use super::names::is_package_name;
use crate::{Problem, ProblemKind};
use nodejs_semver::{Range, Version};
use overskill_core::FilePath;
use serde_json::{Map, Value};
use std::collections::BTreeMap;

/// Names, each with what is asked for.
pub(crate) type Wanted = BTreeMap<String, String>;

/// What counts of a `package.json`.
#[derive(Clone, Debug, Default)]
pub(crate) struct Manifest {
    pub(crate) name: Option<String>,
    pub(crate) version: Option<String>,
    pub(crate) dependencies: Wanted,
    pub(crate) dev_dependencies: Wanted,
    pub(crate) overrides: Vec<Override>,
}

/// One rule of `overrides`: below these packages, in this order, the dependency is asked for otherwise.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Override {
    pub(crate) below: Vec<String>,
    pub(crate) name: String,
    pub(crate) wanted: String,
}

impl Manifest {
    /// Largest `package.json`, in bytes.
    const MAX_BYTES: usize = 4 << 20;

    pub(crate) fn parse(text: &[u8]) -> Result<Self, Problem> {
        let file = FilePath::parse("package.json").expect("it is a legal path");
        let wrong = |message: String| Problem::new(ProblemKind::Package, message).in_file(file.clone());
        if text.len() > Self::MAX_BYTES {
            return Err(wrong(format!("package.json must be at most {} bytes", Self::MAX_BYTES)));
        }
        if text.trim_ascii().is_empty() {
            return Ok(Self::default());
        }
        let value: Value = serde_json::from_slice(text).map_err(|e| {
            let source = String::from_utf8_lossy(text);
            let line_start: usize = source.split_inclusive('\n').take(e.line().saturating_sub(1)).map(str::len).sum();
            wrong(format!("package.json is not JSON: {e}"))
                .help("mend it; until then no package can be imported")
                .at_offset(&source, line_start + e.column().saturating_sub(1))
        })?;
        let Value::Object(object) = value else {
            return Err(wrong("package.json must hold a JSON object".into()));
        };
        let text = |key: &str| object.get(key).and_then(Value::as_str).map(str::to_owned);
        // Optional ones and peers of an app are installed like the rest.
        let mut dependencies = wanted(&object, "peerDependencies");
        dependencies.extend(wanted(&object, "dependencies"));
        dependencies.extend(wanted(&object, "optionalDependencies"));
        let mut manifest = Self {
            name: text("name"),
            version: text("version"),
            dependencies,
            dev_dependencies: wanted(&object, "devDependencies"),
            overrides: Vec::new(),
        };
        if let Some(Value::Object(rules)) = object.get("overrides") {
            manifest.read_overrides(rules, &mut Vec::new());
        }
        Ok(manifest)
    }

    /// What is asked for of a package, wherever it is listed.
    pub(crate) fn wanted(&self, name: &str) -> Option<&str> {
        self.dependencies.get(name).or_else(|| self.dev_dependencies.get(name)).map(String::as_str)
    }

    fn read_overrides(&mut self, rules: &Map<String, Value>, below: &mut Vec<String>) {
        const DEEPEST: usize = 8;
        for (key, value) in rules {
            // `name@range` holds for some versions only; the name decides here, as it does almost everywhere.
            let name = match key.get(1..).and_then(|rest| rest.find('@')) {
                Some(at) => &key[..=at],
                None => key,
            };
            match value {
                Value::String(wanted) => {
                    let (below, name) = match (key.as_str(), below.split_last()) {
                        (".", Some((name, below))) => (below.to_vec(), name.clone()),
                        _ => (below.clone(), name.to_owned()),
                    };
                    let wanted = match wanted.strip_prefix('$').and_then(|name| self.wanted(name)) {
                        Some(same) => same.to_owned(),
                        None => wanted.clone(),
                    };
                    self.overrides.push(Override { below, name, wanted });
                }
                Value::Object(inner) if below.len() < DEEPEST => {
                    below.push(name.to_owned());
                    self.read_overrides(inner, below);
                    below.pop();
                }
                _ => {}
            }
        }
    }
}

/// A map of names and texts in a JSON object; whatever is not that is left out.
pub(crate) fn wanted(object: &Map<String, Value>, key: &str) -> Wanted {
    let Some(Value::Object(map)) = object.get(key) else {
        return Wanted::new();
    };
    let texts = map.iter().filter_map(|(name, value)| Some((name, value.as_str()?)));
    texts.filter(|(name, _)| is_package_name(name)).map(|(name, it)| (name.clone(), it.trim().to_owned())).collect()
}

/// What `"name": "…"` asks for.
#[derive(Clone, Debug)]
pub(crate) enum Spec {
    /// Any version in a range, of the package with this name.
    Range { name: String, range: Range },
    /// The version with a tag.
    Tag { name: String, tag: String },
    /// Something that no registry has, and why.
    Elsewhere(&'static str),
}

impl Spec {
    pub(crate) fn parse(name: &str, wanted: &str) -> Self {
        let (name, wanted) = match wanted.strip_prefix("npm:") {
            Some(alias) => match alias.get(1..).and_then(|rest| rest.find('@')) {
                Some(at) => (&alias[..=at], &alias[at + 2..]),
                None => (alias, ""),
            },
            None => (name, wanted),
        };
        if !is_package_name(name) {
            return Self::Elsewhere("its alias is no package name");
        }
        let name = name.to_owned();
        let wanted = wanted.trim();
        if matches!(wanted, "" | "*" | "x") {
            return Self::Range { name, range: Range::any() };
        }
        if let Some(why) = elsewhere(wanted) {
            return Self::Elsewhere(why);
        }
        match Range::parse(wanted) {
            Ok(range) => Self::Range { name, range },
            Err(_) if wanted.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b)) => {
                Self::Tag { name, tag: wanted.to_owned() }
            }
            Err(_) => Self::Elsewhere("it is neither a version range nor a tag"),
        }
    }

    /// Whether a version that is there will do; a tag is content with any, until somebody updates.
    pub(crate) fn accepts(&self, name: &str, version: &str) -> bool {
        match self {
            Self::Range { name: wanted, range } => {
                wanted == name && Version::parse(version).is_ok_and(|version| range.satisfies(&version))
            }
            Self::Tag { name: wanted, .. } => wanted == name,
            Self::Elsewhere(_) => false,
        }
    }
}

/// Why something that looks like an address, a path or a workspace is not taken.
pub(crate) fn elsewhere(wanted: &str) -> Option<&'static str> {
    let starts = |prefixes: &[&str]| prefixes.iter().any(|prefix| wanted.starts_with(prefix));
    if starts(&["git+", "git:", "git@", "github:", "gitlab:", "bitbucket:", "gist:"]) {
        Some("it comes from a git repository")
    } else if starts(&["http:", "https:"]) {
        Some("it comes from an address of its own")
    } else if starts(&["file:", "link:", "portal:", "./", "../", "/", "~/"]) {
        Some("it comes from a folder")
    } else if starts(&["workspace:", "catalog:"]) {
        Some("it comes from a workspace")
    } else if wanted.contains('/') && !wanted.contains(' ') {
        Some("it comes from a git repository")
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_as_they_occur_are_understood() {
        let cases = [
            ("^18.3.1", "18.3.2", true),
            ("^18.3.1", "19.0.0", false),
            ("~1.2", "1.2.9", true),
            ("", "3.0.0", true),
            ("*", "0.0.1", true),
            (">=16 <20", "18.0.0", true),
            (">= 16.8.0 || ^20", "16.8.0", true),
            ("^16.8 || ^17.0 || ^18.0 || ^19.0 || ^19.0.0-rc", "19.3.1", true),
            ("1 - 3", "2.5.0", true),
            ("1.x", "1.9.0", true),
            ("v1.2.3", "1.2.3", true),
            ("=1.2.3", "1.2.3", true),
            ("^1.0.0-beta.1", "1.0.0-beta.2", true),
            ("^1.0.0", "1.1.0-beta.2", false),
            ("latest", "1.0.0", true),
        ];
        for (wanted, version, accepted) in cases {
            assert_eq!(Spec::parse("a", wanted).accepts("a", version), accepted, "{wanted} {version}");
        }
        let alias = Spec::parse("a", "npm:@b/c@^1");
        assert!(alias.accepts("@b/c", "1.2.0") && !alias.accepts("a", "1.2.0"));
        for bad in
            ["git+ssh://x/y.git", "user/repo", "file:../x", "https://evil.example/x.tgz", "workspace:*", "npm:../x"]
        {
            assert!(matches!(Spec::parse("a", bad), Spec::Elsewhere(_)), "{bad}");
        }
    }

    #[test]
    fn overrides_are_rules() {
        let text = br#"{"dependencies": {"react": "^18"}, "overrides": {
            "react": "$react", "a@^1": {".": "1.0.0", "@b/c": "2"}}}"#;
        let rules = Manifest::parse(text).unwrap().overrides;
        let rule = |below: &[&str], name: &str, wanted: &str| Override {
            below: below.iter().map(|it| (*it).to_owned()).collect(),
            name: name.to_owned(),
            wanted: wanted.to_owned(),
        };
        assert_eq!(rules, [rule(&[], "a", "1.0.0"), rule(&["a"], "@b/c", "2"), rule(&[], "react", "^18")]);
    }

    #[test]
    fn a_broken_manifest_says_where() {
        let problem = Manifest::parse(b"{\n  \"a\": ,\n}").unwrap_err();
        assert_eq!(problem.at.unwrap().line, 2);
        assert!(Manifest::parse(b"[]").is_err());
        assert!(Manifest::parse(b" ").unwrap().dependencies.is_empty());
    }
}
