//! What goes wrong on purpose: in process and on the wire.

use crate::support::Api;
use overskill_core::{Clock as _, TestClock};
use overskill_testkit::cloudflare::{Calls, CloudflareEmulator, Fault, FaultPlan, Lost, Moment};
use serde_json::{Value, json};
use std::{sync::Arc, time::Duration};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::timeout,
};

const NAMESPACES: &str = "/accounts/{a}/workers/dispatch/namespaces";

fn with(plan: FaultPlan) -> Api {
    Api::with(CloudflareEmulator::options().faults(plan))
}

/// Creates a namespace under one fault.
async fn under(fault: Fault) -> (Api, Result<(u16, Value), Lost>) {
    let api = with(FaultPlan::none().nth(1, Calls::of("POST", "/namespaces"), fault));
    let request = api.request("POST", NAMESPACES).body(json!({ "name": "apps" }).to_string().into()).unwrap();
    let answer = api.cloudflare.call(request).await;
    let answer = answer.map(|it| (it.status().as_u16(), serde_json::from_slice(it.body()).unwrap_or_default()));
    (api, answer)
}

fn happened(api: &Api) -> bool {
    api.cloudflare.state().namespaces.contains_key("apps")
}

#[tokio::test]
async fn a_fault_before_has_no_effect_and_one_after_has() {
    for (moment, effect) in [(Moment::Before, false), (Moment::After, true)] {
        let (api, answer) = under(Fault::ServerError { status: 500, moment }).await;
        let (status, body) = answer.unwrap();
        assert_eq!((status, &body["errors"][0]["code"], happened(&api)), (500, &json!(10_001), effect));
        let (api, answer) = under(Fault::ServerError { status: 522, moment }).await;
        assert_eq!((answer.unwrap(), happened(&api)), ((522, Value::Null), effect));
        let (api, answer) = under(Fault::CutOff(moment)).await;
        assert!(matches!(answer, Err(Lost::NoAnswer)) && happened(&api) == effect);
    }
    let (api, answer) = under(Fault::CutBody).await;
    let Err(Lost::CutBody(part)) = answer else { panic!("{answer:?}") };
    let length: usize = part.headers()["content-length"].to_str().unwrap().parse().unwrap();
    assert!(part.body().len() < length && happened(&api));
}

#[tokio::test]
async fn too_many_calls_are_told_in_three_ways() {
    let (api, answer) = under(Fault::TooMany { retry_after: None }).await;
    assert_eq!(answer.unwrap().1["errors"][0]["code"], 971);
    assert!(!happened(&api));
    let (_, answer) = under(Fault::Throttled).await;
    let (status, body) = answer.unwrap();
    assert_eq!((status, &body["success"], &body["errors"][0]["code"]), (200, &json!(false), &json!(971)));
    let (_, answer) = under(Fault::BareTooMany).await;
    assert_eq!(answer.unwrap(), (429, Value::Null));

    let api =
        with(FaultPlan::none().nth(1, Calls::any(), Fault::TooMany { retry_after: Some(Duration::from_secs(7)) }));
    let answer = api.cloudflare.call(api.request("GET", NAMESPACES).body("".into()).unwrap()).await.unwrap();
    assert_eq!(answer.headers()["retry-after"], "7");
    assert_eq!(api.call("GET", NAMESPACES, &Value::Null).await.0, 200, "only the first");
}

#[tokio::test]
async fn half_the_keys_of_a_bulk_write_fail() {
    let api = with(FaultPlan::none().nth(1, Calls::of("PUT", "/bulk"), Fault::RefuseKeys));
    let id = api.ok("POST", "/accounts/{a}/storage/kv/namespaces", &json!({ "title": "t" })).await["id"].clone();
    let bulk = format!("/accounts/{{a}}/storage/kv/namespaces/{}/bulk", id.as_str().unwrap());
    let pairs = json!([{ "key": "a", "value": "" }, { "key": "b", "value": "" }, { "key": "c", "value": "" }]);
    let done = api.ok("PUT", &bulk, &pairs).await;
    assert_eq!(done, json!({ "successful_key_count": 1, "unsuccessful_keys": ["a", "c"] }));
    assert_eq!(api.cloudflare.state().kv["t"].1, 1);
    let done = api.ok("PUT", &bulk, &json!([{ "key": "a", "value": "" }])).await;
    assert_eq!(done["successful_key_count"], 1);
}

