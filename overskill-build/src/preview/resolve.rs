//! Where an import leads, within one app's files.

use super::{
    config::{Config, join},
    files::Files,
};
use crate::compiler::Query;
use overskill_core::FilePath;

/// Where an import leads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Target {
    /// A file of the sources.
    File(FilePath, Ask),
    /// A file of `public/`, by its address without the `/` before it.
    Public(FilePath, Ask),
    /// Something of a package, as it is asked of the dependency resolver.
    Package(String, Ask),
    /// An address that stays as it is.
    Address(String),
}

/// In which form a file is wanted: the query of its address.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Ask {
    /// As what it is.
    #[default]
    Plain,
    /// Its text.
    Raw,
    /// Its address.
    Url,
    /// Its contents: the text of a style sheet, the data URL of an asset.
    Inline,
    /// A constructor of a worker.
    Worker,
    /// A function that instantiates WebAssembly.
    Init,
    /// A style sheet that a page links to.
    Linked,
    /// A style sheet that another one takes in.
    Part,
}

/// Why an import leads nowhere.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Unresolved {
    pub(crate) message: String,
    pub(crate) help: Option<String>,
    /// It is not that something is missing: this cannot be done here.
    pub(crate) unsupported: bool,
}

impl Ask {
    /// The name in an address.
    pub(crate) const fn name(self) -> Option<&'static str> {
        match self {
            Self::Plain | Self::Linked | Self::Part => None,
            Self::Raw => Some("raw"),
            Self::Url => Some("url"),
            Self::Inline => Some("inline"),
            Self::Worker => Some("worker"),
            Self::Init => Some("init"),
        }
    }

    /// What the compiler is asked for.
    pub(crate) const fn query(self) -> Query {
        match self {
            Self::Plain | Self::Linked | Self::Part => Query::None,
            Self::Raw => Query::Raw,
            Self::Url => Query::Url,
            Self::Inline => Query::Inline,
            Self::Worker => Query::Worker,
            Self::Init => Query::Init,
        }
    }

    pub(super) const fn of(query: Query) -> Self {
        match query {
            Query::None => Self::Plain,
            Query::Raw => Self::Raw,
            Query::Url => Self::Url,
            Query::Inline => Self::Inline,
            Query::Worker => Self::Worker,
            Query::Init => Self::Init,
        }
    }
}

impl Unresolved {
    fn missing(message: String) -> Self {
        Self { message, help: None, unsupported: false }
    }

    fn unsupported(message: String, help: &str) -> Self {
        Self { message, help: Some(help.to_owned()), unsupported: true }
    }

    fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }
}

/// Vite's order.
const EXTENSIONS: [&str; 7] = [".mjs", ".js", ".mts", ".ts", ".jsx", ".tsx", ".json"];
const MOST_SHOWN: usize = 12;

