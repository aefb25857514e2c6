//! The rules of an [`AppDirectory`].

use overskill_core::AppDirectory;

/// What [`app_directory_conformance!`](crate::app_directory_conformance) needs: a directory of apps.
pub type AppDirectoryFixture = crate::Fixture<dyn AppDirectory>;

suite! {
    $
    /// Tests of every rule of an [`AppDirectory`](overskill_core::AppDirectory): `app_directory_conformance!(v1, fixture())`,
    /// where the fixture is an [`AppDirectoryFixture`](crate::AppDirectoryFixture).
    ///
    /// A directory forgets no app, so what the cases put stays there.
    macro app_directory_conformance = apps, app_directory_v1;
    const V1 = "app_directory", v1;
    fixture AppDirectoryFixture;
    in cases {
        an_unknown_app_is_absent: "get of an app that was never put answers None";
        an_app_is_read_as_it_was_put: "get answers name, owner, state, time of creation and strategy as they were put";
        a_put_replaces: "a put replaces name, owner, state and strategy, and touches no other app";
        the_time_of_creation_stays: "the time of creation is that of the first put, whatever a later one says";
        ids_that_look_alike_are_different: "every id is an app of its own";
        the_longest_name_is_taken_and_a_longer_refused: "a name of 200 bytes is taken; a longer one is refused, and nothing changes";
        a_listing_is_in_the_order_of_ids: "list answers every app, in every state, in the order of their ids' bytes";
        pages_join_without_gap_or_overlap: "pages of any limit join to the whole";
        a_page_may_begin_after_an_app_that_is_not_there: "after names a place in the order, whether or not an app is there";
        concurrent_puts_make_one_app: "concurrent puts of one app make one app, as one of them said";
        apps_survive_a_restart: "apps are durable";
        a_dropped_put_leaves_all_or_nothing: "a put whose future is dropped happened whole or not at all, and the directory goes on working";
        pointers_and_wrappers_answer_alike: "a wrapped directory answers as the directory itself";
        it_is_ready: "check answers that nothing is missing, and names the backend";
    }
}

mod cases {
    use super::AppDirectoryFixture as F;
    use crate::{
        PassThrough, Stop, Verdict, poll_times, race, settle,
        suite::{ensure, ensure_eq, ensure_err},
    };
    use overskill_core::{
        AppDirectory, AppId, AppRecord, AppState, Around, Failback, Fallback, StrategyConfig, SubjectId, Timestamp,
    };
    use std::{num::NonZeroU32, sync::Arc, time::Duration};

    fn record(f: &F, app: &AppId, name: &str) -> AppRecord {
        AppRecord::new(app.clone(), name, f.names().start())
    }

    fn strategy() -> StrategyConfig {
        let mut strategy = StrategyConfig::default();
        strategy.fallback = Some(Fallback::Cautious);
        strategy.failback = Some(Failback::After(Duration::from_millis(1_500)));
        strategy
    }

    /// What every app of this case begins with, as an app id: it stands right before them.
    fn before(app: &AppId) -> Result<AppId, Stop> {
        let (prefix, _) = app.as_str().split_at(19);
        Ok(AppId::parse(prefix)?)
    }

    /// This case's own apps, in pages of `size`; there may be others before and behind them.
    async fn own(f: &F, first: &AppId, size: u32) -> Result<Vec<AppRecord>, Stop> {
        let prefix = before(first)?;
        let size = NonZeroU32::new(size).expect("not zero");
        let (mut after, mut apps) = (Some(prefix.clone()), Vec::new());
        loop {
            let page = f.store().list(after.clone(), size).await?;
            ensure!(page.items.len() <= size.get() as usize, "a page of at most {size} has {} apps", page.items.len());
            ensure!(page.next.is_none() || page.next != after, "a page goes on where it began");
            let (len, all) = (apps.len(), page.items.len());
            apps.extend(page.items.into_iter().take_while(|r| r.app.as_str().starts_with(prefix.as_str())));
            after = page.next;
            if after.is_none() || apps.len() - len < all {
                return Ok(apps);
            }
        }
    }

    /// Five apps, put from the last to the first.
    async fn five(f: &F) -> Result<Vec<AppRecord>, Stop> {
        let states = [AppState::Active, AppState::Suspended, AppState::Removed, AppState::Active, AppState::Active];
        let apps: Vec<_> = states.into_iter().map(|state| record(f, &f.names().app(), "listed").state(state)).collect();
        for app in apps.iter().rev() {
            f.store().put(app).await?;
        }
        Ok(apps)
    }

    pub(super) async fn an_unknown_app_is_absent(f: &F) -> Verdict {
        ensure_eq!(f.store().get(&f.names().app()).await?, None, "an app that was never put");
        Ok(())
    }

