//! How files are compiled.

use crate::{Problem, ProblemKind};
use serde_json::Value;

/// How files are compiled.
#[expect(clippy::struct_excessive_bools, reason = "they are tsconfig.json's own settings")]
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct CompilerOptions {
    /// What for.
    pub mode: Mode,
    /// Whether React components are registered for hot updates (development only).
    pub refresh: bool,
    /// Where JSX functions come from; `react` unless `jsxImportSource` says otherwise.
    pub jsx_import_source: Option<String>,
    /// `jsxFactory` of a classic JSX setting (`h`), if there is one.
    pub jsx_factory: Option<String>,
    /// `jsxFragmentFactory` of a classic JSX setting (`Fragment`), if there is one.
    pub jsx_fragment: Option<String>,
    /// `experimentalDecorators`.
    pub legacy_decorators: bool,
    /// `emitDecoratorMetadata`.
    pub decorator_metadata: bool,
    /// `verbatimModuleSyntax`: imports that are not marked as types stay.
    pub verbatim_modules: bool,
    /// `useDefineForClassFields`, true unless an old `target` or the setting itself says otherwise.
    pub define_class_fields: bool,
}

/// What modules are made for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Mode {
    /// A preview.
    Development,
    /// A deployment.
    Production,
}

impl CompilerOptions {
    /// For previews, with React Refresh.
    pub fn development() -> Self {
        Self {
            mode: Mode::Development,
            refresh: true,
            jsx_import_source: None,
            jsx_factory: None,
            jsx_fragment: None,
            legacy_decorators: false,
            decorator_metadata: false,
            verbatim_modules: false,
            define_class_fields: true,
        }
    }

    /// For deployments.
    pub fn production() -> Self {
        Self { mode: Mode::Production, refresh: false, ..Self::development() }
    }

    /// Takes over what `compilerOptions` of a `tsconfig.json` says about the output; what is not understood is left out.
    pub fn tsconfig(mut self, compiler_options: &Value) -> Self {
        let text = |name: &str| compiler_options.get(name).and_then(Value::as_str).map(str::to_owned);
        let flag = |name: &str| compiler_options.get(name).and_then(Value::as_bool);
        self.jsx_import_source = text("jsxImportSource").or(self.jsx_import_source);
        // Vite's React plugin uses the automatic runtime whatever `jsx` says; a factory tells of another library.
        if text("jsx").as_deref() == Some("react") {
            self.jsx_factory = text("jsxFactory").filter(|factory| factory != "React.createElement");
            self.jsx_fragment = text("jsxFragmentFactory");
        }
        self.legacy_decorators = flag("experimentalDecorators").unwrap_or(self.legacy_decorators);
        self.decorator_metadata = flag("emitDecoratorMetadata").unwrap_or(self.decorator_metadata);
        self.verbatim_modules = flag("verbatimModuleSyntax").unwrap_or(self.verbatim_modules);
        let old = ["es3", "es5", "es6", "es2015", "es2016", "es2017", "es2018", "es2019", "es2020", "es2021"];
        let old_target = text("target").is_some_and(|target| old.contains(&target.to_lowercase().as_str()));
        self.define_class_fields = flag("useDefineForClassFields").unwrap_or(self.define_class_fields && !old_target);
        self
    }
}

impl Default for CompilerOptions {
    fn default() -> Self {
        Self::development()
    }
}

/// What an import's `?query` asks for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Query {
    /// The file as what it is.
    #[default]
    None,
    /// `?raw`: its text.
    Raw,
    /// `?url`: its address.
    Url,
    /// `?inline`: a style sheet's text; of other files a `data:` URL.
    Inline,
    /// `?worker`: a constructor of a worker that runs it.
    Worker,
    /// `?init`: a function that instantiates WebAssembly.
    Init,
}

impl Query {
    /// What a query (without `?`) asks for; `t`, `v` and `import`, which this crate's own addresses carry, ask for nothing.
    pub fn parse(query: &str) -> Result<Self, Problem> {
        let mut asked = Self::None;
        for part in query.split('&') {
            let name = part.split_once('=').map_or(part, |(name, _)| name);
            asked = match name {
                "" | "t" | "v" | "import" => continue,
                "raw" => Self::Raw,
                "url" => Self::Url,
                "inline" => Self::Inline,
                "worker" => Self::Worker,
                "init" => Self::Init,
                other => {
                    let shown: String = other.chars().take(40).collect();
                    let problem =
                        Problem::new(ProblemKind::Unsupported, format!("imports with `?{shown}` are not supported"));
                    return Err(match other {
                        "react" => problem.help("import the picture's address and use it in `<img src>`"),
                        "sharedworker" => problem.help("use `new SharedWorker(new URL('…', import.meta.url))`"),
                        _ => problem.help("`?raw`, `?url`, `?inline`, `?worker` and `?init` are"),
                    });
                }
            };
        }
        Ok(asked)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn queries() {
        assert_eq!(Query::parse("").unwrap(), Query::None);
        assert_eq!(Query::parse("t=12&raw").unwrap(), Query::Raw);
        assert_eq!(Query::parse("import&url").unwrap(), Query::Url);
        let problem = Query::parse("react").unwrap_err();
        assert!(problem.to_string().contains("`?react`"), "{problem}");
    }

    #[test]
    fn tsconfig_settings_that_matter() {
        let options = CompilerOptions::development().tsconfig(&json!({
            "jsx": "react-jsx", "jsxImportSource": "preact", "experimentalDecorators": true, "target": "ES2020",
        }));
        assert_eq!(options.jsx_import_source.as_deref(), Some("preact"));
        assert!(options.legacy_decorators && !options.define_class_fields && options.jsx_factory.is_none());
        let options = CompilerOptions::development().tsconfig(&json!({
            "jsx": "react", "jsxFactory": "h", "target": "ES5", "useDefineForClassFields": true, "paths": 3,
        }));
        assert_eq!(options.jsx_factory.as_deref(), Some("h"));
        assert!(options.define_class_fields);
        assert_eq!(CompilerOptions::development().tsconfig(&json!(null)), CompilerOptions::development());
    }
}
