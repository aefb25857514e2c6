//! Apps' schemas on real Postgres: what is planned is what happens, and nothing is ever half done.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on panics")]
#![allow(unreachable_pub, reason = "a test's modules")]

mod apply;
mod kinds;
mod random;
mod refusals;
mod shared;
#[path = "../support/mod.rs"]
mod support;
mod typescript;

use overskill_core::{Error, ProgressEvent, ProgressSink, Right, Rights, Scope, TenantGrant};
use overskill_supabase::{
    AppSchema, AppTables, ColumnSpec, ColumnType, EditorLimits, Name, SchemaChange, SchemaChangeRecord, SchemaEditor,
    SchemaInspector, SchemaPlan, tokio_postgres::Client,
};
use serde_json::Value;
use std::{
    sync::{Arc, Mutex},
    time::Duration,
};
use support::{Way, World, scope, server};

/// The schema of the app `todo`.
const PLACE: &str = "todo_tables";

/// An app with a schema of its own, and a developer of it.
struct Desk {
    world: World,
    tables: AppTables,
    developer: TenantGrant,
    scope: Scope,
    told: Arc<Told>,
}

#[derive(Debug, Default)]
struct Told(Mutex<Vec<ProgressEvent>>);

impl ProgressSink for Told {
    fn emit(&self, event: ProgressEvent) {
        self.0.lock().unwrap().push(event);
    }
}

impl Desk {
    async fn new() -> Self {
        Self::installed_by("NOBYPASSRLS").await
    }

    async fn installed_by(attributes: &str) -> Self {
        let world = World::installed_by(attributes).await;
        let tables = own(&world, PLACE);
        tables.prepare(&world.system, &scope("todo")).await.unwrap();
        Self::at(world, tables).await
    }

    /// In the tables that apps share.
    async fn shared() -> Self {
        let world = World::new().await;
        let tables = AppTables::shared(world.pool(Way::Direct));
        Self::at(world, tables).await
    }

    async fn at(world: World, tables: AppTables) -> Self {
        let developer = world.grant_of("dev", "todo", Rights::ALL).await;
        Self { world, tables, developer, scope: scope("todo"), told: Arc::default() }
    }

    fn editor(&self) -> SchemaEditor {
        SchemaEditor::new(self.tables.clone())
            .limits(EditorLimits::new().locks(Duration::from_secs(20), 3))
            .progress(self.told.clone())
    }

    /// For which every table that has a row is a large one.
    fn careful(&self) -> SchemaEditor {
        self.editor().limits(EditorLimits::new().rows(0).batch_pages(1).locks(Duration::from_secs(20), 3))
    }

    async fn plan(&self, editor: &SchemaEditor, change: Value) -> Result<SchemaPlan, Error> {
        editor.plan(&self.developer, &self.scope, read(change)).await
    }

    async fn apply(&self, editor: &SchemaEditor, plan: &SchemaPlan) -> Result<SchemaChangeRecord, Error> {
        let plan = match &plan.destroys {
            Some(what) => plan.clone().confirm(what)?,
            None => plan.clone(),
        };
        editor.apply(&self.developer, &self.scope, &plan).await
    }

    /// Plans and applies.
    async fn change(&self, change: Value) -> SchemaChangeRecord {
        let editor = self.editor();
        let plan = self.plan(&editor, change).await.unwrap();
        self.apply(&editor, &plan).await.unwrap()
    }

    async fn schema(&self) -> AppSchema {
        SchemaInspector::new(self.tables.clone()).inspect(&self.developer, &self.scope).await.unwrap()
    }

    async fn walls_stand(&self) {
        assert_eq!(self.world.schema.audit(&self.world.system).await.unwrap(), Vec::<String>::new());
    }

    /// A connection as the tables' owner, or as anybody.
    async fn raw(&self, role: &str) -> Client {
        self.world.raw(Way::Direct, role).await
    }

    /// Runs statements past all policies.
    async fn superuser(&self, sql: &str) {
        self.raw("postgres").await.batch_execute(sql).await.unwrap();
    }
}

fn own(world: &World, place: &str) -> AppTables {
    let server = server(&world.url(Way::Direct, "host"));
    AppTables::own(server, world.gate.clone(), world.keys.clone(), name(place))
}

fn name(text: &str) -> Name {
    Name::parse(text).unwrap()
}

fn read(change: Value) -> SchemaChange {
    serde_json::from_value(change).unwrap()
}

/// A grant that lacks the right to develop.
async fn user(world: &World) -> TenantGrant {
    world.grant_of("ada", "todo", Rights::of([Right::Data])).await
}

fn column(of: &str, kind: ColumnType) -> ColumnSpec {
    ColumnSpec::new(name(of), kind)
}
