//! The gateway passes the suite that every entity API passes, wherever in its database an app's tables are.

use crate::{
    Field, ISSUER, OURS,
    deno::Deno,
    support::{Signed, Way, hex, places::Placing},
};
use async_trait::async_trait;
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use overskill_core::{
    AccessToken, ApiMethod, ApiRequest, ApiResponse, ApiUpstream, Claims, Clock as _, Environment, Readiness, Result,
    Right, SystemClock,
};
use overskill_supabase::{Placement, SigningKey};
use overskill_testkit::{EntityApiFixture, EntityTokens};
use serde_json::json;
use std::sync::Arc;

/// A gateway, with the app in the path.
#[derive(Debug)]
struct Gateway(Deno);

#[async_trait]
impl ApiUpstream for Gateway {
    async fn check(&self) -> Result<Readiness> {
        let ready = Readiness::ready("gateway");
        // It listens, and wants a token.
        let answer = self.0.call("GET", "/api/entities/Task", "", "").await;
        Ok(if answer.0 == 401 { ready } else { ready.lacks("the gateway does not answer", "start it") })
    }

    async fn call(&self, request: &ApiRequest) -> Result<ApiResponse> {
        let method = match request.method {
            ApiMethod::Get => "GET",
            ApiMethod::Head => "HEAD",
            ApiMethod::Post => "POST",
            ApiMethod::Put => "PUT",
            ApiMethod::Patch => "PATCH",
            ApiMethod::Delete => "DELETE",
        };
        let query: Vec<_> =
            request.query.iter().map(|(name, value)| format!("{}={}", encoded(name), encoded(value))).collect();
        let (app, path) = (&request.scope, &request.path);
        let head = format!("{method} /apps/{app}/api/{path}?{} HTTP/1.1", query.join("&"));
        let kind = request.content_type.as_ref().map(|it| format!("\r\ncontent-type: {it}")).unwrap_or_default();
        let head = format!("{head}\r\nauthorization: Bearer {}{kind}", request.token.expose());
        let (status, body) = self.0.raw(&head, std::str::from_utf8(&request.body).unwrap()).await;
        Ok(ApiResponse::new(status, body).header("content-type", "application/json"))
    }
}

fn encoded(text: &str) -> String {
    let mut encoded = String::new();
    for byte in text.bytes() {
        encoded.push('%');
        encoded.push_str(&hex(&[byte]));
    }
    encoded
}

/// The token that says this, as the issuer would make it if it had to.
fn token(key: &SigningKey, claims: &Claims) -> AccessToken {
    let now = SystemClock.now().as_unix_millis().div_euclid(1000);
    let until = claims.expires_at.as_unix_millis().div_euclid(1000);
    let from = now.min(until) - 60;
    let environment = claims.environment.unwrap_or(Environment::Production);
    let letters = [(Right::Data, "d"), (Right::Develop, "v"), (Right::Operate, "o")];
    let rights: String = letters.into_iter().filter(|(right, _)| claims.rights.has(*right)).map(|(_, it)| it).collect();
    let context = Signed {
        app: claims.app().to_string().leak(),
        environment: environment.as_str(),
        rights: rights.leak(),
        subject: claims.subject.to_string().leak(),
        session: hex(&[7; 16]),
        expires_in_seconds: until - now,
        ..Signed::of("", "")
    };
    let claims = json!({
        "iss": ISSUER, "aud": "authenticated", "sub": claims.subject, "role": "authenticated", "iat": from, "nbf": from,
        "exp": until, "tenant": claims.tenant.to_string(), "rights": claims.rights.to_string(),
        "env": environment.as_str(), "app_metadata": { "overskill": context.text() },
    });
    let mut header = Header::new(Algorithm::ES256);
    header.kid = Some(key.kid().to_owned());
    let der = URL_SAFE_NO_PAD.decode(key.to_pkcs8().expose()).unwrap();
    AccessToken::parse(&encode(&header, &claims, &EncodingKey::from_ec_der(&der)).unwrap()).unwrap()
}

async fn gateway(to: Placement) -> EntityApiFixture {
    async fn open(field: &Field, to: &Placement) -> Arc<dyn ApiUpstream> {
        let gateway = Gateway(field.run(OURS, "").await);
        match to {
            Placement::Shared => Arc::new(gateway),
            to => {
                let mover = field.world.mover(Way::Direct);
                Arc::new(Placing::new(gateway, mover, field.world.system.clone(), to.clone()))
            }
        }
    }
    let field = Arc::new(Field::new().await);
    let (api, key, again) = (open(&field, &to).await, field.key.clone(), field.clone());
    let mint = EntityTokens::new(move |claims| token(&key, claims));
    let reopen = move || {
        let (field, to) = (again.clone(), to.clone());
        async move { open(&field, &to).await }
    };
    EntityApiFixture::with(api, mint).reopen(reopen).keep(field)
}

mod in_the_shared_tables {
    use super::{Placement, gateway};

    overskill_testkit::entity_api_conformance!(v1, gateway(Placement::Shared));
}

mod in_a_schema_of_its_own {
    use super::{Placement, gateway};

    overskill_testkit::entity_api_conformance!(v1, gateway(Placement::Schema));
}
