//! Previews at the edge: what is served, what sockets are told, what is lost and comes back.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on panics")]

mod support;

use async_trait::async_trait;
use overskill_cloudflare::{CloudflarePreviews, Edge};
use overskill_core::{Changes, PreviewHost as _, PreviewStatus, Result, Scope, Snapshot, Update};
use overskill_http::{Body, NetworkTransport, Request, Response, Transport, cut_off};
use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};
use support::{
    Options, PATIENCE, Workers, at, engine, env, path, scope,
    socket::{Page, connect},
};

const TODO: &str = "todo42/preview";
const LABEL: &str = "preview-todo42";

fn app(seq: u64) -> Snapshot {
    support::snapshot(
        at(seq),
        &[
            (
                "index.html",
                "<!doctype html><html><head><title>Todo</title></head><body><script type=\"module\" src=\"/src/main.ts\"></script></body></html>",
            ),
            ("package.json", "{\"dependencies\":{\"left\":\"1.0.0\"}}"),
            (
                "src/main.ts",
                "import { n } from './n';\nimport { left } from 'left';\ndocument.title = String(n + left);\nimport.meta.hot?.accept('./n', () => {});\n",
            ),
            ("src/n.ts", "export const n: number = 0;\n"),
            ("src/logo.svg", "<svg/>"),
            ("public/note.txt", "a note"),
        ],
    )
}

async fn opened(workers: &Workers) -> CloudflarePreviews {
    let previews = workers.previews();
    previews.open(&scope(TODO), &app(1), &env(1)).await.unwrap();
    previews
}

/// `n.ts` says `n`, at position `n + 1`.
async fn edit(previews: &CloudflarePreviews, n: u64) -> Update {
    let changes = Changes::new().put(path("src/n.ts"), format!("export const n: number = {n};\n"));
    previews.apply(&scope(TODO), at(n), at(n + 1), &changes).await.unwrap()
}

async fn viewers(previews: &CloudflarePreviews) -> u32 {
    match previews.status(&scope(TODO)).await.unwrap() {
        PreviewStatus::Open { viewers, .. } => viewers,
        other => panic!("{other:?}"),
    }
}

