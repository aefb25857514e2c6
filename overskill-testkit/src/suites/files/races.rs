use super::{FileStoreFixture as F, contents, snapshot};
use crate::{
    Stop, Verdict,
    fixtures::path,
    race,
    suite::{ensure, ensure_eq, ensure_err},
};
use overskill_core::{AppFile, Changes, FileStore, Scope, Snapshot};
use std::{
    collections::BTreeSet,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

const WRITES: usize = 24;

/// Everything that write `n` (from 1) leaves behind: five equal files, and one that has a new name each time.
fn write(n: usize) -> Changes {
    let mut changes = Changes::new().put(path(&format!("moving/{n}")), n.to_string());
    if n > 1 {
        changes = changes.delete(path(&format!("moving/{}", n - 1)));
    }
    for file in ["a", "b", "c/d", "e", "zz"] {
        changes = changes.put(path(file), n.to_string());
    }
    changes
}

/// Looks at every snapshot that three readers get while one writer writes.
async fn look_while_writing(f: &F, look: fn(&Snapshot) -> Verdict) -> Verdict {
    let scope = f.names().scope();
    let done = Arc::new(AtomicBool::new(false));
    let calls = (0..4).map(|caller| {
        let (store, scope, done) = (f.store().clone(), scope.clone(), done.clone());
        async move {
            if caller == 0 {
                let written = write_all(&*store, &scope).await;
                done.store(true, Ordering::Relaxed);
                return written.map_err(Stop::from);
            }
            while !done.load(Ordering::Relaxed) {
                look(&store.snapshot(&scope).await?)?;
                tokio::task::yield_now().await;
            }
            look(&store.snapshot(&scope).await?)
        }
    });
    race(calls).await?.into_iter().collect()
}

async fn write_all(store: &dyn FileStore, scope: &Scope) -> overskill_core::Result<()> {
    for n in 1..=WRITES {
        store.apply(scope, &write(n), None).await?;
        // So that the readers meet each write, also where a write takes no time.
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    Ok(())
}

pub(super) async fn apply_is_atomic(f: &F) -> Verdict {
    let look = |seen: &Snapshot| {
        let kinds: BTreeSet<_> = seen.files.values().map(AppFile::contents).collect();
        ensure!(kinds.len() <= 1, "a snapshot holds parts of several applies: {:?}", contents(&seen.files));
        ensure!(matches!(seen.files.len(), 0 | 6), "a snapshot has {} files of 6: {:?}", seen.files.len(), seen.files);
        Ok(())
    };
    look_while_writing(f, look).await
}

pub(super) async fn a_snapshot_is_of_its_position(f: &F) -> Verdict {
    let look = |seen: &Snapshot| {
        let got = seen.files.get(&path("a")).map(|file| String::from_utf8_lossy(file.contents()).into_owned());
        let want = Some(seen.position.seq.to_string()).filter(|_| seen.position.seq > 0);
        ensure_eq!(got, want, "which apply the files of a snapshot at {} are of", seen.position);
        Ok(())
    };
    look_while_writing(f, look).await
}

pub(super) async fn of_concurrent_conditional_applies_one_wins(f: &F) -> Verdict {
    let scope = f.names().scope();
    let mut head = f.store().snapshot(&scope).await?.position;
    for round in 0..6 {
        let applies = [0, 1, 2, 3, 4, 5].map(|n| {
            let (store, scope) = (f.store().clone(), scope.clone());
            let changes = Changes::new().put(path("winner"), n.to_string()).put(path(&format!("{round}/{n}")), "x");
            async move { store.apply(&scope, &changes, Some(head)).await }
        });
        let done = race(applies).await?;
        let won: Vec<_> = (0..done.len()).filter(|n| done[*n].is_ok()).collect();
        ensure_eq!(won.len(), 1, "how many of {} applies at {head} succeeded", done.len());
        for lost in done.iter().filter(|d| d.is_err()) {
            ensure_err!(lost.as_ref(), Conflict, "an apply that lost the race at {head}");
        }
        ensure_eq!(done[won[0]].as_ref().ok(), Some(&head.next()), "position of the winner");
        head = head.next();
        let got = snapshot(&**f.store(), &scope, head).await?;
        ensure_eq!(got.files.get(&path("winner")), Some(&won[0].to_string().into()), "the winner's file");
        ensure_eq!(got.files.len(), round + 2, "files after {} rounds", round + 1);
    }
    Ok(())
}

pub(super) async fn concurrent_applies_all_land(f: &F) -> Verdict {
    const WRITERS: usize = 6;
    const EACH: usize = 5;
    let scope = f.names().scope();
    let start = f.store().snapshot(&scope).await?.position;
    let writers = (0..WRITERS).map(|w| {
        let (store, scope) = (f.store().clone(), scope.clone());
        async move {
            let mut positions = Vec::new();
            for n in 0..EACH {
                let changes = Changes::new().put(path(&format!("{w}/{n}")), format!("{w} {n}")).put(path("last"), "x");
                positions.push(store.apply(&scope, &changes, None).await?);
            }
            Ok::<_, overskill_core::Error>(positions)
        }
    });
    let mut seqs = Vec::new();
    for writer in race(writers).await? {
        let positions = writer?;
        ensure!(positions.is_sorted_by_key(|p| p.seq), "a writer's own positions fall: {positions:?}");
        seqs.extend(positions.iter().map(|p| start.behind(*p)));
    }
    seqs.sort_unstable();
    let want: Vec<_> = (1..=(WRITERS * EACH) as u64).map(Some).collect();
    ensure_eq!(seqs, want, "how far the applies came from the start");
    let head = overskill_core::StreamPosition::new(start.incarnation, start.seq + (WRITERS * EACH) as u64);
    let got = snapshot(&**f.store(), &scope, head).await?;
    ensure_eq!(got.files.len(), WRITERS * EACH + 1, "files after all applies");
    Ok(())
}