#[tokio::test]
async fn a_call_hangs_for_good() {
    for (moment, effect) in [(Moment::Before, false), (Moment::After, true)] {
        let api = with(FaultPlan::none().nth(1, Calls::of("POST", "/namespaces"), Fault::Hang(moment)));
        let request = api.request("POST", NAMESPACES).body(json!({ "name": "apps" }).to_string().into()).unwrap();
        assert!(timeout(Duration::from_millis(200), api.cloudflare.call(request)).await.is_err());
        assert_eq!(happened(&api), effect);
        assert_eq!(api.cloudflare.requests()[0].status, None);
    }
}

#[tokio::test]
async fn latency_is_the_clocks() {
    let clock = Arc::new(TestClock::default());
    let plan = FaultPlan::none().latency(Duration::from_secs(3), Duration::from_secs(3));
    let api = Api::with(CloudflareEmulator::options().clock(clock.clone()).faults(plan));
    let before = clock.monotonic();
    let call = api.call("GET", NAMESPACES, &Value::Null);
    let drive = async {
        while clock.monotonic() < before + Duration::from_secs(3) {
            tokio::task::yield_now().await;
            clock.advance(Duration::from_millis(500));
        }
    };
    assert_eq!(tokio::join!(call, drive).0.0, 200);
}

#[tokio::test]
async fn the_quota_is_one_for_all_tokens() {
    let clock = Arc::new(TestClock::default());
    let options = CloudflareEmulator::options().clock(clock.clone()).tokens(["one", "two"]);
    let api = Api::with(options.quota(3, Duration::from_mins(5)));
    let ask = async |token: &str| {
        let mut request = api.request("GET", NAMESPACES).body(bytes::Bytes::new()).unwrap();
        request.headers_mut().insert("authorization", format!("Bearer {token}").parse().unwrap());
        let answer = api.cloudflare.call(request).await.unwrap();
        let retry_after = answer.headers().get("retry-after").map(|it| it.to_str().unwrap().to_owned());
        (answer.status().as_u16(), retry_after)
    };
    for token in ["one", "two", "wrong"] {
        assert_ne!(ask(token).await.0, 429);
    }
    assert_eq!(ask("two").await, (429, Some("300".to_owned())));
    clock.advance(Duration::from_secs(299));
    assert_eq!(ask("one").await, (429, Some("1".to_owned())));
    clock.advance(Duration::from_secs(1));
    assert_eq!(ask("one").await, (200, None));
    api.cloudflare.set_quota(1, Duration::from_mins(5));
    assert_eq!((ask("one").await.0, ask("one").await.0), (200, 429));
}

#[tokio::test]
async fn what_came_is_recorded() {
    let api = Api::with(CloudflareEmulator::options().record_bodies(true));
    api.namespace("apps").await;
    let calls = api.cloudflare.requests();
    assert_eq!((calls[0].method.as_str(), calls[0].status), ("POST", Some(200)));
    assert_eq!(calls[0].body.as_deref(), Some(&br#"{"name":"apps"}"#[..]));
    assert!(!format!("{calls:?}").contains("emulator-token"), "no token is kept");
    api.cloudflare.clear_requests();
    assert!(api.cloudflare.requests().is_empty());
}

#[tokio::test]
async fn on_loopback_connections_really_break() {
    let plan =
        FaultPlan::none().nth(2, Calls::any(), Fault::CutOff(Moment::Before)).nth(3, Calls::any(), Fault::CutBody);
    let cloudflare = CloudflareEmulator::options().edge(false).faults(plan).start().await.unwrap();
    let address = cloudflare.s3_url().replace("http://", "");
    let ask = async || {
        let mut stream = TcpStream::connect(&address).await.unwrap();
        let head = "GET /client/v4/accounts HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer emulator-token\r\nConnection: close\r\n\r\n";
        stream.write_all(head.as_bytes()).await.unwrap();
        let mut answer = String::new();
        let _ = stream.read_to_string(&mut answer).await; // a reset is one way to break
        answer
    };
    let whole = ask().await;
    assert!(whole.starts_with("HTTP/1.1 200") && whole.ends_with('}'), "{whole}");
    assert_eq!(ask().await, "");
    let cut = ask().await;
    assert!(cut.starts_with("HTTP/1.1 200") && !cut.ends_with("null}") && cut.len() < whole.len(), "{cut}");
}