async fn until(what: &str, mut is_so: impl AsyncFnMut() -> bool) {
    let wait = async {
        while !is_so().await {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(PATIENCE, wait).await.unwrap_or_else(|_| panic!("{what}"));
}

#[tokio::test]
async fn pages_modules_packages_and_files_are_served_as_the_engine_has_them() {
    let workers = Workers::start().await;
    let previews = opened(&workers).await;
    let page = Page::load(&workers, LABEL).await;
    assert_eq!((page.seq(), page.config["epoch"].as_u64()), (1, Some(0)));
    assert_eq!(page.token().len(), 32);
    // The page of an app's own router, but not for a file that is missing.
    assert_eq!(workers.page(LABEL, "/tasks/7").await.status, 200);
    assert_eq!(workers.page(LABEL, "/missing.png").await.status, 404);
    assert_eq!(workers.get(LABEL, "/tasks/7").await.status, 404);

    let main = workers.get(LABEL, "/src/main.ts").await;
    assert_eq!(main.header("content-type"), Some("text/javascript; charset=utf-8"));
    assert_eq!(main.header("cache-control"), Some("no-cache"));
    assert_eq!(main.header("x-content-type-options"), Some("nosniff"));
    assert_eq!(main.header("cross-origin-resource-policy"), Some("same-origin"));
    let package = main.text().split('"').find(|part| part.starts_with("/@npm/")).unwrap().to_owned();
    let package = workers.get(LABEL, &package).await;
    assert!(package.text().contains("left = 7"));
    assert!(package.header("cache-control").unwrap().contains("immutable"));
    assert_eq!(workers.get(LABEL, "/note.txt").await.text(), "a note");
    assert_eq!(workers.get(LABEL, "/src/logo.svg").await.text(), "<svg/>");
    assert!(workers.get(LABEL, "/src/logo.svg?import").await.text().starts_with("export default"));
    assert!(workers.get(LABEL, "/@overskill/client.js").await.text().contains("createHotContext"));
    assert_eq!(workers.get(LABEL, "/package.json").await.status, 404, "it is nobody's business");

    let tag = main.header("etag").unwrap().to_owned();
    let again = workers.ask("GET", LABEL, "/src/main.ts", &[("if-none-match", &tag)], "").await;
    assert_eq!((again.status, again.body.len()), (304, 0));
    let head = workers.ask("HEAD", LABEL, "/note.txt", &[], "").await;
    assert_eq!((head.status, head.body.len()), (200, 0));
    assert_eq!(workers.ask("POST", LABEL, "/note.txt", &[], "").await.status, 405);
    assert!(previews.problems(&scope(TODO)).await.unwrap().is_empty());
}

#[tokio::test]
async fn what_the_edge_serves_is_byte_for_byte_what_the_engine_answers() {
    let workers = Workers::start().await;
    opened(&workers).await;
    let local = engine().open(&scope(TODO), &app(1), &env(1), &overskill_core::Progress::discard()).await.unwrap();
    let mut compared = 0;
    for (at, accept) in [
        ("/src/main.ts", "*/*"),
        ("/src/n.ts", "*/*"),
        ("/src/n.ts?t=5", "*/*"),
        ("/src/logo.svg", "*/*"),
        ("/src/logo.svg?import", "*/*"),
        ("/note.txt", "*/*"),
        ("/note.txt?import", "*/*"),
        ("/@overskill/client.js", "*/*"),
        ("/@overskill/env.js", "*/*"),
        ("/@overskill/nothing.js", "*/*"),
        ("/missing.ts", "text/html"),
        ("/package.json", "text/html"),
        ("/.env", "text/html"),
        ("/%2e%2e/etc/passwd", "*/*"),
    ] {
        let (path, query) = at.split_once('?').map_or((at, None), |(path, query)| (path, Some(query.to_owned())));
        let mut request = overskill_build::preview::PageRequest::get(path);
        (request.query, request.accept) = (query, Some(accept.to_owned()));
        let want = local.respond(&request).await;
        let got = workers.ask("GET", LABEL, at, &[("accept", accept)], "").await;
        // What leads elsewhere is nowhere: a URL is resolved before the Worker sees it.
        let status = if want.status == 400 { 404 } else { want.status };
        assert_eq!(got.status, status, "{at}");
        if want.status == 200 {
            assert_eq!(got.body, want.body, "{at}");
            for name in ["content-type", "etag", "cache-control"] {
                let of_engine = want.headers.iter().find(|(other, _)| *other == name).map(|(_, value)| value.as_str());
                assert_eq!(got.header(name), of_engine, "{name} of {at}");
            }
            compared += 1;
        }
    }
    assert_eq!(compared, 9);
}

#[tokio::test]
async fn viewers_are_told_of_edits_and_counted() {
    let workers = Workers::start().await;
    let previews = opened(&workers).await;
    assert_eq!(viewers(&previews).await, 0);
    let page = Page::load(&workers, LABEL).await;
    let (mut one, mut two) = (page.connect(&workers, LABEL).await, page.connect(&workers, LABEL).await);
    assert_eq!(viewers(&previews).await, 2);
    for n in 1..=3 {
        assert_eq!(edit(&previews, n).await, Update::Applied);
        for socket in [&mut one, &mut two] {
            let message = socket.next().await;
            assert_eq!((message["type"].as_str(), message["position"]["seq"].as_u64()), (Some("update"), Some(n + 1)));
            assert_eq!(message["updates"][0]["acceptedPath"], "/src/n.ts");
        }
        let fresh = workers.get(LABEL, &format!("/src/n.ts?t={}", n + 1)).await;
        assert!(fresh.text().contains(&format!("n = {n}")), "{}", fresh.text());
    }
    one.leave().await;
    until("one viewer", async || viewers(&previews).await == 1).await;
    previews.close(&scope(TODO)).await.unwrap();
    assert_eq!(two.next_or_end().await, None, "whoever looks is let go");
    assert_eq!(workers.page(LABEL, "/").await.status, 404);
}

#[tokio::test]
async fn who_was_cut_gets_what_it_missed_or_loads_anew() {
    let workers = Workers::start().await;
    let previews = opened(&workers).await;
    let page = Page::load(&workers, LABEL).await;
    for n in 1..=3 {
        edit(&previews, n).await;
    }
    let mut socket = page.connect(&workers, LABEL).await;
    let missed: Vec<_> = socket.so_far().await.iter().map(|it| it["position"]["seq"].as_u64()).collect();
    assert_eq!(missed, [Some(2), Some(3), Some(4)]);
    let behind = |seq: u64, life: &str| format!("token={}&incarnation={life}&seq={seq}&epoch=0", page.token());
    for (query, wants) in [(behind(4, "f1"), 0), (behind(3, "f1"), 1), (behind(9, "f1"), 1), (behind(4, "f2"), 1)] {
        let told = connect(&workers, LABEL, &query, None).await.ok().unwrap().so_far().await;
        assert_eq!(told.len(), wants, "{query}: {told:?}");
        let reloads = query.contains("seq=9") || query.contains("f2");
        assert_eq!(told.iter().any(|it| it["type"] == "full-reload"), reloads, "{query}");
    }
    // Whoever holds nothing has missed nothing.
    let mut new = connect(&workers, LABEL, &format!("token={}", page.token()), None).await.ok().unwrap();
    assert!(new.so_far().await.is_empty());
    // More than is remembered.
    for n in 4..=300 {
        edit(&previews, n).await;
    }
    let told = page.connect(&workers, LABEL).await.so_far().await;
    assert_eq!((told.len(), told[0]["type"].as_str()), (1, Some("full-reload")));
    let recent = connect(&workers, LABEL, &behind(299, "f1"), None).await.ok().unwrap().so_far().await;
    assert_eq!(recent.len(), 2);
}

#[tokio::test]
async fn sockets_outlive_a_room_that_is_not_in_memory() {
    // Each time the object comes into memory, it says so.
    let options = Options::new().patched(
        "room.js",
        "super(ctx, env);\n",
        "super(ctx, env);\n    console.log('the room woke');\n",
    );
    let workers = Workers::with(options).await;
    let previews = opened(&workers).await;
    let page = Page::load(&workers, LABEL).await;
    let mut socket = page.connect(&workers, LABEL).await;
    let woke = || workers.log().matches("the room woke").count();
    let before = woke();
    assert!(before > 0);
    // workerd lets an object go after ten seconds without a request.
    tokio::time::sleep(Duration::from_secs(13)).await;
    assert!(socket.so_far().await.is_empty(), "a ping is answered");
    assert_eq!(woke(), before, "a ping woke it");
    assert_eq!(edit(&previews, 1).await, Update::Applied);
    let message = socket.next().await;
    assert_eq!(message["position"]["seq"], 2);
    assert!(woke() > before, "it was in memory all the time: nothing was shown");
    assert_eq!(viewers(&previews).await, 1);
}

#[tokio::test]
async fn after_a_restart_of_the_workers_pages_go_on_where_they_were() {
    let workers = Workers::start().await;
    let previews = opened(&workers).await;
    let page = Page::load(&workers, LABEL).await;
    let mut socket = page.connect(&workers, LABEL).await;
    edit(&previews, 1).await;
    socket.next().await;
    let workers = workers.restarted().await;
    assert_eq!(socket.next_or_end().await, None);
    edit(&previews, 2).await;
    let told = page.connect(&workers, LABEL).await.so_far().await;
    let seqs: Vec<_> = told.iter().map(|it| it["position"]["seq"].as_u64().unwrap()).collect();
    assert_eq!(seqs, [2, 3], "from where the page stands");
}

#[tokio::test]
async fn a_room_that_was_lost_is_filled_again() {
    let workers = Workers::start().await;
    let previews = opened(&workers).await;
    edit(&previews, 1).await;
    let page = Page::load(&workers, LABEL).await;
    // Nothing is left of it, and nobody told the service.
    let workers = workers.restarted_without("PreviewRoom").await;
    assert_eq!(workers.page(LABEL, "/").await.status, 404);
    assert_eq!(previews.status(&scope(TODO)).await.unwrap(), PreviewStatus::Empty);
    // The next change brings all of it back, without a word to the room before.
    assert_eq!(edit(&previews, 2).await, Update::Applied);
    assert!(workers.get(LABEL, "/src/n.ts").await.text().contains("n = 2"));
    assert_eq!(workers.get(LABEL, "/note.txt").await.text(), "a note");
    let told = page.connect(&workers, LABEL).await.so_far().await;
    assert_eq!((told.len(), told[0]["type"].as_str()), (1, Some("full-reload")), "its token is still good");
    // The same where it is opened, as `refill` does.
    let workers = workers.restarted_without("PreviewRoom").await;
    let mut now = app(3);
    Changes::new().put(path("src/n.ts"), "export const n: number = 2;\n".to_owned()).apply_to(&mut now.files);
    previews.open(&scope(TODO), &now, &env(1)).await.unwrap();
    assert_eq!(workers.page(LABEL, "/").await.status, 200);
}

#[tokio::test]
async fn a_room_that_gave_up_its_files_asks_for_them_when_somebody_looks() {
    let workers = Workers::start().await;
    let previews = opened(&workers).await;
    let page = Page::load(&workers, LABEL).await;
    previews.evict(&scope(TODO)).await.unwrap();
    assert_eq!(previews.status(&scope(TODO)).await.unwrap(), PreviewStatus::Empty);
    let waiting = workers.page(LABEL, "/").await;
    assert_eq!((waiting.status, waiting.header("retry-after")), (503, Some("1")));
    assert!(waiting.text().contains("http-equiv=\"refresh\""));
    assert_eq!(workers.get(LABEL, "/src/n.ts").await.status, 503);
    assert_eq!(connect(&workers, LABEL, &page.query(), None).await.err(), Some(503));

    // Another service than the one that opened it, as after a restart of the whole.
    let service = workers.previews();
    let refills = Arc::new(AtomicUsize::new(0));
    let (count, filling) = (refills.clone(), service.clone());
    let listening = tokio::spawn(async move {
        let refill = async |wanted: Scope| {
            assert_eq!(wanted, scope(TODO));
            filling.open(&wanted, &app(1), &env(1)).await.unwrap();
            count.fetch_add(1, Ordering::Relaxed);
        };
        service.listen(refill).await;
    });
    until("the page to come", async || workers.page(LABEL, "/").await.status == 200).await;
    // Whoever filled it hears of that a moment later.
    until("the end of the refill", async || refills.load(Ordering::Relaxed) > 0).await;
    assert_eq!(refills.load(Ordering::Relaxed), 1);
    // The page of before goes on: it is the same position.
    assert!(page.connect(&workers, LABEL).await.so_far().await.is_empty());
    listening.abort();
}

#[tokio::test]
async fn a_room_without_anybody_gives_up_its_files_by_itself() {
    let options = Options::new().setting("room_idle_hours", serde_json::json!(0.0003)); // a second
    let workers = Workers::with(options).await;
    let previews = opened(&workers).await;
    until("an empty room", async || previews.status(&scope(TODO)).await.unwrap() == PreviewStatus::Empty).await;
    assert_eq!(workers.page(LABEL, "/").await.status, 503);
    // The next change fills it.
    assert_eq!(edit(&previews, 1).await, Update::Applied);
    assert_eq!(workers.page(LABEL, "/").await.status, 200);
}

#[tokio::test]
async fn after_a_restart_of_the_service_rooms_go_on() {
    let workers = Workers::start().await;
    drop(opened(&workers).await);
    let page = Page::load(&workers, LABEL).await;
    let mut socket = page.connect(&workers, LABEL).await;
    let previews = workers.previews();
    assert_eq!(viewers(&previews).await, 1);
    assert_eq!(edit(&previews, 2).await, Update::Missed { have: Some(at(1)) });
    // Older sources leave what is shown.
    let late = previews.open(&scope(TODO), &app(0), &env(1)).await.unwrap();
    assert_eq!(late.position, at(1));
    // The same sources: nobody is told anything.
    previews.open(&scope(TODO), &app(1), &env(1)).await.unwrap();
    assert!(socket.so_far().await.is_empty());
    assert_eq!(edit(&previews, 1).await, Update::Applied);
    assert_eq!(socket.next().await["type"], "update");
    // Newer ones, brought by a third: pages load anew.
    let third = workers.previews();
    third.open(&scope(TODO), &app(9), &env(1)).await.unwrap();
    let told = socket.next().await;
    assert_eq!((told["type"].as_str(), told["position"]["seq"].as_u64()), (Some("full-reload"), Some(9)));
    // And who was overtaken says so.
    assert_eq!(edit(&previews, 2).await, Update::Missed { have: Some(at(9)) });
    assert_eq!(Page::load(&workers, LABEL).await.seq(), 9);
}

#[tokio::test]
async fn a_broken_module_is_an_overlay_and_who_began_with_it_loads_anew_once_it_is_mended() {
    let workers = Workers::start().await;
    let previews = opened(&workers).await;
    let page = Page::load(&workers, LABEL).await;
    let mut early = page.connect(&workers, LABEL).await;
    let put = |text: &str| Changes::new().put(path("src/n.ts"), text.to_owned());
    previews.apply(&scope(TODO), at(1), at(2), &put("export const n = (;\n")).await.unwrap();
    let told = early.next().await;
    assert_eq!((told["type"].as_str(), told["err"]["loc"]["file"].as_str()), (Some("error"), Some("/src/n.ts")));
    // Nobody fetched it yet: it is mended where it stands.
    previews.apply(&scope(TODO), at(2), at(3), &put("export const n: number = 5;\n")).await.unwrap();
    assert_eq!(early.next().await["type"], "update");
    // A page begins with it, and is told what is wrong.
    previews.apply(&scope(TODO), at(3), at(4), &put("export const n = );\n")).await.unwrap();
    early.next().await;
    let late = Page::load(&workers, LABEL).await;
    assert_eq!(workers.get(LABEL, "/src/n.ts").await.status, 500);
    let mut late = late.connect(&workers, LABEL).await;
    assert_eq!(late.so_far().await[0]["type"], "error");
    previews.apply(&scope(TODO), at(4), at(5), &put("export const n: number = 6;\n")).await.unwrap();
    for socket in [&mut early, &mut late] {
        assert_eq!(socket.next().await["type"], "full-reload");
    }
}

#[tokio::test]
async fn a_module_that_refuses_its_update_is_answered_by_the_service_or_pages_load_anew() {
    let workers = Workers::start().await;
    let previews = opened(&workers).await;
    let self_accepting = "export const n: number = 1;\nimport.meta.hot?.accept();\n".to_owned();
    let main = "import { n } from './n';\ndocument.title = String(n);\nimport.meta.hot?.accept();\n".to_owned();
    let changes = Changes::new().put(path("src/n.ts"), self_accepting.clone()).put(path("src/main.ts"), main);
    previews.apply(&scope(TODO), at(1), at(2), &changes).await.unwrap();
    let page = Page::load(&workers, LABEL).await;
    let mut socket = page.connect(&workers, LABEL).await;
    let invalidate = r#"{"type":"custom","event":"vite:invalidate","data":{"path":"/src/n.ts","message":"no","firstInvalidatedBy":"/src/n.ts"}}"#;

    let service = previews.clone();
    let listening = tokio::spawn(async move { service.listen(async |_| ()).await });
    let renewed = Changes::new().put(path("src/n.ts"), self_accepting.replace('1', "2"));
    previews.apply(&scope(TODO), at(2), at(3), &renewed).await.unwrap();
    assert_eq!(socket.next().await["updates"][0]["path"], "/src/n.ts");
    tokio::time::sleep(Duration::from_secs(2)).await; // until the service listens
    socket.say(invalidate).await;
    let told = socket.next().await;
    // Who imports it takes it.
    assert_eq!(
        (told["type"].as_str(), told["updates"][0]["path"].as_str()),
        (Some("update"), Some("/src/main.ts")),
        "{told}"
    );
    listening.abort();

    // The Workers were restarted, and nobody listens any more.
    let workers = workers.restarted().await;
    let mut socket = page.connect(&workers, LABEL).await;
    socket.so_far().await;
    socket.say(invalidate).await;
    assert_eq!(socket.next().await["type"], "full-reload");
    socket.say(invalidate).await;
    assert!(socket.so_far().await.is_empty(), "a page that loads anew has nothing to say");
    let told = page.connect(&workers, LABEL).await.so_far().await;
    assert_eq!(told.last().unwrap()["type"], "full-reload", "it was loaded before that");
    let fresh = Page::load(&workers, LABEL).await;
    assert_eq!(fresh.config["epoch"], 1);
    assert!(fresh.connect(&workers, LABEL).await.so_far().await.is_empty());
}

/// Loses the answers to the first commits.
#[derive(Debug)]
struct Losing {
    network: NetworkTransport,
    lost: AtomicUsize,
    /// Whether they land nevertheless.
    lands: bool,
}

#[async_trait]
impl Transport for Losing {
    async fn send(&self, request: Request) -> Result<Response<Body>> {
        let is_commit = request.url.path().ends_with("/commit");
        let loses =
            is_commit && self.lost.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |n| n.checked_sub(1)).is_ok();
        if loses && !self.lands {
            return Err(cut_off("the connection broke"));
        }
        let answer = self.network.send(request).await?;
        if loses { Err(cut_off("the connection broke")) } else { Ok(answer) }
    }
}

#[tokio::test]
async fn a_push_whose_answer_was_lost_is_shown_once() {
    for lands in [true, false] {
        let workers = Workers::start().await;
        let transport =
            Arc::new(Losing { network: NetworkTransport::new().unwrap(), lost: AtomicUsize::new(0), lands });
        // One try each: what becomes of it is for the next call.
        let edge = Edge::builder(workers.base(), workers.key.clone()).transport(transport.clone());
        let previews = edge.max_tries(1.try_into().unwrap()).build().unwrap().previews(engine());
        previews.open(&scope(TODO), &app(1), &env(1)).await.unwrap();
        let page = Page::load(&workers, LABEL).await;
        let mut socket = page.connect(&workers, LABEL).await;
        transport.lost.store(1, Ordering::SeqCst);
        let changes = Changes::new().put(path("src/n.ts"), "export const n: number = 1;\n".to_owned());
        let e = previews.apply(&scope(TODO), at(1), at(2), &changes).await.unwrap_err();
        assert_eq!(e.effect(), overskill_core::Effect::Unknown);
        // The same again, as whoever is not sure does.
        assert_eq!(previews.apply(&scope(TODO), at(1), at(2), &changes).await.unwrap(), Update::Applied);
        let told = socket.so_far().await;
        assert_eq!(told.len(), 1, "lands: {lands}, {told:?}");
        assert_eq!((told[0]["type"].as_str(), told[0]["position"]["seq"].as_u64()), (Some("update"), Some(2)));
        assert_eq!(edit(&previews, 2).await, Update::Applied);
        assert_eq!(socket.so_far().await.len(), 1);
    }
}

/// Notes what is asked for.
#[derive(Debug)]
struct Noting {
    network: NetworkTransport,
    asked: Mutex<Vec<String>>,
}

#[async_trait]
impl Transport for Noting {
    async fn send(&self, request: Request) -> Result<Response<Body>> {
        let asked = format!("{} {}", request.method, request.url.path());
        self.asked.lock().unwrap().push(asked);
        self.network.send(request).await
    }
}

#[tokio::test]
async fn a_new_app_is_open_after_one_request() {
    let workers = Workers::start().await;
    let transport = Arc::new(Noting { network: NetworkTransport::new().unwrap(), asked: Mutex::default() });
    let edge = Edge::builder(workers.base(), workers.key.clone()).transport(transport.clone()).build().unwrap();
    let previews = edge.previews(engine());
    // From here on the packages are at the edge.
    previews.open(&scope("other1/preview"), &app(1), &env(1)).await.unwrap();
    transport.asked.lock().unwrap().clear();
    previews.open(&scope(TODO), &app(1), &env(1)).await.unwrap();
    assert_eq!(*transport.asked.lock().unwrap(), ["POST /.overskill/v1/previews/todo42/preview/commit"]);
    assert_eq!(workers.page(LABEL, "/").await.status, 200);

    // Whoever is wrong about that changes nothing, and nobody is told anything.
    assert_eq!(edit(&previews, 1).await, Update::Applied);
    let mut socket = Page::load(&workers, LABEL).await.connect(&workers, LABEL).await;
    let late = workers.previews().open(&scope(TODO), &app(1), &env(1)).await.unwrap();
    assert_eq!((late.position, socket.so_far().await.len()), (at(2), 0));
}

#[tokio::test]
async fn large_files_and_packages_arrive_whole() {
    let workers = Workers::start().await;
    let previews = workers.previews();
    let large = (0..900_000).map(|n| format!("{n:08} ")).collect::<Vec<_>>().concat(); // 8.1 MB
    let other = (0..500_000).map(|n| format!("{n:07}\n")).collect::<Vec<_>>().concat();
    let mut app = app(1);
    Changes::new()
        .put(path("public/large.txt"), large.clone())
        .put(path("public/other.txt"), other.clone())
        .put(path("public/empty.txt"), String::new())
        .put(path("src/n.ts"), "import 'large';\nexport const n: number = 0;\n".to_owned())
        .apply_to(&mut app.files);
    previews.open(&scope(TODO), &app, &env(1)).await.unwrap();
    assert!(workers.get(LABEL, "/large.txt").await.body == large.as_bytes());
    assert!(workers.get(LABEL, "/other.txt").await.body == other.as_bytes());
    let empty = workers.get(LABEL, "/empty.txt").await;
    assert_eq!((empty.status, empty.body.len()), (200, 0));
    let module = workers.get(LABEL, "/src/n.ts").await;
    let package = module.text().split('"').find(|part| part.starts_with("/@npm/")).unwrap().to_owned();
    assert!(workers.get(LABEL, &package).await.body.len() > 3 << 20);
}

#[tokio::test]
async fn a_preview_on_the_domain_of_production_is_seen_within_a_second() {
    let workers = Workers::start().await;
    assert_eq!(workers.get("todo42", "/note.txt").await.status, 404);
    let previews = workers.previews();
    previews.open(&scope("todo42/production"), &app(1), &env(1)).await.unwrap();
    tokio::time::sleep(Duration::from_millis(1_100)).await;
    assert_eq!(workers.get("todo42", "/note.txt").await.text(), "a note");
}
