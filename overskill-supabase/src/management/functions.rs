//! Edge Functions.

use super::Management;
use overskill_core::{Digest, Error, Ids, ParseError, Result, SystemGrant};
use overskill_http::Multipart;
use serde::Deserialize;
use serde_json::json;

/// The files of an Edge Function, ready to be deployed.
#[derive(Clone, Debug)]
pub struct FunctionBundle {
    slug: String,
    entrypoint: String,
    verify_jwt: bool,
    files: Vec<(String, Vec<u8>)>,
}

impl FunctionBundle {
    /// Most bytes of all files together.
    pub const MAX_BYTES: usize = 20 * 1024 * 1024;

    /// A function that begins at the file `entrypoint`. Supabase checks no token before it runs: a function for tenants
    /// does that itself.
    pub fn new(slug: &str, entrypoint: &str) -> Result<Self, ParseError> {
        let legal = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'_';
        if !slug.starts_with(|c: char| c.is_ascii_alphabetic()) || slug.len() > 48 || !slug.bytes().all(legal) {
            let rule = "must be 1 to 48 of A-Z a-z 0-9 - _ and begin with a letter";
            return Err(ParseError::new("function slug", rule, slug));
        }
        relative(entrypoint)?;
        Ok(Self { slug: slug.to_owned(), entrypoint: entrypoint.to_owned(), verify_jwt: false, files: Vec::new() })
    }

    /// Lets Supabase refuse calls without a token of the project before the function runs.
    pub fn verify_jwt(mut self) -> Self {
        self.verify_jwt = true;
        self
    }

    /// Adds a file.
    pub fn file(mut self, path: &str, contents: impl Into<Vec<u8>>) -> Result<Self, ParseError> {
        relative(path)?;
        self.files.push((path.to_owned(), contents.into()));
        Ok(self)
    }

    /// Its name in URLs.
    pub fn slug(&self) -> &str {
        &self.slug
    }

    /// The paths of its files.
    pub fn paths(&self) -> impl Iterator<Item = &str> {
        self.files.iter().map(|(path, _)| path.as_str())
    }

    /// Of all files and their names.
    pub(crate) fn digest(&self) -> Digest {
        let mut all = Vec::new();
        for (path, contents) in &self.files {
            all.extend_from_slice(format!("{path}\0{}\0", contents.len()).as_bytes());
            all.extend_from_slice(contents);
        }
        Digest::of(&all)
    }

    fn check(&self) -> Result<()> {
        if !self.files.iter().any(|(path, _)| *path == self.entrypoint) {
            let message = format!("entrypoint must be among the files, but `{}` is not", self.entrypoint);
            return Err(Error::invalid(message));
        }
        let bytes: usize = self.files.iter().map(|(_, contents)| contents.len()).sum();
        if bytes > Self::MAX_BYTES {
            let message = format!("function must be at most {} bytes, but was {bytes}", Self::MAX_BYTES);
            return Err(Error::new(overskill_core::ErrorKind::LimitExceeded, message));
        }
        Ok(())
    }
}

fn relative(path: &str) -> Result<(), ParseError> {
    let sound = |segment: &str| !segment.is_empty() && segment != "." && segment != "..";
    if path.len() <= 255 && path.split('/').all(sound) && !path.contains(|c: char| c.is_control() || c == '\\') {
        return Ok(());
    }
    Err(ParseError::new("function file", "must be a relative path of at most 255 bytes without . and ..", path))
}

/// An Edge Function of the project.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[non_exhaustive]
pub struct EdgeFunction {
    /// Its id.
    pub id: String,
    /// Its name in URLs.
    pub slug: String,
    /// Its name for people.
    pub name: String,
    /// `ACTIVE`, `REMOVED` or `THROTTLED`.
    pub status: String,
    /// Counts deployments.
    pub version: u64,
    /// Whether Supabase refuses calls without a token of the project.
    #[serde(default)]
    pub verify_jwt: bool,
}

impl Management {
    /// Deploys a function, in place of the one of that slug.
    pub async fn deploy_function(
        &self,
        grant: &SystemGrant,
        bundle: &FunctionBundle,
        ids: &dyn Ids,
    ) -> Result<EdgeFunction> {
        self.permit(grant)?;
        bundle.check()?;
        let metadata =
            json!({ "name": bundle.slug, "entrypoint_path": bundle.entrypoint, "verify_jwt": bundle.verify_jwt });
        let mut form = Multipart::new(ids).text("metadata", "application/json", metadata.to_string())?;
        for (path, contents) in &bundle.files {
            form = form.file("file", path, content_type(path), contents)?;
        }
        let call = self.client.post(self.path(["functions", "deploy"])).query("slug", &bundle.slug).multipart(form);
        // The same files under the same slug are the same function.
        call.operation("deploy_function").idempotent().send().await?.json()
    }

    /// The project's functions.
    pub async fn functions(&self, grant: &SystemGrant) -> Result<Vec<EdgeFunction>> {
        self.permit(grant)?;
        self.client.get(self.path(["functions"])).operation("functions").send().await?.json()
    }

    /// Removes a function. `NotFound` if there is none of that slug.
    pub async fn delete_function(&self, grant: &SystemGrant, slug: &str) -> Result<()> {
        self.permit(grant)?;
        self.client.delete(self.path(["functions", slug])).operation("delete_function").send().await.map(drop)
    }
}

fn content_type(path: &str) -> &'static str {
    match path.rsplit_once('.').map(|(_, extension)| extension) {
        Some("ts") => "application/typescript",
        Some("js" | "mjs") => "application/javascript",
        Some("json") => "application/json",
        _ => "application/octet-stream",
    }
}
