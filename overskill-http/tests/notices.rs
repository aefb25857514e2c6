//! Signed notices, judged by the reference library on a real server; and the probe, which looks at one.

#![allow(clippy::unwrap_used, reason = "helpers of tests are tests")]

use axum::{
    Router,
    body::Bytes,
    extract::State,
    http::{HeaderMap, StatusCode, header},
    response::IntoResponse,
    routing::{get, post},
};
use overskill_core::{
    DeploymentId, Digest, Health, HealthProbe, Notice, Notifier, OperatorChoice, ProbeRequest, PublicUrl, SeededIds,
    SystemIds, TestClock, Timestamp, WebhookSecret, WebhookSecrets,
};
use overskill_http::*;
use std::{
    collections::VecDeque,
    net::SocketAddr,
    num::NonZeroU32,
    sync::{Arc, Mutex},
    time::Duration,
};
use tokio::net::TcpListener;

type Received = (HeaderMap, Bytes);

/// Answers with the next of its statuses, and 204 ever after; keeps what it got.
#[derive(Clone, Default)]
struct Receiver {
    got: Arc<Mutex<Vec<Received>>>,
    statuses: Arc<Mutex<VecDeque<u16>>>,
}

impl Receiver {
    async fn start(statuses: impl IntoIterator<Item = u16>) -> (Self, SocketAddr) {
        let receiver = Self::default();
        receiver.statuses.lock().unwrap().extend(statuses);
        let app = Router::new().route("/hook", post(receive)).with_state(receiver.clone());
        (receiver, serve(app).await)
    }

    fn got(&self) -> Vec<Received> {
        self.got.lock().unwrap().clone()
    }
}

async fn receive(State(receiver): State<Receiver>, headers: HeaderMap, body: Bytes) -> impl IntoResponse {
    receiver.got.lock().unwrap().push((headers, body));
    let status = receiver.statuses.lock().unwrap().pop_front().unwrap_or(204);
    (StatusCode::from_u16(status).unwrap(), [(header::LOCATION, "/elsewhere")])
}

async fn serve(app: Router) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, app).await });
    address
}

fn loopback() -> TenantUrlClientBuilder {
    let policy = AddressPolicy::public().allow("127.0.0.1").unwrap();
    TenantUrlClient::builder().addresses(policy).any_port().allow_plain_http()
}

fn notifier(address: SocketAddr, secrets: WebhookSecrets) -> WebhookNotifier {
    let url = format!("http://{address}/hook?token=hunter2");
    let notifier = WebhookNotifier::new(loopback().build().unwrap(), &url, secrets).unwrap();
    notifier.ids(SeededIds::new(1)).waits(Duration::from_millis(5), Duration::from_millis(20))
}

fn secret(seed: u64) -> WebhookSecret {
    WebhookSecret::generate(&SeededIds::new(seed))
}

fn question() -> Notice {
    Notice::AwaitingOperator {
        deployment: DeploymentId::generate(&SeededIds::new(1), Timestamp::EPOCH),
        scope: "todo42/production".parse().unwrap(),
        question: "may it go live?".into(),
        choices: vec![OperatorChoice::Approve, OperatorChoice::Abort],
        deadline: Timestamp::from_unix_millis(1_767_225_600_000),
    }
}

/// The reference library's receiver for this secret.
fn reference(secret: &WebhookSecret) -> standardwebhooks::Webhook {
    standardwebhooks::Webhook::new(secret.to_text().expose()).unwrap()
}

#[tokio::test]
async fn the_reference_library_believes_it_and_nothing_else() {
    let (receiver, address) = Receiver::start([]).await;
    notifier(address, WebhookSecrets::new(secret(1))).notify(&question()).await.unwrap();
    let [(headers, body)] = <[Received; 1]>::try_from(receiver.got()).unwrap();
    reference(&secret(1)).verify(&body, &headers).unwrap();
    assert!(reference(&secret(2)).verify(&body, &headers).is_err(), "another secret");
    let tampered = String::from_utf8(body.to_vec()).unwrap().replace("todo42", "todo43");
    assert!(reference(&secret(1)).verify(tampered.as_bytes(), &headers).is_err(), "another body");
    let mut other_id = headers.clone();
    other_id.insert("webhook-id", "msg_1".parse().unwrap());
    assert!(reference(&secret(1)).verify(&body, &other_id).is_err(), "another id");

    let event: Notice = serde_json::from_slice(&body).unwrap();
    assert_eq!(event, question());
    assert_eq!(headers["content-type"], "application/json");
}