/// Resolves `specifier` as written in `importer`.
pub(crate) fn resolve(files: &Files, config: &Config, importer: &str, specifier: &str) -> Result<Target, Unresolved> {
    if has_scheme(specifier) {
        return match specifier.split_once(':') {
            Some(("node", name)) => Err(builtin(name)),
            Some(("http" | "https" | "data" | "blob", _)) => Ok(Target::Address(specifier.to_owned())),
            _ => Err(Unresolved::unsupported(
                format!("`{}` is no file, package or web address", short(specifier)),
                "modules that a plugin of Vite's makes up, such as `virtual:…`, do not exist in previews: \
                 the app has to start without them",
            )),
        };
    }
    if specifier.starts_with("//") || specifier.starts_with("/@overskill/") || specifier.starts_with("/@npm/") {
        return Ok(Target::Address(specifier.to_owned()));
    }
    let (path, ask) = split_query(specifier)?;
    let folder = importer.rsplit_once('/').map_or("", |(folder, _)| folder);
    let mut tried = Vec::new();
    if path.is_empty() {
        return Err(Unresolved::missing("an import names nothing: its specifier is empty".to_owned()));
    }
    if let Some(rest) = path.strip_prefix('/') {
        let public = format!("public/{rest}");
        if let Some((public, _)) = files.get(&public) {
            return usable(Target::Public(public.clone(), ask), rest);
        }
        return found_file(files, "", rest, ask, &mut tried).unwrap_or_else(|| Err(missing(files, specifier, &tried)));
    }
    if path == "." || path == ".." || path.starts_with("./") || path.starts_with("../") {
        if join(folder, path).is_none() {
            return Err(Unresolved::missing(format!("`{}` leads out of the app", short(specifier))));
        }
        return found_file(files, folder, path, ask, &mut tried)
            .unwrap_or_else(|| Err(missing(files, specifier, &tried)));
    }
    if path.starts_with('#') {
        return imported(files, config, path, ask, &mut tried).unwrap_or_else(|| Err(no_import(specifier, &tried)));
    }
    for (alias, to) in &config.aliases {
        let rest = path.strip_prefix(alias.as_str()).filter(|rest| rest.is_empty() || rest.starts_with('/'));
        if let Some(target) = rest.and_then(|rest| found_file(files, to, &format!(".{rest}"), ask, &mut tried)) {
            return target;
        }
    }
    for pattern in &config.paths {
        for target in pattern.targets_of(path).into_iter().flatten() {
            if let Some(target) = found_file(files, "", &target, ask, &mut tried) {
                return target;
            }
        }
    }
    if config.at_alias
        && let Some(rest) = path.strip_prefix("@/")
        && let Some(target) = found_file(files, "src", rest, ask, &mut tried)
    {
        return target;
    }
    // Whatever else was tried stays out of the message: a package is what is meant.
    if tried.is_empty() {
        for base in &config.base_urls {
            if let Some(target) = found_file(files, base, path, ask, &mut Vec::new()) {
                return target;
            }
        }
    }
    bare(files, config, path, ask, specifier, &tried)
}

/// Resolves what a style sheet names: without `./`, a file beside it comes before a package.
pub(crate) fn resolve_in_style(
    files: &Files,
    config: &Config,
    importer: &str,
    specifier: &str,
) -> Result<Target, Unresolved> {
    let specifier = specifier.strip_prefix('~').filter(|rest| !rest.starts_with('/')).unwrap_or(specifier);
    if specifier.starts_with(['.', '/', '@', '#']) || has_scheme(specifier) {
        let found = resolve(files, config, importer, specifier);
        // `@import "./base"` is `./base.css`.
        return found.or_else(|error| resolve(files, config, importer, &format!("{specifier}.css")).map_err(|_| error));
    }
    let beside = format!("./{specifier}");
    let beside_css = format!("{beside}.css");
    let found = [&beside, &beside_css].into_iter().find_map(|path| resolve(files, config, importer, path).ok());
    found.map_or_else(|| resolve(files, config, importer, specifier), Ok)
}

fn bare(
    files: &Files,
    config: &Config,
    path: &str,
    ask: Ask,
    specifier: &str,
    tried: &[String],
) -> Result<Target, Unresolved> {
    if !tried.is_empty() {
        return Err(missing(files, specifier, tried));
    }
    if path.starts_with("@/") || path.starts_with("~/") {
        return Err(Unresolved::missing(format!("`{}` is an alias that nothing defines", short(specifier))).help(
            format!("add `\"paths\": {{ \"{}*\": [\"./src/*\"] }}` to `compilerOptions` in tsconfig.json", &path[..2]),
        ));
    }
    let Some(name) = package_name(path) else {
        return Err(Unresolved::missing(format!("`{}` is no name of a package and no path", short(specifier)))
            .help("write `./` before the name of a file"));
    };
    if !config.dependencies.contains(name) && is_builtin(name) {
        return Err(builtin(path));
    }
    Ok(Target::Package(path.to_owned(), ask))
}

