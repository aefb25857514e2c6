//! What is taken away or rotated by a process that dies between any two calls, or within one, and by another that goes on.

use crate::{
    common::{
        account, api, connect, emulated, held, id, request, request_of, scope, scripts, through_the_edge, transport,
    },
    install::{fill, install, r2_keys, strangers},
    mortal::{Mortal, dies_anywhere},
    support,
    world::{DOMAIN, World},
};
use overskill_cloudflare::{CloudflarePreviews, Edge, PreviewMode};
use overskill_core::{
    Changes, Clock as _, DeployRequest, DeploymentTarget as _, EnvKey, EnvValue, Fence, Handle, PreviewHost as _,
    PreviewStatus, Removal, Scope, Secret, SystemClock, TestClock,
};
use overskill_http::Method;
use overskill_testkit::{cloudflare::CloudflareEmulator, fixtures};
use std::{
    cell::OnceCell,
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

/// Three versions of an app, and one of another whose name begins alike.
async fn deployed() -> CloudflareEmulator {
    let emulator = emulated(|options| options);
    let target = account(&emulator).target();
    for n in 1..=3 {
        let staged = target.stage(&request(n)).await.unwrap();
        target.activate(&request(n), &staged, Fence::from_u64(n)).await.unwrap();
    }
    let one = request_of(4, fixtures::artifact(2, 4));
    let other: Scope = "todo421/production".parse().unwrap();
    let other =
        DeployRequest::new(one.id(), other, one.artifact().clone(), one.env().clone()).under(Fence::from_u64(4));
    let staged = target.stage(&other).await.unwrap();
    target.activate(&other, &staged, Fence::from_u64(4)).await.unwrap();
    emulator
}

#[tokio::test]
async fn an_app_whose_removal_dies_anywhere_is_removed_and_no_other() {
    for (removal, left) in [
        (Removal::All, &["todo421-4"][..]),
        (Removal::Only(id(2)), &["todo42-1", "todo42-3", "todo421-4"]),
        (Removal::Only(id(3)), &["todo42-1", "todo42-2", "todo421-4"]),
    ] {
        dies_anywhere(
            1,
            deployed,
            async |emulator, process| {
                process.connect(emulator).build().unwrap().target().remove(&scope(), removal).await.unwrap();
            },
            async |emulator, finished, at| {
                let next = account(emulator).target();
                if finished {
                    assert_eq!(scripts(emulator, "production"), left, "{at}");
                }
                next.remove(&scope(), removal).await.unwrap();
                assert_eq!(scripts(emulator, "production"), left, "{at}");
                let observed = next.observe(&scope()).await.unwrap();
                assert_eq!(observed.len(), left.len() - 1, "{at}: {observed:?}");
            },
        )
        .await;
    }
}

#[tokio::test]
async fn an_uninstallation_that_dies_anywhere_is_gone_on_with() {
    let world = async || {
        let emulator = emulated(|options| options);
        strangers(&emulator).await;
        let before = held(&emulator);
        let cf = account(&emulator);
        cf.install(&install()).await.unwrap();
        fill(&emulator, &cf, 2).await;
        (emulator, before)
    };
    dies_anywhere(
        25,
        world,
        async |(emulator, _), process| {
            let install = install().r2_keys(r2_keys(emulator));
            process.connect(emulator).build().unwrap().uninstall(&install).await.unwrap();
        },
        async |(emulator, before), _, at| {
            let install = install().r2_keys(r2_keys(emulator));
            account(emulator).uninstall(&install).await.unwrap();
            assert_eq!(&held(emulator), before, "{at}");
            assert!(account(emulator).uninstall(&install).await.unwrap().is_empty(), "{at}");
        },
    )
    .await;
}

#[tokio::test]
async fn a_hostname_whose_way_in_or_out_dies_anywhere_leaves_no_note_and_no_name() {
    const NAME: &str = "www.customer.org";
    dies_anywhere(
        8,
        async || {
            let emulator = emulated(|options| options);
            account(&emulator).install(&install()).await.unwrap();
            let before = held(&emulator);
            (emulator, before, OnceCell::new())
        },
        async |(emulator, _, id), process| {
            let hostnames = process.connect(emulator).build().unwrap().hostnames().unwrap();
            let made = hostnames.create(NAME).await.unwrap();
            id.set(made.id.clone()).unwrap();
            hostnames.delete(&made.id).await.unwrap();
        },
        async |(emulator, before, id), _, at| {
            let hostnames = account(emulator).hostnames().unwrap();
            if let Some(id) = id.get() {
                hostnames.delete(id).await.unwrap();
            }
            let made = hostnames.create(NAME).await.unwrap();
            assert_eq!(emulator.state().hostnames.len(), 1, "{at}");
            hostnames.delete(&made.id).await.unwrap();
            assert_eq!(&held(emulator), before, "{at}");
        },
    )
    .await;
}

/// Nobody goes on: the operator gives up, a while later. What the process made goes, and what a stranger made meanwhile stays.
#[tokio::test]
async fn a_hostname_whose_way_in_or_out_dies_anywhere_is_gone_after_uninstall_and_no_strangers_is() {
    const NAME: &str = "www.customer.org";
    for lets_go in [false, true] {
        dies_anywhere(
            if lets_go { 9 } else { 6 },
            async || {
                let clock = TestClock::at(SystemClock.now());
                let emulator = emulated(|options| options.clock(Arc::new(clock.clone())));
                connect(&emulator).clock(clock.clone()).build().unwrap().install(&install()).await.unwrap();
                (emulator, clock)
            },
            async |(emulator, clock), process| {
                let cf = process.connect(emulator).clock(clock.clone()).build().unwrap();
                let made = cf.hostnames().unwrap().create(NAME).await.unwrap();
                if lets_go {
                    cf.hostnames().unwrap().delete(&made.id).await.unwrap();
                }
            },
            async |(emulator, clock), _, at| {
                clock.advance(Duration::from_hours(1));
                let is_free = emulator.state().hostnames.is_empty();
                if is_free {
                    let zone = emulator.zone_id("example.com").unwrap();
                    let theirs = serde_json::json!({"hostname": NAME, "ssl": {"method": "http", "type": "dv"}});
                    let body = ("application/json".to_owned(), theirs.to_string().into());
                    api(emulator, "POST", &format!("/zones/{zone}/custom_hostnames"), body).await;
                }
                let next = connect(emulator).clock(clock.clone()).build().unwrap();
                next.uninstall(&install()).await.unwrap();
                assert_eq!(emulator.state().hostnames.len(), usize::from(is_free), "{at}");
            },
        )
        .await;
    }
}

fn key(name: &str) -> EnvKey {
    EnvKey::parse(name).unwrap()
}

/// Rotates one secret and adds another, then changes one variable, removes that other secret and adds a third.
async fn rotate(cf: &overskill_cloudflare::Cloudflare) {
    let (target, version) = (cf.target(), Handle::new("todo42-1"));
    let secrets: BTreeMap<_, _> =
        [(key("API_KEY"), Some(Secret::new("hunter3"))), (key("NEW"), Some("n".into()))].into();
    target.rotate_secrets(&scope(), &version, &secrets).await.unwrap();
    let variables = [
        (key("GREETING"), Some(EnvValue::plain("good day"))),
        (key("MORE"), Some(EnvValue::sealed("m"))),
        (key("NEW"), None),
    ];
    target.set_variables(&scope(), &version, &variables.into()).await.unwrap();
}

/// What a version is, its variables included, in no order.
fn version(emulator: &CloudflareEmulator) -> serde_json::Value {
    let script = emulator.state().namespaces["overskill-production"]["todo42-1"].clone();
    let mut bindings = script.bindings;
    bindings.sort_by_key(|binding| binding["name"].to_string());
    serde_json::json!([bindings, script.tags, script.modules, script.assets, script.etag])
}

#[tokio::test]
async fn a_rotation_that_dies_anywhere_has_or_has_not_changed_and_goes_on() {
    let world = async || {
        let emulator = emulated(|options| options);
        let target = account(&emulator).target();
        let staged = target.stage(&request(1)).await.unwrap();
        target.activate(&request(1), &staged, Fence::from_u64(1)).await.unwrap();
        emulator
    };
    let calm = world().await;
    let mut legal = vec![version(&calm)];
    let secrets = [(key("API_KEY"), Some(Secret::new("hunter3"))), (key("NEW"), Some("n".into()))];
    account(&calm).target().rotate_secrets(&scope(), &Handle::new("todo42-1"), &secrets.into()).await.unwrap();
    legal.push(version(&calm));
    rotate(&account(&calm)).await;
    legal.push(version(&calm));
    dies_anywhere(
        2,
        world,
        async |emulator, process| rotate(&process.connect(emulator).build().unwrap()).await,
        async |emulator, finished, at| {
            // What runs has all of the old ones, all of those that were rotated, or all of the new ones.
            let state = legal.iter().position(|legal| *legal == version(emulator));
            assert!(state.is_some() && (!finished || state == Some(2)), "{at}: {state:?}");
            rotate(&account(emulator)).await;
            assert_eq!(version(emulator), legal[2], "{at}");
            assert_eq!(scripts(emulator, "production"), ["todo42-1"], "{at}");
        },
    )
    .await;
}

const PAGE: &str =
    "<!doctype html><html><head></head><body><script type=\"module\" src=\"/src/main.ts\"></script></body></html>";

fn files(note: &str) -> [(&str, &str); 3] {
    [("index.html", PAGE), ("src/main.ts", "console.log('app');\n"), ("public/note.txt", note)]
}

/// A preview with a script of its own that a process opens, edits and closes, which dies anywhere: whoever goes on shows what
/// was written last, and when it is closed nothing is left of it.
#[tokio::test]
async fn a_preview_with_a_script_that_dies_anywhere_goes_on_and_leaves_nothing() {
    let (world, apps) = (World::start().await, AtomicUsize::new(0));
    let host =
        |edge: &Edge, cf| -> CloudflarePreviews { edge.previews(support::engine()).mode(PreviewMode::Script(cf)) };
    let mortal = |process: &Mortal| {
        let edge = Edge::builder(&world.base, world.key.clone());
        let edge = edge.transport(process.way(through_the_edge(&world.emulator))).build().unwrap();
        let cf = connect(&world.emulator).domains([DOMAIN]).zone(world.emulator.zone_id(DOMAIN).unwrap());
        host(&edge, cf.transport(process.way(transport(&world.emulator))).build().unwrap())
    };
    let in_kv = || world.emulator.state().kv["overskill-preview"].1;
    for gives_up in [false, true] {
        dies_anywhere(
            6,
            async || support::scope(&format!("app{}/preview", apps.fetch_add(1, Ordering::Relaxed))),
            async |scope, process| {
                let host = mortal(process);
                let first = support::snapshot(support::at(1), &files("first"));
                host.open(scope, &first, &support::env(1)).await.unwrap();
                let edit = Changes::new().put(support::path("public/note.txt"), "second");
                host.apply(scope, support::at(1), support::at(2), &edit).await.unwrap();
                host.close(scope).await.unwrap();
            },
            async |scope, finished, at| {
                assert!(!finished || (scripts(&world.emulator, "preview").is_empty() && in_kv() == 0), "{at}");
                let next = host(&world.edge, world.cf.clone());
                if !gives_up {
                    let second = support::snapshot(support::at(2), &files("second"));
                    next.open(scope, &second, &support::env(1)).await.unwrap();
                    let url = format!("{}/note.txt", world.at(&scope.host_label()));
                    let answer = world.ask(Method::Get, &url, &[], "").await;
                    assert_eq!((answer.status, answer.text().as_str()), (200, "second"), "{at}");
                }
                next.close(scope).await.unwrap();
                assert_eq!(next.status(scope).await.unwrap(), PreviewStatus::Closed, "{at}");
                assert_eq!((scripts(&world.emulator, "preview"), in_kv()), (Vec::new(), 0), "{at}");
            },
        )
        .await;
    }
}
