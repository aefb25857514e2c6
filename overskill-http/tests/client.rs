//! Calls on a clock that stands still, against a scripted server: retries, deadlines, effects, pauses, redaction.

#![allow(clippy::unwrap_used, reason = "helpers of tests are tests")]

use overskill_core::{AppId, Clock, SeededIds, TestClock};
use overskill_http::*;
use std::{
    collections::VecDeque,
    num::NonZeroU32,
    sync::{Arc, Mutex},
    time::Duration,
};

const BASE: &str = "https://api.example.com/v1";

/// What the server does next.
enum Act {
    Answer(u16),
    AnswerWith(u16, &'static str, &'static str),
    Body(u16, &'static str),
    NoConnection,
    CutOff,
    Silence,
}

fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

struct Bench {
    clock: TestClock,
    recording: Recording,
}

impl Bench {
    fn new(script: impl IntoIterator<Item = Act>) -> Self {
        let script = Mutex::new(script.into_iter().collect::<VecDeque<_>>());
        let server = transport_fn(move |_: Request| {
            let act = script.lock().unwrap().pop_front();
            async move {
                match act.expect("no more requests were expected") {
                    Act::Answer(status) => Ok(Response::new(status, "")),
                    Act::AnswerWith(status, name, value) => Response::new(status, "").with_header(name, value),
                    Act::Body(status, body) => Ok(Response::new(status, body)),
                    Act::NoConnection => Err(not_sent("refused")),
                    Act::CutOff => Err(cut_off("reset")),
                    Act::Silence => std::future::pending().await,
                }
            }
        });
        Self { clock: TestClock::new(), recording: Recording::new(server) }
    }

    fn builder(&self) -> ClientBuilder {
        Client::builder("demo", BASE)
            .transport(self.recording.clone())
            .clock(self.clock.clone())
            .ids(SeededIds::new(7))
            .credential(Credential::bearer("hunter2"))
    }

    fn client(&self) -> Client {
        self.builder().build().unwrap()
    }

    async fn send(&self, call: Call) -> Result<Response> {
        self.clock.drive(call.send()).await
    }