/// `@scope/name` or `name` of a bare specifier.
pub(crate) fn package_name(specifier: &str) -> Option<&str> {
    let mut ends = specifier.match_indices('/').map(|(at, _)| at);
    let end = if specifier.starts_with('@') { ends.nth(1) } else { ends.next() };
    let name = &specifier[..end.unwrap_or(specifier.len())];
    let legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | '~' | '@' | '/');
    let complete =
        !name.starts_with('@') || name.split_once('/').is_some_and(|(scope, rest)| scope.len() > 1 && !rest.is_empty());
    (complete && !name.starts_with('.') && name.chars().all(legal)).then_some(name)
}

fn split_query(specifier: &str) -> Result<(&str, Ask), Unresolved> {
    let Some((path, query)) = specifier.split_once('?') else { return Ok((specifier, Ask::Plain)) };
    match Query::parse(query) {
        Ok(query) => Ok((path, Ask::of(query))),
        Err(problem) => Err(Unresolved {
            message: format!("`{}`: {}", short(specifier), problem.message),
            help: problem.help,
            unsupported: true,
        }),
    }
}

fn imported(
    files: &Files,
    config: &Config,
    path: &str,
    ask: Ask,
    tried: &mut Vec<String>,
) -> Option<Result<Target, Unresolved>> {
    let targets = config.imports.iter().find_map(|pattern| pattern.targets_of(path))?;
    targets.iter().find_map(|target| {
        if target.starts_with("./") {
            found_file(files, "", target, ask, tried)
        } else {
            package_name(target).map(|_| Ok(Target::Package(target.clone(), ask)))
        }
    })
}

fn no_import(specifier: &str, tried: &[String]) -> Unresolved {
    let error = Unresolved::missing(format!("`{}` is not found through `imports` of package.json", short(specifier)));
    if tried.is_empty() {
        error.help("add it to `imports` there")
    } else {
        error.help(format!("tried {}", list(tried)))
    }
}

fn found_file(
    files: &Files,
    folder: &str,
    path: &str,
    ask: Ask,
    tried: &mut Vec<String>,
) -> Option<Result<Target, Unresolved>> {
    let base = join(folder, path)?;
    let folder_only = path.ends_with('/') || matches!(path.rsplit('/').next(), Some("." | ".."));
    let mut candidates = Vec::with_capacity(16);
    if !folder_only && !base.is_empty() {
        candidates.push(base.clone());
        for (written, meant) in
            [(".js", &[".ts", ".tsx"][..]), (".jsx", &[".tsx"]), (".mjs", &[".mts"]), (".cjs", &[".cts"])]
        {
            if let Some(stem) = base.strip_suffix(written) {
                candidates.extend(meant.iter().map(|meant| format!("{stem}{meant}")));
            }
        }
        candidates.extend(EXTENSIONS.iter().map(|ext| format!("{base}{ext}")));
    }
    let index = if base.is_empty() { "index".to_owned() } else { format!("{base}/index") };
    candidates.extend(EXTENSIONS.iter().map(|ext| format!("{index}{ext}")));
    if let Some((found, _)) = candidates.iter().find_map(|candidate| files.get(candidate)) {
        return Some(usable(Target::File(found.clone(), ask), found.as_str()));
    }
    tried.extend(candidates);
    None
}

/// Names that an address cannot hold as they are would be other modules there than here.
fn usable(target: Target, path: &str) -> Result<Target, Unresolved> {
    if path.contains(['?', '#', '%']) {
        let message = format!("`{}` cannot be imported: its name holds `?`, `#` or `%`", short(path));
        return Err(Unresolved::unsupported(message, "give the file another name"));
    }
    Ok(target)
}

