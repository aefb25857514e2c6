//! What of an artifact's assets depends on the environment that it runs in.

use crate::{AppFile, Artifact, EnvSnapshot, Environment, FilePath};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use std::collections::BTreeMap;

/// Where an artifact's pages take the variables of their environment from.
///
/// The artifact itself holds no environment's values, so that the same digest can go from staging to production. A target
/// that serves assets puts [`Artifact::page_assets`] in the place of those that the artifact has under the same paths; one
/// that does not serves the app as its sources alone describe it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PageEnv {
    /// The module that pages import: its default export is an object with the variables.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub module: Option<FilePath>,
    /// Values where the environment has none, such as those of `.env` among the sources.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub defaults: BTreeMap<String, String>,
    /// Places in pages where a value stands.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub pages: BTreeMap<FilePath, Vec<PageHole>>,
}

/// A place in a page where the value of a variable stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PageHole {
    /// Where it begins, in bytes.
    pub at: usize,
    /// How many bytes of the artifact's own page it takes the place of.
    pub length: usize,
    /// The variable.
    pub name: String,
    /// Whether it stands in a script or a style sheet, where nothing is an entity.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub raw: bool,
}

impl PageEnv {
    /// The value of a variable in an environment, if it has one. Only `VITE_…` that are not sealed are public.
    pub fn value<'a>(&'a self, name: &str, environment: Environment, env: &'a EnvSnapshot) -> Option<&'a str> {
        match name {
            "BASE_URL" => Some("/"),
            "MODE" => Some(environment.as_str()),
            "PROD" => Some("true"),
            "DEV" | "SSR" => Some("false"),
            name if name.starts_with("VITE_") => {
                let set = env.values.iter().find(|(key, _)| key.as_str() == name).map(|(_, value)| value);
                match set {
                    Some(value) => (!value.is_sealed()).then(|| value.expose()),
                    None => self.defaults.get(name).map(String::as_str),
                }
            }
            _ => None,
        }
    }

    /// The module that pages import, in an environment.
    pub fn module_code(&self, environment: Environment, env: &EnvSnapshot) -> String {
        let mut values = Map::new();
        let set = env.values.keys().map(crate::EnvKey::as_str);
        for name in self.defaults.keys().map(String::as_str).chain(set).chain(["BASE_URL", "MODE"]) {
            if let Some(value) = self.value(name, environment, env) {
                values.insert(name.to_owned(), value.into());
            }
        }
        values.insert("DEV".to_owned(), false.into());
        values.insert("PROD".to_owned(), true.into());
        values.insert("SSR".to_owned(), false.into());
        format!("export default {};\n", Value::Object(values))
    }

    /// The module as it is where nobody fills it in: with what the sources say themselves.
    pub fn default_module_code(&self) -> String {
        let start = crate::StreamPosition::start(crate::Incarnation::from_u64(0));
        let nothing = EnvSnapshot { revision: crate::EnvRevision(start), values: BTreeMap::new() };
        self.module_code(Environment::Production, &nothing)
    }

    /// A page with the values of an environment in its places.
    fn page(&self, page: &str, holes: &[PageHole], environment: Environment, env: &EnvSnapshot) -> Option<String> {
        let (mut filled, mut done) = (String::with_capacity(page.len()), 0);
        for hole in holes {
            filled.push_str(page.get(done..hole.at)?);
            done = hole.at.checked_add(hole.length)?;
            let own = page.get(hole.at..done)?;
            match self.value(&hole.name, environment, env) {
                Some(value) if hole.raw => filled.push_str(&in_script(value)),
                Some(value) => filled.push_str(&in_markup(value)),
                None => filled.push_str(own),
            }
        }
        filled.push_str(page.get(done..)?);
        Some(filled)
    }
}

