//! The network transport against real sockets on loopback: what failed connections, cuts and floods are taken for.

#![allow(clippy::unwrap_used, reason = "helpers of tests are tests")]

mod server;

use futures::{FutureExt as _, StreamExt as _};
use overskill_core::{Clock as _, TestClock};
use overskill_http::*;
use server::{Act, Server, answer};
use std::{num::NonZeroU32, time::Duration};

const LOOPBACK: &str = "127.0.0.1:0";

fn client(server: &Server) -> Client {
    Client::builder("demo", &server.url("/base"))
        .max_tries(NonZeroU32::MIN)
        .credential(Credential::bearer("hunter2"))
        .build()
        .unwrap()
}

#[tokio::test]
async fn a_request_arrives_as_it_was_described() {
    let server = Server::start(LOOPBACK, |_| answer("201 Created", &["x-a: b", "ETag: \"1\""], r#"{"id":7}"#)).await;
    let call = client(&server).post(["things", "ä/b"]).query("q", "1 2").header("x-c", "d");
    let response = call.json(&serde_json::json!({"n": 1})).send().await.unwrap();
    assert_eq!((response.status, response.header("x-a"), response.header("etag")), (201, Some("b"), Some("\"1\"")));
    assert_eq!(response.json::<serde_json::Value>().unwrap()["id"], 7);
    let request = server.requests().remove(0).to_ascii_lowercase();
    for line in [
        "post /base/things/%c3%a4%2fb?q=1+2 http/1.1",
        "authorization: bearer hunter2",
        "content-type: application/json",
        "content-length: 7",
        "user-agent: overskill/",
        "x-c: d",
        &format!("host: {}", server.address),
    ] {
        assert!(request.contains(line), "{line} in {request}");
    }
    assert!(!request.contains("accept-encoding"), "no compression is asked for: {request}");
    assert!(request.ends_with("{\"n\":1}"));
}

#[tokio::test]
async fn an_empty_put_says_that_it_is_empty() {
    let server = Server::start(LOOPBACK, |_| answer("200 OK", &[], "")).await;
    client(&server).put("x").send().await.unwrap();
    client(&server).delete("x").send().await.unwrap();
    let requests = server.requests();
    assert!(requests[0].contains("content-length: 0"), "{requests:?}");
    assert!(!requests[1].contains("content-length"), "{requests:?}");
}

#[tokio::test]
async fn a_refused_connection_has_no_effect() {
    let server = Server::start(LOOPBACK, |_| answer("200 OK", &[], "")).await;
    let closed = tokio::net::TcpListener::bind(LOOPBACK).await.unwrap().local_addr().unwrap();
    let url = server.url("").replace(&server.address.to_string(), &closed.to_string());
    let client = Client::builder("demo", &url).max_tries(NonZeroU32::MIN).build().unwrap();
    let e = client.post("x?token=hunter2").send().await.unwrap_err();
    assert_eq!((e.kind(), e.effect(), e.retry()), (ErrorKind::Unavailable, Effect::None, Retry::Backoff));
    assert!(!format!("{e:?}").contains("hunter"), "{e:?}");
}

#[tokio::test]
async fn a_server_that_speaks_no_tls_has_no_effect() {
    let listener = tokio::net::TcpListener::bind(LOOPBACK).await.unwrap();
    let garbage = format!("https://{}/", listener.local_addr().unwrap());
    let client = Client::builder("demo", &garbage).max_tries(NonZeroU32::MIN).build().unwrap();
    let answering = async {
        use tokio::io::AsyncWriteExt as _;
        let (mut connection, _) = listener.accept().await.unwrap();
        connection.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await.unwrap();
        connection.shutdown().await.unwrap();
        connection
    };
    let (outcome, _) = tokio::join!(client.post("x").send(), answering);
    let e = outcome.unwrap_err();
    assert_eq!((e.kind(), e.effect()), (ErrorKind::Unavailable, Effect::None), "{e:?}");
}

#[tokio::test]
async fn a_cut_has_an_unknown_effect_wherever_it_comes() {
    for cut in ["", "HTTP/1.1 200 OK\r\ncontent-le", "HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\n12345"] {
        let server = Server::start(LOOPBACK, move |_| Act::Send(cut.into())).await;
        let e = client(&server).post("x?token=hunter2").send().await.unwrap_err();
        assert_eq!((e.kind(), e.effect()), (ErrorKind::Unavailable, Effect::Unknown), "{cut:?}: {e:?}");
        assert!(!format!("{e:?}").contains("hunter"), "{e:?}");
    }
}

#[tokio::test]
async fn a_slow_server_is_given_up_on_by_our_clock() {
    let server = Server::start(LOOPBACK, |_| Act::Hang("HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n1".into())).await;
    let clock = TestClock::new();
    let client = Client::builder("demo", &server.url("/")).clock(clock.clone()).max_tries(NonZeroU32::MIN);
    let client = client.build().unwrap();
    let moving = async {
        while server.requests().is_empty() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        clock.advance(Duration::from_secs(30));
    };
    let (outcome, ()) = tokio::join!(client.post("x").send(), moving);
    let e = outcome.unwrap_err();
    assert_eq!((e.kind(), e.effect()), (ErrorKind::Timeout, Effect::Unknown), "{e:?}");
    assert_eq!(clock.monotonic(), Duration::from_secs(30));
}

#[tokio::test]
async fn a_flood_is_stopped_at_the_limit() {
    let server = Server::start(LOOPBACK, |_| Act::Flood(64 * 1024 * 1024)).await;
    let e = client(&server).get("x").max_body_bytes(100_000).send().await.unwrap_err();
    assert_eq!(e.kind(), ErrorKind::LimitExceeded, "{e:?}");
}

#[tokio::test]
async fn redirects_are_not_followed() {
    let server = Server::start(LOOPBACK, |_| answer("302 Found", &["location: /elsewhere"], "")).await;
    let response = client(&server).get("x").send().await.unwrap();
    assert_eq!((response.status, response.header("location")), (302, Some("/elsewhere")));
    assert_eq!(server.requests().len(), 1);
}

#[tokio::test]
async fn a_stream_gives_its_parts_before_it_ends() {
    let head = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n6\r\n{\"a\":1\r\n3\r\n}\n{\r\n";
    let server = Server::start(LOOPBACK, move |_| Act::Hang(head.into())).await;
    let body = client(&server).get("logs").stream().await.unwrap().body;
    let mut lines = Box::pin(body.lines(1000));
    assert_eq!(lines.next().await.unwrap().unwrap(), r#"{"a":1}"#);
    assert!(lines.next().now_or_never().is_none(), "the stream goes on");
}

#[test]
fn trusted_certificates_must_be_pem() {
    let e = NetworkTransport::builder().trust_pem("-----BEGIN CERTIFICATE-----\nno\n-----END CERTIFICATE-----").build();
    assert_eq!(e.unwrap_err().kind(), ErrorKind::Invalid);
}
