//! Names of another app's: in hosts, headers, paths, routes, addresses of versions, and what an isolate keeps by them.

use crate::{
    attack::EdgeAttack,
    support::{http, scope, signed::Signed},
};
use hmac::{Hmac, KeyInit as _, Mac as _};
use overskill_core::Digest;
use sha2::Sha256;
use tokio::net::TcpStream;
use tokio_tungstenite::{client_async, tungstenite::client::IntoClientRequest as _};

/// What a version is that no route names.
const STAGED: u64 = 2;

/// How often two requests are made one after the other, so that both are made within a second, on a busy machine too.
const TRIES: usize = 10;

pub(crate) const ATTACKS: &[EdgeAttack] = &[
    EdgeAttack {
        name: "forwarded host",
        by: "a header says that the request was for B's host",
        without: "going by the address alone",
        weak: &[(
            "dispatch.js",
            "siteOf(url.hostname, env.SETTINGS.domains)",
            "siteOf((request.headers.get('x-forwarded-host') ?? url.host).split(':')[0], env.SETTINGS.domains)",
        )],
        run: |p| {
            Box::pin(async move {
                let host = p.opened().await.workers.host(&p.b_preview());
                let mut got = false;
                for name in ["x-forwarded-host", "x-host", "x-original-host", "forwarded", "x-app"] {
                    got |= p.leaks(&p.a_preview(), "/note.txt", &[(name, &host)]).await;
                }
                got
            })
        },
    },
    EdgeAttack {
        name: "original address",
        by: "a header says that the request was for B's address",
        without: "going by the address alone",
        weak: &[(
            "dispatch.js",
            "siteOf(url.hostname, env.SETTINGS.domains)",
            "siteOf(new URL(request.headers.get('x-original-url') ?? request.url).hostname, env.SETTINGS.domains)",
        )],
        run: |p| {
            Box::pin(async move {
                let address = format!("http://{}/note.txt", p.opened().await.workers.host(&p.b_preview()));
                let mut got = false;
                for name in ["x-original-url", "x-rewrite-url", "x-forwarded-uri"] {
                    got |= p.leaks(&p.a_preview(), "/note.txt", &[(name, &address)]).await;
                }
                got
            })
        },
    },
    EdgeAttack {
        name: "label under a label",
        by: "B's label stands before A's host",
        without: "taking all before the domain for one label",
        weak: &[(
            "settings.js",
            "name.slice(0, -domain.length - 1)",
            "name.slice(0, -domain.length - 1).split('.')[0]",
        )],
        run: |p| {
            Box::pin(async move {
                let host = format!("{}.{}", p.b_preview(), p.opened().await.workers.host(&p.a_preview()));
                p.leaks_at(&[host], "/note.txt").await
            })
        },
    },
    EdgeAttack {
        name: "host before an @",
        by: "B's host stands as a user before A's",
        without: "leaving out the user of an address",
        weak: &[(
            "dispatch.js",
            "siteOf(url.hostname, env.SETTINGS.domains)",
            "siteOf(url.username || url.hostname, env.SETTINGS.domains)",
        )],
        run: |p| {
            Box::pin(async move {
                let workers = &p.opened().await.workers;
                let host = format!("{}@{}", workers.host(&p.b_preview()), workers.host(&p.a_preview()));
                p.leaks_at(&[host], "/note.txt").await
            })
        },
    },
    EdgeAttack {
        name: "script in the query",
        by: "a request for A says which script is to run",
        without: "taking the script from the route, and one of the app's",
        weak: &[
            (
                "dispatch.js",
                "run(request, scope, route.handle.reference, live, env)",
                "run(request, scope, url.searchParams.get('script') ?? route.handle.reference, live, env)",
            ),
            ("dispatch.js", "!isOf(scope, script)", "false"),
        ],
        run: |p| {
            Box::pin(async move {
                let script = format!("{}-1", p.deployed().await.b);
                p.leaks(&p.a, &format!("/?script={script}"), &[("x-script", &script)]).await
                    || p.leaks(&p.a, &format!("/{script}"), &[]).await
            })
        },
    },
    EdgeAttack {
        name: "route to another's script",
        by: "A's route names a script of B's",
        without: "refusing a script whose name begins with another app",
        weak: &[("dispatch.js", "!isOf(scope, script)", "false")],
        run: |p| {
            Box::pin(async move {
                p.script(&p.b, STAGED, &format!("export default {{ fetch: () => new Response({:?}) }}", p.secret()))
                    .await;
                p.route(&p.a, &format!("{}-{STAGED}", p.b)).await;
                p.leaks(&p.a, "/", &[]).await
            })
        },
    },
    EdgeAttack {
        name: "script as a host",
        by: "the name of a script of B's stands as a label of the domain",
        without: "taking only apps and proven versions for labels",
        weak: &[(
            "dispatch.js",
            "await versionOf(site.label, env)",
            "{ scope: scopeOf(site.label.split('-')[0], 'production'), script: site.label }",
        )],
        run: |p| {
            Box::pin(async move {
                p.script(&p.b, STAGED, &format!("export default {{ fetch: () => new Response({:?}) }}", p.secret()))
                    .await;
                p.leaks(&format!("{}-{STAGED}", p.b), "/", &[]).await
            })
        },
    },
    EdgeAttack {
        name: "version with any proof",
        by: "the address of a version of B's, with a proof that is made up",
        without: "comparing the proof",
        weak: &[("versions.js", "crypto.subtle.timingSafeEqual(mac, told)", "true")],
        run: |p| Box::pin(async move { version(p, "00000000000000").await }),
    },
    EdgeAttack {
        name: "version with a short proof",
        by: "the address of a version of B's, with a proof of no length, and with each of one byte",
        without: "asking for a whole proof",
        weak: &[(
            "versions.js",
            "/^v([0-9a-f]{14})-(\\d{1,20})-([psvd])([a-z0-9]{1,32})$/",
            "/^v([0-9a-f]*)-(\\d{1,20})-([psvd])([a-z0-9]{1,32})$/",
        )],
        run: |p| Box::pin(async move { version(p, "").await || version(p, "00").await }),
    },
    EdgeAttack {
        name: "version with one's own proof",
        by: "the address of a version of B's, with the proof of A's version of that number",
        without: "making the proof of the app too",
        weak: &[(
            "versions.js",
            "`${LABEL}\\n${scope.name}\\n${script}`",
            "`${LABEL}\\n${scope.name}\\n${script}`.replaceAll('bank', 'mallory')",
        )],
        run: |p| {
            Box::pin(async move {
                let binding: serde_json::Value = serde_json::from_str(p.workers.key.to_binding().expose()).unwrap();
                let key: Digest = binding["k1"].as_str().unwrap().parse().unwrap();
                let mut mac = Hmac::<Sha256>::new_from_slice(key.as_bytes()).unwrap();
                mac.update(format!("overskill-version-1\n{0}/production\n{0}-{STAGED}", p.a).as_bytes());
                let proof = Digest::from_bytes(mac.finalize().into_bytes().into()).to_string();
                // The proof is good for what it was made for.
                p.script(&p.a, STAGED, "export default { fetch: () => new Response('mine') }").await;
                let own = p.get(&format!("v{}-{STAGED}-p{}", &proof[..14], p.a), "/", &[]).await;
                assert_eq!(own.text(), "mine");
                version(p, &proof[..14]).await
            })
        },
    },
    EdgeAttack {
        name: "platform's host as one's own",
        by: "A connects B's host with itself, as a customer's domain",
        without: "knowing the platform's hosts before customers'",
        weak: &[(
            "dispatch.js",
            "\"scope\" in site ? site.scope : await connected(env, url.hostname)",
            "(await connected(env, url.hostname)) ?? site.scope",
        )],
        run: |p| {
            Box::pin(async move {
                p.opened().await;
                let host = format!("{}.localhost", p.b_preview());
                let a = scope(&format!("{}/preview", p.a));
                // That it is refused here is fine, too.
                let _ = p.workers.edge().routes().connect_host(&host, Some(&a)).await;
                p.get(&p.b_preview(), "/note.txt", &[]).await.text() == format!("of {}", p.a)
            })
        },
    },
    EdgeAttack {
        name: "platform's host with a dot",
        by: "A connects B's host with itself, and it is asked for with a dot at its end, which is the same host",
        without: "taking the dot off the platform's hosts",
        weak: &[("settings.js", "hostname.toLowerCase().replace(/\\.$/, \"\")", "hostname.toLowerCase()")],
        run: |p| {
            Box::pin(async move {
                let host = format!("{}.localhost", p.opened().await.b_preview());
                shows_a(p, &host, &format!("{host}.")).await
                    || shows_a(p, &format!("{host}."), &format!("{host}.")).await
            })
        },
    },
    EdgeAttack {
        name: "customer's host with a dot",
        by: "A connects a domain that is connected with B, with a dot at its end",
        without: "taking the dot off customers' hosts",
        weak: &[("dispatch.js", "hostname.toLowerCase().replace(/\\.$/, \"\")", "hostname.toLowerCase()")],
        run: |p| {
            Box::pin(async move {
                let (host, b) = (format!("{}.example", p.opened().await.b), scope(&format!("{}/preview", p.b)));
                p.workers.edge().routes().connect_host(&host, Some(&b)).await.unwrap();
                shows_a(p, &format!("{host}."), &format!("{host}.")).await
            })
        },
    },
    EdgeAttack {
        name: "word of the platform",
        by: "a request tells A's code that it is for B, in a header of the platform's",
        without: "taking such headers off requests",
        weak: &[("guard.js", "OURS.test(name) || NOT_TO_APPS.has(name)", "NOT_TO_APPS.has(name)")],
        run: |p| {
            Box::pin(async move {
                let forged = format!("{}/production", p.deployed().await.b);
                let told = p.get(&p.a, "/", &[("x-overskill-scope", &forged)]).await;
                told.text().ends_with(&forged)
            })
        },
    },
    EdgeAttack {
        name: "cookie for all hosts",
        by: "A's code sets a cookie for the whole domain, which B's host would get",
        without: "taking domains of ours out of cookies",
        weak: &[(
            "guard.js",
            "\"set-cookie\", ownCookie(cookie, domains)",
            "\"set-cookie\", WEAK ? cookie : ownCookie(cookie, domains)",
        )],
        run: |p| {
            Box::pin(async move {
                let code = "export default { fetch: () => new Response('', { headers: [\
                    ['set-cookie', 's=1; Domain=localhost; Path=/'], ['set-cookie', 's=2; DOMAIN = .LOCALHOST'], \
                    ['set-cookie', 's=3; Path=/; domain=x; domain=localhost']] }) }";
                p.deployed().await.script(&p.a, 1, code).await;
                let answer = p.get(&p.a, "/", &[]).await;
                let cookies: Vec<_> = answer.headers.iter().filter(|(name, _)| name == "set-cookie").collect();
                assert_eq!(cookies.len(), 3, "{answer:?}");
                cookies.iter().any(|(_, cookie)| cookie.to_lowercase().replace(' ', "").contains("localhost"))
            })
        },
    },
    EdgeAttack {
        name: "cookie for all hosts with a dot",
        by: "the same with a dot at the end of the domain, as browsers take it from a host that ends with one",
        without: "taking the dot off cookies' domains",
        weak: &[("guard.js", "told.replace(/^\\.+|\\.+$/g, \"\")", "told.replace(/^\\.+/, \"\")")],
        run: |p| {
            Box::pin(async move {
                let cookies = ["s=1; Domain=localhost.", "s=2; domain=.LOCALHOST. ; Path=/", "s=3; Domain=apps.zz."];
                keeps_a_domain(p, &cookies).await
            })
        },
    },
    EdgeAttack {
        name: "cookie for all hosts in code",
        by: "the same with a domain that is written in another way, which browsers decode",
        without: "taking domains that are no plain names out of cookies",
        weak: &[("guard.js", "!/^[a-z0-9.-]{0,255}$/.test(told)", "false")],
        run: |p| {
            Box::pin(async move { keeps_a_domain(p, &["s=1; Domain=%6cocalhost", "s=2; Domain=localhost%2e"]).await })
        },
    },
    EdgeAttack {
        name: "cookie in a handshake",
        by: "the same in the answer that opens a socket",
        without: "reading the headers of such answers",
        weak: &[(
            "guard.js",
            "// The answer that opens a socket has headers too.",
            "if (WEAK && response.webSocket) return response;",
        )],
        run: |p| {
            Box::pin(async move {
                let code = "export default { fetch() { const [client, server] = Object.values(new WebSocketPair()); server.accept(); \
                    return new Response(null, { status: 101, webSocket: client, headers: { 'set-cookie': 's=1; Domain=localhost' } }); } }";
                p.deployed().await.script(&p.a, 1, code).await;
                let stream = TcpStream::connect(("127.0.0.1", p.workers.port)).await.unwrap();
                let request = format!("ws://{}/", p.workers.host(&p.a)).into_client_request().unwrap();
                let (_, answer) = client_async(request, stream).await.unwrap();
                let cookie = answer.headers().get("set-cookie").unwrap().to_str().unwrap();
                assert!(cookie.starts_with("s=1"), "{cookie}");
                cookie.contains("Domain")
            })
        },
    },
    EdgeAttack {
        name: "kept route",
        by: "A's host is asked for right after B's, while the isolate remembers B's route",
        without: "keeping routes by the scope",
        weak: &[
            ("routes.js", "lives.get(scope.name,", "lives.get(WEAK ? scope.environment : scope.name,"),
            ("dispatch.js", "!isOf(scope, script)", "false"),
        ],
        run: |p| {
            Box::pin(async move {
                p.deployed().await;
                for _ in 0..TRIES {
                    p.get(&p.b, "/", &[]).await;
                    if p.leaks(&p.a, "/", &[]).await {
                        return true;
                    }
                }
                false
            })
        },
    },
    EdgeAttack {
        name: "kept host",
        by: "A's own domain is asked for right after B's, while the isolate remembers whose B's is",
        without: "keeping hosts by their names",
        weak: &[("routes.js", "hosts.get(hostname,", "hosts.get(WEAK ? '' : hostname,")],
        run: |p| {
            Box::pin(async move {
                p.opened().await;
                for app in [&p.a, &p.b] {
                    let preview = scope(&format!("{app}/preview"));
                    p.workers.edge().routes().connect_host(&format!("{app}.example"), Some(&preview)).await.unwrap();
                }
                for _ in 0..TRIES {
                    p.leaks_at(&[format!("{}.example", p.b)], "/note.txt").await;
                    if p.leaks_at(&[format!("{}.example", p.a)], "/note.txt").await {
                        return true;
                    }
                }
                false
            })
        },
    },
    EdgeAttack {
        name: "page of a failure",
        by: "a request makes B's code fail with a message that holds a secret",
        without: "keeping messages from viewers",
        weak: &[("dispatch.js", "\"This app failed to answer.\"", "message")],
        run: |p| {
            Box::pin(async move {
                let answer = p.deployed().await.get(&p.b, "/?boom", &[]).await;
                assert_eq!(answer.status, 500, "{answer:?}");
                p.has_secret(&answer)
            })
        },
    },
];

