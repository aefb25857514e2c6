//! Rooms of previews: sockets, packages, server sides, and what pages of other origins may do with them.

use crate::attack::{EdgeAttack, Pair};
use overskill_core::Environment;

/// Its own server side tells all that it finds: in what it was given, and in what was there before.
const CURIOUS: &str = "export default { async fetch(request: Request, env: Record<string, unknown>) {\n  \
    return new Response(JSON.stringify(env));\n} };\n";

pub(crate) const ATTACKS: &[EdgeAttack] = &[
    EdgeAttack {
        name: "socket without a token",
        by: "a socket of B's preview, with no token, an empty one and one that is made up",
        without: "comparing tokens",
        weak: &[("room.js", "!same(query.get(\"token\") ?? \"\", await this.#socketToken(scope))", "false")],
        run: |p| {
            Box::pin(async move {
                p.opened().await;
                let mut got = false;
                for query in
                    ["incarnation=f1&seq=1&epoch=0", "token=", "token[]=x", "token=00000000000000000000000000000000"]
                {
                    got |= p.opens(query, None).await;
                }
                got
            })
        },
    },
    EdgeAttack {
        name: "socket with one's own token",
        by: "a socket of B's preview, with the token of A's page, alone and before a second one",
        without: "making the token of the scope",
        weak: &[(
            "room.js",
            "overskill preview socket 1\\0${scope}",
            "overskill preview socket 1\\0${WEAK ? '' : scope}",
        )],
        run: |p| {
            Box::pin(async move {
                let page = p.opened().await.page(&p.a_preview()).await;
                p.opens(&page.query(), None).await || p.opens(&format!("{}&token=x", page.query()), None).await
            })
        },
    },
    EdgeAttack {
        name: "token digit by digit",
        by: "a socket of B's preview, with each token of one digit",
        without: "comparing tokens whole",
        weak: &[(
            "room.js",
            "!same(query.get(\"token\") ?? \"\", await this.#socketToken(scope))",
            "!(await this.#socketToken(scope)).startsWith(query.get('token') ?? '-')",
        )],
        run: |p| {
            Box::pin(async move {
                p.opened().await;
                let mut got = false;
                for digit in "0123456789abcdef".chars() {
                    got |= p.opens(&format!("token={digit}"), None).await;
                }
                got
            })
        },
    },
    EdgeAttack {
        name: "socket from A's page",
        by: "a page of A's opens a socket of B's preview, whose token it came by",
        without: "asking for the origin",
        weak: &[("room.js", "isFromElsewhere(request, url)", "false")],
        run: |p| {
            Box::pin(async move {
                let origin = format!("http://{}", p.opened().await.workers.host(&p.a_preview()));
                from(p, &origin).await
            })
        },
    },
    EdgeAttack {
        name: "socket from no origin",
        by: "the same from a sandboxed frame, whose origin is `null`",
        without: "taking `null` for an origin like others",
        weak: &[("guard.js", "origin !== null", "(origin !== null && origin !== 'null')")],
        run: |p| {
            Box::pin(async move {
                p.opened().await;
                from(p, "null").await
            })
        },
    },
    EdgeAttack {
        name: "socket from an origin that begins alike",
        by: "the same from a host of A's that begins with B's",
        without: "comparing origins whole",
        weak: &[("guard.js", "origin.toLowerCase() !== url.origin", "!origin.toLowerCase().startsWith(url.origin)")],
        run: |p| {
            Box::pin(async move {
                let host = p.opened().await.workers.host(&p.b_preview());
                from(p, &format!("http://{host}.evil.test")).await || from(p, &format!("http://{host}0")).await
            })
        },
    },
    EdgeAttack {
        name: "socket from another scheme",
        by: "the same from B's host under another scheme, where somebody on the way may have written the page",
        without: "comparing schemes",
        weak: &[("guard.js", "origin.toLowerCase() !== url.origin", "new URL(origin).host !== url.host")],
        run: |p| {
            Box::pin(async move {
                let host = p.opened().await.workers.host(&p.b_preview());
                from(p, &format!("https://{host}")).await
            })
        },
    },
    EdgeAttack {
        name: "message for another room",
        by: "a page of A's names B's preview in what it says over its own socket",
        without: "hearing a page in its own room alone",
        weak: &[(
            "room.js",
            "// A page that has to be loaded anew anyway has nothing to say.",
            "if (WEAK && said.scope) await this.env.ROOMS.getByName(said.scope).reload({ nonce: crypto.randomUUID(), time: Date.now() });",
        )],
        run: |p| {
            Box::pin(async move {
                p.opened().await;
                let mut bank = p.page(&p.b_preview()).await.connect(&p.workers, &p.b_preview()).await;
                let mut mallory = p.page(&p.a_preview()).await.connect(&p.workers, &p.a_preview()).await;
                let scope = format!("{}/preview", p.b);
                let said = serde_json::json!({
                    "type": "custom", "event": "vite:invalidate", "data": { "path": "/src/main.ts" }, "scope": scope,
                });
                mallory.say(&said.to_string()).await;
                assert_eq!(mallory.next().await["type"], "full-reload", "its own pages do");
                !bank.so_far().await.is_empty()
            })
        },
    },
    EdgeAttack {
        name: "package by its address",
        by: "A's host is asked for a package of B's, whose address is known",
        without: "serving an app the sets that it has itself",
        weak: &[("served.js", "shown.shelves.includes(set)", "true")],
        run: |p| {
            Box::pin(async move {
                let package = p.opened().await.package().await;
                p.get(&p.a_preview(), &package, &[]).await.text().contains("left = 7")
            })
        },
    },
    EdgeAttack {
        name: "package by its refusal",
        by: "A's host is asked for a package of B's and for one that nobody has: do the answers differ?",
        without: "refusing what another has like what nobody has",
        weak: &[(
            "served.js",
            "// Only the app's own sets: another app's are as if they were not there.",
            "if (WEAK && set !== undefined && !shown.shelves.includes(set) && (await env.SHELVES.getByName(set).isComplete())) \
             return plain(403, 'Not yours.');",
        )],
        run: |p| {
            Box::pin(async move {
                let package = p.opened().await.package().await;
                let nobodys = format!("/@npm/{}/left.js", "0".repeat(64));
                let mut differ = false;
                for headers in [&[][..], &[("if-none-match", "*")], &[("range", "bytes=0-3")]] {
                    let theirs = p.get(&p.a_preview(), &package, headers).await;
                    let nobodys = p.get(&p.a_preview(), &nobodys, headers).await;
                    differ |= theirs.status != nobodys.status || theirs.headers.len() != nobodys.headers.len();
                }
                differ
            })
        },
    },
    EdgeAttack {
        name: "source in an element",
        by: "a page of A's shows B's sources in an element, which browsers let it do unless they are told",
        without: "telling browsers whose sources they are",
        weak: &[("dispatch.js", "headers.set(\"cross-origin-resource-policy\", \"same-origin\")", "undefined")],
        run: |p| {
            Box::pin(async move {
                p.opened().await;
                let mut got = false;
                for path in ["/", "/src/main.ts", "/note.txt"] {
                    let answer = p.get(&p.b_preview(), path, &[("accept", "text/html")]).await;
                    got |= answer.header("cross-origin-resource-policy") != Some("same-origin")
                        || answer.header("access-control-allow-origin").is_some();
                }
                got
            })
        },
    },
    EdgeAttack {
        name: "preview in a frame",
        by: "a page of A's shows B's preview in a frame, and lets its viewer click there",
        without: "telling browsers who may embed it",
        weak: &[("dispatch.js", "!headers.has(\"content-security-policy\")", "false")],
        run: |p| {
            Box::pin(async move {
                let page = p.opened().await.get(&p.b_preview(), "/", &[("accept", "text/html")]).await;
                assert_eq!(page.status, 200);
                page.header("content-security-policy") != Some("frame-ancestors 'self'")
            })
        },
    },
    EdgeAttack {
        name: "word of a room",
        by: "a request to A's preview says, as a room would, that a script of B's is to answer",
        without: "hearing rooms alone",
        weak: &[
            (
                "dispatch.js",
                "answer.headers.get(\"x-overskill-room\")",
                "(request.headers.get('x-overskill-room') ?? answer.headers.get('x-overskill-room'))",
            ),
            (
                "dispatch.js",
                "named.headers.get(\"x-overskill-script\")",
                "(request.headers.get('x-overskill-script') ?? '')",
            ),
        ],
        run: |p| {
            Box::pin(async move {
                let script = format!("{}-preview-preview", p.opened().await.b);
                let code = format!("export default {{ fetch: () => new Response({:?}) }}", p.secret());
                p.workers.script(Environment::Preview, &script, &code).await;
                let forged = [("x-overskill-room", "script"), ("x-overskill-script", script.as_str())];
                p.leaks(&p.a_preview(), "/note.txt", &forged).await
            })
        },
    },
    EdgeAttack {
        name: "isolate of the same code",
        by: "A's preview has the same server side as B's, so that one isolate with B's variables could serve both",
        without: "telling loaded code by the app",
        weak: &[("dispatch.js", "`${scope.name}@${id}/${plan}/1`", "`code@${plan}`")],
        run: |p| {
            Box::pin(async move {
                let files = [("src/worker.ts", CURIOUS)];
                p.open(&p.b, &files, Some(&p.secret())).await;
                p.open(&p.a, &files, Some("mine")).await;
                assert!(p.leaks(&p.b_preview(), "/any", &[]).await, "it is there for its owner");
                p.leaks(&p.a_preview(), "/any", &[]).await
            })
        },
    },
    EdgeAttack {
        name: "platform's secrets in `env`",
        by: "A's server side tells all that it was given, the platform's own keys among it",
        without: "giving it its own variables alone",
        weak: &[("dispatch.js", "env: code.env,", "env: WEAK ? { ...code.env, KEYS: env.INGEST_KEYS } : code.env,")],
        run: |p| {
            Box::pin(async move {
                p.open(&p.a, &[("src/worker.ts", CURIOUS)], Some("mine")).await;
                let told = p.get(&p.a_preview(), "/any", &[]).await;
                assert!(told.text().contains("mine"), "{told:?}");
                crate::api::platforms_keys(p).iter().any(|key| told.text().contains(key))
            })
        },
    },
];

/// Whether a socket of B's preview opens for a page of that origin that came by the token.
async fn from(p: &Pair, origin: &str) -> bool {
    let page = p.page(&p.b_preview()).await;
    p.opens(&page.query(), Some(origin)).await
}

#[tokio::test]
async fn nobody_else_has_what_a_preview_shows() {
    crate::attack::withstands(ATTACKS).await;
}
