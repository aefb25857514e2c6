//! `import.meta.glob`: which files a call means, and the object that takes its place.

use super::{
    config::join,
    graph::Sources,
    resolve::{Ask, Unresolved},
};
use crate::compiler::{Glob, Query};
use overskill_core::FilePath;
use std::fmt::Write as _;

/// Longest pattern, in bytes.
const LONGEST: usize = 1_000;
/// Most ways in which a pattern's braces can be read: the matcher may try all.
const MOST_WAYS: usize = 1_000;

/// A file that a call means.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Match {
    /// Its key in the object.
    pub(crate) key: String,
    pub(crate) path: FilePath,
    pub(crate) ask: Ask,
}

/// The files that `call` means in `importer`, in path order.
pub(crate) fn matches(sources: Sources<'_>, importer: &str, call: &Glob) -> Result<Vec<Match>, Unresolved> {
    let folder = importer.rsplit_once('/').map_or("", |(folder, _)| folder);
    let ask = match call.query.as_deref().map(|query| Query::parse(query.trim_start_matches('?'))) {
        None => Ask::Plain,
        Some(Ok(query)) => Ask::of(query),
        Some(Err(problem)) => return Err(refused(problem.message, problem.help)),
    };
    let (mut wanted, mut unwanted) = (Vec::new(), Vec::new());
    for pattern in &call.patterns {
        let (negated, pattern) = pattern.strip_prefix('!').map_or((false, pattern.as_str()), |rest| (true, rest));
        let from_root = |path: &str| join("", path);
        let (full, relative) = if let Some(rest) = pattern.strip_prefix('/') {
            (from_root(rest), false)
        } else if pattern.starts_with("./") || pattern.starts_with("../") {
            (join(folder, pattern), true)
        } else if pattern.starts_with("**") {
            (Some(pattern.to_owned()), true)
        } else {
            (aliased(sources, pattern), false)
        };
        let full = full.ok_or_else(|| {
            refused(
                format!("the pattern `{pattern}` leads nowhere within the app"),
                Some("begin it with `./`, `../`, `/` or an alias".to_owned()),
            )
        })?;
        if let Err(error) = fast_glob::validate(&full) {
            return Err(refused(format!("`{pattern}` is no pattern: {error}"), Some("mend it".to_owned())));
        }
        if full.len() > LONGEST || ways(&full) > MOST_WAYS {
            let shown: String = pattern.chars().take(80).collect();
            let help = "use fewer braces, or several patterns".to_owned();
            return Err(refused(
                format!("the pattern `{shown}` is too long, or can be read in too many ways"),
                Some(help),
            ));
        }
        if negated { unwanted.push(full) } else { wanted.push((full, relative)) }
    }
    let usable = |path: &str| {
        path != importer
            && !path.contains(['?', '#', '%'])
            && !path.split('/').any(|s| s.starts_with('.') || s == "node_modules")
    };
    let found = sources.files.iter().filter(|(path, _)| usable(path.as_str())).filter_map(|(path, _)| {
        let (_, relative) = wanted.iter().find(|(pattern, _)| fast_glob::glob_match(pattern, path.as_str()))?;
        let out = unwanted.iter().any(|pattern| fast_glob::glob_match(pattern, path.as_str()));
        let key = if *relative { relative_to(folder, path.as_str()) } else { format!("/{path}") };
        (!out).then(|| Match { key, path: path.clone(), ask })
    });
    Ok(found.collect())
}

/// At most in how many ways braces can be read.
fn ways(pattern: &str) -> usize {
    let groups = pattern.split('{').skip(1).map(|rest| rest.matches(',').count() + 1);
    groups.fold(1, usize::saturating_mul)
}

/// The object, and the imports that it needs at the module's end.
pub(super) fn object(call: &Glob, number: usize, matches: &[(String, String)]) -> (String, String) {
    let (mut object, mut imports) = ("{".to_owned(), String::new());
    let name = call.import.as_deref().filter(|name| *name != "*");
    for (index, (key, address)) in matches.iter().enumerate() {
        let (key, address) = (quoted(key), quoted(address));
        let value = if call.eager {
            let local = format!("__overskill_glob{number}_{index}");
            let what =
                name.map_or_else(|| format!("* as {local}"), |name| format!("{{ {} as {local} }}", quoted(name)));
            write!(imports, "\nimport {what} from {address};").expect("a string takes all");
            local
        } else {
            let then = name.map_or(String::new(), |name| format!(".then((m) => m[{}])", quoted(name)));
            format!("() => import({address}){then}")
        };
        let comma = if index == 0 { "" } else { ", " };
        write!(object, "{comma}{key}: {value}").expect("a string takes all");
    }
    object.push('}');
    (object, imports)
}

fn refused(message: String, help: Option<String>) -> Unresolved {
    Unresolved { message, help, unsupported: true }
}

