//! The client for tenants' URLs: what it refuses, what it lets through, and that it connects to nothing unchecked.

#![allow(clippy::unwrap_used, reason = "helpers of tests are tests")]

mod server;

use async_trait::async_trait;
use overskill_core::TestClock;
use overskill_http::*;
use server::{Act, Server, answer};
use std::{
    collections::VecDeque,
    net::{IpAddr, SocketAddr},
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

/// Answers each question with the next of its lists, and the last one ever after.
#[derive(Clone, Debug)]
struct Liar {
    answers: Arc<Mutex<VecDeque<Vec<IpAddr>>>>,
    asked: Arc<AtomicUsize>,
}

impl Liar {
    fn new<const N: usize>(answers: [&[&str]; N]) -> Self {
        let parse = |list: &&[&str]| list.iter().map(|ip| ip.parse().unwrap()).collect();
        Self { answers: Arc::new(Mutex::new(answers.iter().map(parse).collect())), asked: Arc::default() }
    }
}

#[async_trait]
impl Resolver for Liar {
    async fn resolve(&self, _: &str) -> Result<Vec<IpAddr>> {
        self.asked.fetch_add(1, Ordering::SeqCst);
        let mut answers = self.answers.lock().unwrap();
        match answers.len() {
            1 => Ok(answers[0].clone()),
            _ => Ok(answers.pop_front().unwrap()),
        }
    }
}

/// Keeps what it was asked to connect to, and answers as scripted.
#[derive(Clone, Debug, Default)]
struct Wire {
    sent: Arc<Mutex<Vec<Sent>>>,
    answers: Arc<Mutex<VecDeque<Response>>>,
}

type Sent = (Request, Vec<SocketAddr>);

impl Wire {
    fn new(answers: impl IntoIterator<Item = Response>) -> Self {
        let wire = Self::default();
        wire.answers.lock().unwrap().extend(answers);
        wire
    }

    fn to(&self) -> Vec<String> {
        let sent = self.sent.lock().unwrap();
        sent.iter().flat_map(|(_, to)| to.iter().map(ToString::to_string)).collect()
    }
}

#[async_trait]
impl PinnedTransport for Wire {
    async fn send_to(&self, request: Request, addresses: &[SocketAddr]) -> Result<Response<Body>> {
        self.sent.lock().unwrap().push((request, addresses.to_vec()));
        let next = self.answers.lock().unwrap().pop_front();
        Ok(next.unwrap_or_else(|| Response::new(200, "ok")).into())
    }
}

fn redirect(status: u16, to: &str) -> Response {
    Response::new(status, "").with_header("location", to).unwrap()
}

fn client(wire: &Wire, resolver: &Liar) -> TenantUrlClient {
    TenantUrlClient::builder().transport(wire.clone()).resolver(resolver.clone()).allow_plain_http().build().unwrap()
}

async fn refused(url: &str, resolver: &Liar) {
    let wire = Wire::default();
    let client = client(&wire, resolver);
    let e = client.post(url).body("text/plain", "x").send().await.expect_err(url);
    assert_eq!((e.kind(), e.effect(), e.retry()), (ErrorKind::Invalid, Effect::None, Retry::Never), "{url}: {e}");
    assert!(wire.to().is_empty(), "{url} was connected to");
    assert!(client.check(url).await.is_err(), "{url}");
}

#[tokio::test]
async fn addresses_in_every_disguise_are_refused() {
    let nobody = Liar::new([&["8.8.8.8"]]);
    for host in [
        "0",
        "0.0.0.0",
        "127.0.0.1",
        "127.1",
        "127.0.0.1.",
        "2130706433",
        "017700000001",
        "0177.0.0.1",
        "0x7f000001",
        "0x7f.0.0.1",
        "0X7F.1",
        "%31%32%37.0.0.1",
        "１２７.０.０.１",
        "①②⑦.0.0.1",
        "10.0.0.1",
        "10.1",
        "167772161",
        "012.0.0.1",
        "172.16.0.1",
        "192.168.1.1",
        "169.254.1.1",
        "169.254.169.254",
        "0xa9fea9fe",
        "2852039166",
        "0251.0376.0251.0376",
        "100.64.0.1",
        "100.100.100.200",
        "192.0.0.1",
        "198.18.0.1",
        "192.0.2.1",
        "192.88.99.1",
        "224.0.0.1",
        "240.0.0.1",
        "255.255.255.255",
        "168.63.129.16",
        "[::]",
        "[::1]",
        "[0:0:0:0:0:0:0:1]",
        "[::127.0.0.1]",
        "[::ffff:127.0.0.1]",
        "[::ffff:7f00:1]",
        "[::FFFF:10.0.0.1]",
        "[::ffff:0:127.0.0.1]",
        "[64:ff9b::127.0.0.1]",
        "[64:ff9b::a9fe:a9fe]",
        "[64:ff9b:1::7f00:1]",
        "[2002:7f00:1::]",
        "[2002:a9fe:a9fe::1]",
        "[2001::7f00:1]",
        "[2001:10::1]",
        "[2001:20::1]",
        "[2001:db8::1]",
        "[3fff::1]",
        "[5f00::1]",
        "[100::1]",
        "[fc00::1]",
        "[fd00:ec2::254]",
        "[fe80::1]",
        "[fec0::1]",
        "[ff02::1]",
    ] {
        refused(&format!("http://{host}/"), &nobody).await;
        refused(&format!("https://{host}:8443/"), &nobody).await;
    }
    assert_eq!(nobody.asked.load(Ordering::SeqCst), 0, "none of these is a name");
}

#[tokio::test]
async fn names_are_refused_for_what_they_are_and_for_any_address_they_lead_to() {
    let public = Liar::new([&["93.184.215.14"]]);
    for host in ["localhost", "LOCALHOST", "a.localhost", "localhost.", "metadata.google.internal", "db", "x.local"] {
        refused(&format!("https://{host}/"), &public).await;
    }
    for to in ["10.0.0.1", "127.0.0.1", "169.254.169.254", "::ffff:10.0.0.1", "fd12::1", "64:ff9b::a00:1"] {
        refused("https://hooks.example.com/", &Liar::new([&["93.184.215.14", to]])).await;
        refused("https://hooks.example.com/", &Liar::new([&[to, "93.184.215.14"]])).await;
    }
    let wire = Wire::default();
    let e = client(&wire, &Liar::new([&[]])).get("https://hooks.example.com").send().await.unwrap_err();
    assert_eq!((e.kind(), e.effect()), (ErrorKind::Unavailable, Effect::None));
}

#[tokio::test]
async fn schemes_ports_and_user_names_are_refused() {
    let public = Liar::new([&["93.184.215.14"]]);
    for url in [
        "ftp://hooks.example.com/",
        "file:///etc/passwd",
        "gopher://hooks.example.com/",
        "//hooks.example.com/",
        "hooks.example.com",
        "https://hooks.example.com:22/",
        "https://hooks.example.com:6379/",
        "https://hooks.example.com:0/",
        "https://user:pw@hooks.example.com/",
        "https://user@hooks.example.com/",
    ] {
        refused(url, &public).await;
    }
    let strict = TenantUrlClient::builder().transport(Wire::default()).resolver(public).build().unwrap();
    let e = strict.get("http://hooks.example.com/").send().await.unwrap_err();
    assert_eq!(e.public_message(), "The URL must begin with https://.");
}

#[tokio::test]
async fn a_refusal_tells_operators_the_address_and_tenants_nothing() {
    let inside = Liar::new([&["10.1.2.3"]]);
    let e = client(&Wire::default(), &inside).get("https://hooks.example.com/?k=hunter2").send().await.unwrap_err();
    let shown = format!("{e:?}");
    assert!(shown.contains("10.1.2.3, private") && !shown.contains("hunter2"), "{shown}");
    assert_eq!(e.public_message(), "The URL must lead to the public internet.");
}

#[tokio::test]
async fn public_addresses_are_let_through_and_exactly_they_are_connected_to() {
    let wire = Wire::default();
    let resolver = Liar::new([&["93.184.215.14", "2606:2800:21f:cb07:6820:80da:af6b:8b2c"]]);
    let client = client(&wire, &resolver);
    let response = client.get("https://hooks.example.com/a?b=c").send().await.unwrap();
    assert_eq!((response.status, response.text().as_str()), (200, "ok"));
    assert_eq!(wire.to(), ["93.184.215.14:443", "[2606:2800:21f:cb07:6820:80da:af6b:8b2c]:443"]);
    assert_eq!(wire.sent.lock().unwrap()[0].0.url.host(), "hooks.example.com");
    for (url, to) in [
        ("https://1.1.1.1/", "1.1.1.1:443"),
        ("http://8.8.8.8:8080/", "8.8.8.8:8080"),
        ("https://134744072/", "8.8.8.8:443"),
        ("https://[2606:4700:4700::1111]:8443/", "[2606:4700:4700::1111]:8443"),
    ] {
        wire.sent.lock().unwrap().clear();
        client.check(url).await.unwrap();
        client.get(url).send().await.unwrap();
        assert_eq!(wire.to(), [to]);
    }
}

#[tokio::test]
async fn a_name_is_asked_for_once_for_each_request_and_never_again() {
    // Public when checked, private ever after: what was checked is what is connected to.
    let liar = Liar::new([&["93.184.215.14"], &["127.0.0.1"]]);
    let wire = Wire::default();
    client(&wire, &liar).get("https://rebind.example.com/").send().await.unwrap();
    assert_eq!((wire.to(), liar.asked.load(Ordering::SeqCst)), (vec!["93.184.215.14:443".to_owned()], 1));
    // The next request asks anew, and is refused.
    let e = client(&wire, &liar).get("https://rebind.example.com/").send().await.unwrap_err();
    assert_eq!(e.kind(), ErrorKind::Invalid);
    assert_eq!(wire.to().len(), 1);
}

#[tokio::test]
async fn rebinding_with_real_sockets_reaches_only_the_checked_address() {
    let open = Server::start("127.0.0.1:0", |_| answer("200 OK", &[], "open")).await;
    let port = open.address.port();
    // The same port on another loopback address, which the policy does not allow: the trap.
    let trap = Server::start(&format!("127.0.0.2:{port}"), |_| answer("200 OK", &[], "trap")).await;
    let liar = Liar::new([&["127.0.0.1"], &["127.0.0.2"]]);
    let client = TenantUrlClient::builder()
        .addresses(AddressPolicy::public().allow("127.0.0.1").unwrap())
        .resolver(liar.clone())
        .ports([port])
        .allow_plain_http()
        .build()
        .unwrap();
    let url = format!("http://rebind.example.com:{port}/a");
    let response = client.get(&url).send().await.unwrap();
    assert_eq!((response.text().as_str(), liar.asked.load(Ordering::SeqCst)), ("open", 1));
    assert!(open.requests()[0].contains(&format!("host: rebind.example.com:{port}\r\n")), "{:?}", open.requests());
    for _ in 0..3 {
        assert_eq!(client.get(&url).send().await.unwrap_err().kind(), ErrorKind::Invalid);
    }
    let literal = format!("http://127.0.0.2:{port}/");
    assert_eq!(client.get(&literal).send().await.unwrap_err().kind(), ErrorKind::Invalid);
    assert_eq!((open.requests().len(), trap.requests().len()), (1, 0));
}

#[tokio::test]
async fn redirects_are_checked_like_the_first_url() {
    let public = Liar::new([&["93.184.215.14"]]);
    for to in [
        "http://hooks.example.com/", // from https to http
        "https://127.0.0.1/",
        "https://0/",
        "https://2130706433/",
        "https://[::1]/",
        "https://[::ffff:169.254.169.254]/",
        "//169.254.169.254/latest/meta-data/",
        "https://localhost/",
        "https://hooks.example.com:22/",
        "https://user:pw@hooks.example.com/",
        "file:///etc/passwd",
        "https://",
    ] {
        for status in [301, 302, 303, 307, 308] {
            let wire = Wire::new([redirect(status, to)]);
            let client = client(&wire, &public);
            let e = client.post("https://hooks.example.com/a").send().await.expect_err(to);
            assert_eq!((e.kind(), wire.to().len()), (ErrorKind::Invalid, 1), "{to}");
            assert_eq!(e.effect(), Effect::Unknown, "the first request did leave");
            let e = self::client(&Wire::new([redirect(status, to)]), &public).get("https://hooks.example.com/").send();
            assert_eq!(e.await.unwrap_err().effect(), Effect::None, "a GET has no effect");
        }
    }
    // A name that is public at first and private at the second hop.
    let liar = Liar::new([&["93.184.215.14"], &["10.0.0.1"]]);
    let wire = Wire::new([redirect(307, "/again")]);
    let e = client(&wire, &liar).get("https://rebind.example.com/").send().await.unwrap_err();
    assert_eq!((e.kind(), wire.to().len()), (ErrorKind::Invalid, 1));
}

#[tokio::test]
async fn public_redirects_are_followed_a_few_times() {
    let public = Liar::new([&["93.184.215.14"]]);
    let wire = Wire::new([redirect(302, "/b?x=1"), redirect(308, "https://other.example.com/c")]);
    let response = client(&wire, &public).get("https://hooks.example.com/a").send().await.unwrap();
    assert_eq!((response.status, response.tries), (200, 3));
    let urls: Vec<_> = wire.sent.lock().unwrap().iter().map(|(r, _)| r.url.expose().to_owned()).collect();
    assert_eq!(urls, ["https://hooks.example.com/a", "https://hooks.example.com/b?x=1", "https://other.example.com/c"]);
    let wire = Wire::new((0..10).map(|_| redirect(302, "/loop")));
    let e = client(&wire, &public).get("https://hooks.example.com/").send().await.unwrap_err();
    assert_eq!((e.kind(), wire.to().len()), (ErrorKind::LimitExceeded, 4));
    let none = TenantUrlClient::builder().transport(Wire::new([redirect(302, "/b")])).resolver(public);
    let response = none.max_redirects(0).build().unwrap().get("https://hooks.example.com/").send().await.unwrap();
    assert_eq!(response.status, 302);
}

#[tokio::test]
async fn another_origin_gets_neither_credentials_nor_signatures() {
    let public = Liar::new([&["93.184.215.14"]]);
    for (to, kept) in [
        ("https://hooks.example.com/b", true),
        ("https://other.example.com/", false),
        ("https://hooks.example.com:8443/", false),
    ] {
        let wire = Wire::new([redirect(307, to)]);
        let call = client(&wire, &public).post("https://hooks.example.com/a").body("application/json", "{}");
        let call = call.secret_header("Authorization", &"hunter2".into()).header("webhook-signature", "v1,x");
        call.header("x-api-key", "hunter3").send().await.unwrap();
        let sent = wire.sent.lock().unwrap();
        let second = &sent[1].0;
        for name in ["authorization", "webhook-signature", "x-api-key"] {
            assert_eq!(second.headers.contains(name), kept, "{name} to {to}");
        }
        assert_eq!((second.method, &second.body[..]), (Method::Post, &b"{}"[..]));
        assert_eq!(second.headers.get("content-type"), Some("application/json"));
    }
    let wire = Wire::new([redirect(303, "/b")]);
    client(&wire, &public).post("https://hooks.example.com/a").body("text/plain", "x").send().await.unwrap();
    let sent = wire.sent.lock().unwrap();
    assert_eq!((sent[1].0.method, sent[1].0.body.len()), (Method::Get, 0));
    assert!(!sent[1].0.headers.contains("content-type"));
}

#[tokio::test]
async fn header_fields_of_the_connection_are_refused() {
    let wire = Wire::default();
    let client = client(&wire, &Liar::new([&["93.184.215.14"]]));
    for name in ["Host", "content-length", "Transfer-Encoding", "connection", "Proxy-Authorization", "bad name"] {
        let e = client.get("https://hooks.example.com/").header(name, "x").send().await.unwrap_err();
        assert_eq!(e.kind(), ErrorKind::Invalid, "{name}");
    }
    assert!(wire.to().is_empty());
}

#[tokio::test]
async fn sizes_are_capped() {
    let public = Liar::new([&["93.184.215.14"]]);
    let wire = Wire::new([Response::new(200, "x".repeat(2000)), Response::new(200, "x".repeat(2000))]);
    let client = client(&wire, &public);
    let e = client.post("https://hooks.example.com/").max_body_bytes(1999).send().await.unwrap_err();
    assert_eq!((e.kind(), e.effect()), (ErrorKind::LimitExceeded, Effect::Unknown));
    assert!(client.post("https://hooks.example.com/").max_body_bytes(2000).send().await.is_ok());
    let large = Response::new(200, "").with_header("x-large", "x".repeat(40_000)).unwrap();
    let e = self::client(&Wire::new([large]), &public).get("https://hooks.example.com/").send().await.unwrap_err();
    assert_eq!(e.kind(), ErrorKind::LimitExceeded);
}

#[tokio::test]
async fn floods_huge_headers_and_silence_end_on_real_sockets() {
    let server = Server::start("127.0.0.1:0", |request| {
        if request.contains("/flood") {
            Act::Flood(64 * 1024 * 1024)
        } else if request.contains("/header") {
            answer("200 OK", &[&format!("x-large: {}", "x".repeat(100_000))], "")
        } else {
            Act::Hang("HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n1".into())
        }
    })
    .await;
    let clock = TestClock::new();
    let client = TenantUrlClient::builder()
        .addresses(AddressPolicy::public().allow("127.0.0.1").unwrap())
        .ports([server.address.port()])
        .clock(clock.clone())
        .allow_plain_http()
        .build()
        .unwrap();
    for path in ["/flood", "/header"] {
        let e = client.get(&server.url(path)).send().await.unwrap_err();
        assert_eq!(e.kind(), ErrorKind::LimitExceeded, "{path}: {e:?}");
    }
    let moving = async {
        while server.requests().len() < 3 {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        clock.advance(Duration::from_secs(20));
    };
    let url = server.url("/silence");
    let (outcome, ()) = tokio::join!(client.post(&url).send(), moving);
    let e = outcome.unwrap_err();
    assert_eq!((e.kind(), e.effect()), (ErrorKind::Timeout, Effect::Unknown));
}

#[tokio::test]
async fn a_slow_name_server_has_no_effect_and_is_given_up_on() {
    #[derive(Debug)]
    struct Silent;
    #[async_trait]
    impl Resolver for Silent {
        async fn resolve(&self, _: &str) -> Result<Vec<IpAddr>> {
            std::future::pending().await
        }
    }
    let clock = TestClock::new();
    let client = TenantUrlClient::builder().transport(Wire::default()).resolver(Silent).clock(clock.clone());
    let client = client.build().unwrap();
    let e = clock.drive(client.post("https://hooks.example.com/").send()).await.unwrap_err();
    assert_eq!((e.kind(), e.effect()), (ErrorKind::Timeout, Effect::None));
}

/// Proxies are named by the environment, which a test cannot change for itself: it runs itself again.
#[tokio::test]
async fn no_proxy_of_the_environment_is_used() {
    const CHILD: &str = "OVERSKILL_HTTP_TEST_CHILD";
    if std::env::var_os(CHILD).is_some() {
        let server = Server::start("127.0.0.1:0", |_| answer("200 OK", &[], "direct")).await;
        let port = server.address.port();
        let tenant = TenantUrlClient::builder()
            .addresses(AddressPolicy::public().allow("127.0.0.1").unwrap())
            .resolver(Liar::new([&["127.0.0.1"]]))
            .ports([port])
            .allow_plain_http()
            .build()
            .unwrap();
        let response = tenant.get(&format!("http://hooks.example.com:{port}/")).send().await.unwrap();
        assert_eq!(response.text(), "direct");
        let client = Client::builder("demo", &server.url("/")).build().unwrap();
        assert_eq!(client.get("x").send().await.unwrap().text(), "direct");
        return;
    }
    let proxy = Server::start("127.0.0.1:0", |_| answer("200 OK", &[], "proxied")).await;
    let mut child = std::process::Command::new(std::env::current_exe().unwrap());
    child.args(["--exact", "no_proxy_of_the_environment_is_used"]).env(CHILD, "1").env_remove("NO_PROXY");
    for name in ["HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"] {
        child.env(name, proxy.url(""));
    }
    let output = child.env_remove("no_proxy").output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
    assert!(String::from_utf8_lossy(&output.stdout).contains("1 passed"), "the child ran");
    assert!(proxy.requests().is_empty());
}
