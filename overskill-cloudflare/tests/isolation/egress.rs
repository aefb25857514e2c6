//! What A's own code fetches: from the platform, from B's data, from what is inside, or under B's name.
//!
//! That it has no other way out, such as a connection of its own, is in `tests/account/egress.rs`.

use crate::attack::{EdgeAttack, Pair};

/// Fetches what it is asked to.
const FETCHES: &str = "export default { async fetch(request: Request) {\n  \
    const to = new URL(request.url).searchParams.get('to') ?? '';\n  \
    const headers = { 'x-overskill-scope': 'bank/production', via: '1.1 overskill (bank/production)', 'x-mine': '7' };\n  \
    try { return new Response(await (await fetch(to, { headers })).text()); } catch (error) { return new Response(String(error)); }\n\
    } };\n";

pub(crate) const ATTACKS: &[EdgeAttack] = &[
    EdgeAttack {
        name: "fetch of the platform",
        by: "A's code fetches B's address on the platform's own domain, from inside",
        without: "refusing the platform's domains",
        weak: &[("egress.js", "!(\"other\" in siteOf(host, domains))", "false")],
        run: |p| {
            Box::pin(async move { reaches(p, &format!("http://preview-{}.apps.zz/note.txt", p.b), ".apps.zz").await })
        },
    },
    EdgeAttack {
        name: "fetch of the upstream",
        by: "A's code fetches B's data where the platform fetches it",
        without: "refusing the upstream's host",
        weak: &[("egress.js", "upstream && host === new URL(upstream).hostname.toLowerCase()", "false")],
        run: |p| Box::pin(async move { reaches(p, &format!("http://data.test/v1/{}/preview/x", p.b), "/v1/").await }),
    },
    EdgeAttack {
        name: "host with a dot at its end",
        by: "the same with a dot at the end of the host, which is the same host",
        without: "taking dots off the ends of hosts",
        weak: &[("egress.js", "url.hostname.toLowerCase().replace(/\\.+$/, \"\")", "url.hostname.toLowerCase()")],
        run: |p| Box::pin(async move { reaches(p, &format!("http://data.test./v1/{}/preview/x", p.b), "/v1/").await }),
    },
    EdgeAttack {
        name: "fetch of an address",
        by: "A's code fetches from addresses of the machine and its network, written in every way",
        without: "asking for names",
        weak: &[("egress.js", "host.startsWith(\"[\") || /^\\d+(\\.\\d+){3}$/.test(host)", "false")],
        run: |p| {
            Box::pin(async move {
                let mut got = false;
                for host in ["127.0.0.1", "2130706433", "0x7f.1", "0177.0.0.1", "10.0.0.1", "169.254.169.254"] {
                    got |= reaches(p, &format!("http://{host}/latest/meta-data"), "/latest/").await;
                }
                got
            })
        },
    },
    EdgeAttack {
        name: "fetch of a name inside",
        by: "A's code fetches from names that mean something in the machine's network alone",
        without: "asking for public names",
        weak: &[("egress.js", "!host.includes(\".\") || within(host, INSIDE)", "false")],
        run: |p| {
            Box::pin(async move {
                let mut got = false;
                for host in ["metadata.google.internal", "printer.local", "intranet", "localhost", "LOCALHOST."] {
                    got |= reaches(p, &format!("http://{host}/secret"), "/secret").await;
                }
                got
            })
        },
    },
    EdgeAttack {
        name: "redirect inside",
        by: "A's code fetches from a public name that sends it on to B's data",
        without: "giving redirects back to who fetches",
        weak: &[("egress.js", "redirect: \"manual\"", "redirect: WEAK ? \"follow\" : \"manual\"")],
        run: |p| {
            Box::pin(
                async move { reaches(p, &format!("http://elsewhere.test/moved-to/{}/preview/x", p.b), "/v1/").await },
            )
        },
    },
    EdgeAttack {
        name: "fetch in B's name",
        by: "A's code says to who is fetched from that it is B's, in headers of the platform's",
        without: "taking such headers off what goes out",
        weak: &[("egress.js", "NOT_OUT.test(name)", "false")],
        run: |p| {
            Box::pin(async move {
                let seen = fetched(p, "http://elsewhere.test/any").await;
                assert_eq!(seen.last().unwrap()["headers"]["x-mine"], "7", "its own go along");
                assert!(seen.last().unwrap()["headers"]["via"].as_str().unwrap().contains(&p.a));
                !seen.last().unwrap()["headers"]["x-overskill-scope"].is_null()
            })
        },
    },
];

/// What the world outside saw when A's code fetched that.
async fn fetched(p: &Pair, to: &str) -> Vec<serde_json::Value> {
    p.open(&p.a, &[("src/worker.ts", FETCHES)], None).await;
    p.seen().await;
    let answer = p.get(&p.a_preview(), &format!("/any?to={to}"), &[]).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    p.seen().await
}

/// Whether it saw a request whose address holds that.
async fn reaches(p: &Pair, to: &str, what: &str) -> bool {
    fetched(p, to).await.iter().any(|seen| seen["url"].as_str().unwrap().contains(what))
}

#[tokio::test]
async fn code_of_an_app_reaches_nothing_of_the_platform() {
    crate::attack::withstands(ATTACKS).await;
}
