//! `config/auth`: signing keys with their states, and other issuers.

use super::{Answer, Call};
use overskill_core::Timestamp;
use serde_json::{Value, json};

#[derive(Default)]
pub(super) struct Auth {
    keys: Vec<Key>,
    others: Vec<Value>,
    next: u64,
}

struct Key {
    id: String,
    algorithm: String,
    status: String,
    public: Value,
    at: i64,
}

impl Auth {
    pub(super) fn jwks(&self) -> Value {
        let published = self.keys.iter().filter(|it| it.status != "revoked" && it.algorithm != "HS256");
        json!({ "keys": published.map(|it| it.public.clone()).collect::<Vec<_>>() })
    }

    pub(super) fn answer(&mut self, call: &Call, path: &[&str], now: Timestamp) -> Answer {
        let body: Value = serde_json::from_slice(&call.body).unwrap_or_default();
        match (call.method.as_str(), path) {
            ("GET", ["signing-keys"]) => {
                Answer::json(200, &json!({ "keys": self.keys.iter().map(Key::shown).collect::<Vec<_>>() }))
            }
            ("POST", ["signing-keys"]) => self.import(&body, now),
            ("PATCH", ["signing-keys", id]) => self.change(id, &body),
            ("DELETE", ["signing-keys", id]) => match self.keys.iter().position(|it| it.id == *id) {
                Some(at) if ["standby", "revoked"].contains(&self.keys[at].status.as_str()) => {
                    Answer::json(200, &self.keys.remove(at).shown())
                }
                Some(_) => Answer::refusal(400, "Only standby and revoked keys can be removed"),
                None => Answer::refusal(404, "Signing key not found"),
            },
            ("GET", ["third-party-auth"]) => Answer::json(200, &self.others.iter().cloned().collect()),
            ("POST", ["third-party-auth"]) => {
                let ways = ["oidc_issuer_url", "jwks_url", "custom_jwks"];
                if ways.iter().filter(|way| !body[**way].is_null()).count() != 1 {
                    return Answer::refusal(
                        400,
                        "Exactly one of oidc_issuer_url, jwks_url and custom_jwks is required",
                    );
                }
                self.next += 1;
                let mut other = body;
                other["id"] = json!(format!("10000000-0000-4000-8000-{:012}", self.next));
                self.others.push(other.clone());
                Answer::json(201, &other)
            }
            ("DELETE", ["third-party-auth", id]) => match self.others.iter().position(|it| it["id"] == **id) {
                Some(at) => Answer::json(200, &self.others.remove(at)),
                None => Answer::refusal(404, "Third-party auth not found"),
            },
            _ => Answer::refusal(404, format_args!("Cannot {} {}", call.method, call.path)),
        }
    }

    fn import(&mut self, body: &Value, now: Timestamp) -> Answer {
        let mut jwk = body["private_jwk"].clone();
        let (algorithm, status) = (body["algorithm"].as_str().unwrap_or_default(), body["status"].as_str());
        let private = jwk.as_object_mut().and_then(|it| it.remove("d")).is_some();
        let status = status.unwrap_or("standby");
        let Some(id) = jwk["kid"].as_str().map(str::to_owned).filter(|it| it.len() == 36 && private) else {
            return Answer::refusal(400, "private_jwk: a private key with a UUID as kid is required");
        };
        if jwk["alg"] != algorithm || !["in_use", "standby"].contains(&status) {
            return Answer::refusal(400, "algorithm and private_jwk do not match");
        }
        if self.keys.iter().any(|it| it.id == id) {
            return Answer::refusal(409, "Signing key already exists");
        }
        jwk["key_ops"] = json!(["verify"]);
        if status == "in_use" {
            self.retire();
        }
        let (algorithm, status) = (algorithm.to_owned(), status.to_owned());
        self.keys.push(Key { id, algorithm, status, public: jwk, at: now.as_unix_millis() });
        Answer::json(201, &self.keys.last().map(Key::shown).unwrap_or_default())
    }

    fn change(&mut self, id: &str, body: &Value) -> Answer {
        let Some(at) = self.keys.iter().position(|it| it.id == id) else {
            return Answer::refusal(404, "Signing key not found");
        };
        let from = self.keys[at].status.clone();
        let Some(to) = body["status"].as_str() else { return Answer::refusal(400, "status: Required") };
        let legal = from == to
            || matches!(
                (from.as_str(), to),
                ("standby" | "previously_used", "in_use" | "revoked")
                    | ("previously_used", "standby")
                    | ("revoked", "standby" | "previously_used")
            );
        if !legal {
            return Answer::refusal(400, format_args!("A key cannot go from {from} to {to}"));
        }
        if to == "in_use" && from != to {
            self.retire();
        }
        to.clone_into(&mut self.keys[at].status);
        Answer::json(200, &self.keys[at].shown())
    }

    /// One key signs at a time.
    fn retire(&mut self) {
        for key in self.keys.iter_mut().filter(|it| it.status == "in_use") {
            "previously_used".clone_into(&mut key.status);
        }
    }
}

impl Key {
    fn shown(&self) -> Value {
        json!({
            "id": self.id, "algorithm": self.algorithm, "status": self.status, "public_jwk": self.public,
            "created_at": self.at, "updated_at": self.at,
        })
    }
}