    pub(super) async fn an_app_is_read_as_it_was_put(f: &F) -> Verdict {
        let owner = SubjectId::parse("auth0|7f3e:x=1@example.com")?;
        let plain = |name: &str| record(f, &f.names().app(), name);
        for app in [
            plain("Todo"),
            plain("").owned_by(owner.clone()),
            plain("ünïcode 日本 🎉 'quotes' \\ and\nlines").state(AppState::Suspended),
            plain("removed").owned_by(owner).state(AppState::Removed),
            plain("deployed its own way").deployed_with(strategy()),
            AppRecord::new(f.names().app(), "old", Timestamp::EPOCH),
            AppRecord::new(f.names().app(), "to the millisecond", Timestamp::from_unix_millis(1_767_225_600_123)),
        ] {
            f.store().put(&app).await?;
            ensure_eq!(f.store().get(&app.app).await?, Some(app), "the app");
        }
        Ok(())
    }

    pub(super) async fn a_put_replaces(f: &F) -> Verdict {
        let (app, other) = (f.names().app(), f.names().app());
        let bystander = record(f, &other, "bystander");
        f.store().put(&bystander).await?;
        f.store().put(&record(f, &app, "first").owned_by(SubjectId::parse("a")?)).await?;
        for (name, owner, state) in [
            ("second", Some("b"), AppState::Suspended),
            ("second", None, AppState::Active),
            ("third", Some("c"), AppState::Removed),
            ("back", Some("a"), AppState::Active),
        ] {
            let mut next = record(f, &app, name).state(state);
            next.owner = owner.map(SubjectId::parse).transpose()?;
            next.strategy = owner.map(|_| strategy());
            f.store().put(&next).await?;
            ensure_eq!(f.store().get(&app).await?, Some(next), "the app after it was replaced");
        }
        ensure_eq!(f.store().get(&other).await?, Some(bystander), "an app that was left alone");
        Ok(())
    }

    pub(super) async fn the_time_of_creation_stays(f: &F) -> Verdict {
        let first = record(f, &f.names().app(), "first");
        f.store().put(&first).await?;
        for at in [f.names().after(1000), Timestamp::EPOCH] {
            f.store().put(&AppRecord::new(first.app.clone(), "later", at)).await?;
            let got = f.store().get(&first.app).await?.map(|app| (app.name, app.created_at));
            ensure_eq!(
                got,
                Some(("later".to_owned(), first.created_at)),
                "name and time of creation after a put at {at}"
            );
        }
        let listed = own(f, &first.app, 10).await?;
        ensure_eq!(listed.iter().map(|a| a.created_at).collect::<Vec<_>>(), [first.created_at], "times in the listing");
        Ok(())
    }

    pub(super) async fn ids_that_look_alike_are_different(f: &F) -> Verdict {
        let app = f.names().app();
        let mut apps = vec![app.clone()];
        for end in ["0", "00", "1", "10", "x"] {
            apps.push(AppId::parse(&format!("{app}{end}"))?);
        }
        for id in &apps {
            ensure_eq!(f.store().get(id).await?, None, "{id} before it was put");
            f.store().put(&record(f, id, id.as_str())).await?;
        }
        for id in &apps {
            ensure_eq!(f.store().get(id).await?.map(|app| app.name).as_deref(), Some(id.as_str()), "name of {id}");
        }
        let listed: Vec<_> = own(f, &app, 10).await?.into_iter().map(|r| r.app).collect();
        ensure_eq!(listed, apps, "the listing");
        Ok(())
    }

    pub(super) async fn the_longest_name_is_taken_and_a_longer_refused(f: &F) -> Verdict {
        let longest = record(f, &f.names().app(), &"é".repeat(AppRecord::MAX_NAME_BYTES / 2));
        f.store().put(&longest).await?;
        ensure_eq!(f.store().get(&longest.app).await?.as_ref(), Some(&longest), "an app with a name of 200 bytes");
        let longer = record(f, &longest.app, &"x".repeat(AppRecord::MAX_NAME_BYTES + 1)).state(AppState::Suspended);
        let e = ensure_err!(f.store().put(&longer).await, Invalid, "a name of 201 bytes");
        ensure!(e.to_string().contains("200"), "the error does not name the limit: {e}");
        ensure_eq!(f.store().get(&longest.app).await?, Some(longest), "the app after the refused put");
        let new = record(f, &f.names().app(), &"x".repeat(AppRecord::MAX_NAME_BYTES + 1));
        ensure_err!(f.store().put(&new).await, Invalid, "a new app with a name of 201 bytes");
        ensure_eq!(f.store().get(&new.app).await?, None, "an app that was refused");
        Ok(())
    }

    pub(super) async fn a_listing_is_in_the_order_of_ids(f: &F) -> Verdict {
        let apps = five(f).await?;
        ensure_eq!(own(f, &apps[0].app, 100).await?, apps, "the listing");
        Ok(())
    }

    pub(super) async fn pages_join_without_gap_or_overlap(f: &F) -> Verdict {
        let apps = five(f).await?;
        for size in [1, 2, 3, 4, 5, 6, u32::MAX] {
            ensure_eq!(own(f, &apps[0].app, size).await?, apps, "pages of {size}, joined");
        }
        Ok(())
    }

