//! Subresource integrity, as locks and registries state it: `sha512-…`, `sha1-…`.

use aws_lc_rs::digest;
use base64::{Engine as _, engine::general_purpose::STANDARD};
use std::fmt;

/// The strongest hashes that some text states.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Integrity {
    algorithm: Algorithm,
    /// Any of them will do, as the standard has it.
    hashes: Vec<Vec<u8>>,
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Algorithm {
    Sha1,
    Sha256,
    Sha384,
    Sha512,
}

impl Integrity {
    /// Reads `sha512-… sha1-…`; `None` when no hash in it can be used.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let mut found: Option<Self> = None;
        for part in text.split_ascii_whitespace() {
            let Some((name, encoded)) = part.split_once('-') else { continue };
            let encoded = encoded.split('?').next().unwrap_or_default();
            let (Some(algorithm), Ok(hash)) = (Algorithm::named(name), STANDARD.decode(encoded)) else { continue };
            if hash.len() != algorithm.with().output_len() {
                continue;
            }
            match &mut found {
                Some(best) if best.algorithm == algorithm => best.hashes.push(hash),
                Some(best) if best.algorithm > algorithm => {}
                _ => found = Some(Self { algorithm, hashes: vec![hash] }),
            }
        }
        found
    }

    /// From a registry's `shasum`: SHA-1 in hex.
    pub(crate) fn from_shasum(hex: &str) -> Option<Self> {
        let pairs = hex.as_bytes().chunks(2).map(|pair| {
            let pair = std::str::from_utf8(pair).ok().filter(|it| it.len() == 2)?;
            u8::from_str_radix(pair, 16).ok()
        });
        let hash: Vec<u8> = pairs.collect::<Option<_>>()?;
        (hash.len() == 20).then(|| Self { algorithm: Algorithm::Sha1, hashes: vec![hash] })
    }

    /// Whether `bytes` are what is stated. Takes time with the bytes: not for the executor's threads.
    pub(crate) fn matches(&self, bytes: &[u8]) -> bool {
        let digest = digest::digest(self.algorithm.with(), bytes);
        self.hashes.iter().any(|hash| hash == digest.as_ref())
    }
}

impl Algorithm {
    fn named(name: &str) -> Option<Self> {
        Some(match name {
            "sha1" => Self::Sha1,
            "sha256" => Self::Sha256,
            "sha384" => Self::Sha384,
            "sha512" => Self::Sha512,
            _ => return None,
        })
    }

    fn with(self) -> &'static digest::Algorithm {
        match self {
            Self::Sha1 => &digest::SHA1_FOR_LEGACY_USE_ONLY,
            Self::Sha256 => &digest::SHA256,
            Self::Sha384 => &digest::SHA384,
            Self::Sha512 => &digest::SHA512,
        }
    }
}

impl fmt::Display for Integrity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = match self.algorithm {
            Algorithm::Sha1 => "sha1",
            Algorithm::Sha256 => "sha256",
            Algorithm::Sha384 => "sha384",
            Algorithm::Sha512 => "sha512",
        };
        for (n, hash) in self.hashes.iter().enumerate() {
            let space = if n == 0 { "" } else { " " };
            write!(f, "{space}{name}-{}", STANDARD.encode(hash))?;
        }
        Ok(())
    }
}

impl fmt::Debug for Integrity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Integrity({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_strongest_hash_counts() {
        // Of "abc": FIPS 180's own example.
        let sha1 = "sha1-qZk+NkcGgWq6PiVxeFDCbJzQ2J0=";
        let sha512 = "sha512-3a81oZNherrMQXNJriBBMRLm+k6JqX6iCp7u5ktV05ohkpkqJ0/BqDa6PCOj/uu9RU1EI2Q86A4qmslPpUyknw==";
        let both = Integrity::parse(&format!("{sha1} {sha512}?opt md5-x")).unwrap();
        assert_eq!(both.to_string(), sha512);
        assert!(both.matches(b"abc") && !both.matches(b"abd"));
        assert!(Integrity::parse(sha1).unwrap().matches(b"abc"));
        let shasum = Integrity::from_shasum("a9993e364706816aba3e25717850c26c9cd0d89d").unwrap();
        assert_eq!(shasum.to_string(), sha1);
    }

    #[test]
    fn what_is_no_hash_is_none() {
        for bad in ["", "sha512", "sha512-", "sha512-YWJj", "md5-kAFQmDzST7DWlj99KOF/cg==", "sha1-é"] {
            assert_eq!(Integrity::parse(bad), None, "{bad}");
        }
        for bad in ["", "a9", "é999", &"g".repeat(40), &"é".repeat(20)] {
            assert_eq!(Integrity::from_shasum(bad), None, "{bad}");
        }
    }
}