#[tokio::test]
async fn while_secrets_rotate_both_are_believed() {
    let (receiver, address) = Receiver::start([]).await;
    let rotating = WebhookSecrets::new(secret(2)).and(secret(1));
    notifier(address, rotating).notify(&question()).await.unwrap();
    let [(headers, body)] = <[Received; 1]>::try_from(receiver.got()).unwrap();
    for known in [1, 2] {
        reference(&secret(known)).verify(&body, &headers).unwrap();
    }
    assert!(reference(&secret(3)).verify(&body, &headers).is_err());
}

#[tokio::test]
async fn a_try_that_failed_is_made_again_under_the_same_id() {
    let (receiver, address) = Receiver::start([503, 429]).await;
    let notifier = notifier(address, WebhookSecrets::new(secret(1)));
    notifier.notify(&question()).await.unwrap();
    let got = receiver.got();
    assert_eq!(got.len(), 3);
    for (headers, body) in &got {
        assert_eq!((headers["webhook-id"].clone(), body), (got[0].0["webhook-id"].clone(), &got[0].1));
        reference(&secret(1)).verify(body, headers).unwrap();
    }
    // What is told again after a crash has the same id; what is otherwise has another, and so has a backend's each time.
    notifier.notify(&question()).await.unwrap();
    let down = Notice::Backend { name: "kv".into(), message: "down".into() };
    notifier.notify(&down).await.unwrap();
    notifier.notify(&down).await.unwrap();
    let ids: Vec<_> = receiver.got().iter().map(|(headers, _)| headers["webhook-id"].clone()).collect();
    assert_eq!(ids[3], ids[0]);
    assert!(ids[4] != ids[0] && ids[5] != ids[4], "{ids:?}");
}

#[tokio::test]
async fn what_would_be_answered_alike_is_not_sent_again_and_redirects_lead_nowhere() {
    for (status, kind) in [
        (301, ErrorKind::Invalid),
        (303, ErrorKind::Invalid),
        (400, ErrorKind::Invalid),
        (401, ErrorKind::Unauthenticated),
        (410, ErrorKind::NotFound),
    ] {
        let (receiver, address) = Receiver::start([status]).await;
        let e = notifier(address, WebhookSecrets::new(secret(1))).notify(&question()).await.unwrap_err();
        assert_eq!((e.kind(), receiver.got().len()), (kind, 1), "{status}: {e}");
    }
}

#[tokio::test]
async fn tries_are_bounded_and_the_error_names_the_host_alone() {
    let (receiver, address) = Receiver::start([500; 9]).await;
    let two = NonZeroU32::new(2).unwrap();
    let failing = notifier(address, WebhookSecrets::new(secret(1))).tries(two);
    let e = failing.notify(&question()).await.unwrap_err();
    assert_eq!((receiver.got().len(), e.effect()), (2, Effect::Unknown));

    let nobody = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let down = notifier(nobody, WebhookSecrets::new(secret(1)));
    let refused = down.notify(&question()).await.unwrap_err();
    assert_eq!((refused.kind(), refused.effect()), (ErrorKind::Unavailable, Effect::None));
    let key = secret(1).to_text().expose()["whsec_".len()..].to_owned();
    for shown in [format!("{e:?}"), format!("{refused:?}"), format!("{down:?}"), refused.public_message().into()] {
        for hidden in ["hunter2", "/hook", "token", key.as_str()] {
            assert!(!shown.contains(hidden), "{shown}");
        }
    }
    let context: Vec<_> = refused.context().map(|(name, value)| format!("{name}={value}")).collect();
    assert_eq!(context, ["host=127.0.0.1", "tries=3", "cause=connection refused"]);
}

#[tokio::test]
async fn a_receiver_that_says_nothing_is_given_up_on() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let silent = notifier(listener.local_addr().unwrap(), WebhookSecrets::new(secret(1)));
    let silent = silent.try_timeout(Duration::from_millis(50)).tries(NonZeroU32::new(2).unwrap());
    let e = silent.notify(&question()).await.unwrap_err();
    assert_eq!((e.kind(), e.effect()), (ErrorKind::Timeout, Effect::Unknown));
    assert!(e.context().any(|context| context == ("tries", "2")));
}

#[tokio::test]
async fn private_addresses_are_refused_unless_they_are_allowed() {
    let (receiver, address) = Receiver::start([]).await;
    let client = TenantUrlClient::builder().any_port().allow_plain_http().build().unwrap();
    for host in [format!("http://{address}/hook"), "https://10.0.0.1/hook".into(), "https://db/hook".into()] {
        let hook = WebhookNotifier::new(client.clone(), &host, WebhookSecrets::new(secret(1))).unwrap();
        let e = hook.notify(&question()).await.unwrap_err();
        assert_eq!((e.kind(), e.effect()), (ErrorKind::Invalid, Effect::None), "{host}");
        assert!(!hook.check().await.unwrap().is_ready(), "{host}");
    }
    let plain = TenantUrlClient::builder().addresses(AddressPolicy::public().allow("127.0.0.1").unwrap()).any_port();
    let hook = format!("http://{address}/hook");
    let hook = WebhookNotifier::new(plain.build().unwrap(), &hook, WebhookSecrets::new(secret(1))).unwrap();
    assert!(hook.notify(&question()).await.is_err(), "plain http");
    assert!(receiver.got().is_empty());
    assert!(notifier(address, WebhookSecrets::new(secret(1))).check().await.unwrap().is_ready());
}

