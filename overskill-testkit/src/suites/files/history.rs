use super::{FileStoreFixture as F, contents, since, snapshot};
use crate::{
    Stop, Verdict,
    fixtures::path,
    suite::{ensure, ensure_eq},
};
use overskill_core::{AppliedChanges, CatchUp, Changes, IdsExt, Incarnation, StreamPosition};
use std::collections::BTreeMap;

/// Needs a history of `applies`.
fn needs(f: &F, applies: u32) -> Verdict {
    if f.store().info().history < applies {
        return Err(Stop::NotApplicable("the store declares too short a history"));
    }
    Ok(())
}

pub(super) async fn changes_since_is_exact_and_in_order(f: &F) -> Verdict {
    needs(f, 6)?;
    let scope = f.names().scope();
    let start = f.store().snapshot(&scope).await?.position;
    let applies = [
        Changes::new().put(path("a"), "1").put(path("b"), "1").put(path("c"), "1"),
        Changes::new().put(path("a"), "2"),
        Changes::new().delete(path("b")),
        Changes::new().put(path("a"), "3").delete(path("c")).put(path("d"), ""),
        Changes::new().put(path("b"), "back"),
        Changes::new().delete(path("a")).delete(path("b")).delete(path("d")),
    ];
    let mut entries = Vec::new();
    for changes in applies {
        let position = f.store().apply(&scope, &changes, None).await?;
        entries.push(AppliedChanges { position, changes });
    }
    let mut from = start;
    for (n, entry) in entries.iter().enumerate() {
        let got = since(&**f.store(), &scope, from, entries.len() - n).await?;
        let CatchUp::Entries(got) = got else {
            return Err(crate::Broken::new(format!(
                "changes since {from} are gone, {} applies later",
                entries.len() - n
            ))
            .into());
        };
        let positions: Vec<_> = got.iter().map(|e| e.position).collect();
        let want: Vec<_> = entries[n..].iter().map(|e| e.position).collect();
        ensure_eq!(positions, want, "positions of the changes since {from}");
        ensure_eq!(got, entries[n..], "changes since {from}");
        from = entry.position;
    }
    Ok(())
}

pub(super) async fn nothing_since_the_head(f: &F) -> Verdict {
    let scope = f.names().scope();
    for n in 0..3 {
        let head = f.store().apply(&scope, &Changes::new().put(path("a"), n.to_string()), None).await?;
        ensure_eq!(
            since(&**f.store(), &scope, head, 0).await?,
            CatchUp::Entries(Vec::new()),
            "changes since the head {head}"
        );
    }
    Ok(())
}

pub(super) async fn a_foreign_position_is_gone(f: &F) -> Verdict {
    let scope = f.names().scope();
    let start = f.store().snapshot(&scope).await?.position;
    let head = f.store().apply(&scope, &Changes::new().put(path("a"), "a"), None).await?;
    let other = Incarnation::from_u64(head.incarnation.as_u64() ^ 1);
    for (what, foreign) in [
        ("one ahead", head.next()),
        ("far ahead", StreamPosition::new(head.incarnation, u64::from(u32::MAX))),
        ("of another incarnation", StreamPosition::new(other, head.seq)),
        ("at the start of another incarnation", StreamPosition::new(other, start.seq)),
    ] {
        let got = f.store().changes_since(&scope, foreign).await?;
        ensure_eq!(got, CatchUp::Gone, "changes since a position {what}");
    }
    Ok(())
}

pub(super) async fn changes_since_reaches_back(f: &F) -> Verdict {
    const TRIED: u32 = 256;
    needs(f, 1)?;
    let reach = f.store().info().history.min(TRIED);
    let scope = f.names().scope();
    let mut from = f.store().snapshot(&scope).await?.position;
    // Two more than it has to remember, so that one that counts wrong forgets.
    for n in 0..reach + 2 {
        let position = f.store().apply(&scope, &Changes::new().put(path("n"), n.to_string()), None).await?;
        if n == 1 {
            from = position;
        }
    }
    let want = usize::try_from(reach).unwrap_or(usize::MAX);
    match since(&**f.store(), &scope, from, want).await? {
        CatchUp::Entries(got) => ensure_eq!(got.len(), want, "how many changes there are {reach} applies back"),
        CatchUp::Gone => ensure!(false, "the changes of the last {reach} applies are gone"),
    }
    Ok(())
}

pub(super) async fn history_leads_to_the_snapshot(f: &F) -> Verdict {
    const APPLIES: u32 = 40;
    needs(f, APPLIES)?;
    let scope = f.names().scope();
    let paths: Vec<_> = ["a", "a/b", "b", "c.txt", "d/e/f", "ünï"].map(path).into();
    let mut position = f.store().snapshot(&scope).await?.position;
    let mut model = BTreeMap::new();
    let mut states = vec![(position, model.clone())];
    for n in 0..APPLIES {
        let random = f.names().ids().random_u64();
        let mut changes = Changes::new();
        for (bit, at) in paths.iter().enumerate() {
            changes = match random >> (4 * bit) & 0b1111 {
                0..=5 => changes.put(at.clone(), format!("{bit} at {n}")),
                6..=8 => changes.delete(at.clone()),
                _ => changes,
            };
        }
        if changes.is_empty() {
            changes = changes.put(paths[0].clone(), format!("only at {n}"));
        }
        position = f.store().apply(&scope, &changes, None).await?;
        changes.apply_to(&mut model);
        states.push((position, model.clone()));
    }
    let got = snapshot(&**f.store(), &scope, position).await?;
    ensure_eq!(contents(&got.files), contents(&model), "files of the snapshot");
    for (n, (from, mut files)) in states.into_iter().enumerate() {
        let CatchUp::Entries(entries) = since(&**f.store(), &scope, from, APPLIES as usize - n).await? else {
            return Err(crate::Broken::new(format!("changes since {from} are gone, at {position}")).into());
        };
        for entry in &entries {
            entry.changes.apply_to(&mut files);
        }
        let led = entries.last().map_or(from, |e| e.position);
        ensure_eq!(led, got.position, "the position that the changes since {from} lead to");
        ensure_eq!(contents(&files), contents(&model), "the files that the changes since {from} lead to");
    }
    Ok(())
}