fn missing(files: &Files, specifier: &str, tried: &[String]) -> Unresolved {
    let error = Unresolved::missing(format!("`{}` is not found: tried {}", short(specifier), list(tried)));
    let other = files.iter().find(|(path, _)| tried.iter().any(|tried| tried.eq_ignore_ascii_case(path.as_str())));
    match other {
        Some((path, _)) => error.help(format!("there is `{path}`: upper and lower case matter")),
        None => error.help("add the file, or mend the path"),
    }
}

fn list(tried: &[String]) -> String {
    let mut shown: Vec<&str> = tried.iter().take(MOST_SHOWN).map(String::as_str).collect();
    let more = format!("{} more", tried.len().saturating_sub(MOST_SHOWN));
    if tried.len() > MOST_SHOWN {
        shown.push(&more);
    }
    shown.join(", ")
}

fn short(text: &str) -> String {
    const MOST: usize = 120;
    if text.chars().count() <= MOST {
        return text.to_owned();
    }
    text.chars().take(MOST).chain(['…']).collect()
}

fn has_scheme(specifier: &str) -> bool {
    specifier.split_once(':').is_some_and(|(scheme, _)| {
        scheme.starts_with(|c: char| c.is_ascii_alphabetic())
            && scheme.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '+' | '-' | '.'))
    })
}

fn builtin(name: &str) -> Unresolved {
    Unresolved::unsupported(
        format!("`{}` is part of Node.js, and pages run in a browser", short(name)),
        "use what browsers offer, or do it on the server and call it through `/api`",
    )
}

