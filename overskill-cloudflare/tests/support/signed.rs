//! Requests signed by hand, from what the protocol's document says alone.

use super::{Workers, http, http::Answer};
use hmac::{Hmac, KeyInit as _, Mac as _};
use overskill_core::{Clock as _, Digest, Ids as _, SystemClock, SystemIds};
use sha2::Sha256;

/// A request, and what its signature says of it. They may differ: those are the attacks.
#[derive(Clone)]
pub struct Signed {
    pub method: &'static str,
    pub path: String,
    pub body: Vec<u8>,
    pub time: i64,
    pub nonce: String,
    pub key_id: String,
    pub secret: [u8; 32],
    /// The host that is signed.
    pub host: String,
}

impl Signed {
    pub fn new(workers: &Workers, method: &'static str, path: &str, body: &[u8]) -> Self {
        let binding: serde_json::Value = serde_json::from_str(workers.key.to_binding().expose()).unwrap();
        let (key_id, secret) = binding.as_object().unwrap().iter().next().unwrap();
        let secret: Digest = secret.as_str().unwrap().parse().unwrap();
        let mut nonce = [0; 16];
        SystemIds.fill(&mut nonce);
        Self {
            method,
            path: path.to_owned(),
            body: body.to_vec(),
            time: SystemClock.now().as_unix_millis(),
            nonce: nonce.iter().map(|byte| format!("{byte:02x}")).collect(),
            key_id: key_id.clone(),
            secret: *secret.as_bytes(),
            host: workers.host(""),
        }
    }

    pub fn authorization(&self) -> String {
        let digest = Digest::of(&self.body);
        let Self { method, path, time, nonce, key_id, host, .. } = self;
        let text = format!("overskill-ingest-1\n{method}\n{host}\n{path}\n{time}\n{nonce}\n{digest}");
        let mut mac = Hmac::<Sha256>::new_from_slice(&self.secret).unwrap();
        mac.update(text.as_bytes());
        let mac = Digest::from_bytes(mac.finalize().into_bytes().into());
        format!("Overskill-HMAC-SHA256 key={key_id}, time={time}, nonce={nonce}, mac={mac}")
    }

    /// Sends it as it was signed.
    pub async fn send(&self, workers: &Workers) -> Answer {
        self.send_as(workers, self.method, &self.path, &self.body).await
    }

    /// Sends something else under its signature.
    pub async fn send_as(&self, workers: &Workers, method: &str, path: &str, body: &[u8]) -> Answer {
        let authorization = self.authorization();
        http::ask(workers.port, method, &workers.host(""), path, &[("authorization", &authorization)], body).await
    }
}
