use super::declared;
use crate::Result;
use async_trait::async_trait;
use overskill_core::{
    AppFile, Artifact, ArtifactConfig, BuildRequest, Builder, Error, FilePath, Readiness, ServerModule,
};
use std::collections::BTreeMap;

/// Takes a folder of the sources as it is, for apps that come built: `dist/` unless set otherwise.
///
/// `index.html` alone among the pages, without a `404.html`, makes it a single-page app. A server side may lie beside the
/// assets as `_worker.js`, as Cloudflare Pages has it; it is not served. Without either of them there is no app.
///
/// ```
/// use overskill_build::production::Prebuilt;
/// use overskill_core::{AppFile, BuildMode, BuildRequest, Builder as _, FilePath, Incarnation, Snapshot, StreamPosition};
/// # tokio::runtime::Builder::new_current_thread().build()?.block_on(async {
/// let files = [(FilePath::parse("dist/index.html")?, AppFile::new("<h1>hello</h1>"))].into();
/// let sources = Snapshot::new(StreamPosition::start(Incarnation::from_u64(1)), files);
/// let request = BuildRequest::new("todo42/production".parse()?, std::sync::Arc::new(sources), BuildMode::Production);
/// let artifact = Prebuilt::default().build(&request).await?;
/// assert_eq!(artifact.assets().keys().next().map(FilePath::as_str), Some("index.html"));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// # })?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct Prebuilt {
    folder: FilePath,
}

const SERVER: &str = "_worker.js";
const ENTRY: &str = "index.html";

impl Prebuilt {
    /// Takes `folder` of the sources.
    pub fn of_folder(folder: FilePath) -> Self {
        Self { folder }
    }
}

impl Default for Prebuilt {
    fn default() -> Self {
        Self::of_folder(FilePath::parse("dist").expect("it is a legal path"))
    }
}

#[async_trait]
impl Builder for Prebuilt {
    async fn check(&self) -> Result<Readiness> {
        Ok(Readiness::ready("prebuilt"))
    }

    async fn build(&self, request: &BuildRequest) -> Result<Artifact> {
        let settings = declared::settings(&request.snapshot)?;
        let prefix = format!("{}/", self.folder);
        let mut assets = BTreeMap::new();
        for (path, file) in &request.snapshot.files {
            if let Some(inside) = path.as_str().strip_prefix(&prefix) {
                assets.insert(FilePath::parse(inside)?, file.clone());
            }
        }
        let artifact = of_files(assets, settings).map_err(|lacks| {
            let why = format!(
                "the app must have its built files in `{prefix}`, but has {lacks} there: build it, or choose another builder"
            );
            Error::invalid(why.clone()).public(why).at("prebuilt", "build").with("scope", &request.scope)
        })?;
        request.progress.event(
            overskill_core::ProgressKind::Progress,
            "building",
            format!("Took {} files as they are", artifact.files()),
            serde_json::json!({ "files": artifact.files(), "bytes": artifact.size_bytes() }),
        );
        Ok(artifact)
    }
}

/// An artifact of files that are as they are to be served; or what they lack, for nobody could open it.
pub(super) fn of_files(
    mut assets: BTreeMap<FilePath, AppFile>,
    settings: BTreeMap<String, String>,
) -> Result<Artifact, &'static str> {
    const NOTHING: &str = "nothing";
    let module = assets.remove(&FilePath::parse(SERVER).expect("it is a legal path"));
    if module.is_none() && !assets.contains_key(&FilePath::parse(ENTRY).expect("it is a legal path")) {
        return Err(if assets.is_empty() { NOTHING } else { "neither `index.html` nor `_worker.js`" });
    }
    let server = module.map(|module| ServerModule { module, wasm: BTreeMap::new() });
    let mut config = ArtifactConfig::default();
    config.single_page = is_single_page(assets.keys());
    config.settings = settings;
    Artifact::new(assets, server, config).map_err(|_| NOTHING)
}

/// Whether there is one page alone, which its own router makes many of.
pub(super) fn is_single_page<'a>(paths: impl Iterator<Item = &'a FilePath>) -> bool {
    let mut pages = paths.filter(|path| path.extension() == Some("html"));
    pages.next().is_some_and(|page| page.as_str() == ENTRY) && pages.next().is_none()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::preview::testing::snapshot;
    use overskill_core::BuildMode;
    use std::sync::Arc;

    async fn built(list: &[(&str, &str)]) -> Result<Artifact> {
        let scope = "todo42/production".parse().unwrap();
        let request = BuildRequest::new(scope, Arc::new(snapshot(1, list)), BuildMode::Production);
        Prebuilt::default().build(&request).await
    }

    #[tokio::test]
    async fn what_is_there_is_what_comes_out() {
        let list = [
            ("dist/index.html", "<h1>hi</h1>"),
            ("dist/assets/a-B1c2D3e4.js", "1"),
            ("dist/_worker.js", "export default {}"),
            ("src/main.ts", "never"),
        ];
        let artifact = built(&list).await.unwrap();
        let paths: Vec<_> = artifact.assets().keys().map(FilePath::as_str).collect();
        assert_eq!(paths, ["assets/a-B1c2D3e4.js", "index.html"]);
        assert!(artifact.config().single_page);
        assert_eq!(artifact.server().unwrap().module.contents(), "export default {}".as_bytes());
        assert_eq!(built(&list).await.unwrap().digest(), artifact.digest());
        let more = [list[0], ("dist/404.html", "gone")];
        assert!(!built(&more).await.unwrap().config().single_page);
    }

    #[tokio::test]
    async fn without_an_entry_it_is_no_app() {
        let error = built(&[("dist/about.html", ""), ("dist/assets/a.js", "")]).await.unwrap_err();
        assert_eq!(error.kind(), overskill_core::ErrorKind::Invalid);
        assert!(error.public_message().contains("neither `index.html` nor `_worker.js`"), "{error}");
        built(&[("dist/_worker.js", "export default {}")]).await.unwrap();
    }

    #[tokio::test]
    async fn without_it_there_is_nothing_to_deploy() {
        let error = built(&[("src/main.ts", ""), ("distant/index.html", "")]).await.unwrap_err();
        assert!(error.public_message().contains("`dist/`"), "{error}");
        assert_eq!(error.kind(), overskill_core::ErrorKind::Invalid);
    }
}