/// Signed with the client's clock: a receiver whose clock is right does not believe one that is wrong.
#[tokio::test]
async fn its_time_is_the_clocks() {
    let (receiver, address) = Receiver::start([]).await;
    let clock = TestClock::new();
    let url = format!("http://{address}/hook");
    let client = loopback().clock(clock).build().unwrap();
    let hook = WebhookNotifier::new(client, &url, WebhookSecrets::new(secret(1))).unwrap().ids(SystemIds);
    hook.notify(&question()).await.unwrap();
    let [(headers, body)] = <[Received; 1]>::try_from(receiver.got()).unwrap();
    assert_eq!(headers["webhook-timestamp"], "1767225600");
    assert!(reference(&secret(1)).verify(&body, &headers).is_err());
}

const DIGEST: &str = "x-version-digest";

async fn app(version: &'static str) -> SocketAddr {
    let digest = Digest::of(version.as_bytes()).to_string();
    let sick = || async { (StatusCode::INTERNAL_SERVER_ERROR, "no") };
    let app = Router::new()
        .route("/", get(async move || ([(DIGEST, digest)], "well")))
        .route("/sick", get(sick))
        .route("/moved", get(async || (StatusCode::FOUND, [(header::LOCATION, "/sick")])))
        .route("/long", get(async || vec![b'x'; 3 << 20]))
        .route("/slow", get(std::future::pending::<&str>));
    serve(app).await
}

fn ask(url: &str) -> ProbeRequest {
    ProbeRequest::new("todo42/staging".parse().unwrap(), PublicUrl::parse(url).unwrap())
}

fn why(health: Result<Health>) -> String {
    match health.unwrap() {
        Health::Healthy => "healthy".into(),
        Health::Unhealthy { reason } => reason,
    }
}

#[tokio::test]
async fn a_probe_looks_at_status_time_and_version() {
    let address = app("v1").await;
    let here = format!("http://todo42.localhost:{}", address.port()); // a name that few resolvers know
    let probe = HttpProbe::on_loopback().unwrap();
    assert_eq!(why(probe.probe(&ask(&here)).await), "healthy");
    let at = async |path| why(probe.clone().path(path).unwrap().probe(&ask(&here)).await);
    let hasty = probe.clone().deadline(Duration::from_millis(300)).path("/slow").unwrap();
    assert_eq!(at("/moved").await, "healthy", "and nobody followed it");
    assert_eq!(at("/sick").await, "it answered 500");
    assert_eq!(at("/none").await, "it answered 404");
    assert_eq!(why(hasty.probe(&ask(&here)).await), "no answer within 300ms");
    assert_eq!(at("/long").await, "healthy", "the end of a long body is not waited for");
    let strict = probe.clone().healthy([200..=299]).path("/moved").unwrap();
    assert_eq!(why(strict.probe(&ask(&here)).await), "it answered 302");

    let versions = probe.clone().digest_in(DIGEST);
    let expect = |version: &str| ask(&here).expect(Digest::of(version.as_bytes()));
    assert_eq!(why(versions.probe(&expect("v1")).await), "healthy");
    assert!(why(versions.probe(&expect("v2")).await).starts_with("another version answers"));
    let silent = versions.path("/long").unwrap();
    assert!(why(silent.probe(&expect("v1")).await).starts_with("it does not say which version it is"));

    let gone = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    assert_eq!(why(probe.probe(&ask(&format!("http://{gone}"))).await), "no connection to the server");
    assert!(probe.clone().path("healthz").is_err() && probe.path("/../x").is_err());
}

#[tokio::test]
async fn a_probe_of_the_internet_does_not_look_inside() {
    let address = app("v1").await;
    let client = TenantUrlClient::builder().allow_plain_http().any_port().build().unwrap();
    let local = HttpProbe::on_loopback().unwrap();
    let public = HttpProbe::new(client);
    for url in [format!("http://{address}"), format!("http://x.localhost:{}", address.port()), "ws://x.test".into()] {
        assert_eq!(public.probe(&ask(&url)).await.unwrap_err().kind(), ErrorKind::Invalid, "{url}");
    }
    assert_eq!(local.probe(&ask("http://10.0.0.1:1/")).await.unwrap_err().kind(), ErrorKind::Invalid);
    assert!(!public.healthy([]).check().await.unwrap().is_ready());
}