    fn sent(&self) -> usize {
        self.recording.requests().len()
    }
}

#[tokio::test]
async fn what_may_have_landed_is_repeated_only_when_that_is_harmless() {
    for (method, unknown_again) in [
        (Method::Get, true),
        (Method::Put, true),
        (Method::Delete, true),
        (Method::Post, false),
        (Method::Patch, false),
    ] {
        for act in [Act::CutOff, Act::Silence, Act::Answer(500), Act::Answer(503)] {
            let bench = Bench::new([act, Act::Answer(200)]);
            let outcome = bench.send(bench.client().call(method, "x")).await;
            assert_eq!(outcome.is_ok(), unknown_again, "{method}");
            if let Err(e) = outcome {
                assert_eq!(e.effect(), Effect::Unknown);
            }
        }
        for act in [Act::NoConnection, Act::Answer(429), Act::Answer(408)] {
            let bench = Bench::new([act, Act::Answer(200)]);
            let response = bench.send(bench.client().call(method, "x")).await.unwrap();
            assert_eq!(response.tries, 2);
        }
    }
}

#[tokio::test]
async fn a_caller_may_know_better_than_the_method() {
    let bench = Bench::new([Act::CutOff, Act::Answer(200)]);
    assert!(bench.send(bench.client().post("x").idempotent()).await.is_ok());
    let bench = Bench::new([Act::CutOff, Act::Answer(200)]);
    assert!(bench.send(bench.client().put("x").repeat(Repeat::Once)).await.is_err());
    let bench = Bench::new(std::iter::repeat_with(|| Act::CutOff).take(4));
    let e = bench.send(bench.client().post("x").read_only()).await.unwrap_err();
    assert_eq!(e.effect(), Effect::None);
}

#[tokio::test]
async fn what_is_wrong_is_not_repeated() {
    for status in [400, 401, 403, 404, 409, 413, 422, 501] {
        let bench = Bench::new([Act::Answer(status)]);
        let e = bench.send(bench.client().get("x")).await.unwrap_err();
        assert_eq!((e.retry(), e.effect()), (Retry::Never, Effect::None), "{status}");
    }
}

#[tokio::test]
async fn once_unknown_the_effect_stays_unknown() {
    for last in [Act::Answer(409), Act::Answer(403), Act::NoConnection] {
        let bench = Bench::new([Act::CutOff, last]);
        let client = bench.builder().max_tries(NonZeroU32::new(2).unwrap()).build().unwrap();
        let e = bench.send(client.put("x")).await.unwrap_err();
        assert_eq!(e.effect(), Effect::Unknown, "{e}");
    }
    let bench = Bench::new([Act::CutOff, Act::Answer(409)]);
    let e = bench.send(bench.client().get("x")).await.unwrap_err();
    assert_eq!(e.effect(), Effect::None, "a safe call has no effect");
}

#[tokio::test]
async fn errors_say_where_how_often_and_how_long_and_hold_no_secret() {
    let bench = Bench::new([Act::NoConnection, Act::Silence, Act::CutOff, Act::AnswerWith(500, "cf-ray", "8f1")]);
    let call = bench.client().put(["kv", "a/b"]).query("token", "hunter2").operation("put_value");
    let e = bench.send(call.json(&serde_json::json!({"password": "hunter2"}))).await.unwrap_err();
    let shown = format!("{e:?}");
    for part in [
        "demo/put_value: ",
        "500 Internal Server Error",
        "(unavailable)",
        "status=500",
        "request_id=8f1",
        "method=PUT",
        "url=https://api.example.com/v1/kv/a%2Fb?…",
        "tries=4",
        "elapsed=3", // the 30 s of the silent try, and the backoff
    ] {
        assert!(shown.contains(part), "{part} in {shown}");
    }
    let seen = format!("{:?} {:?} {:?}", bench.recording.requests(), bench.client(), bench.client().get("x"));
    assert!(!shown.contains("hunter") && !seen.contains("hunter"), "{shown}\n{seen}");
}

#[tokio::test]
async fn the_servers_wish_is_waited_for_unless_it_reaches_past_the_deadline() {
    for value in ["20", "Thu, 01 Jan 2026 00:00:20 GMT"] {
        let bench = Bench::new([Act::AnswerWith(503, "retry-after", value), Act::Answer(200)]);
        bench.send(bench.client().get("x")).await.unwrap();
        assert_eq!(bench.clock.monotonic(), secs(20), "{value}");
    }
    let bench = Bench::new([Act::AnswerWith(429, "retry-after", "600")]);
    let e = bench.send(bench.client().get("x").deadline(secs(60))).await.unwrap_err();
    assert_eq!((e.kind(), e.retry()), (ErrorKind::RateLimited, Retry::After(secs(600))));
    assert_eq!(bench.clock.monotonic(), Duration::ZERO, "it fails at once");
}

#[tokio::test]
async fn a_429_says_how_long_in_seconds_or_by_a_date_or_not_at_all() {
    for value in ["20", "Thu, 01 Jan 2026 00:00:20 GMT"] {
        let bench = Bench::new([Act::AnswerWith(429, "retry-after", value), Act::Answer(200)]);
        let response = bench.send(bench.client().post("x")).await.unwrap();
        assert_eq!((response.tries, bench.clock.monotonic()), (2, secs(20)), "{value}");
    }
    let bench = Bench::new([Act::Answer(429), Act::Answer(200)]);
    let client = bench.builder().waits(secs(1), secs(3)).build().unwrap();
    assert_eq!(bench.send(client.post("x")).await.unwrap().tries, 2);
    assert!(bench.clock.monotonic() <= secs(1), "{:?}", bench.clock.monotonic());
    // Ten minutes from now, in either form.
    for value in ["600", "Thu, 01 Jan 2026 00:10:00 GMT"] {
        let bench = Bench::new([Act::AnswerWith(429, "retry-after", value)]);
        let e = bench.send(bench.client().post("x").deadline(secs(60))).await.unwrap_err();
        assert_eq!((e.kind(), e.retry(), e.effect()), (ErrorKind::RateLimited, Retry::After(secs(600)), Effect::None));
    }
}

#[tokio::test]
async fn waits_are_spread_below_a_bound_that_doubles_up_to_a_longest_one() {
    let mut longest = [Duration::ZERO; 3];
    for seed in 0..40 {
        let bench = Bench::new(std::iter::repeat_with(|| Act::NoConnection).take(4));
        let at = Arc::new(Mutex::new(Vec::new()));
        let (seen, clock, inner) = (Arc::clone(&at), bench.clock.clone(), bench.recording.clone());
        let server = transport_fn(move |request: Request| {
            seen.lock().unwrap().push(clock.monotonic());
            let inner = inner.clone();
            async move { inner.send(request).await }
        });
        let client = bench.builder().transport(server).ids(SeededIds::new(seed)).waits(secs(1), secs(3));
        bench.send(client.build().unwrap().get("x")).await.unwrap_err();
        let at = at.lock().unwrap();
        assert_eq!(at.len(), 4);
        for (i, pair) in at.windows(2).enumerate() {
            longest[i] = longest[i].max(pair[1].saturating_sub(pair[0]));
        }
    }
    for (longest, bound) in longest.into_iter().zip([1, 2, 3]) {
        assert!(longest <= secs(bound) && longest > secs(bound) * 3 / 4, "{longest:?} of {bound} s");
    }
}

#[tokio::test]
async fn a_deadline_holds_over_all_tries() {
    let bench = Bench::new(std::iter::repeat_with(|| Act::Silence).take(9));
    let call = bench.client().put("x").deadline(secs(70)).try_timeout(secs(30));
    let e = bench.send(call).await.unwrap_err();
    assert_eq!((e.kind(), e.effect()), (ErrorKind::Timeout, Effect::Unknown));
    assert!(bench.clock.monotonic() <= secs(70), "{:?}", bench.clock.monotonic());
    assert_eq!(bench.sent(), 3);
}

#[tokio::test]
async fn a_429_pauses_everybody_who_shares_the_credential() {
    let bench = Bench::new([Act::AnswerWith(429, "retry-after", "30"), Act::Answer(200), Act::Answer(200)]);
    let quota = Quota::new(NonZeroU32::new(100).unwrap(), secs(100)).burst(NonZeroU32::new(10).unwrap());
    let limiter = Limiter::new("demo", quota, Arc::new(bench.clock.clone())).unwrap();
    let client = bench.builder().limiter(limiter).build().unwrap();
    let shared = client.clone();
    let app = AppId::parse("todo42").unwrap();
    let first = async {
        client.post("x").for_app(&app).send().await.unwrap();
        bench.clock.monotonic()
    };
    let second = async {
        bench.clock.sleep(secs(1)).await;
        shared.post("y").for_app("other").send().await.unwrap();
        bench.clock.monotonic()
    };
    let (first, second) = bench.clock.drive(async { tokio::join!(first, second) }).await;
    assert!(first >= secs(30) && second >= secs(30), "{first:?} {second:?}");
}

#[tokio::test]
async fn no_permit_before_the_deadline_means_that_nothing_happened() {
    let bench = Bench::new([]);
    let quota = Quota::new(NonZeroU32::MIN, secs(100));
    let limiter = Limiter::new("demo", quota, Arc::new(bench.clock.clone())).unwrap();
    limiter.pause(secs(600));
    let client = bench.builder().limiter(limiter.clone()).build().unwrap();
    let e = bench.send(client.post("x").deadline(secs(5))).await.unwrap_err();
    assert_eq!((e.kind(), e.effect()), (ErrorKind::Timeout, Effect::None));
    assert_eq!((bench.sent(), limiter.queue_length()), (0, 0));
}

#[tokio::test]
async fn a_provider_may_judge_by_the_body() {
    let classify = |_: &Request, response: &Response, by_status: Option<Error>| {
        let throttled = response.text().contains("971");
        if throttled { Some(Error::new(ErrorKind::RateLimited, "throttled (971)")) } else { by_status }
    };
    let bench = Bench::new([Act::Body(200, r#"{"errors":[{"code":971}]}"#), Act::Body(200, "fine")]);
    let client = bench.builder().classify(classify).build().unwrap();
    let response = bench.send(client.post("x")).await.unwrap();
    assert_eq!((response.text().as_str(), response.tries), ("fine", 2));
}

#[tokio::test]
async fn the_credential_goes_nowhere_else() {
    let bench = Bench::new([Act::Answer(200)]);
    for elsewhere in ["https://evil.com/v1/x", "http://api.example.com/v1", "https://api.example.com:8443/"] {
        let e = bench.send(bench.client().get(elsewhere)).await.unwrap_err();
        assert_eq!((e.kind(), e.effect()), (ErrorKind::Invalid, Effect::None), "{elsewhere}");
    }
    assert_eq!(bench.sent(), 0);
    bench.send(bench.client().put("https://bucket.example.net/x?sig=hunter2").anonymous()).await.unwrap();
    let seen = bench.recording.requests().remove(0);
    assert!(seen.headers.iter().all(|(name, _)| name != "authorization"), "{seen:?}");
}

#[tokio::test]
async fn mistakes_are_told_before_anything_is_sent() {
    let bench = Bench::new([]);
    let client = bench.client();
    for (call, field) in [
        (client.get("../other"), "request path"),
        (client.get(["kv", ".."]), "request path segment"),
        (client.get("x").header("a b", "c"), "header name"),
        (client.get("x").header("a", "b\r\nc: d"), "header value"),
        (client.get("x").query("q", "x".repeat(9000)), "URL must be at most 8,192 bytes"),
    ] {
        let e = bench.send(call).await.unwrap_err();
        assert_eq!(e.kind(), ErrorKind::Invalid);
        assert!(e.message().contains(field), "{e}");
    }
    let refused = |b: ClientBuilder| b.build().unwrap_err().kind() == ErrorKind::Invalid;
    assert!(refused(Client::builder("demo", "api.example.com")));
    assert!(refused(Client::builder("demo", BASE).header("x", "\n")));
    assert!(refused(Client::builder("demo", BASE).credential(Credential::bearer("\n"))));
    let plain = || Client::builder("demo", "http://kong:8000").credential(Credential::bearer("x"));
    assert!(refused(plain()));
    assert!(plain().allow_plain_http().build().is_ok());
    let open = Client::builder("demo", "http://kong:8000").build().unwrap();
    assert!(open.with_credential(Credential::bearer("x"), None).is_err());
    assert!(Client::builder("demo", "http://127.0.0.1:1").credential(Credential::bearer("x")).build().is_ok());
}

#[tokio::test]
async fn a_body_has_a_limit() {
    let bench = Bench::new([Act::Body(200, "0123456789"), Act::Body(200, "0123456789")]);
    let e = bench.send(bench.client().put("x").max_body_bytes(9)).await.unwrap_err();
    assert_eq!((e.kind(), e.effect(), e.retry()), (ErrorKind::LimitExceeded, Effect::Unknown, Retry::Never));
    assert!(bench.send(bench.client().put("x").max_body_bytes(10)).await.is_ok());
}

#[tokio::test]
async fn streams_are_read_as_they_come_and_judged_when_they_fail() {
    use futures::TryStreamExt as _;
    let bench = Bench::new([
        Act::Body(500, "no"),
        Act::Body(200, "data: {\"step\":1}\n\ndata: {\"step\":2}\n\n"),
        Act::Body(404, "gone"),
    ]);
    let stream = bench.client().get("progress").operation("progress").stream();
    let body = bench.clock.drive(stream).await.unwrap().body;
    let events: Vec<_> = bench.clock.drive(body.events(1024).try_collect()).await.unwrap();
    assert_eq!(events.iter().map(|e| e.data.as_str()).collect::<Vec<_>>(), [r#"{"step":1}"#, r#"{"step":2}"#]);
    let e = bench.clock.drive(bench.client().get("progress").stream()).await.unwrap_err();
    assert_eq!(e.kind(), ErrorKind::NotFound);
}

#[tokio::test]
async fn a_streamed_failure_that_a_classifier_lets_pass_keeps_its_body() {
    let bench = Bench::new([Act::Body(404, "gone")]);
    let client = bench.builder().classify(|_: &Request, _: &Response, _| None).build().unwrap();
    let answer = bench.clock.drive(client.get("progress").stream()).await.unwrap();
    assert_eq!((answer.status, bench.clock.drive(answer.collect(100)).await.unwrap().text()), (404, "gone".into()));
}

#[tokio::test]
async fn a_silent_stream_ends_and_says_whose_it_was() {
    use futures::StreamExt as _;
    let parts = || futures::stream::once(async { Ok(bytes::Bytes::from("a")) }).chain(futures::stream::pending());
    let server = transport_fn(move |_: Request| async move { Ok(Response::streaming(200, Body::stream(parts()))) });
    let bench = Bench::new([]);
    let client = bench.builder().transport(server).build().unwrap();
    let call = client.get("logs?token=hunter2").operation("logs").try_timeout(secs(9)).stream();
    let body = bench.clock.drive(call).await.unwrap().body;
    let e = bench.clock.drive(body.collect(100)).await.unwrap_err();
    assert_eq!((e.kind(), e.effect(), e.backend(), e.operation()), (ErrorKind::Timeout, Effect::None, "demo", "logs"));
    assert!(!format!("{e:?}").contains("hunter"));
}

#[test]
fn calls_can_be_spawned() {
    fn spawnable<T: Send + 'static>(_: T) {}
    let client = Bench::new([]).client();
    spawnable(client.get("x").send());
    spawnable(client.get("x").stream());
    spawnable(TenantUrlClient::builder().build().unwrap().get("https://x.test").send());
}