    pub(super) async fn a_page_may_begin_after_an_app_that_is_not_there(f: &F) -> Verdict {
        let apps = five(f).await?;
        let one = NonZeroU32::MIN;
        let places = [
            (before(&apps[0].app)?, 0),
            (apps[0].app.clone(), 1),
            (AppId::parse(&format!("{}0", apps[0].app))?, 1),
            (AppId::parse(&format!("{}zz", apps[2].app))?, 3),
            (apps[3].app.clone(), 4),
        ];
        for (after, want) in places {
            let page = f.store().list(Some(after.clone()), one).await?;
            ensure_eq!(page.items, [apps[want].clone()], "the first app after {after}");
        }
        let first = f.store().list(None, one).await?;
        ensure_eq!(first.items.len(), 1, "apps on a first page of one");
        ensure!(first.items[0].app <= apps[0].app, "the listing begins after {}", apps[0].app);
        let last = AppId::parse(&"z".repeat(AppId::MAX_BYTES))?;
        let page = f.store().list(Some(last), one).await?;
        ensure!(
            page.items.is_empty() && page.next.is_none(),
            "there is something after the last possible id: {page:?}"
        );
        Ok(())
    }

    pub(super) async fn concurrent_puts_make_one_app(f: &F) -> Verdict {
        for _ in 0..6 {
            let app = f.names().app();
            let puts = [0, 1, 2, 3, 4].map(|n| {
                let store = f.store().clone();
                let record = AppRecord::new(app.clone(), n.to_string(), f.names().after(n));
                let record = record.state(if n % 2 == 0 { AppState::Active } else { AppState::Suspended });
                async move { store.put(&record).await.map(|()| record) }
            });
            let mut said = Vec::new();
            for put in race(puts).await? {
                said.push(put?);
            }
            let got = f.store().get(&app).await?;
            let as_said = |app: &AppRecord| said.iter().any(|s| (&s.name, s.state) == (&app.name, app.state));
            let created = |app: &AppRecord| said.iter().any(|s| s.created_at == app.created_at);
            ensure!(got.as_ref().is_some_and(|a| as_said(a) && created(a)), "the app after concurrent puts: {got:?}");
            let listed = f.store().list(Some(before(&app)?), NonZeroU32::MAX).await?.items;
            ensure_eq!(listed.iter().filter(|r| r.app == app).count(), 1, "how often the app is listed");
        }
        Ok(())
    }

    pub(super) async fn apps_survive_a_restart(f: &F) -> Verdict {
        let apps = five(f).await?;
        let again = f.reopened().await?;
        for app in &apps {
            ensure_eq!(again.get(&app.app).await?.as_ref(), Some(app), "an app after a restart");
        }
        again.put(&AppRecord::new(apps[0].app.clone(), "renamed", f.names().after(50))).await?;
        let got = again.get(&apps[0].app).await?.map(|app| (app.name, app.created_at));
        ensure_eq!(got, Some(("renamed".to_owned(), apps[0].created_at)), "an app that was replaced after a restart");
        Ok(())
    }

    pub(super) async fn a_dropped_put_leaves_all_or_nothing(f: &F) -> Verdict {
        for polls in 1..=8 {
            let app = f.names().app();
            let before = record(f, &app, "before");
            let dropped = record(f, &app, "dropped").state(AppState::Suspended).owned_by(SubjectId::parse("d")?);
            f.store().put(&before).await?;
            poll_times(polls, f.store().put(&dropped)).await;
            let got = f.store().get(&app).await?;
            ensure!(
                got == Some(before) || got == Some(dropped),
                "the app after a put dropped at poll {polls}: {got:?}"
            );
            // A server may still be at work on what nobody waits for: it lands a moment later, once, and never again.
            let next = record(f, &app, "next");
            let put = async || {
                f.store().put(&next).await?;
                Ok(f.store().get(&app).await?)
            };
            let got = settle(Duration::from_millis(200), put, |got| got.as_ref() == Some(&next)).await?;
            ensure_eq!(got, Some(next), "the app that was put after a dropped put");
        }
        Ok(())
    }

    pub(super) async fn pointers_and_wrappers_answer_alike(f: &F) -> Verdict {
        let boxed: Box<dyn AppDirectory> = Box::new(f.store().clone());
        let wrapped: Arc<dyn AppDirectory> = Arc::new(Around::with_policy(boxed, PassThrough));
        let app = record(f, &f.names().app(), "wrapped");
        wrapped.put(&app).await?;
        ensure_eq!(f.store().get(&app.app).await?.as_ref(), Some(&app), "an app that was put through a wrapper");
        ensure_eq!(wrapped.get(&app.app).await?.as_ref(), Some(&app), "an app that was read through a wrapper");
        let page = wrapped.list(Some(before(&app.app)?), NonZeroU32::MIN).await?;
        ensure_eq!(page.items, [app], "a listing through a wrapper");
        Ok(())
    }

    pub(super) async fn it_is_ready(f: &F) -> Verdict {
        let readiness = f.store().check().await?;
        ensure!(readiness.is_ready(), "it lacks {:?}", readiness.problems());
        ensure!(!readiness.backend().is_empty(), "the backend has no name");
        Ok(())
    }
}