fn is_builtin(name: &str) -> bool {
    const BUILTINS: [&str; 40] = [
        "assert",
        "async_hooks",
        "buffer",
        "child_process",
        "cluster",
        "console",
        "constants",
        "crypto",
        "dgram",
        "diagnostics_channel",
        "dns",
        "domain",
        "events",
        "fs",
        "http",
        "http2",
        "https",
        "inspector",
        "module",
        "net",
        "os",
        "path",
        "perf_hooks",
        "process",
        "punycode",
        "querystring",
        "readline",
        "repl",
        "stream",
        "string_decoder",
        "timers",
        "tls",
        "tty",
        "url",
        "util",
        "v8",
        "vm",
        "wasi",
        "worker_threads",
        "zlib",
    ];
    BUILTINS.contains(&name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::preview::testing::files;

    fn app() -> Files {
        files(&[
            (
                "package.json",
                r##"{ "dependencies": { "events": "3" }, "imports": { "#lib/*": "./src/lib/*", "#r": "react" } }"##,
            ),
            (
                "tsconfig.json",
                r#"{ "compilerOptions": { "baseUrl": ".", "paths": { "@/*": ["./src/*"], "gone/*": ["./no/*"] } } }"#,
            ),
            ("src/App.tsx", ""),
            ("src/App.css", ""),
            ("src/lib/util.ts", ""),
            ("src/lib/index.tsx", ""),
            ("src/both.ts", ""),
            ("src/both.mjs", ""),
            ("src/both/index.ts", ""),
            ("src/data.json", ""),
            ("src/a b#.ts", ""),
            ("public/vite.svg", ""),
        ])
    }

    fn at(specifier: &str) -> Result<Target, Unresolved> {
        let files = app();
        resolve(&files, &Config::read(&files), "src/App.tsx", specifier)
    }

    fn leads_to(specifier: &str) -> String {
        match at(specifier) {
            Ok(Target::File(path, ask)) => format!("{path}{}", ask.name().map_or(String::new(), |q| format!("?{q}"))),
            Ok(Target::Public(path, _)) => format!("public:{path}"),
            Ok(Target::Package(name, ask)) => {
                format!("npm:{name}{}", ask.name().map_or(String::new(), |q| format!("?{q}")))
            }
            Ok(Target::Address(url)) => url,
            Err(error) => format!("! {}", error.message),
        }
    }

    #[test]
    fn every_form_of_a_path() {
        for (specifier, expected) in [
            ("./App.css", "src/App.css"),
            ("./lib/util", "src/lib/util.ts"),
            ("./lib/util.js", "src/lib/util.ts"),
            ("./lib", "src/lib/index.tsx"),
            ("./lib/", "src/lib/index.tsx"),
            ("./both", "src/both.mjs"),
            ("./both/", "src/both/index.ts"),
            (".././src//data", "src/data.json"),
            ("/src/lib/util.ts", "src/lib/util.ts"),
            ("/vite.svg", "public:public/vite.svg"),
            ("@/lib/util", "src/lib/util.ts"),
            ("#lib/util.ts", "src/lib/util.ts"),
            ("#r", "npm:react"),
            ("src/App", "src/App.tsx"),
            ("./App.css?inline", "src/App.css?inline"),
            ("./App.tsx?raw", "src/App.tsx?raw"),
            ("react", "npm:react"),
            ("react-dom/client", "npm:react-dom/client"),
            ("@scope/a/b.css?url", "npm:@scope/a/b.css?url"),
            ("events", "npm:events"),
            ("https://esm.sh/x", "https://esm.sh/x"),
            ("data:text/javascript,1", "data:text/javascript,1"),
            ("//cdn.example/x.js", "//cdn.example/x.js"),
            ("/@overskill/refresh.js", "/@overskill/refresh.js"),
        ] {
            assert_eq!(leads_to(specifier), expected, "{specifier}");
        }
    }

    #[test]
    fn what_leads_nowhere_says_what_was_tried_and_what_to_do() {
        let missing = at("./Lib/util").unwrap_err();
        assert!(missing.message.contains("tried src/Lib/util, src/Lib/util.mjs"), "{}", missing.message);
        assert_eq!(missing.help.unwrap(), "there is `src/lib/util.ts`: upper and lower case matter");
        for (specifier, says) in [
            ("../../etc/passwd", "leads out of the app"),
            ("node:fs", "part of Node.js"),
            ("fs", "part of Node.js"),
            ("fs/promises", "part of Node.js"),
            ("virtual:routes", "is no file, package or web address"),
            ("~/x", "an alias that nothing defines"),
            ("gone/x", "tried no/x"),
            ("#none", "`imports` of package.json"),
            ("./w?react", "`?react`"),
            ("./a b#", "holds `?`, `#` or `%`"),
            ("", "is empty"),
            ("@", "no name of a package"),
            ("@x", "no name of a package"),
            ("a b", "no name of a package"),
        ] {
            let error = at(specifier).unwrap_err();
            assert!(error.message.contains(says), "{specifier}: {}", error.message);
        }
    }

    #[test]
    fn style_sheets_look_beside_themselves_first() {
        let files = files(&[("a/x.css", ""), ("a/base.css", ""), ("a/pic.png", "")]);
        let config = Config::default();
        let to = |specifier| resolve_in_style(&files, &config, "a/x.css", specifier).unwrap();
        let file = |path| Target::File(FilePath::parse(path).unwrap(), Ask::Plain);
        assert_eq!(
            (to("base.css"), to("base"), to("./base")),
            (file("a/base.css"), file("a/base.css"), file("a/base.css"))
        );
        assert_eq!(
            (to("pic.png"), to("~swiper/css")),
            (file("a/pic.png"), Target::Package("swiper/css".into(), Ask::Plain))
        );
        assert_eq!(to("data:x"), Target::Address("data:x".into()));
    }

    #[test]
    fn an_alias_that_only_vite_defines() {
        let files =
            files(&[("vite.config.ts", "export default { resolve: { alias: makeAliases('@') } }"), ("src/a.ts", "")]);
        let target = resolve(&files, &Config::read(&files), "src/b.ts", "@/a");
        assert_eq!(target, Ok(Target::File(FilePath::parse("src/a.ts").unwrap(), Ask::Plain)));
        let files = super::super::testing::files(&[("src/a.ts", "")]);
        assert!(resolve(&files, &Config::read(&files), "src/b.ts", "@/a").is_err());
    }
}
