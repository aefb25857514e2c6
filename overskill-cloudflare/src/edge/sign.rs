//! Signs each request as it leaves: a retry is another request, with a time and a nonce of its own.

use super::IngestKey;
use async_trait::async_trait;
use hmac::{Hmac, KeyInit as _, Mac as _};
use overskill_core::{Clock, Digest, Ids, Result, Scope, Secret};
use overskill_http::{Body, Request, Response, Transport};
use sha2::Sha256;
use std::{fmt::Write as _, sync::Arc};

/// What every text begins with that is signed: nothing else that this key signs begins so.
const LABEL: &str = "overskill-ingest-1";
/// The same for addresses of versions.
const VERSION_LABEL: &str = "overskill-version-1";
/// As many hex digits as fit into a host name beside the longest app id.
const PROOF_DIGITS: usize = 14;

#[derive(Debug)]
pub(super) struct Signing {
    pub(super) inner: Arc<dyn Transport>,
    pub(super) key: IngestKey,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) ids: Arc<dyn Ids>,
}

#[async_trait]
impl Transport for Signing {
    async fn send(&self, mut request: Request) -> Result<Response<Body>> {
        let mut nonce = [0; 16];
        self.ids.fill(&mut nonce);
        let mut hex = String::with_capacity(32);
        for byte in nonce {
            let _ = write!(hex, "{byte:02x}");
        }
        let time = self.clock.now().as_unix_millis();
        let signature = authorization(&self.key, &request, time, &hex);
        request.headers.set_secret("authorization", &signature)?;
        self.inner.send(request).await
    }
}

fn authorization(key: &IngestKey, request: &Request, time: i64, nonce: &str) -> Secret {
    // Host and path as they go over the wire.
    let address = request.url.expose().split_once("://").map_or("", |(_, rest)| rest);
    let (host, path) = address.split_once('/').unwrap_or((address, ""));
    let digest = Digest::of(&request.body);
    let text = format!("{LABEL}\n{}\n{host}\n/{path}\n{time}\n{nonce}\n{digest}", request.method);
    let mac = mac(key, &text);
    Secret::new(format!("Overskill-HMAC-SHA256 key={}, time={time}, nonce={nonce}, mac={mac}", key.id()))
}

/// What stands in the address of a version: nobody else can name one.
pub(super) fn version_proof(key: &IngestKey, scope: &Scope, script: &str) -> String {
    let mut proof = mac(key, &format!("{VERSION_LABEL}\n{scope}\n{script}")).to_string();
    proof.truncate(PROOF_DIGITS);
    proof
}

fn mac(key: &IngestKey, text: &str) -> Digest {
    let mut mac = Hmac::<Sha256>::new_from_slice(&key.bytes()).expect("HMAC takes keys of every length");
    mac.update(text.as_bytes());
    Digest::from_bytes(mac.finalize().into_bytes().into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use overskill_core::KeyId;
    use overskill_http::{Method, Url};

    #[test]
    fn the_signature_is_the_hmac_of_what_the_protocol_names() {
        let hex = "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f";
        let key = IngestKey::parse(KeyId::parse("k1").unwrap(), hex).unwrap();
        let url = Url::parse("https://overskill.app/.overskill/v1/wanted?wait_ms=5").unwrap();
        let request = Request::new(Method::Put, url).with_body("{}");
        let nonce = "0123456789abcdef0123456789abcdef";
        let signed = authorization(&key, &request, 1_767_225_600_000, nonce);
        // printf 'overskill-ingest-1\nPUT\noverskill.app\n/.overskill/v1/wanted?wait_ms=5\n1767225600000\n0123…cdef\n44136f…' \
        //   | openssl dgst -sha256 -mac HMAC -macopt hexkey:000102…1f
        let mac = "acc948e5b4f09ac7325a30dd5f56236931aa8e5dad1b5bf8a669abd401a787bc";
        let want = format!("Overskill-HMAC-SHA256 key=k1, time=1767225600000, nonce={nonce}, mac={mac}");
        assert_eq!(signed.expose(), want);
        assert!(!format!("{key:?}").contains("0001"));
    }
}
