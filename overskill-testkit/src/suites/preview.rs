//! The rules of a [`PreviewHost`].

use bytes::Bytes;
use futures::future::BoxFuture;
use overskill_core::{FilePath, PreviewHost, Result, Scope};
use std::{fmt, future::Future};

/// What [`preview_host_conformance!`](crate::preview_host_conformance) needs: a host of previews, and how it is looked at
/// from outside.
///
/// Cases open previews of apps that nobody else has, and close them.
pub type PreviewHostFixture = crate::Fixture<dyn PreviewHost, PreviewOutside>;

type Read = dyn Fn(Scope, FilePath) -> BoxFuture<'static, Result<Option<Bytes>>> + Send + Sync;

/// What the outside of a [`PreviewHost`] is.
#[derive(Default)]
pub struct PreviewOutside {
    serving: Option<Box<Read>>,
}

impl PreviewOutside {
    /// It cannot be seen from outside.
    pub fn new() -> Self {
        Self::default()
    }

    /// Says how a file of an open preview is read, by its path among the sources; `None` when there is none. It is asked
    /// for text files in `public/` alone, which every host serves as they are. Without this, cases believe what the host
    /// says of itself, and `it_can_be_seen_from_outside` has to be excepted.
    pub fn serving<F>(mut self, read: impl Fn(Scope, FilePath) -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = Result<Option<Bytes>>> + Send + 'static,
    {
        self.serving = Some(Box::new(move |scope, path| Box::pin(read(scope, path))));
        self
    }
}

impl fmt::Debug for PreviewOutside {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PreviewOutside").field("serving", &self.serving.is_some()).finish()
    }
}

suite! {
    $
    /// Tests of every rule of a [`PreviewHost`](overskill_core::PreviewHost): `preview_host_conformance!(v1, fixture())`,
    /// where the fixture is a [`PreviewHostFixture`](crate::PreviewHostFixture).
    macro preview_host_conformance = preview, preview_host_v1;
    const V1 = "preview_host", v1;
    fixture PreviewHostFixture;
    in cases {
        nothing_is_open_at_first: "a preview that was never opened is closed, and an update of it is missed without a position";
        an_open_preview_says_where_it_is: "open gives addresses and the position of the snapshot, and status says the same";
        opening_at_the_same_position_changes_nothing: "open at the position where the preview is changes nothing";
        opening_at_another_position_replaces: "open at a later position, or one of another life, replaces all files";
        it_never_goes_back: "open with sources older than those shown leaves those shown, and says where the preview is";
        other_variables_take_their_place: "open with another revision of the variables is taken at any position, and changes no file";
        an_update_moves_it: "an update from where the preview is makes it show the changes at the next position";
        an_update_may_cover_several_positions: "an update goes from its base to its next position, however far that is";
        an_update_of_another_base_is_missed: "an update from another position is missed: it says where the preview is, and changes nothing";
        a_repeated_update_is_applied_once: "an update that comes twice is applied both times, and happens once";
        files_are_put_deleted_and_renamed: "the changes of one update happen together: files appear, change, go and move";
        an_update_without_changes_moves_the_position: "an update without changes moves the position";
        a_hundred_updates_in_a_row_arrive: "a hundred updates in a row are all applied, in order";
        of_concurrent_updates_one_is_applied: "of concurrent updates from one base exactly one is applied";
        a_closed_preview_is_closed: "after close the preview is closed and updates are missed; closing it again is fine";
        a_closed_preview_can_be_opened_again: "after close the preview is opened again, at the same position too";
        scopes_know_nothing_of_each_other: "what is opened, updated or closed is so in its own scope alone";
        a_dropped_call_leaves_all_or_nothing: "a call whose future is dropped happened or did not, and the host goes on working";
        pointers_and_wrappers_answer_alike: "a wrapped host answers as the host itself";
        it_can_be_seen_from_outside: "what an open preview shows is what its viewers are served";
        it_is_ready: "check answers that nothing is missing, and names the backend";
    }
}

mod cases {
    use super::PreviewHostFixture as F;
    use crate::{
        Verdict,
        fixture::unseen,
        fixtures, race,
        suite::{ensure, ensure_eq},
    };
    use overskill_core::{
        AppFile, Around, Changes, EnvKey, EnvRevision, EnvSnapshot, EnvValue, Environment, FilePath, Incarnation,
        Preview, PreviewHost, PreviewStatus, Scope, Snapshot, StreamPosition, Update,
    };
    use std::{collections::BTreeMap, sync::Arc};