/// `@/pages/*.tsx` through what replaces its first part.
fn aliased(sources: Sources<'_>, pattern: &str) -> Option<String> {
    let config = sources.config;
    let by_alias = config.aliases.iter().find_map(|(alias, to)| {
        let rest = pattern.strip_prefix(alias.as_str())?.strip_prefix('/')?;
        join(to, rest)
    });
    let by_path = || {
        let pattern_of = |p: &super::config::PathPattern| p.after.as_ref().and_then(|_| p.targets_of(pattern));
        config.paths.iter().find_map(pattern_of).and_then(|targets| targets.into_iter().next())
    };
    let by_at = || pattern.strip_prefix("@/").filter(|_| config.at_alias).map(|rest| format!("src/{rest}"));
    by_alias.or_else(by_path).or_else(by_at)
}

fn relative_to(folder: &str, path: &str) -> String {
    let from: Vec<&str> = folder.split('/').filter(|segment| !segment.is_empty()).collect();
    let to: Vec<&str> = path.split('/').collect();
    let same = from.iter().zip(&to).take_while(|(a, b)| a == b).count();
    let up = "../".repeat(from.len() - same);
    format!("{}{}", if up.is_empty() { "./" } else { &up }, to[same..].join("/"))
}

fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        Location,
        compiler::Compiler,
        preview::{config::Config, files::Pool, testing::files},
    };

    fn call(patterns: &[&str]) -> Glob {
        Glob {
            patterns: patterns.iter().map(|p| (*p).to_owned()).collect(),
            eager: false,
            import: None,
            query: None,
            whole: 0..0,
            at: Location { line: 1, column: 1 },
        }
    }

    fn keys(patterns: &[&str]) -> Result<Vec<String>, String> {
        let files = files(&[
            ("tsconfig.json", r#"{ "compilerOptions": { "paths": { "@/*": ["./src/*"] } } }"#),
            ("src/pages/a.tsx", ""),
            ("src/pages/b/c.tsx", ""),
            ("src/pages/b/c.test.tsx", ""),
            ("src/pages/.hidden.tsx", ""),
            ("src/App.tsx", ""),
            ("content/x.md", ""),
        ]);
        let (config, compiler, pool) = (Config::read(&files), Compiler::default(), Pool::default());
        let sources = Sources { files: &files, config: &config, compiler: &compiler, pool: &pool };
        let found = matches(sources, "src/App.tsx", &call(patterns)).map_err(|error| error.message)?;
        Ok(found.into_iter().map(|found| found.key).collect())
    }

    #[test]
    fn patterns_and_keys_as_vites() {
        assert_eq!(keys(&["./pages/*.tsx"]).unwrap(), ["./pages/a.tsx"]);
        assert_eq!(
            keys(&["./**/*.tsx", "!**/*.test.tsx"]).unwrap(),
            ["./pages/a.tsx", "./pages/b/c.tsx"],
            "not itself, nothing hidden"
        );
        assert_eq!(keys(&["../content/*.{md,txt}"]).unwrap(), ["../content/x.md"]);
        assert_eq!(keys(&["/src/pages/**/c.tsx"]).unwrap(), ["/src/pages/b/c.tsx"]);
        assert_eq!(keys(&["@/pages/*"]).unwrap(), ["/src/pages/a.tsx"]);
        assert!(keys(&["pages/*"]).unwrap_err().contains("leads nowhere"));
        assert!(keys(&["../../*"]).unwrap_err().contains("leads nowhere"));
        assert!(keys(&["./{a"]).unwrap_err().contains("no pattern"));
    }

    #[test]
    fn objects() {
        let found = [("./a.ts".to_owned(), "/a.ts?t=1".to_owned()), ("./b\".ts".to_owned(), "/b.ts".to_owned())];
        let (lazy, none) = object(&Glob { import: Some("default".into()), ..call(&[]) }, 0, &found);
        assert_eq!(
            lazy,
            r#"{"./a.ts": () => import("/a.ts?t=1").then((m) => m["default"]), "./b\".ts": () => import("/b.ts").then((m) => m["default"])}"#
        );
        assert!(none.is_empty());
        let (eager, imports) = object(&Glob { eager: true, ..call(&[]) }, 3, &found[..1]);
        assert_eq!(eager, r#"{"./a.ts": __overskill_glob3_0}"#);
        assert_eq!(imports, "\nimport * as __overskill_glob3_0 from \"/a.ts?t=1\";");
    }

    #[test]
    fn patterns_that_take_for_ever_are_refused() {
        assert_eq!(ways("/src/**/*.{png,jpg,{svg,gif}}"), 6);
        assert_eq!(ways("./a/*.ts"), 1);
        let branches = format!("{{{}a}}", "a,".repeat(20));
        assert!(ways(&branches.repeat(10)) > MOST_WAYS);
    }
}
