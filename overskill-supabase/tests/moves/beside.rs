//! What an app has beside its records, and where that is after a move.

use super::{crashes::crashed_at, stage::Stage};
use crate::support::{Way, places::acme, scope, server};
use overskill_core::{ErrorKind, Rights, TenantGrant};
use overskill_supabase::{
    AppTables, ColumnSpec, ColumnType, MoveStep, Name, Placement, SchemaChange, SchemaChangeRecord, SchemaEditor,
};

fn table(name: &str) -> SchemaChange {
    SchemaChange::CreateTable {
        table: Name::parse(name).unwrap(),
        columns: vec![ColumnSpec::new(Name::parse("title").unwrap(), ColumnType::Text)],
        primary_key: vec![],
    }
}

async fn change(editor: &SchemaEditor, developer: &TenantGrant, change: SchemaChange) -> SchemaChangeRecord {
    let mut plan = editor.plan(developer, &scope("one"), change).await.unwrap();
    if let Some(what) = plan.destroys.clone() {
        plan = plan.confirm(&what).unwrap();
    }
    editor.apply(developer, &scope("one"), &plan).await.unwrap()
}

#[tokio::test]
async fn tables_of_an_apps_own_are_not_left_behind() {
    let stage = Stage::new(Way::Direct).await;
    let (system, mover) = (&stage.world.system, &stage.mover);
    stage.fill("one", 3).await;
    let before = stage.dump("one").await;
    let (host, gate, keys) = (server(&stage.world.url(Way::Direct, "host")), &stage.world.gate, &stage.world.keys);
    let own = AppTables::own(host, gate.clone(), keys.clone(), Name::parse("one_tables").unwrap());
    own.prepare(system, &scope("one")).await.unwrap();
    let editor = SchemaEditor::new(own);
    let developer = stage.world.grant_of("dev", "one", Rights::ALL).await;
    change(&editor, &developer, table("people")).await;

    let project = Placement::OwnProject(acme());
    let e = mover.relocate(system, &scope("one"), &project).await.unwrap_err();
    assert!(e.kind() == ErrorKind::Conflict && e.message().contains("in schema one_tables"), "{e}");
    // Nothing waits for it, and it can be had without.
    assert_eq!(mover.current(system, &scope("one")).await.unwrap().unwrap().step, MoveStep::Planned);
    assert_eq!(stage.create("one", "x", 1).await.status, 201);
    stage.erase("one", "x").await;
    assert_eq!(mover.abort(system, &scope("one")).await.unwrap().step, MoveStep::Aborted);
    // Within the database they stay the app's.
    mover.relocate(system, &scope("one"), &Placement::Schema).await.unwrap();
    mover.relocate(system, &scope("one"), &project).await.unwrap_err();
    change(&editor, &developer, SchemaChange::DropTable { table: Name::parse("people").unwrap() }).await;
    assert_eq!(mover.resume(system, &scope("one")).await.unwrap().to, project);
    assert_eq!(stage.dump("one").await, before);
}

/// Tables that are made while a move rests between its steps, by whomever.
#[tokio::test]
async fn tables_that_are_made_during_a_move_are_not_left_behind() {
    let stage = Stage::new(Way::Direct).await;
    let (system, mover) = (&stage.world.system, &stage.mover);
    let (host, gate, keys) = (server(&stage.world.url(Way::Direct, "host")), &stage.world.gate, &stage.world.keys);
    let own = AppTables::own(host, gate.clone(), keys.clone(), Name::parse("one_tables").unwrap());
    own.prepare(system, &scope("one")).await.unwrap();
    let editor = SchemaEditor::new(own);
    let developer = stage.world.grant_of("dev", "one", Rights::ALL).await;
    let refused = async |kind: ErrorKind, word: &str| {
        let e = editor.plan(&developer, &scope("one"), table("people")).await.unwrap_err();
        assert!(e.kind() == kind && e.message().contains(word), "{e}");
    };
    let planned = editor.plan(&developer, &scope("one"), table("people")).await.unwrap();
    stage.fill("one", 3).await;
    let (before, project) = (stage.dump("one").await, Placement::OwnProject(acme()));
    for step in ["copied", "verified"] {
        crashed_at(&stage, "one", &project, step).await;
        refused(ErrorKind::Unavailable, "is being moved").await;
        let e = editor.apply(&developer, &scope("one"), &planned).await.unwrap_err();
        assert!(e.kind() == ErrorKind::Unavailable && e.message().contains("is being moved"), "{e}");
        // Past the editor.
        stage.world.execute("CREATE TABLE one_tables.late (app_id bigint)");
        let e = mover.resume(system, &scope("one")).await.unwrap_err();
        assert!(e.kind() == ErrorKind::Conflict && e.message().contains("in schema one_tables"), "{step}: {e}");
        assert_eq!(mover.placement(system, &scope("one")).await.unwrap(), Placement::Shared);
        assert_eq!(mover.abort(system, &scope("one")).await.unwrap().step, MoveStep::Aborted);
        assert_eq!((stage.dump("one").await, stage.create("one", "x", 1).await.status), (before.clone(), 201));
        stage.erase("one", "x").await;
        stage.world.execute("DROP TABLE one_tables.late");
    }
    mover.relocate(system, &scope("one"), &project).await.unwrap();
    assert_eq!(stage.dump("one").await, before);
    refused(ErrorKind::Conflict, "in another database").await;
    mover.drop_old(system, &scope("one")).await.unwrap();
    mover.relocate(system, &scope("one"), &Placement::Shared).await.unwrap();
    change(&editor, &developer, table("people")).await;
}

#[tokio::test]
async fn the_history_of_columns_goes_along() {
    let stage = Stage::new(Way::Direct).await;
    let (system, mover) = (&stage.world.system, &stage.mover);
    let editor = SchemaEditor::new(AppTables::shared(stage.pool.clone()));
    let developer = stage.world.grant_of("dev", "one", Rights::ALL).await;
    let history = async || editor.history(&developer, &scope("one"), None).await.unwrap();
    let mut made = Vec::new();
    let project = Placement::OwnProject(acme());
    for (n, to) in [project.clone(), Placement::Schema, project, Placement::Shared].into_iter().enumerate() {
        made.insert(0, change(&editor, &developer, table(&format!("table{n}"))).await);
        mover.relocate(system, &scope("one"), &to).await.unwrap();
        assert_eq!(history().await, made, "{to}");
        mover.drop_old(system, &scope("one")).await.unwrap();
    }
    assert_eq!(made[0].position.seq, 4);
}
