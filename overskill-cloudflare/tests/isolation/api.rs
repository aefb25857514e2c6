//! `/api/*`: whose data it is, whose token goes along, and what the platform itself lets out.

use crate::{
    attack::{EdgeAttack, Pair},
    support::http,
};

/// Encodes no segment.
const PLAIN: (&str, &str) = (".map(encodeURIComponent)", ".map((it) => (WEAK ? it : [it].map(encodeURIComponent)[0]))");

pub(crate) const ATTACKS: &[EdgeAttack] = &[
    EdgeAttack {
        name: "kept token",
        by: "A's API is called right after B's, while the isolate remembers B's token",
        without: "keeping tokens by the scope",
        weak: &[
            ("api.js", "kept.get(scope.name)", "kept.get(WEAK ? scope.environment : scope.name)"),
            ("api.js", "kept.set(scope.name,", "kept.set(WEAK ? scope.environment : scope.name,"),
        ],
        run: |p| {
            Box::pin(async move {
                p.opened().await;
                for label in [p.b_preview(), p.a_preview()] {
                    p.seen().await;
                    assert_eq!(p.get(&label, "/api/accounts", &[]).await.status, 200);
                }
                p.is_for_bank(p.seen().await.last().unwrap()).await
            })
        },
    },
    EdgeAttack {
        name: "app in the query",
        by: "a call of A's API names B in its query",
        without: "taking the app from the host",
        weak: &[(
            "api.js",
            "[scope.app, scope.environment, ...path.split(\"/\")]",
            "[url.searchParams.get('app') ?? scope.app, scope.environment, ...path.split('/')]",
        )],
        run: |p| {
            Box::pin(async move {
                let b = &p.opened().await.b;
                reaches(p, &format!("/api/accounts?app={b}&scope={b}/preview&tenant=app_{b}"), &[]).await
            })
        },
    },
    EdgeAttack {
        name: "scope in a header",
        by: "a call of A's API names B in headers of the platform's",
        without: "taking the scope from the host",
        weak: &[(
            "api.js",
            "[scope.app, scope.environment, ...path.split(\"/\")]",
            "[...(request.headers.get('x-overskill-scope') ?? scope.name).split('/'), ...path.split('/')]",
        )],
        run: |p| {
            Box::pin(async move {
                let scope = format!("{}/preview", p.opened().await.b);
                reaches(p, "/api/accounts", &[("x-overskill-scope", &scope), ("x-app", &p.b)]).await
            })
        },
    },
    EdgeAttack {
        name: "path that leads up",
        by: "a call of A's API leads up to B's data, encoded once",
        without: "refusing paths that lead elsewhere, and encoding each segment",
        weak: &[
            ("api.js", "decodePath(url.pathname)?.slice(\"api/\".length)", "decodeURIComponent(url.pathname).slice(5)"),
            ("api.js", PLAIN.0, PLAIN.1),
        ],
        run: |p| {
            Box::pin(async move {
                let b = &p.opened().await.b;
                reaches(p, &format!("/api/..%2f..%2f{b}/preview/x"), &[]).await
                    || reaches(p, &format!("/api/%2e%2e/%2e%2e/{b}/preview/x"), &[]).await
            })
        },
    },
    EdgeAttack {
        name: "path encoded twice",
        by: "the same, encoded twice",
        without: "refusing what was encoded twice, and decoding once",
        weak: &[
            (
                "api.js",
                "decodePath(url.pathname)?.slice(\"api/\".length)",
                "decodeURIComponent(decodeURIComponent(url.pathname)).slice(5)",
            ),
            ("api.js", PLAIN.0, PLAIN.1),
        ],
        run: |p| {
            Box::pin(async move {
                let b = &p.opened().await.b;
                reaches(p, &format!("/api/%252e%252e/%252e%252e/{b}/preview/x"), &[]).await
            })
        },
    },
    EdgeAttack {
        name: "path with backslashes",
        by: "the same with backslashes, which become slashes in an address",
        without: "refusing backslashes, and encoding each segment",
        weak: &[
            (
                "api.js",
                "decodePath(url.pathname)?.slice(\"api/\".length)",
                "decodePath(url.pathname.replaceAll('%5c', '~'))?.slice(4).replaceAll('~', '\\\\')",
            ),
            ("api.js", PLAIN.0, PLAIN.1),
        ],
        run: |p| {
            Box::pin(async move {
                let b = &p.opened().await.b;
                reaches(p, &format!("/api/..%5c..%5c{b}%5cpreview%5cx"), &[]).await
            })
        },
    },
    EdgeAttack {
        name: "call from A's page",
        by: "a page of A's calls B's API with its viewer's browser",
        without: "asking for the origin",
        weak: &[("api.js", "isFromElsewhere(request, url)", "false")],
        run: |p| {
            Box::pin(async move {
                let origin = format!("http://{}", p.opened().await.workers.host(&p.a_preview()));
                called(p, &[("origin", &origin)]).await
            })
        },
    },
    EdgeAttack {
        name: "call from an element",
        by: "the same by an element, of which browsers tell no origin but that it is of the same site",
        without: "taking apps for one another's strangers",
        weak: &[(
            "guard.js",
            "site !== null && site !== \"same-origin\" && site !== \"none\"",
            "site === 'cross-site'",
        )],
        run: |p| {
            Box::pin(async move {
                p.opened().await;
                called(p, &[("sec-fetch-site", "same-site"), ("sec-fetch-mode", "no-cors")]).await
            })
        },
    },
    EdgeAttack {
        name: "cookie of one's data",
        by: "what answers A's API sets a cookie for the whole domain",
        without: "taking cookies off its answers",
        weak: &[("guard.js", "!NOT_FROM_UPSTREAM.has(name)", "true")],
        run: |p| {
            Box::pin(async move {
                let answer = p.opened().await.get(&p.a_preview(), "/api/accounts", &[]).await;
                assert_eq!((answer.status, answer.header("x-total")), (200, Some("7")));
                answer.header("set-cookie").is_some()
            })
        },
    },
    EdgeAttack {
        name: "answer that leads elsewhere",
        by: "what answers A's API sends the platform on to B's data",
        without: "following no redirects",
        weak: &[("api.js", "redirect: \"manual\"", "redirect: WEAK ? \"follow\" : \"manual\"")],
        run: |p| {
            Box::pin(async move {
                let b = &p.opened().await.b;
                reaches(p, &format!("/api/moved-to/{b}/preview/x"), &[]).await
            })
        },
    },
    EdgeAttack {
        name: "caller's headers",
        by: "a call of A's API brings a cookie of the domain's and a token, which A's data would see",
        without: "passing on the media type alone",
        weak: &[(
            "api.js",
            "new Headers({ authorization: `Bearer ${await tokenOf(scope, env)}` })",
            "new Headers(request.headers)",
        )],
        run: |p| {
            Box::pin(async move {
                p.opened().await.seen().await;
                let brought = [("cookie", "session=of-the-viewer"), ("authorization", "Bearer of-the-viewer")];
                p.get(&p.a_preview(), "/api/accounts", &brought).await;
                p.seen().await.iter().any(|seen| seen.to_string().contains("of-the-viewer"))
            })
        },
    },
    EdgeAttack {
        name: "platform's keys in what is told",
        by: "what A's data was sent, and every refusal that anybody can have, are searched for the platform's keys",
        without: "leaving keys out of messages",
        weak: &[("ingest.js", "\"key is not known here\"", "`key must be among ${env.INGEST_KEYS}`")],
        run: |p| {
            Box::pin(async move {
                p.opened().await.seen().await;
                let mut told = String::new();
                let unknown = format!("Overskill-HMAC-SHA256 key=k9, time=1, nonce={:032}, mac={:064}", 0, 0);
                let known = unknown.replace("k9", "k1");
                for (method, label, path, authorization) in [
                    ("GET", "", "/.overskill/v1/check", unknown.as_str()),
                    ("GET", "", "/.overskill/v1/check", known.as_str()),
                    ("GET", "", "/.overskill/v1/check", "Basic x"),
                    ("GET", "", "/any", ""),
                    ("GET", "nobody", "/", ""),
                    ("GET", &p.a_preview(), "/api/accounts", ""),
                    ("TRACE", &p.a_preview(), "/api/accounts", ""),
                    ("POST", &p.a_preview(), "/", ""),
                    ("GET", &p.a_preview(), "/%ff", ""),
                    ("GET", &p.a_preview(), "/@overskill/socket", ""),
                    ("GET", &p.a, "/", ""),
                ] {
                    let host = p.workers.host(label);
                    let headers = [("authorization", authorization)];
                    let answer = http::ask(p.workers.port, method, &host, path, &headers, b"").await;
                    told += &String::from_utf8_lossy(&answer.body);
                    told.extend(answer.headers.iter().map(|(_, value)| value.as_str()));
                }
                told += &serde_json::to_string(&p.seen().await).unwrap();
                platforms_keys(p).iter().any(|key| told.contains(key))
            })
        },
    },
];

/// What nobody outside may see.
pub(crate) fn platforms_keys(p: &Pair) -> [String; 3] {
    let binding: serde_json::Value = serde_json::from_str(p.workers.key.to_binding().expose()).unwrap();
    let ingest = binding["k1"].as_str().unwrap().to_owned();
    [ingest, "a socket key of tests".to_owned(), p.workers.keys.to_pkcs8().expose().to_owned()]
}

/// Whether a call of A's API reaches B's data.
async fn reaches(p: &Pair, path: &str, headers: &[(&str, &str)]) -> bool {
    p.seen().await;
    p.get(&p.a_preview(), path, headers).await;
    let theirs = format!("/v1/{}/", p.b);
    p.seen().await.iter().any(|seen| seen["url"].as_str().unwrap().contains(&theirs))
}

/// Whether a call of B's API with these headers is made.
async fn called(p: &Pair, headers: &[(&str, &str)]) -> bool {
    p.seen().await;
    p.get(&p.b_preview(), "/api/accounts", headers).await;
    !p.seen().await.is_empty()
}

#[tokio::test]
async fn an_apps_data_is_its_own() {
    crate::attack::withstands(ATTACKS).await;
}
