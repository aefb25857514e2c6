//! Apps are apart at the edge: what A, or whoever controls it, tries to get at B; and how that goes where one defence is missing.
//!
//! Each attack has a mechanism of its own, and a control of its own: the same code, on the same platform without one defence
//! (`attack.rs`, `account.rs` say how), gets what it is after. So neither a slip in a test nor a second defence behind the first
//! makes an attack fail unnoticed.
//!
//! | attack | mechanism | control: it succeeds without |
//! |---|---|---|
//! | forwarded host | a header says that the request was for B's host | going by the address alone |
//! | original address | a header says that the request was for B's address | going by the address alone |
//! | label under a label | B's label stands before A's host | taking all before the domain for one label |
//! | host before an @ | B's host stands as a user before A's | leaving out the user of an address |
//! | script in the query | a request for A says which script is to run | taking the script from the route, and one of the app's |
//! | route to another's script | A's route names a script of B's | refusing a script whose name begins with another app |
//! | script as a host | the name of a script of B's stands as a label of the domain | taking only apps and proven versions for labels |
//! | version with any proof | the address of a version of B's, with a proof that is made up | comparing the proof |
//! | version with a short proof | the address of a version of B's, with a proof of no length, and with each of one byte | asking for a whole proof |
//! | version with one's own proof | the address of a version of B's, with the proof of A's version of that number | making the proof of the app too |
//! | platform's host as one's own | A connects B's host with itself, as a customer's domain | knowing the platform's hosts before customers' |
//! | platform's host with a dot | A connects B's host with itself, and it is asked for with a dot at its end, which is the same host | taking the dot off the platform's hosts |
//! | customer's host with a dot | A connects a domain that is connected with B, with a dot at its end | taking the dot off customers' hosts |
//! | word of the platform | a request tells A's code that it is for B, in a header of the platform's | taking such headers off requests |
//! | cookie for all hosts | A's code sets a cookie for the whole domain, which B's host would get | taking domains of ours out of cookies |
//! | cookie for all hosts with a dot | the same with a dot at the end of the domain, as browsers take it from a host that ends with one | taking the dot off cookies' domains |
//! | cookie for all hosts in code | the same with a domain that is written in another way, which browsers decode | taking domains that are no plain names out of cookies |
//! | cookie in a handshake | the same in the answer that opens a socket | reading the headers of such answers |
//! | kept route | A's host is asked for right after B's, while the isolate remembers B's route | keeping routes by the scope |
//! | kept host | A's own domain is asked for right after B's, while the isolate remembers whose B's is | keeping hosts by their names |
//! | page of a failure | a request makes B's code fail with a message that holds a secret | keeping messages from viewers |
//! | another platform's key | a list of B's files, asked for under a signature with another key | verifying the signature |
//! | signature for one's own path | what the platform signed of A's files, sent for B's | signing the path |
//! | signature for another host | what was signed for another platform's host, which has the same key, sent to this one | signing the host |
//! | another body | what the platform signed to connect A's domain with A, sent with B in its body | signing the body |
//! | sent again | a request of the platform's that was overheard, sent once more | remembering what was admitted |
//! | sent late | a request of the platform's that was held back for ten minutes, when its nonce would be forgotten | comparing its time |
//! | socket without a token | a socket of B's preview, with no token, an empty one and one that is made up | comparing tokens |
//! | socket with one's own token | a socket of B's preview, with the token of A's page, alone and before a second one | making the token of the scope |
//! | token digit by digit | a socket of B's preview, with each token of one digit | comparing tokens whole |
//! | socket from A's page | a page of A's opens a socket of B's preview, whose token it came by | asking for the origin |
//! | socket from no origin | the same from a sandboxed frame, whose origin is `null` | taking `null` for an origin like others |
//! | socket from an origin that begins alike | the same from a host of A's that begins with B's | comparing origins whole |
//! | socket from another scheme | the same from B's host under another scheme, where somebody on the way may have written the page | comparing schemes |
//! | message for another room | a page of A's names B's preview in what it says over its own socket | hearing a page in its own room alone |
//! | package by its address | A's host is asked for a package of B's, whose address is known | serving an app the sets that it has itself |
//! | package by its refusal | A's host is asked for a package of B's and for one that nobody has: do the answers differ? | refusing what another has like what nobody has |
//! | source in an element | a page of A's shows B's sources in an element, which browsers let it do unless they are told | telling browsers whose sources they are |
//! | preview in a frame | a page of A's shows B's preview in a frame, and lets its viewer click there | telling browsers who may embed it |
//! | word of a room | a request to A's preview says, as a room would, that a script of B's is to answer | hearing rooms alone |
//! | isolate of the same code | A's preview has the same server side as B's, so that one isolate with B's variables could serve both | telling loaded code by the app |
//! | platform's secrets in `env` | A's server side tells all that it was given, the platform's own keys among it | giving it its own variables alone |
//! | kept token | A's API is called right after B's, while the isolate remembers B's token | keeping tokens by the scope |
//! | app in the query | a call of A's API names B in its query | taking the app from the host |
//! | scope in a header | a call of A's API names B in headers of the platform's | taking the scope from the host |
//! | path that leads up | a call of A's API leads up to B's data, encoded once | refusing paths that lead elsewhere, and encoding each segment |
//! | path encoded twice | the same, encoded twice | refusing what was encoded twice, and decoding once |
//! | path with backslashes | the same with backslashes, which become slashes in an address | refusing backslashes, and encoding each segment |
//! | call from A's page | a page of A's calls B's API with its viewer's browser | asking for the origin |
//! | call from an element | the same by an element, of which browsers tell no origin but that it is of the same site | taking apps for one another's strangers |
//! | cookie of one's data | what answers A's API sets a cookie for the whole domain | taking cookies off its answers |
//! | answer that leads elsewhere | what answers A's API sends the platform on to B's data | following no redirects |
//! | caller's headers | a call of A's API brings a cookie of the domain's and a token, which A's data would see | passing on the media type alone |
//! | platform's keys in what is told | what A's data was sent, and every refusal that anybody can have, are searched for the platform's keys | leaving keys out of messages |
//! | fetch of the platform | A's code fetches B's address on the platform's own domain, from inside | refusing the platform's domains |
//! | fetch of the upstream | A's code fetches B's data where the platform fetches it | refusing the upstream's host |
//! | host with a dot at its end | the same with a dot at the end of the host, which is the same host | taking dots off the ends of hosts |
//! | fetch of an address | A's code fetches from addresses of the machine and its network, written in every way | asking for names |
//! | fetch of a name inside | A's code fetches from names that mean something in the machine's network alone | asking for public names |
//! | redirect inside | A's code fetches from a public name that sends it on to B's data | giving redirects back to who fetches |
//! | fetch in B's name | A's code says to who is fetched from that it is B's, in headers of the platform's | taking such headers off what goes out |
//! | answer put into a cache | A's server side keeps an answer of its own under the address where the platform fetches B's data | closing `put` to code that is loaded |
//! | answer found in a cache | A's server side looks for what B's API was answered | closing `match` to code that is loaded |
//! | cache that forgets | A's server side has the cache forget what B's API was answered, and is told whether B asked for that | closing `delete` to code that is loaded |
//! | method from before | A's module takes what caches can do while it is loaded, and uses that later | closing caches before A's modules run |
//! | fetch resolved elsewhere | A's code fetches a public name, with an option of the edge's that has it resolved like the upstream's | leaving options of the edge's out of what goes out |
//! | answer kept by a fetch | A's code fetches what B's code will, with a header that changes the answer, which a cache of all apps keeps | fetching past the cache |
//! | asset by the digest of its contents | A's session of assets names what B's file is, by digests of its contents, and uploads nothing | salting the names of assets |
//! | asset by what anybody knows | the same, by what the library makes of account, prefix, B's id, type and contents | a salt that is a secret |
//! | contents by a guess | A deploys every guess of what B's file holds, and sees which one needs no upload | salting the names of assets for each app |
//! | assets of another host | A's code asks its binding of assets for an address of B's | binding code to its own assets alone |
//! | sealed variable in a page | anybody reads what B's page imports, where B's sealed variable is called like a public one | leaving sealed variables out of pages |
//! | files behind a binding | A's code lists and reads all that its bindings lead to | binding no code to apps' files |
//! | caches of a namespace | A's code looks for what B's code keeps of its pages, has it forgotten, and puts pages of its own in their place | namespaces whose scripts share no cache |
//! | class of another's script | A's artifact asks for a Durable Object of B's script, by name, and for one of its own that is called alike | taking classes of the app's own script alone |
//! | name of the platform's | A has a variable that says that it is B, under the name of the platform's own | keeping such names for the platform |
//! | variable of another's version | A changes a variable of its own, of a version whose handle is B's | refusing handles of other apps |
//! | secret of another's version | A rotates a secret of its own, of a version whose handle is B's | refusing handles of other apps |
//! | file of another's folder | the script that serves A's preview out of KV is asked for a file of B's, by its digest and by its whole key | binding it to A's folder |
#![allow(clippy::unwrap_used, reason = "a test that cannot go on panics")]