    fn at(seq: u64) -> StreamPosition {
        StreamPosition::new(Incarnation::from_u64(0xf1), seq)
    }

    fn note(n: u64) -> FilePath {
        fixtures::path(&format!("public/note{n}.txt"))
    }

    /// A small app with a text file `public/note0.txt`.
    fn app(position: StreamPosition, text: &str) -> Snapshot {
        let mut files: BTreeMap<FilePath, AppFile> = fixtures::todo_app();
        files.insert(note(0), AppFile::new(text.to_owned()));
        Snapshot::new(position, files)
    }

    /// The variables at a revision.
    fn env(revision: u64) -> EnvSnapshot {
        let key = EnvKey::parse("VITE_REVISION").expect("a legal name");
        let values = [(key, EnvValue::plain(revision.to_string()))].into();
        let revision = StreamPosition::new(Incarnation::from_u64(0xe1), revision);
        EnvSnapshot { revision: EnvRevision(revision), values }
    }

    fn put(n: u64, text: &str) -> Changes {
        Changes::new().put(note(n), text.to_owned())
    }

    async fn opened(f: &F, text: &str) -> Result<(Scope, Preview), crate::Stop> {
        let scope = f.names().scope_in(Environment::Preview);
        let preview = f.store().open(&scope, &app(at(1), text), &env(1)).await?;
        Ok((scope, preview))
    }

    /// Breaks the rule unless the preview stands at `position` and shows these texts, as far as there is an outside.
    async fn ensure_shows(f: &F, scope: &Scope, position: StreamPosition, notes: &[(u64, Option<&str>)]) -> Verdict {
        match f.store().status(scope).await? {
            PreviewStatus::Open { preview, .. } => ensure_eq!(preview.position, position, "where the preview stands"),
            other => return Err(crate::Broken::new(format!("wanted an open preview, but it is {other:?}")).into()),
        }
        let Some(serving) = &f.besides().serving else { return Ok(()) };
        for (n, want) in notes {
            let got = serving(scope.clone(), note(*n)).await?;
            let got = got.as_ref().map(|b| String::from_utf8_lossy(b));
            ensure_eq!(got.as_deref(), *want, "{} as it is served at {position}", note(*n));
        }
        Ok(())
    }

    pub(super) async fn nothing_is_open_at_first(f: &F) -> Verdict {
        let scope = f.names().scope_in(Environment::Preview);
        ensure_eq!(f.store().status(&scope).await?, PreviewStatus::Closed, "status of a preview that was never opened");
        let update = f.store().apply(&scope, at(1), at(2), &put(0, "x")).await?;
        ensure_eq!(update, Update::Missed { have: None }, "update of a preview that was never opened");
        f.store().close(&scope).await?;
        Ok(())
    }

    pub(super) async fn an_open_preview_says_where_it_is(f: &F) -> Verdict {
        let (scope, preview) = opened(f, "first").await?;
        ensure_eq!(preview.position, at(1), "position of the preview");
        let (pages, updates) = (preview.url.as_str(), preview.websocket_url.as_str());
        ensure!(pages.starts_with("http"), "its pages are at {pages}");
        ensure!(updates.starts_with("ws://") || updates.starts_with("wss://"), "its updates come from {updates}");
        let want = PreviewStatus::Open { preview, viewers: 0 };
        ensure_eq!(f.store().status(&scope).await?, want, "status of an open preview");
        ensure_shows(f, &scope, at(1), &[(0, Some("first")), (1, None)]).await?;
        Ok(f.store().close(&scope).await?)
    }

    pub(super) async fn opening_at_the_same_position_changes_nothing(f: &F) -> Verdict {
        let (scope, preview) = opened(f, "first").await?;
        for _ in 0..2 {
            let again = f.store().open(&scope, &app(at(1), "not looked at"), &env(1)).await?;
            ensure_eq!(again, preview, "the preview, opened again");
        }
        ensure_shows(f, &scope, at(1), &[(0, Some("first"))]).await?;
        Ok(f.store().close(&scope).await?)
    }

