//! Where packages come from: the registry's address, and what is shown to it. Only the host says so, never an app.

use overskill_core::{Error, Result, Secret};
use overskill_http::{Credential, Url};
use std::{
    collections::BTreeMap,
    env, fs, io,
    path::{Path, PathBuf},
};

/// How to say where the registry is.
pub(crate) const HOW: &str = "set NPM_CONFIG_REGISTRY (such as NPM_CONFIG_REGISTRY=$(npm config get registry)), write \
                              `registry=https://…` into ~/.npmrc, or call `registry` on the builder";

/// What the host's settings say.
#[derive(Clone, Debug, Default)]
pub(crate) struct Settings {
    /// The registry for everything that has none of its own.
    pub(crate) registry: Option<Url>,
    /// Registries by scope (`@acme`).
    pub(crate) scopes: BTreeMap<String, Url>,
    /// Credentials by address without its scheme (`//host/path/`).
    pub(crate) credentials: BTreeMap<String, Credential>,
}

/// Where to look.
#[derive(Clone, Debug, Default)]
pub(crate) struct Sources {
    pub(crate) registry: Option<String>,
    pub(crate) npmrc: Option<PathBuf>,
    pub(crate) ignore_environment: bool,
}

impl Settings {
    /// Reads them. Blocks for as long as reading two small files takes.
    pub(crate) fn read(sources: &Sources) -> Result<Self> {
        let mut settings = Self::default();
        let var = |name: &str| env::var(name).ok().filter(|it| !it.is_empty());
        if !sources.ignore_environment
            && let Some(home) = env::home_dir()
        {
            settings.read_file(&home.join(".npmrc"), true)?;
        }
        if let Some(path) = &sources.npmrc {
            settings.read_file(path, false)?;
        }
        let from_environment = if sources.ignore_environment {
            None
        } else {
            var("NPM_CONFIG_REGISTRY").or_else(|| var("npm_config_registry"))
        };
        if let Some(address) = sources.registry.clone().or(from_environment) {
            settings.registry = Some(registry_url(&address)?);
        }
        Ok(settings)
    }

    /// What is shown to a registry.
    pub(crate) fn credential_for(&self, registry: &Url) -> Credential {
        let address = registry.expose();
        let without_scheme = address.split_once(':').map_or(address, |(_, rest)| rest);
        let whole = format!("{}/", without_scheme.trim_end_matches('/'));
        let matching = self.credentials.iter().filter(|(prefix, _)| whole.starts_with(prefix.as_str()));
        matching.max_by_key(|(prefix, _)| prefix.len()).map(|(_, it)| it.clone()).unwrap_or_default()
    }

    fn read_file(&mut self, path: &Path, may_lack: bool) -> Result<()> {
        match fs::read_to_string(path) {
            Ok(text) => self.read_npmrc(&text, |name| env::var(name).ok()),
            Err(e) if may_lack && e.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(e) => Err(Error::invalid(".npmrc cannot be read")
                .at("npm", "build")
                .with("path", path.display())
                .caused_by(e)),
        }
    }

    fn read_npmrc(&mut self, text: &str, env: impl Fn(&str) -> Option<String>) -> Result<()> {
        for line in text.lines().map(str::trim).filter(|it| !it.starts_with(['#', ';'])) {
            let Some((key, value)) = line.split_once('=') else { continue };
            let key = key.trim();
            let value = expand(value.trim().trim_matches(['"', '\'']), &env);
            if key == "registry" {
                self.registry = Some(registry_url(&value)?);
            } else if let Some(scope) = key.strip_suffix(":registry").filter(|it| it.starts_with('@')) {
                self.scopes.insert(scope.to_owned(), registry_url(&value)?);
            } else if let Some(prefix) = key.strip_suffix(":_authToken") {
                self.add_credential(prefix, Credential::bearer(value));
            } else if let Some(prefix) = key.strip_suffix(":_auth") {
                let basic = Secret::new(format!("Basic {value}"));
                self.add_credential(prefix, Credential::header("authorization", basic));
            }
        }
        Ok(())
    }

    fn add_credential(&mut self, prefix: &str, credential: Credential) {
        if prefix.starts_with("//") {
            let prefix = format!("{}/", prefix.trim_end_matches('/'));
            self.credentials.insert(prefix, credential);
        }
    }
}

fn registry_url(address: &str) -> Result<Url> {
    let wrong = |e| Error::invalid("the npm registry's address must be a URL").at("npm", "build").caused_by(e);
    Url::parse(address.trim().trim_end_matches('/')).map_err(wrong)
}

/// Puts the environment's values in place of `${NAME}`.
fn expand(value: &str, env: impl Fn(&str) -> Option<String>) -> String {
    let (mut done, mut rest) = (String::new(), value);
    while let Some((before, (name, after))) =
        rest.split_once("${").and_then(|(before, it)| Some((before, it.split_once('}')?)))
    {
        done.push_str(before);
        match env(name) {
            Some(value) => done.push_str(&value),
            None => done.extend(["${", name, "}"]),
        }
        rest = after;
    }
    done + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn npmrc_says_where_scopes_and_credentials_are() {
        let mut settings = Settings::default();
        let text = "; a comment\nregistry = \"https://npm.example/all/\"\n@acme:registry=https://acme.example\n\
                    //npm.example/all/:_authToken=${TOKEN}\n//acme.example:_auth=aHVudGVyMg==\nalways-auth=true\n";
        settings.read_npmrc(text, |name| (name == "TOKEN").then(|| "hunter2".into())).unwrap();
        let registry = settings.registry.clone().unwrap();
        assert_eq!(registry.expose(), "https://npm.example/all");
        assert_eq!(settings.scopes["@acme"].host(), "acme.example");
        let shown = |url: &str| format!("{:?}", settings.credential_for(&Url::parse(url).unwrap()));
        assert!(shown("https://npm.example/all").contains("authorization"));
        assert!(shown("https://acme.example").contains("authorization"));
        for stranger in ["https://npm.example/allother", "https://npm.example.evil.example/all", "https://x.example"] {
            assert!(!shown(stranger).contains("authorization"), "{stranger}");
        }
        assert!(!format!("{settings:?}").contains("hunter2"));
    }

    #[test]
    fn variables_that_are_not_set_stay() {
        assert_eq!(expand("a${X}b${Y}c${", |name| (name == "X").then(|| "1".into())), "a1b${Y}c${");
    }
}