impl Artifact {
    /// The assets that are others in an environment than in the artifact, with the values of its variables in them.
    ///
    /// ```
    /// use overskill_core::{Artifact, ArtifactConfig, EnvKey, EnvRevision, EnvSnapshot, EnvValue, Environment, FilePath};
    /// use overskill_core::{Incarnation, PageEnv, StreamPosition};
    /// let module = FilePath::parse("env.js")?;
    /// let mut config = ArtifactConfig::default();
    /// config.page_env = Some(PageEnv { module: Some(module.clone()), ..PageEnv::default() });
    /// let artifact = Artifact::new([(module.clone(), "export default {};".into())].into(), None, config)?;
    ///
    /// let values = [(EnvKey::parse("VITE_TITLE")?, EnvValue::plain("Hello"))].into();
    /// let env = EnvSnapshot { revision: EnvRevision(StreamPosition::start(Incarnation::from_u64(1))), values };
    /// let served = artifact.page_assets(Environment::Production, &env);
    /// let code = std::str::from_utf8(served[&module].contents())?;
    /// assert!(code.contains(r#""VITE_TITLE":"Hello""#));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn page_assets(&self, environment: Environment, env: &EnvSnapshot) -> BTreeMap<FilePath, AppFile> {
        let Some(page_env) = &self.config().page_env else { return BTreeMap::new() };
        let mut filled = BTreeMap::new();
        if let Some(path) = &page_env.module {
            filled.insert(path.clone(), AppFile::new(page_env.module_code(environment, env)));
        }
        for (path, holes) in &page_env.pages {
            let page = self.assets().get(path).and_then(|file| std::str::from_utf8(file.contents()).ok());
            if let Some(page) = page.and_then(|page| page_env.page(page, holes, environment, env)) {
                filled.insert(path.clone(), AppFile::new(page));
            }
        }
        filled.retain(|path, file| self.assets().get(path).is_none_or(|own| own.digest() != file.digest()));
        filled
    }
}

/// Nothing in a script is an entity; only its end must not be written.
fn in_script(value: &str) -> String {
    value.replace("</", "<\\/").replace("<!--", "<\\!--")
}

fn in_markup(value: &str) -> String {
    value.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;").replace('\'', "&#39;")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{ArtifactConfig, EnvKey, EnvRevision, EnvValue, Incarnation, StreamPosition};

    fn env(list: &[(&str, EnvValue)]) -> EnvSnapshot {
        let values = list.iter().map(|(key, value)| (EnvKey::parse(key).unwrap(), value.clone()));
        let revision = EnvRevision(StreamPosition::start(Incarnation::from_u64(1)));
        EnvSnapshot { revision, values: values.collect() }
    }

    fn artifact() -> Artifact {
        let path = |it: &str| FilePath::parse(it).unwrap();
        let page = "<title>own</title><script>x = \"own\"</script>";
        let hole = |at, name: &str, raw| PageHole { at, length: 3, name: name.to_owned(), raw };
        let (markup, script) = (page.find("own").unwrap(), page.rfind("own").unwrap());
        let page_env = PageEnv {
            module: Some(path("env.js")),
            defaults: [("VITE_A".into(), "default".into()), ("VITE_S".into(), "default".into())].into(),
            pages: [(path("index.html"), vec![hole(markup, "VITE_A", false), hole(script, "VITE_B", true)])].into(),
        };
        let config = ArtifactConfig { page_env: Some(page_env), ..ArtifactConfig::default() };
        let assets = [(path("index.html"), page.into()), (path("env.js"), "export default {};\n".into())].into();
        Artifact::new(assets, None, config).unwrap()
    }

    #[test]
    fn values_come_from_the_environment_and_sealed_ones_never() {
        let artifact = artifact();
        let env = env(&[
            ("VITE_B", EnvValue::plain("</script>")),
            ("VITE_S", EnvValue::sealed("hush")),
            ("SECRET", EnvValue::plain("hush")),
        ]);
        let filled = artifact.page_assets(Environment::Staging, &env);
        let text = |name: &str| String::from_utf8(filled[&FilePath::parse(name).unwrap()].contents().to_vec()).unwrap();
        assert_eq!(
            text("env.js"),
            "export default {\"BASE_URL\":\"/\",\"DEV\":false,\"MODE\":\"staging\",\"PROD\":true,\"SSR\":false,\"VITE_A\":\"default\",\"VITE_B\":\"</script>\"};\n"
        );
        assert_eq!(text("index.html"), "<title>default</title><script>x = \"<\\/script>\"</script>");
    }

    #[test]
    fn what_a_page_cannot_have_stays_as_it_is() {
        let artifact = artifact();
        let filled = artifact.page_assets(Environment::Production, &env(&[("VITE_A", EnvValue::plain("<&>"))]));
        let page = &filled[&FilePath::parse("index.html").unwrap()];
        assert_eq!(page.contents(), "<title>&lt;&amp;&gt;</title><script>x = \"own\"</script>".as_bytes());
        let mut broken = artifact.config().clone();
        broken.page_env.as_mut().unwrap().pages.values_mut().for_each(|holes| holes[0].at = 4_000);
        let broken = Artifact::new(artifact.assets().clone(), None, broken).unwrap();
        assert_eq!(broken.page_assets(Environment::Production, &env(&[])).len(), 1, "the module alone");
        assert_ne!(broken.digest(), artifact.digest(), "it counts in the digest");
    }
}
