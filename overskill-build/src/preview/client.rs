//! What a preview brings into the page itself: small ES modules, the same for every app.

use overskill_core::Digest;
use std::sync::LazyLock;

/// One of the modules that run in the page, served under [`ClientFile::FOLDER`].
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ClientFile {
    /// Its name: `client.js`.
    pub name: &'static str,
    /// Its media type.
    pub content_type: &'static str,
    /// Its text.
    pub contents: &'static str,
    /// For the `ETag` header, with its quotes. A new version of this crate has the same names, so they are asked for each
    /// time.
    pub etag: String,
}

impl ClientFile {
    /// Under which path these files are served.
    pub const FOLDER: &'static str = "/@overskill/";
}

macro_rules! files {
    ($($name:literal),* $(,)?) => {
        [$(($name, include_str!(concat!("../../client/", $name)))),*]
    };
}

static FILES: LazyLock<Vec<ClientFile>> = LazyLock::new(|| {
    files![
        "client.js",
        "inspect.js",
        "overlay.js",
        "refresh.js",
        "socket.js",
        "tailwind.js",
        "tailwind-v3.js",
        "tailwind-v3-defaults.js",
    ]
    .into_iter()
    .map(|(name, contents)| ClientFile {
        name,
        content_type: "text/javascript; charset=utf-8",
        contents,
        etag: format!("\"{}\"", &Digest::of(contents.as_bytes()).to_string()[..32]),
    })
    .collect()
});

/// Finds one by its name (`client.js`).
///
/// ```
/// use overskill_build::preview::client_file;
/// let client = client_file("client.js").expect("it is one of them");
/// assert!(client.contents.contains("export function createHotContext"));
/// assert_eq!(client_file("../Cargo.toml"), None);
/// ```
pub fn client_file(name: &str) -> Option<&'static ClientFile> {
    FILES.iter().find(|file| file.name == name)
}

/// All of them.
pub(super) fn client_files() -> &'static [ClientFile] {
    &FILES
}

/// The module that stands before all others in the `<head>` of an app that uses React: it has to run before React does.
pub const REFRESH_PREAMBLE: &str = "<script type=\"module\">import { injectIntoGlobalHook } from \
     \"/@overskill/refresh.js\";injectIntoGlobalHook(window);window.$RefreshReg$ = () => {};window.$RefreshSig$ = () => \
     (type) => type;</script>";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::preview::tailwind;

    #[test]
    fn what_the_files_import_is_among_them() {
        for file in FILES.iter() {
            for part in file.contents.split("\"./").skip(1) {
                let name = part.split('"').next().unwrap();
                let made = [tailwind::CORE_FILE, tailwind::CANDIDATES_FILE].contains(&name);
                assert!(made || client_file(name).is_some(), "{} imports {name}", file.name);
            }
        }
    }

    #[test]
    fn files_are_told_apart_by_their_tags() {
        let tags: std::collections::BTreeSet<_> = FILES.iter().map(|file| &file.etag).collect();
        assert_eq!(tags.len(), FILES.len());
    }
}
