//! KV and R2 over their APIs.

use crate::support::Api;
use overskill_core::TestClock;
use overskill_testkit::cloudflare::{CloudflareEmulator, FaultPlan, http::Request};
use serde_json::{Value, json};
use std::{sync::Arc, time::Duration};

const K: &str = "/accounts/{a}/storage/kv/namespaces";

async fn namespace(api: &Api) -> String {
    let id = api.ok("POST", K, &json!({ "title": "files" })).await["id"].as_str().unwrap().to_owned();
    format!("{K}/{id}")
}

fn with_clock() -> (Api, Arc<TestClock>) {
    let clock = Arc::new(TestClock::default());
    (Api::with(CloudflareEmulator::options().clock(clock.clone())), clock)
}

#[tokio::test]
async fn values_are_written_in_bulk_listed_and_removed() {
    let api = Api::in_process();
    let k = namespace(&api).await;
    let pairs = json!([
        { "key": "a/1", "value": "one", "metadata": { "n": 1 } },
        { "key": "a/2", "value": "AAEC", "base64": true },
        { "key": "b", "value": "three" },
    ]);
    let done = api.ok("PUT", &format!("{k}/bulk"), &pairs).await;
    assert_eq!(done, json!({ "successful_key_count": 3, "unsuccessful_keys": [] }));
    let get = async |key: &str| {
        let request = api.request("GET", &format!("{k}/values/{key}")).body(bytes::Bytes::new()).unwrap();
        api.raw(request).await
    };
    assert_eq!(get("a%2F2").await, (200, bytes::Bytes::from_static(&[0, 1, 2])));
    assert_eq!(get("c").await.0, 404);
    assert_eq!(api.ok("GET", &format!("{k}/metadata/a%2F1"), &Value::Null).await, json!({ "n": 1 }));
    let keys = api.ok("GET", &format!("{k}/keys?prefix=a%2F"), &Value::Null).await;
    assert_eq!(keys, json!([{ "name": "a/1", "metadata": { "n": 1 } }, { "name": "a/2" }]));
    let got = api.ok("POST", &format!("{k}/bulk/get"), &json!({ "keys": ["b", "c"] })).await;
    assert_eq!(got["values"], json!({ "b": "three", "c": null }));
    api.ok("POST", &format!("{k}/bulk/delete"), &json!(["a/1", "a/2", "never"])).await;
    assert_eq!(api.ok("GET", &format!("{k}/keys"), &Value::Null).await, json!([{ "name": "b" }]));
    assert_eq!(api.fails("GET", &k.replace("namespaces/", "namespaces/0"), &Value::Null).await, (404, 10_013));
    assert_eq!(api.fails("POST", K, &json!({ "title": "files" })).await, (400, 10_014));
    assert_eq!(api.fails("POST", K, &json!({})).await, (400, 10_019));
}

#[tokio::test]
async fn lists_come_in_pages() {
    let api = Api::in_process();
    let k = namespace(&api).await;
    let pairs: Vec<_> = (0..25).map(|n| json!({ "key": format!("k{n:02}"), "value": "" })).collect();
    api.ok("PUT", &format!("{k}/bulk"), &json!(pairs)).await;
    let (mut names, mut cursor) = (Vec::new(), String::new());
    loop {
        let (_, page) = api.call("GET", &format!("{k}/keys?limit=10&cursor={cursor}"), &Value::Null).await;
        names.extend(page["result"].as_array().unwrap().iter().map(|it| it["name"].as_str().unwrap().to_owned()));
        page["result_info"]["cursor"].as_str().unwrap().clone_into(&mut cursor);
        if cursor.is_empty() {
            break;
        }
    }
    assert_eq!(names, (0..25).map(|n| format!("k{n:02}")).collect::<Vec<_>>());
    assert_eq!(api.fails("GET", &format!("{k}/keys?limit=1001"), &Value::Null).await.0, 400);
}