    pub(super) async fn opening_at_another_position_replaces(f: &F) -> Verdict {
        let (scope, preview) = opened(f, "first").await?;
        f.store().apply(&scope, at(1), at(2), &put(1, "extra")).await?;
        let other_life = StreamPosition::new(Incarnation::from_u64(0xf2), 2);
        for (n, position) in [at(3), at(7), other_life].into_iter().enumerate() {
            let text = format!("opened {n}");
            let again = f.store().open(&scope, &app(position, &text), &env(1)).await?;
            let mut want = preview.clone();
            want.position = position;
            ensure_eq!(again, want, "the preview, opened at another position");
            ensure_shows(f, &scope, position, &[(0, Some(&text)), (1, None)]).await?;
        }
        Ok(f.store().close(&scope).await?)
    }

    pub(super) async fn it_never_goes_back(f: &F) -> Verdict {
        let (scope, _) = opened(f, "first").await?;
        f.store().apply(&scope, at(1), at(6), &put(0, "sixth")).await?;
        let late = f.store().open(&scope, &app(at(5), "late"), &env(1)).await?;
        ensure_eq!(late.position, at(6), "where the preview is after it was opened with older sources");
        ensure_shows(f, &scope, at(6), &[(0, Some("sixth"))]).await?;
        Ok(f.store().close(&scope).await?)
    }

    pub(super) async fn other_variables_take_their_place(f: &F) -> Verdict {
        let (scope, _) = opened(f, "first").await?;
        f.store().apply(&scope, at(1), at(2), &put(0, "second")).await?;
        for (revision, position) in [(2, at(2)), (3, at(1))] {
            let again = f.store().open(&scope, &app(position, "second"), &env(revision)).await?;
            ensure_eq!(again.position, at(2), "where the preview is with other variables");
            ensure_shows(f, &scope, at(2), &[(0, Some("second"))]).await?;
        }
        Ok(f.store().close(&scope).await?)
    }

    pub(super) async fn an_update_moves_it(f: &F) -> Verdict {
        let (scope, _) = opened(f, "first").await?;
        let update = f.store().apply(&scope, at(1), at(2), &put(0, "second")).await?;
        ensure_eq!(update, Update::Applied, "an update from where the preview is");
        ensure_shows(f, &scope, at(2), &[(0, Some("second"))]).await?;
        Ok(f.store().close(&scope).await?)
    }

    pub(super) async fn an_update_may_cover_several_positions(f: &F) -> Verdict {
        let (scope, _) = opened(f, "first").await?;
        let update = f.store().apply(&scope, at(1), at(9), &put(0, "ninth")).await?;
        ensure_eq!(update, Update::Applied, "an update of eight positions");
        ensure_shows(f, &scope, at(9), &[(0, Some("ninth"))]).await?;
        Ok(f.store().close(&scope).await?)
    }

    pub(super) async fn an_update_of_another_base_is_missed(f: &F) -> Verdict {
        let (scope, _) = opened(f, "first").await?;
        f.store().apply(&scope, at(1), at(5), &put(0, "fifth")).await?;
        let other_life = StreamPosition::new(Incarnation::from_u64(0xf2), 5);
        for base in [at(1), at(4), at(6), other_life] {
            let update = f.store().apply(&scope, base, at(7), &put(0, "wrong")).await?;
            ensure_eq!(update, Update::Missed { have: Some(at(5)) }, "an update from {base} of a preview at {}", at(5));
            ensure_shows(f, &scope, at(5), &[(0, Some("fifth"))]).await?;
        }
        Ok(f.store().close(&scope).await?)
    }

    pub(super) async fn a_repeated_update_is_applied_once(f: &F) -> Verdict {
        let (scope, _) = opened(f, "first").await?;
        let update = put(0, "second");
        for _ in 0..3 {
            let applied = f.store().apply(&scope, at(1), at(2), &update).await?;
            ensure_eq!(applied, Update::Applied, "an update that is repeated");
            ensure_shows(f, &scope, at(2), &[(0, Some("second"))]).await?;
        }
        Ok(f.store().close(&scope).await?)
    }

