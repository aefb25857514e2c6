//! Caches: what A's own code keeps, finds and forgets in them, where the platform's would be in its reach.
//!
//! workerd gives loaded code no cache. Whether the provider does is said nowhere, so these run on one that does the worst: what
//! is loaded shares a cache with all that the dispatch Worker fetches (`tests/support/loader.js`, `outside.js`).

#![allow(clippy::format_collect, reason = "a test may take its time")]

use crate::attack::{EdgeAttack, Pair};

/// Does to a cache, and fetches, what it is asked to; `before` are the methods that were there when its modules were loaded.
const CACHES: &str = "const before = Object.getOwnPropertyDescriptors(Cache.prototype);\n\
    export default { async fetch(request: Request) {\n  \
    const { searchParams } = new URL(request.url);\n  \
    const at = searchParams.get('at') ?? '';\n  \
    const kept = () => new Response('of mallory', { headers: { 'cache-control': 'max-age=600' } });\n  \
    const found = async (it?: Response) => it === undefined ? 'nothing' : await it.text();\n  \
    const told: string[] = [];\n  \
    for (const cache of [(caches as any).default, await caches.open('default')]) {\n    \
    switch (searchParams.get('do')) {\n      \
    case 'put': await cache.put(at, kept()); break;\n      \
    case 'put as before': await before.put.value.call(cache, at, kept()); break;\n      \
    case 'match': told.push(await found(await cache.match(at))); break;\n      \
    case 'delete': told.push(String(await cache.delete(at))); break;\n    }\n  }\n  \
    if (searchParams.get('do') === 'fetch') {\n    \
    const answer = await fetch(at, JSON.parse(searchParams.get('how') ?? '{}'));\n    \
    told.push(await answer.text());\n  }\n  \
    return new Response(told.join(' '));\n\
    } };\n";

pub(crate) const ATTACKS: &[EdgeAttack] = &[
    EdgeAttack {
        name: "answer put into a cache",
        by: "A's server side keeps an answer of its own under the address where the platform fetches B's data",
        without: "closing `put` to code that is loaded",
        weak: &[("closed.js", "\"put\"", "\"\"")],
        run: |p| {
            Box::pin(async move {
                asked(p, &p.a, &[("do", "put"), ("at", &data(p))]).await;
                p.get(&p.b_preview(), API, &[]).await.text().contains("of mallory")
            })
        },
    },
    EdgeAttack {
        name: "answer found in a cache",
        by: "A's server side looks for what B's API was answered",
        without: "closing `match` to code that is loaded",
        weak: &[("closed.js", "\"match\"", "\"\"")],
        run: |p| {
            Box::pin(async move {
                asked(p, &p.b, &[]).await;
                assert!(p.get(&p.b_preview(), API, &[]).await.text().contains(&data(p)), "it is there for its owner");
                asked(p, &p.a, &[("do", "match"), ("at", &data(p))]).await.contains(&data(p))
            })
        },
    },
    EdgeAttack {
        name: "cache that forgets",
        by: "A's server side has the cache forget what B's API was answered, and is told whether B asked for that",
        without: "closing `delete` to code that is loaded",
        weak: &[("closed.js", "\"delete\"", "\"\"")],
        run: |p| {
            Box::pin(async move {
                asked(p, &p.b, &[]).await;
                p.get(&p.b_preview(), API, &[]).await;
                asked(p, &p.a, &[("do", "delete"), ("at", &data(p))]).await.contains("true")
            })
        },
    },
    EdgeAttack {
        name: "method from before",
        by: "A's module takes what caches can do while it is loaded, and uses that later",
        without: "closing caches before A's modules run",
        weak: &[(
            "closed.js",
            "`import \"./overskill-closed.js\";\\n`",
            "`import \"./${main}\";\\nimport \"./overskill-closed.js\";\\n`",
        )],
        run: |p| {
            Box::pin(async move {
                asked(p, &p.a, &[("do", "put as before"), ("at", &data(p))]).await;
                p.get(&p.b_preview(), API, &[]).await.text().contains("of mallory")
            })
        },
    },
    EdgeAttack {
        name: "fetch resolved elsewhere",
        by: "A's code fetches a public name, with an option of the edge's that has it resolved like the upstream's",
        without: "leaving options of the edge's out of what goes out",
        weak: &[("egress.js", "cf: {}", "cf: WEAK ? request.cf : {}")],
        run: |p| {
            Box::pin(async move {
                let at = data(p).replace("data.test", "elsewhere.test");
                let how = r#"{"cf":{"resolveOverride":"data.test"}}"#;
                asked(p, &p.a, &[("do", "fetch"), ("at", &at), ("how", how)]).await.contains(&data(p))
            })
        },
    },
    EdgeAttack {
        name: "answer kept by a fetch",
        by: "A's code fetches what B's code will, with a header that changes the answer, which a cache of all apps keeps",
        without: "fetching past the cache",
        weak: &[("egress.js", "cache: \"no-store\"", "...(WEAK ? {} : { cache: \"no-store\" })")],
        run: |p| {
            Box::pin(async move {
                let at = format!("http://elsewhere.test/kept/{}.js", p.b);
                let how = r#"{"headers":{"x-says":"of mallory"}}"#;
                let own = asked(p, &p.a, &[("do", "fetch"), ("at", &at), ("how", how)]).await;
                assert!(own.contains("of mallory"), "{own}");
                asked(p, &p.b, &[("do", "fetch"), ("at", &at)]).await.contains("of mallory")
            })
        },
    },
];

/// What B's pages ask its API for: an answer that a cache may keep.
const API: &str = "/api/kept/x";

/// Where the platform fetches that.
fn data(p: &Pair) -> String {
    format!("http://data.test/v1/{}/preview/kept/x", p.b)
}

/// What an app's code says when it is asked that; both apps have the same.
async fn asked(p: &Pair, app: &str, query: &[(&str, &str)]) -> String {
    for app in [&p.a, &p.b] {
        p.open(app, &[("src/worker.ts", CACHES)], None).await;
    }
    let encoded = |text: &str| text.bytes().map(|byte| format!("%{byte:02x}")).collect::<String>();
    let query: Vec<_> = query.iter().map(|(name, value)| format!("{}={}", encoded(name), encoded(value))).collect();
    let answer = p.get(&format!("preview-{app}"), &format!("/any?{}", query.join("&")), &[]).await;
    assert_eq!(answer.status, 200, "{answer:?}\n{}", p.workers.log());
    answer.text().to_owned()
}

#[tokio::test]
async fn no_code_has_a_cache_that_others_have() {
    crate::attack::withstands(ATTACKS).await;
}
