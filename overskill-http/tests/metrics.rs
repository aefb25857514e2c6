//! The metrics that the README promises, and that no label names an app.

#![allow(clippy::unwrap_used, reason = "helpers of tests are tests")]

use metrics::{Counter, Gauge, Histogram, Key, KeyName, Metadata, Recorder, SharedString, Unit};
use overskill_core::TestClock;
use overskill_http::*;
use std::{
    collections::BTreeSet,
    num::NonZeroU32,
    sync::{Arc, Mutex},
    time::Duration,
};

/// Keeps which metrics were used, with their labels.
#[derive(Clone, Default)]
struct Seen(Arc<Mutex<BTreeSet<String>>>);

impl Seen {
    fn note(&self, key: &Key) {
        let labels: Vec<_> = key.labels().map(|l| format!("{}={}", l.key(), l.value())).collect();
        self.0.lock().unwrap().insert(format!("{}{{{}}}", key.name(), labels.join(",")));
    }
}

impl Recorder for Seen {
    fn describe_counter(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn describe_gauge(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn describe_histogram(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn register_counter(&self, key: &Key, _: &Metadata<'_>) -> Counter {
        self.note(key);
        Counter::noop()
    }
    fn register_gauge(&self, key: &Key, _: &Metadata<'_>) -> Gauge {
        self.note(key);
        Gauge::noop()
    }
    fn register_histogram(&self, key: &Key, _: &Metadata<'_>) -> Histogram {
        self.note(key);
        Histogram::noop()
    }
}

#[tokio::test]
async fn metrics_are_those_of_the_readme() {
    let seen = Seen::default();
    let _guard = metrics::set_default_local_recorder(&seen);
    let clock = TestClock::new();
    let failing = std::sync::atomic::AtomicBool::new(true);
    let server = transport_fn(move |_: Request| {
        let first = failing.swap(false, std::sync::atomic::Ordering::SeqCst);
        async move { if first { Err(not_sent("x")) } else { Ok(Response::new(200, "")) } }
    });
    let quota = Quota::new(NonZeroU32::new(10).unwrap(), Duration::from_secs(10));
    let client = Client::builder("demo", "https://api.example.com")
        .transport(server)
        .limiter(Limiter::new("demo", quota, Arc::new(clock.clone())).unwrap())
        .clock(clock.clone())
        .build()
        .unwrap();
    clock.drive(client.get("x").for_app("todo42").operation("list").send()).await.unwrap();
    let tenant = TenantUrlClient::builder().clock(clock.clone()).build().unwrap();
    clock.drive(tenant.get("https://127.0.0.1/").send()).await.unwrap_err();

    let seen = seen.0.lock().unwrap();
    let want = [
        "overskill_http_queue_length{backend=demo}",
        "overskill_http_queue_seconds{backend=demo}",
        "overskill_http_request_seconds{backend=demo,operation=list,status=2xx}",
        "overskill_http_request_seconds{backend=demo,operation=list,status=unavailable}",
        "overskill_http_retries_total{backend=demo,operation=list,kind=unavailable}",
        "overskill_http_tenant_refused_total{reason=address}",
        "overskill_http_tenant_request_seconds{status=invalid}",
    ];
    assert_eq!(seen.iter().map(String::as_str).collect::<Vec<_>>(), want);
    let readme = include_str!("../README.md");
    for metric in seen.iter() {
        let name = metric.split('{').next().unwrap();
        assert!(readme.contains(&format!("`{name}`")), "{name}");
    }
}