    pub(super) async fn files_are_put_deleted_and_renamed(f: &F) -> Verdict {
        let (scope, _) = opened(f, "first").await?;
        let changes = put(1, "one").put(note(2), "two".to_owned());
        f.store().apply(&scope, at(1), at(2), &changes).await?;
        ensure_shows(f, &scope, at(2), &[(0, Some("first")), (1, Some("one")), (2, Some("two"))]).await?;
        // `note1` goes, `note2` moves to `note3`, `note0` changes, and what is not there is deleted.
        let changes =
            put(0, "ünïcode \u{1f680}").delete(note(1)).delete(note(2)).put(note(3), "two".to_owned()).delete(note(4));
        ensure_eq!(f.store().apply(&scope, at(2), at(3), &changes).await?, Update::Applied, "deletes and a rename");
        let want = [(0, Some("ünïcode \u{1f680}")), (1, None), (2, None), (3, Some("two")), (4, None)];
        ensure_shows(f, &scope, at(3), &want).await?;
        Ok(f.store().close(&scope).await?)
    }

    pub(super) async fn an_update_without_changes_moves_the_position(f: &F) -> Verdict {
        let (scope, _) = opened(f, "first").await?;
        let update = f.store().apply(&scope, at(1), at(2), &Changes::new()).await?;
        ensure_eq!(update, Update::Applied, "an update without changes");
        ensure_shows(f, &scope, at(2), &[(0, Some("first"))]).await?;
        Ok(f.store().close(&scope).await?)
    }

    pub(super) async fn a_hundred_updates_in_a_row_arrive(f: &F) -> Verdict {
        let (scope, _) = opened(f, "0").await?;
        for n in 1..=100 {
            let changes = put(0, &n.to_string()).put(note(n), n.to_string());
            let update = f.store().apply(&scope, at(n), at(n + 1), &changes).await?;
            ensure_eq!(update, Update::Applied, "update {n}");
        }
        ensure_shows(f, &scope, at(101), &[(0, Some("100")), (1, Some("1")), (100, Some("100"))]).await?;
        Ok(f.store().close(&scope).await?)
    }

    pub(super) async fn of_concurrent_updates_one_is_applied(f: &F) -> Verdict {
        for _ in 0..4 {
            let (scope, _) = opened(f, "first").await?;
            let updates = (2..10).map(|n| {
                let (host, scope) = (f.store().clone(), scope.clone());
                async move { (n, host.apply(&scope, at(1), at(n), &put(0, &n.to_string())).await) }
            });
            let (mut applied, mut missed) = (Vec::new(), Vec::new());
            for (n, done) in race(updates).await? {
                match done? {
                    Update::Applied => applied.push(n),
                    Update::Missed { have } => missed.push(have),
                }
            }
            ensure_eq!(applied.len(), 1, "how many of 8 updates from one base were applied");
            let winner = at(applied[0]);
            ensure!(missed.iter().all(|have| *have == Some(winner)), "after {winner} the others have {missed:?}");
            ensure_shows(f, &scope, winner, &[(0, Some(&applied[0].to_string()))]).await?;
            f.store().close(&scope).await?;
        }
        Ok(())
    }

    pub(super) async fn a_closed_preview_is_closed(f: &F) -> Verdict {
        let (scope, _) = opened(f, "first").await?;
        for _ in 0..2 {
            f.store().close(&scope).await?;
            ensure_eq!(f.store().status(&scope).await?, PreviewStatus::Closed, "status after close");
        }
        let update = f.store().apply(&scope, at(1), at(2), &put(0, "late")).await?;
        ensure_eq!(update, Update::Missed { have: None }, "update after close");
        ensure_eq!(f.store().status(&scope).await?, PreviewStatus::Closed, "status after the missed update");
        if let Some(serving) = &f.besides().serving {
            ensure_eq!(serving(scope, note(0)).await?, None, "a file of a closed preview");
        }
        Ok(())
    }

    pub(super) async fn a_closed_preview_can_be_opened_again(f: &F) -> Verdict {
        let (scope, _) = opened(f, "first").await?;
        f.store().close(&scope).await?;
        let preview = f.store().open(&scope, &app(at(1), "again"), &env(1)).await?;
        ensure_eq!(preview.position, at(1), "position of the preview that was opened again");
        ensure_shows(f, &scope, at(1), &[(0, Some("again"))]).await?;
        Ok(f.store().close(&scope).await?)
    }

