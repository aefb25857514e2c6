//! The names of what is served: with the hash of what is in it, so that it can be cached for ever.

use crate::{Error, Result};
use overskill_core::{AppFile, Digest, FilePath};
use std::collections::BTreeMap;

/// Where built files are served.
pub(super) const FOLDER: &str = "assets";

/// Assets below this size are part of what names them, as in Vite.
const INLINE_BELOW_BYTES: u64 = 4096;

/// The files of an artifact, as far as they are known.
#[derive(Default)]
pub(super) struct Assets {
    pub(super) files: BTreeMap<FilePath, AppFile>,
}

impl Assets {
    /// The address of an asset, which is part of the artifact from here on: a `data:` URL if it is small.
    pub(super) fn address(&mut self, name: &str, file: &AppFile) -> Result<String> {
        let inlined =
            file.size_bytes() < INLINE_BELOW_BYTES && stem_and_extension(name).1 != "html" && !is_git_lfs(file);
        if inlined {
            return Ok(data_url(name, file));
        }
        self.file_address(name, file)
    }

    /// The address of a file that has one of its own, however small it is.
    pub(super) fn file_address(&mut self, name: &str, file: &AppFile) -> Result<String> {
        let (stem, extension) = stem_and_extension(name);
        let path = hashed_path(stem, extension, file.digest())?;
        let address = format!("/{path}");
        self.files.insert(path, file.clone());
        Ok(address)
    }
}

/// `assets/{stem}-{hash}.{extension}`.
pub(super) fn hashed_path(stem: &str, extension: &str, digest: Digest) -> Result<FilePath> {
    let legal = |c: char| if c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.') { c } else { '_' };
    let stem: String = stem.chars().take(80).map(legal).collect();
    let stem = if stem.is_empty() { "file" } else { stem.trim_start_matches('.') };
    let dot = if extension.is_empty() { "" } else { "." };
    let extension: String = extension.chars().take(20).map(legal).collect();
    let path = format!("{FOLDER}/{stem}-{}{dot}{extension}", short(digest));
    FilePath::parse(&path).map_err(|e| Error::invalid("an asset's name cannot be used").caused_by(e))
}

/// The last part of a path, without and with what stands after its last dot.
pub(super) fn stem_and_extension(path: &str) -> (&str, &str) {
    let name = path.rsplit('/').next().unwrap_or(path);
    match name.rsplit_once('.') {
        Some((stem, extension)) if !stem.is_empty() => (stem, extension),
        _ => (name, ""),
    }
}

/// Eight characters that nobody takes for a word: letters and digits alternate in them.
fn short(digest: Digest) -> String {
    const DIGITS: &[u8; 62] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";
    const LENGTH: usize = 8;
    let letters = |digest: Digest| digest.as_bytes().map(|byte| DIGITS[usize::from(byte) % DIGITS.len()]);
    let kind = |b: u8| (b.is_ascii_digit(), b.is_ascii_uppercase());
    let telling = |it: &&[u8]| {
        let turns = it.windows(2).filter(|pair| kind(pair[0]) != kind(pair[1])).count();
        turns >= 3 && it.iter().any(u8::is_ascii_digit)
    };
    let mut digest = digest;
    loop {
        if let Some(chosen) = letters(digest).windows(LENGTH).find(telling) {
            return chosen.iter().map(|b| char::from(*b)).collect();
        }
        digest = Digest::of(digest.as_bytes()); // one in some thousands
    }
}

fn data_url(name: &str, file: &AppFile) -> String {
    use base64::{Engine as _, engine::general_purpose::STANDARD};
    let media_type = crate::preview::content_type(name);
    let media_type = media_type.split(';').next().unwrap_or_default();
    format!("data:{media_type};base64,{}", STANDARD.encode(file.contents()))
}

/// What git keeps in the place of a large file whose contents are elsewhere.
fn is_git_lfs(file: &AppFile) -> bool {
    file.contents().starts_with(b"version https://git-lfs.github.com")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_hold_a_hash_and_nothing_strange() {
        let path = hashed_path("ein Bild/ü", "svg", Digest::of(b"x")).unwrap();
        let name = path.as_str().strip_prefix("assets/ein_Bild__-").unwrap();
        assert_eq!(name.strip_suffix(".svg").unwrap().len(), 8);
        assert_eq!(path, hashed_path("ein Bild/ü", "svg", Digest::of(b"x")).unwrap());
        assert_ne!(path, hashed_path("ein Bild/ü", "svg", Digest::of(b"y")).unwrap());
        assert_eq!(stem_and_extension("src/a.test.tsx"), ("a.test", "tsx"));
        assert_eq!(stem_and_extension(".env"), (".env", ""));
    }

    #[test]
    fn no_hash_looks_like_a_word() {
        for n in 0..2_000_u32 {
            let hash = short(Digest::of(&n.to_le_bytes()));
            assert!(
                hash.bytes().any(|b| b.is_ascii_digit()) && hash.bytes().any(|b| b.is_ascii_alphabetic()),
                "{hash}"
            );
        }
    }

    #[test]
    fn small_assets_are_inlined() {
        let mut assets = Assets::default();
        let small = assets.address("a/dot.svg", &AppFile::new("<svg/>")).unwrap();
        assert_eq!(small, "data:image/svg+xml;base64,PHN2Zy8+");
        let large = assets.address("a/photo.png", &AppFile::new(vec![1; 5_000])).unwrap();
        assert!(large.starts_with("/assets/photo-") && stem_and_extension(&large).1 == "png", "{large}");
        assert_eq!(assets.files.len(), 1);
        assert!(assets.file_address("a/dot.svg", &AppFile::new("<svg/>")).unwrap().starts_with("/assets/dot-"));
    }
}
