//! Files: paths, contents, digests, and changes to them.

use crate::{ParseError, StreamPosition, parse::text_newtype};
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use sha2::Sha256;
use std::{collections::BTreeMap, fmt, str::FromStr, sync::Arc};

/// A path inside an app: relative, `/`-separated, at most 475 bytes, with no empty, `.` or `..` segment, no control
/// character and no `\`.
///
/// 475 bytes, because `app_{id}_{path}` must fit a key of 512 bytes (the limit of Workers KV).
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct FilePath(Arc<str>);

impl FilePath {
    /// Longest path in bytes.
    pub const MAX_BYTES: usize = 475;

    /// Takes a path as it is; nothing is normalised away.
    pub fn parse(s: &str) -> Result<Self, ParseError> {
        let rule = if s.is_empty() || s.len() > Self::MAX_BYTES {
            "must be 1 to 475 bytes long"
        } else if s.chars().any(|c| c.is_control() || c == '\\') {
            "may hold no control character and no backslash"
        } else if s.split('/').any(|segment| matches!(segment, "" | "." | "..")) {
            "may have no empty, `.` or `..` segment and no `/` at either end"
        } else {
            return Ok(Self(s.into()));
        };
        Err(ParseError::new("file path", rule, s))
    }

    /// What stands after the last `.` of the last segment, if anything.
    pub fn extension(&self) -> Option<&str> {
        let name = self.0.rsplit('/').next()?;
        name.rsplit_once('.').filter(|(stem, _)| !stem.is_empty()).map(|(_, ext)| ext)
    }
}

text_newtype!(FilePath);

/// The SHA-256 of some bytes; 64 hex digits as text.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Digest([u8; 32]);

impl Digest {
    /// The digest of `bytes`.
    pub fn of(bytes: &[u8]) -> Self {
        use sha2::Digest as _;
        Self(Sha256::digest(bytes).into())
    }

    /// The digest of several parts, each with its length before it, so that no two lists of parts look alike.
    pub fn of_parts<'a>(parts: impl IntoIterator<Item = &'a [u8]>) -> Self {
        use sha2::Digest as _;
        let mut hasher = Sha256::new();
        for part in parts {
            hasher.update((part.len() as u64).to_le_bytes());
            hasher.update(part);
        }
        Self(hasher.finalize().into())
    }

    /// From a stored digest.
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// Its 32 bytes.
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const DIGITS: &[u8; 16] = b"0123456789abcdef";
        let mut hex = [0; 64];
        for (pair, byte) in hex.chunks_exact_mut(2).zip(self.0) {
            pair[0] = DIGITS[usize::from(byte >> 4)];
            pair[1] = DIGITS[usize::from(byte & 15)];
        }
        f.pad(std::str::from_utf8(&hex).expect("digits are ASCII"))
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Digest({self})")
    }
}

impl FromStr for Digest {
    type Err = ParseError;

    fn from_str(s: &str) -> Result<Self, ParseError> {
        let refuse = || ParseError::new("digest", "must be 64 lower-case hex digits", s);
        let value = |digit: u8| match digit {
            b'0'..=b'9' => Ok(digit - b'0'),
            b'a'..=b'f' => Ok(digit - b'a' + 10),
            _ => Err(refuse()),
        };
        if s.len() != 64 {
            return Err(refuse());
        }
        let mut bytes = [0; 32];
        for (byte, pair) in bytes.iter_mut().zip(s.as_bytes().chunks_exact(2)) {
            *byte = value(pair[0])? << 4 | value(pair[1])?;
        }
        Ok(Self(bytes))
    }
}

impl TryFrom<String> for Digest {
    type Error = ParseError;
    fn try_from(s: String) -> Result<Self, ParseError> {
        s.parse()
    }
}

impl From<Digest> for String {
    fn from(d: Digest) -> String {
        d.to_string()
    }
}

/// A file's contents with their digest. Cheap to clone.
#[derive(Clone, PartialEq, Eq)]
pub struct AppFile {
    contents: Bytes,
    digest: Digest,
}

impl AppFile {
    /// Takes contents and computes their digest.
    pub fn new(contents: impl Into<Bytes>) -> Self {
        let contents = contents.into();
        let digest = Digest::of(&contents);
        Self { contents, digest }
    }

    /// Takes contents with the digest that a store keeps beside them, and trusts it.
    ///
    /// For stores, which would spend more time on hashing than on reading. Damaged contents go unnoticed here: compare with
    /// the digest that [`new`](Self::new) computes where that matters.
    pub const fn from_stored(contents: Bytes, digest: Digest) -> Self {
        Self { contents, digest }
    }

    /// The contents.
    pub fn contents(&self) -> &Bytes {
        &self.contents
    }

    /// The digest of the contents.
    pub fn digest(&self) -> Digest {
        self.digest
    }

    /// How many bytes the contents have.
    pub fn size_bytes(&self) -> u64 {
        self.contents.len() as u64
    }
}

impl fmt::Debug for AppFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "AppFile({} bytes, {})", self.contents.len(), &self.digest.to_string()[..12])
    }
}

impl<T: Into<Bytes>> From<T> for AppFile {
    fn from(contents: T) -> Self {
        Self::new(contents)
    }
}

/// What happens to one file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// It has these contents now, whether or not it was there.
    Put(AppFile),
    /// It is gone now, whether or not it was there.
    Delete,
}