    pub(super) async fn scopes_know_nothing_of_each_other(f: &F) -> Verdict {
        let (scope, preview) = opened(f, "mine").await?;
        for other in f.names().beside(&scope) {
            ensure_eq!(f.store().status(&other).await?, PreviewStatus::Closed, "status of {other}");
            let theirs = f.store().open(&other, &app(at(1), "theirs"), &env(1)).await?;
            ensure!(theirs.url != preview.url, "{other} and {scope} have one address: {}", preview.url);
            f.store().apply(&other, at(1), at(2), &put(1, "theirs")).await?;
            ensure_shows(f, &other, at(2), &[(0, Some("theirs")), (1, Some("theirs"))]).await?;
            ensure_shows(f, &scope, at(1), &[(0, Some("mine")), (1, None)]).await?;
            f.store().close(&other).await?;
        }
        ensure_shows(f, &scope, at(1), &[(0, Some("mine"))]).await?;
        Ok(f.store().close(&scope).await?)
    }

    pub(super) async fn a_dropped_call_leaves_all_or_nothing(f: &F) -> Verdict {
        for polls in 0..5 {
            let (scope, _) = opened(f, "first").await?;
            crate::poll_times(polls, f.store().apply(&scope, at(1), at(2), &put(0, "second"))).await;
            // A host may go on with an update that was dropped; ours comes before or after it.
            let (position, text) = match f.store().apply(&scope, at(1), at(3), &put(0, "third")).await? {
                Update::Applied => (at(3), "third"),
                Update::Missed { have } => {
                    ensure_eq!(have, Some(at(2)), "where the preview is after a dropped update");
                    (at(2), "second")
                }
            };
            ensure_shows(f, &scope, position, &[(0, Some(text))]).await?;
            f.store().close(&scope).await?;
            crate::poll_times(polls, f.store().open(&scope, &app(at(4), "fourth"), &env(1))).await;
            f.store().open(&scope, &app(at(5), "fifth"), &env(1)).await?;
            ensure_shows(f, &scope, at(5), &[(0, Some("fifth"))]).await?;
            f.store().close(&scope).await?;
        }
        Ok(())
    }

    pub(super) async fn pointers_and_wrappers_answer_alike(f: &F) -> Verdict {
        let boxed: Box<dyn PreviewHost> = Box::new(f.store().clone());
        let wrapped: Arc<dyn PreviewHost> = Arc::new(Around::with_policy(boxed, crate::PassThrough));
        ensure_eq!(wrapped.name(), f.store().name(), "name through a wrapper");
        let scope = f.names().scope_in(Environment::Preview);
        wrapped.open(&scope, &app(at(1), "first"), &env(1)).await?;
        let update = wrapped.apply(&scope, at(1), at(2), &put(0, "second")).await?;
        ensure_eq!(update, Update::Applied, "an update through a wrapper");
        ensure_shows(f, &scope, at(2), &[(0, Some("second"))]).await?;
        let status = f.store().status(&scope).await?;
        ensure_eq!(wrapped.status(&scope).await?, status, "status through a wrapper");
        wrapped.close(&scope).await?;
        ensure_eq!(f.store().status(&scope).await?, PreviewStatus::Closed, "status after close through a wrapper");
        Ok(())
    }

    pub(super) async fn it_can_be_seen_from_outside(f: &F) -> Verdict {
        if f.besides().serving.is_none() {
            return Err(unseen("the fixture does not say how files are read; say how with `PreviewOutside::serving`"));
        }
        let (scope, _) = opened(f, "first").await?;
        ensure_shows(f, &scope, at(1), &[(0, Some("first")), (1, None)]).await?;
        f.store().apply(&scope, at(1), at(2), &put(1, "second")).await?;
        ensure_shows(f, &scope, at(2), &[(0, Some("first")), (1, Some("second"))]).await?;
        Ok(f.store().close(&scope).await?)
    }

    pub(super) async fn it_is_ready(f: &F) -> Verdict {
        let readiness = f.store().check().await?;
        ensure!(readiness.is_ready(), "it lacks {:?}", readiness.problems());
        ensure!(!readiness.backend().is_empty(), "the backend has no name");
        Ok(())
    }
}