#[tokio::test]
async fn the_limits_of_kv_hold() {
    let (api, clock) = with_clock();
    let k = namespace(&api).await;
    let put = async |pairs: Value| api.fails("PUT", &format!("{k}/bulk"), &pairs).await;
    assert_eq!(put(json!([])).await, (400, 10_029));
    assert_eq!(put(json!([{ "key": "k".repeat(513), "value": "" }])).await, (414, 10_025));
    assert_eq!(put(json!([{ "key": "k", "value": "", "metadata": "m".repeat(1023) }])).await, (413, 10_028));
    assert_eq!(put(json!([{ "key": "k", "value": "", "expiration_ttl": 5 }])).await, (400, 10_034));
    assert_eq!(put(json!([{ "key": "k", "value": "v".repeat((25 << 20) + 1) }])).await, (413, 10_027));
    let many: Vec<_> = (0..10_001).map(|n| json!({ "key": n.to_string(), "value": "" })).collect();
    assert_eq!(put(json!(many)).await, (400, 10_012));
    assert_eq!(api.cloudflare.state().kv["files"].1, 0, "nothing of a refused write is there");

    let pair = json!([{ "key": "k", "value": "1", "expiration_ttl": 60 }]);
    api.ok("PUT", &format!("{k}/bulk"), &pair).await;
    let again = api.ok("PUT", &format!("{k}/bulk"), &pair).await;
    assert_eq!(again["unsuccessful_keys"], json!(["k"]), "one write a second");
    assert_eq!(api.fails("PUT", &format!("{k}/values/k"), &json!("x")).await, (429, 10_033));
    clock.advance(Duration::from_secs(59));
    assert_eq!(api.cloudflare.state().kv["files"].1, 1);
    clock.advance(Duration::from_secs(1));
    assert_eq!(api.cloudflare.state().kv["files"].1, 0, "it has expired");
}

#[tokio::test]
async fn a_stale_reader_sees_what_was() {
    let (api, clock) = with_clock();
    let k = namespace(&api).await;
    api.cloudflare.set_faults(FaultPlan::none().kv_staleness(Duration::from_mins(1)));
    api.ok("PUT", &format!("{k}/bulk"), &json!([{ "key": "k", "value": "1" }])).await;
    let read = async || {
        let request = api.request("GET", &format!("{k}/values/k")).body(bytes::Bytes::new()).unwrap();
        api.raw(request).await
    };
    assert_eq!(read().await.0, 404);
    assert_eq!(api.cloudflare.kv_value(k.rsplit('/').next().unwrap(), "k").unwrap(), "1");
    clock.advance(Duration::from_mins(1));
    assert_eq!(read().await, (200, "1".into()));
}

#[tokio::test]
async fn buckets_are_made_once_and_deleted_empty() {
    let api = Api::in_process();
    let buckets = "/accounts/{a}/r2/buckets";
    api.ok("POST", buckets, &json!({ "name": "files" })).await;
    assert_eq!(api.fails("POST", buckets, &json!({ "name": "files" })).await, (409, 10_004));
    assert_eq!(api.fails("POST", buckets, &json!({ "name": "F" })).await, (400, 10_005));
    assert_eq!(api.ok("GET", buckets, &Value::Null).await["buckets"][0]["name"], "files");
    api.ok("DELETE", &format!("{buckets}/files"), &Value::Null).await;
    assert_eq!(api.fails("GET", &format!("{buckets}/files"), &Value::Null).await, (404, 10_006));
}

#[tokio::test]
async fn an_unsigned_request_reads_no_object() {
    let api = Api::in_process();
    api.ok("POST", "/accounts/{a}/r2/buckets", &json!({ "name": "files" })).await;
    for authorization in [
        "",
        "Bearer emulator-token",
        "AWS4-HMAC-SHA256 Credential=x/20261122/auto/s3/aws4_request, SignedHeaders=host, Signature=0",
    ] {
        let request = Request::builder().uri("/files/key").header("authorization", authorization);
        let (status, body) = api.raw(request.body(bytes::Bytes::new()).unwrap()).await;
        let body = String::from_utf8(body.to_vec()).unwrap();
        assert!(status == 403 && body.contains("<Code>"), "{authorization}: {status} {body}");
    }
}