/// Whether one of these cookies of A's gets to its viewers with a domain, asked for at its host and with a dot at its end.
async fn keeps_a_domain(p: &crate::attack::Pair, cookies: &[&str]) -> bool {
    let headers: Vec<_> = cookies.iter().map(|cookie| ["set-cookie", cookie]).collect();
    let headers = serde_json::to_string(&headers).unwrap();
    let code = format!("export default {{ fetch: () => new Response('', {{ headers: {headers} }}) }}");
    p.deployed().await.script(&p.a, 1, &code).await;
    let mut kept = false;
    for host in [format!("{}.localhost", p.a), format!("{}.localhost.", p.a)] {
        let request = format!("GET / HTTP/1.1\r\nhost: {host}:{}\r\nconnection: close\r\n\r\n", p.workers.port);
        let answer = http::raw(p.workers.port, request.as_bytes()).await;
        let passed: Vec<_> = answer.headers.iter().filter(|(name, _)| name == "set-cookie").collect();
        assert_eq!(passed.len(), cookies.len(), "{answer:?}");
        kept |= passed.iter().any(|(_, cookie)| cookie.to_lowercase().contains("domain"));
    }
    kept
}

/// Whether a host of B's shows A's preview once the platform connected that name of it with A.
async fn shows_a(p: &crate::attack::Pair, connected: &str, host: &str) -> bool {
    let body = format!("{{\"scope\":\"{}/preview\"}}", p.a);
    let connect = Signed::new(&p.workers, "PUT", &format!("/.overskill/v1/hosts/{connected}"), body.as_bytes());
    // That it is refused is fine, too.
    connect.send(&p.workers).await;
    let request = format!("GET /note.txt HTTP/1.1\r\nhost: {host}:{}\r\nconnection: close\r\n\r\n", p.workers.port);
    let answer = http::raw(p.workers.port, request.as_bytes()).await;
    String::from_utf8_lossy(&answer.body) == format!("of {}", p.a)
}

/// Whether a version of B's, which is no app's route, is shown with that proof.
async fn version(p: &crate::attack::Pair, proof: &str) -> bool {
    p.script(&p.b, STAGED, &format!("export default {{ fetch: () => new Response({:?}) }}", p.secret())).await;
    p.leaks(&format!("v{proof}-{STAGED}-p{}", p.b), "/", &[]).await
}

#[tokio::test]
async fn no_name_leads_to_another_app() {
    crate::attack::withstands(ATTACKS).await;
}
