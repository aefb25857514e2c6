//! What only the platform may tell or ask its Workers: requests that are signed by somebody else, or for something else.

use crate::{
    attack::{EdgeAttack, Pair},
    support::{http, signed::Signed},
};
use overskill_core::Digest;

pub(crate) const ATTACKS: &[EdgeAttack] = &[
    EdgeAttack {
        name: "another platform's key",
        by: "a list of B's files, asked for under a signature with another key",
        without: "verifying the signature",
        weak: &[("ingest.js", "await crypto.subtle.verify(\"HMAC\", key, fromHex(mac), text.encode(signed))", "true")],
        run: |p| {
            Box::pin(async move {
                let forged = Signed { secret: [0; 32], ..files(p, &p.opened().await.b) };
                tells(p, &forged, &files_of(&p.b), &[]).await
            })
        },
    },
    EdgeAttack {
        name: "signature for one's own path",
        by: "what the platform signed of A's files, sent for B's",
        without: "signing the path",
        weak: &[("ingest.js", "url.pathname + url.search", "(request.headers.get('x-signed-path') ?? url.pathname)")],
        run: |p| {
            Box::pin(async move {
                let own = files(p, &p.opened().await.a);
                let said = [("x-signed-path", own.path.as_str())];
                let above = format!("{}/../../../{}/preview/files", own.path, p.b);
                tells(p, &own, &files_of(&p.b), &said).await || tells(p, &own, &above, &said).await
            })
        },
    },
    EdgeAttack {
        name: "signature for another host",
        by: "what was signed for another platform's host, which has the same key, sent to this one",
        without: "signing the host",
        weak: &[(
            "ingest.js",
            "request.method, url.host,",
            "request.method, WEAK ? (request.headers.get('x-signed-host') ?? url.host) : url.host,",
        )],
        run: |p| {
            Box::pin(async move {
                let elsewhere = Signed { host: "staging.zz".into(), ..files(p, &p.opened().await.b) };
                tells(p, &elsewhere, &files_of(&p.b), &[("x-signed-host", "staging.zz")]).await
            })
        },
    },
    EdgeAttack {
        name: "another body",
        by: "what the platform signed to connect A's domain with A, sent with B in its body",
        without: "signing the body",
        weak: &[(
            "ingest.js",
            "hex(await crypto.subtle.digest(\"SHA-256\", body))",
            "(request.headers.get('x-signed-digest') ?? hex(await crypto.subtle.digest('SHA-256', body)))",
        )],
        run: |p| {
            Box::pin(async move {
                let host = format!("{}.example", p.opened().await.a);
                let body = |app: &str| format!("{{\"scope\":\"{app}/preview\"}}").into_bytes();
                let (own, other) = (body(&p.a), body(&p.b));
                let path = format!("/.overskill/v1/hosts/{host}");
                let signed = Signed::new(&p.workers, "PUT", &path, &own);
                let headers =
                    [("authorization", signed.authorization()), ("x-signed-digest", Digest::of(&own).to_string())];
                let headers = headers.each_ref().map(|(name, value)| (*name, value.as_str()));
                http::ask(p.workers.port, "PUT", &p.workers.host(""), &path, &headers, &other).await;
                p.leaks_at(&[host], "/note.txt").await
            })
        },
    },
    EdgeAttack {
        name: "sent again",
        by: "a request of the platform's that was overheard, sent once more",
        without: "remembering what was admitted",
        weak: &[(
            "nonces.js",
            "sql.exec(\"insert or ignore into nonces values (?, ?)\", nonce, time).rowsWritten > 0",
            "true",
        )],
        run: |p| {
            Box::pin(async move {
                let overheard = files(p, &p.opened().await.b);
                assert!(tells(p, &overheard, &files_of(&p.b), &[]).await, "the platform itself is told");
                tells(p, &overheard, &files_of(&p.b), &[]).await
            })
        },
    },
    EdgeAttack {
        name: "sent late",
        by: "a request of the platform's that was held back for ten minutes, when its nonce would be forgotten",
        without: "comparing its time",
        weak: &[("ingest.js", "Math.abs(Date.now() - Number(time)) > SKEW_MS", "false")],
        run: |p| {
            Box::pin(async move {
                let new = files(p, &p.opened().await.b);
                let held = Signed { time: new.time - 600_000, ..new };
                tells(p, &held, &files_of(&p.b), &[]).await
            })
        },
    },
];

fn files_of(app: &str) -> String {
    format!("/.overskill/v1/previews/{app}/preview/files")
}

/// A question for the files of an app's preview, as the platform signs it.
fn files(p: &Pair, app: &str) -> Signed {
    Signed::new(&p.workers, "GET", &files_of(app), b"")
}

/// Whether that, sent to `path`, tells what B has.
async fn tells(p: &Pair, signed: &Signed, path: &str, more: &[(&str, &str)]) -> bool {
    let authorization = signed.authorization();
    let headers: Vec<_> = [("authorization", authorization.as_str())].iter().chain(more).copied().collect();
    let answer = http::ask(p.workers.port, "GET", &p.workers.host(""), path, &headers, b"").await;
    answer.status == 200 && answer.text().contains(&Digest::of(p.secret().as_bytes()).to_string())
}

#[tokio::test]
async fn nobody_but_the_platform_asks_its_workers() {
    crate::attack::withstands(ATTACKS).await;
}