mod account;
mod api;
mod assets;
mod attack;
mod caches;
#[allow(dead_code, reason = "the account's own tests use the rest")]
#[path = "../account/common.rs"]
mod common;
mod egress;
mod ingest;
mod names;
mod owners;
mod previews;
mod secrets;
#[path = "../support/mod.rs"]
mod support;
#[allow(dead_code, reason = "the account's own tests use the rest")]
#[path = "../account/world.rs"]
mod world;

use std::collections::BTreeSet;

/// How many the platform has to withstand at least.
const LEAST: usize = 30;

/// Name, mechanism and control of every attack, and its control as the machine has it.
fn all() -> Vec<[String; 4]> {
    let edge = [names::ATTACKS, ingest::ATTACKS, previews::ATTACKS, api::ATTACKS, egress::ATTACKS, caches::ATTACKS];
    let edge =
        edge.into_iter().flatten().map(|it| [it.name, it.by, it.without, &format!("{:?}", it.weak)].map(String::from));
    let account = [assets::ATTACKS, secrets::ATTACKS];
    let account = account
        .into_iter()
        .flatten()
        .map(|it| [it.name, it.by, it.without, &format!("{:?}", it.weak)].map(String::from));
    edge.chain(account).collect()
}

#[test]
fn the_table_above_is_all_attacks_and_no_two_are_one() {
    let all = all();
    let rows: Vec<_> = all.iter().map(|[name, by, without, _]| format!("//! | {name} | {by} | {without} |")).collect();
    let head: Vec<_> = include_str!("main.rs").lines().filter(|line| line.starts_with("//! | ")).skip(1).collect();
    assert_eq!(head, rows, "\n{}", rows.join("\n"));
    assert!(rows.len() >= LEAST, "{} attacks", rows.len());
    for (column, what) in ["name", "mechanism", "", "control"].into_iter().enumerate() {
        let distinct: BTreeSet<_> = all.iter().map(|attack| &attack[column]).collect();
        assert!(what.is_empty() || distinct.len() == all.len(), "two attacks have the same {what}");
    }
    assert!(all.iter().all(|[.., weak]| !["", "[]", "Never"].contains(&weak.as_str())), "an attack has no control");
}