/// Changes that happen together or not at all; each path at most once.
///
/// ```
/// use overskill_core::{Changes, FilePath};
/// let changes = Changes::new()
///     .put(FilePath::parse("src/App.tsx")?, "export default () => null")
///     .delete(FilePath::parse("src/Old.tsx")?);
/// assert_eq!(changes.len(), 2);
/// # Ok::<(), overskill_core::ParseError>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Changes(BTreeMap<FilePath, Change>);

impl Changes {
    /// None yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a file, replacing what was said of its path before.
    pub fn put(mut self, path: FilePath, file: impl Into<AppFile>) -> Self {
        self.0.insert(path, Change::Put(file.into()));
        self
    }

    /// Deletes a file, replacing what was said of its path before.
    pub fn delete(mut self, path: FilePath) -> Self {
        self.0.insert(path, Change::Delete);
        self
    }

    /// In path order.
    pub fn iter(&self) -> impl Iterator<Item = (&FilePath, &Change)> {
        self.0.iter()
    }

    /// How many files they touch.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether they touch nothing.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Makes them happen to `files`.
    pub fn apply_to(&self, files: &mut BTreeMap<FilePath, AppFile>) {
        for (path, change) in &self.0 {
            match change {
                Change::Put(file) => drop(files.insert(path.clone(), file.clone())),
                Change::Delete => drop(files.remove(path)),
            }
        }
    }
}

impl FromIterator<(FilePath, Change)> for Changes {
    fn from_iter<I: IntoIterator<Item = (FilePath, Change)>>(changes: I) -> Self {
        Self(changes.into_iter().collect())
    }
}

/// All files of an app as they were at one position.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Snapshot {
    /// Where the stream of changes stood.
    pub position: StreamPosition,
    /// The files, by path.
    pub files: BTreeMap<FilePath, AppFile>,
}

impl Snapshot {
    /// `files` at `position`.
    pub fn new(position: StreamPosition, files: BTreeMap<FilePath, AppFile>) -> Self {
        Self { position, files }
    }

    /// The digest of all paths and contents; the position has no part in it.
    pub fn digest(&self) -> Digest {
        let parts = self.files.iter().flat_map(|(path, file)| [path.as_str().as_bytes(), file.digest.0.as_slice()]);
        Digest::of_parts(parts)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn extensions() {
        let ext = |p| FilePath::parse(p).unwrap().extension().map(str::to_owned);
        assert_eq!(ext("src/App.test.tsx").as_deref(), Some("tsx"));
        assert_eq!(ext("src.d/Makefile"), None);
        assert_eq!(ext(".env"), None);
    }

    #[test]
    fn escapes_are_refused() {
        for bad in ["", "/", "/etc/passwd", "a//b", "a/../b", "..", "./a", "a/", "a\\b", "a\0b", "a\u{85}b"] {
            assert!(FilePath::parse(bad).is_err(), "{bad:?}");
        }
        for good in ["a", "src/App.tsx", "...", "a/..b", "日本/語.ts", " spaced name.txt"] {
            assert!(FilePath::parse(good).is_ok(), "{good:?}");
        }
        assert!(FilePath::parse(&"x".repeat(475)).is_ok());
        assert!(FilePath::parse(&"x".repeat(476)).is_err());
    }

    #[test]
    fn parts_cannot_be_shifted() {
        let parts = |p: &[&str]| Digest::of_parts(p.iter().map(|s| s.as_bytes()));
        assert_ne!(parts(&["ab", "c"]), parts(&["a", "bc"]));
        assert_ne!(parts(&["ab"]), parts(&["ab", ""]));
    }

    #[test]
    fn sha_256_of_nothing_is_what_fips_180_says() {
        let empty = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
        assert_eq!(Digest::of(b"").to_string(), empty);
    }

    proptest! {
        #[test]
        fn paths_never_panic_and_never_escape(s in "[a-z./\\\\\u{0}-\u{20}é]{0,40}") {
            if let Ok(path) = FilePath::parse(&s) {
                prop_assert_eq!(path.as_str(), &s);
                prop_assert!(!s.starts_with('/') && !s.split('/').any(|p| p == ".."));
            }
        }

        #[test]
        fn digests_round_trip(bytes: [u8; 32], junk in ".{0,70}") {
            let digest = Digest::from_bytes(bytes);
            prop_assert_eq!(digest.to_string().parse::<Digest>().unwrap(), digest);
            if let Ok(d) = junk.parse::<Digest>() { prop_assert_eq!(d.to_string(), junk); }
        }

        #[test]
        fn applying_changes_equals_a_map(steps in proptest::collection::vec(("[ab]{1,2}", proptest::option::of(0u8..4)), 0..20)) {
            let (mut files, mut model) = (BTreeMap::new(), BTreeMap::new());
            for (path, contents) in steps {
                let at = FilePath::parse(&path).unwrap();
                let changes = if let Some(c) = contents {
                    model.insert(path, c);
                    Changes::new().put(at, vec![c])
                } else {
                    model.remove(&path);
                    Changes::new().delete(at)
                };
                changes.apply_to(&mut files);
            }
            let got: BTreeMap<_, _> = files.iter().map(|(p, f)| (p.to_string(), f.contents()[0])).collect();
            prop_assert_eq!(got, model);
        }
    }
}
