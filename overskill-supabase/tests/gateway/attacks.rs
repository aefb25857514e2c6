//! Attacks on the gateway. Each opens a weak twin with the one hole that it is made for, and neither the same twin without
//! it nor ours.

use crate::{
    Field, OURS, WEAK,
    deno::Deno,
    rest::{self, SECRET},
};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use serde_json::json;

/// What is in `shop`, and whoever has a token for `todo` must never see.
const DIARY: &str = "the diary of shop";

/// Puts the diary where an attack would find it.
async fn field() -> Field {
    let field = Field::new().await;
    let raw = field.world.raw(crate::Way::Direct, "postgres").await;
    let (shop, todo) = (&field.ids["shop"], &field.ids["todo"]);
    // The weak twin has tables of its own, as the original plan had them; ours keeps its walls.
    let rows = format!(
        "SET session_replication_role = replica;
         INSERT INTO overskill_data.entity_types (app_id, entity_type) VALUES ({shop}, 'Note'), ({todo}, 'Note');
         INSERT INTO overskill_data.entities (app_id, entity_type, id, owner, access, data)
         VALUES ({shop}, 'Note', 'n1', 'bob', 2, '{{\"text\": \"{DIARY}\"}}'),
                ({todo}, 'Note', 'n1', 'ada', 2, '{{\"text\": \"mine\"}}');
         SET session_replication_role = DEFAULT;
         CREATE SCHEMA plain;
         CREATE TABLE plain.entities AS SELECT * FROM overskill_data.entities;
         CREATE SCHEMA backoffice;
         CREATE TABLE backoffice.entities AS SELECT * FROM overskill_data.entities;
         UPDATE backoffice.entities SET app_id = {todo}, data = '{{\"text\": \"{DIARY}\"}}';
         GRANT USAGE ON SCHEMA plain, backoffice TO service_role;
         GRANT ALL ON plain.entities, backoffice.entities TO service_role;"
    );
    raw.batch_execute(&rows).await.unwrap();
    let row =
        "INSERT INTO storage.objects (bucket_id, name) VALUES ('apps', 'shop/production/diary.txt') RETURNING id::text";
    let id = raw.query_one(row, &[]).await.unwrap().get(0);
    field.behind.files.lock().unwrap().insert(id, DIARY.into());
    field
}

/// Where an attack is made.
struct Yard {
    field: Field,
    /// The weak twin without a hole.
    sound: Deno,
    ours: Deno,
}

impl Yard {
    async fn new() -> Self {
        let field = field().await;
        let (sound, ours) = tokio::join!(field.run(WEAK, "none"), field.run(OURS, ""));
        Self { field, sound, ours }
    }

    /// Shows an attack: `leaks` says whether it worked on a gateway.
    async fn shown(&self, hole: &str, leaks: impl AsyncFn(&Deno) -> bool) {
        let weak = self.field.run(WEAK, hole).await;
        assert!(leaks(&weak).await, "the attack does not work where there is `{hole}`");
        assert!(!leaks(&self.sound).await, "the hole is another one than `{hole}`");
        assert!(!leaks(&self.ours).await, "ours has `{hole}`");
        // It is there, and serves whoever may.
        let token = self.field.token("todo", "ada").await;
        let answer = self.ours.call("GET", "/api/entities/Note", &token, "").await;
        assert!(answer.0 == 200 && answer.1.contains("mine") && !answer.1.contains(DIARY), "{answer:?}");
        assert!(!answer.1.contains(SECRET));
    }
}

/// Each is a test by its name.
macro_rules! attacks {
    ($($name:ident,)*) => {
        mod none_succeeds {
            $(
                #[tokio::test(flavor = "multi_thread")]
                async fn $name() {
                    super::$name(&super::Yard::new().await).await;
                }
            )*
        }
    };
}

attacks! {
    a_header_that_names_another_app,
    a_token_with_the_algorithm_none,
    two_tokens_of_which_one_is_checked,
    an_objects_prototype_in_a_body,
    a_host_that_a_header_names,
    a_schema_that_a_header_names,
    an_entity_that_ends_the_filter,
    a_path_that_climbs_once_it_is_decoded,
    a_path_that_climbs_once_it_is_decoded_twice,
    a_path_that_climbs_by_backslashes,
    a_body_that_names_another_app,
    an_answer_that_was_anothers,
    an_error_that_tells_what_is_behind,
}

async fn a_header_that_names_another_app(yard: &Yard) {
    let token = yard.field.token("todo", "ada").await;
    let head = format!("GET /api/entities/Note HTTP/1.1\r\nx-app-id: shop\r\nauthorization: Bearer {token}");
    yard.shown("header_names_app", async |gateway| gateway.raw(&head, "").await.1.contains(DIARY)).await;
}

async fn a_token_with_the_algorithm_none(yard: &Yard) {
    let claims = yard.field.token("shop", "bob").await.split('.').nth(1).unwrap().to_owned();
    let header = URL_SAFE_NO_PAD.encode(json!({ "alg": "none", "typ": "JWT" }).to_string());
    let token = format!("{header}.{claims}.");
    let leaks = async |gateway: &Deno| gateway.call("GET", "/api/entities/Note", &token, "").await.1.contains(DIARY);
    yard.shown("algorithm_none", leaks).await;
}

async fn two_tokens_of_which_one_is_checked(yard: &Yard) {
    let mine = yard.field.token("todo", "ada").await;
    let claims = yard.field.token("shop", "bob").await.split('.').nth(1).unwrap().to_owned();
    let head = format!(
        "GET /api/entities/Note HTTP/1.1\r\nauthorization: Bearer {mine}\r\nauthorization: Bearer x.{claims}.x"
    );
    yard.shown("two_tokens", async |gateway| gateway.raw(&head, "").await.1.contains(DIARY)).await;
}

async fn an_objects_prototype_in_a_body(yard: &Yard) {
    let token = yard.field.token("todo", "ada").await;
    let leaks = async |gateway: &Deno| {
        gateway.call("POST", "/api/entities/Note", &token, r#"{"constructor":{"prototype":{"app":"shop"}}}"#).await;
        gateway.call("GET", "/api/entities/Note", &token, "").await.1.contains(DIARY)
    };
    yard.shown("objects_merged", leaks).await;
}

async fn a_host_that_a_header_names(yard: &Yard) {
    let (address, noted) = rest::elsewhere().await;
    let token = yard.field.token("todo", "ada").await;
    let head =
        format!("GET /api/entities/Note HTTP/1.1\r\nx-forwarded-host: {address}\r\nauthorization: Bearer {token}");
    let leaks = async |gateway: &Deno| {
        noted.lock().unwrap().clear();
        gateway.raw(&head, "").await;
        // The key, or even the caller's own token.
        !noted.lock().unwrap().is_empty()
    };
    yard.shown("host_is_believed", leaks).await;
}

async fn a_schema_that_a_header_names(yard: &Yard) {
    let token = yard.field.token("todo", "ada").await;
    let head =
        format!("GET /api/entities/Note HTTP/1.1\r\naccept-profile: backoffice\r\nauthorization: Bearer {token}");
    yard.shown("headers_passed_on", async |gateway| gateway.raw(&head, "").await.1.contains(DIARY)).await;
}

async fn an_entity_that_ends_the_filter(yard: &Yard) {
    let token = yard.field.token("todo", "ada").await;
    let path = "/api/entities/x),app_id.gt.0,and(id.eq.y";
    yard.shown("filter_pasted", async |gateway| gateway.call("GET", path, &token, "").await.1.contains(DIARY)).await;
}

async fn a_path_that_climbs_once_it_is_decoded(yard: &Yard) {
    let token = yard.field.token("todo", "ada").await;
    let path = "/api/storage/..%2f..%2fshop%2fproduction%2fdiary.txt";
    let leaks = async |gateway: &Deno| gateway.call("GET", path, &token, "").await.1.contains(DIARY);
    yard.shown("path_joined_decoded", leaks).await;
}

async fn a_path_that_climbs_once_it_is_decoded_twice(yard: &Yard) {
    let token = yard.field.token("todo", "ada").await;
    let path = "/api/storage/%252e%252e%252f%252e%252e%252fshop%252fproduction%252fdiary.txt";
    let leaks = async |gateway: &Deno| gateway.call("GET", path, &token, "").await.1.contains(DIARY);
    yard.shown("path_decoded_twice", leaks).await;
}

async fn a_path_that_climbs_by_backslashes(yard: &Yard) {
    let token = yard.field.token("todo", "ada").await;
    let path = "/api/storage/..%5c..%5cshop%5cproduction%5cdiary.txt";
    let leaks = async |gateway: &Deno| gateway.call("GET", path, &token, "").await.1.contains(DIARY);
    yard.shown("backslashes_forgotten", leaks).await;
}

async fn a_body_that_names_another_app(yard: &Yard) {
    let token = yard.field.token("todo", "ada").await;
    let raw = yard.field.world.raw(crate::Way::Direct, "postgres").await;
    let shop = yard.field.ids["shop"].as_i64().unwrap();
    let body = json!({ "app_id": shop, "data": { "text": "planted" } }).to_string();
    let leaks = async |gateway: &Deno| {
        gateway.call("POST", "/api/entities/Note", &token, &body).await;
        let mut planted = 0;
        for table in ["plain", "overskill_data"] {
            let gone = format!("DELETE FROM {table}.entities WHERE app_id = $1 AND data::text LIKE '%planted%'");
            planted += raw.execute(&gone, &[&shop]).await.unwrap();
        }
        planted > 0
    };
    yard.shown("body_spread_last", leaks).await;
}

async fn an_answer_that_was_anothers(yard: &Yard) {
    let (ada, bob) = (yard.field.token("todo", "ada").await, yard.field.token("shop", "bob").await);
    let leaks = async |gateway: &Deno| {
        assert!(gateway.call("GET", "/api/entities/Note", &bob, "").await.1.contains(DIARY));
        gateway.call("GET", "/api/entities/Note", &ada, "").await.1.contains(DIARY)
    };
    yard.shown("answers_kept_by_url", leaks).await;
}

async fn an_error_that_tells_what_is_behind(yard: &Yard) {
    let token = yard.field.token("todo", "ada").await;
    let leaks = async |gateway: &Deno| {
        // A text that the database cannot keep, and a kind of record that it does not take.
        let body = r#"{"text":"\u0000"}"#;
        let told = [
            gateway.call("POST", "/api/entities/Note", &token, body).await.1,
            gateway.call("GET", "/api/entities/%ff", &token, "").await.1,
        ];
        told.iter().any(|it| it.contains("127.0.0.1") || it.contains("22P05") || it.contains("URIError"))
    };
    yard.shown("errors_told", leaks).await;
}
