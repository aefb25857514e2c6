//! The data explorer on real Postgres: what developers can ask, and what nobody can.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

#[path = "../support/mod.rs"]
mod support;
mod walls;

use futures::TryStreamExt as _;
use overskill_core::{
    AppId, AuditLog as _, Environment, ErrorKind, Right, Rights, Scope, TenantGrant, memory::MemoryAudit,
};
use overskill_supabase::{
    AppTables, ColumnSpec, ColumnType, Cut, Explorer, ExplorerLimits, Format, Name, Query, SchemaChange, SchemaEditor,
    Server, Table,
};
use serde_json::{Value, json};
use std::{num::NonZeroU32, sync::Arc, time::Duration};
use support::{Way, World};

/// Two apps with records: `todo` with 500 tasks, `shop` with a secret.
struct Field {
    world: World,
    audit: MemoryAudit,
}

fn scope(app: &str) -> Scope {
    Scope::new(AppId::parse(app).unwrap(), Environment::Production)
}

fn some(n: u32) -> NonZeroU32 {
    NonZeroU32::new(n).unwrap()
}

impl Field {
    async fn new() -> Self {
        let world = World::new().await;
        for (app, sql) in [
            (
                "todo",
                "INSERT INTO overskill_data.entities (entity_type, id, data) SELECT 'Task', 'task' || lpad(n::text, 3, '0'), \
                 jsonb_build_object('n', n, 'odd', n % 2 = 1, 'title', 'it''s ' || n, 'cost', n / 4.0) FROM generate_series(1, 500) n",
            ),
            (
                "shop",
                "INSERT INTO overskill_data.entities (entity_type, id, data) VALUES ('Task', 'secret', '{\"title\": \"the diary of shop\"}')",
            ),
        ] {
            let grant = world.grant("ada", app).await;
            let pool = world.pool(Way::Direct);
            pool.with_tenant(&grant, &scope(app), async |tx| tx.execute(sql, &[]).await).await.unwrap();
        }
        Self { world, audit: MemoryAudit::new() }
    }

    fn explorer(&self, way: Way, limits: ExplorerLimits) -> Explorer {
        let url = self.world.url(way, "overskill_explorer");
        let server = Server::parse(&url.as_str().into()).unwrap();
        let (gate, keys) = (self.world.gate.clone(), self.world.keys.clone());
        Explorer::new(server, gate, keys, Arc::new(self.audit.clone()), limits).unwrap()
    }

    async fn developer(&self, app: &str) -> TenantGrant {
        self.world.grant_of("dev", app, Rights::of([Right::Develop])).await
    }

    async fn ask(&self, sql: &str) -> overskill_core::Result<Table> {
        let explorer = self.explorer(Way::Direct, ExplorerLimits::new());
        explorer.table(&self.developer("todo").await, &scope("todo"), &Query::new(sql)).await
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn developers_ask_what_they_like_of_their_own_records() {
    let field = Field::new().await;
    for way in Way::ALL {
        let explorer = field.explorer(way, ExplorerLimits::new());
        let grant = field.developer("todo").await;
        let ask = async |sql: &str| explorer.table(&grant, &scope("todo"), &Query::new(sql)).await.map(|it| it.rows);
        let sums =
            "SELECT data->>'odd' AS odd, count(*), sum((data->>'cost')::numeric) FROM Task GROUP BY 1 ORDER BY 1 DESC";
        assert_eq!(
            ask(sums).await.unwrap(),
            [vec![json!("true"), json!(250), json!(15625.00)], vec![json!("false"), json!(250), json!(15687.50)],]
        );
        let with = "WITH late AS (SELECT id, (data->>'n')::int AS n FROM \"Task\" t WHERE data @> '{\"odd\": true}') \
            SELECT a.id, rank() OVER (PARTITION BY a.n % 3 ORDER BY a.n) AS r, CASE WHEN a.n > 400 THEN 'late' END AS late \
            FROM late a LEFT JOIN late AS b USING (id) WHERE a.n BETWEEN 399 AND 401 AND a.id IN (SELECT id FROM Task) ORDER BY a.n";
        assert_eq!(ask(with).await.unwrap().len(), 2);
        let json =
            "SELECT x.key, jsonb_typeof(x.value) FROM Task, jsonb_each(data) AS x WHERE id = 'task007' ORDER BY 1";
        assert_eq!(ask(json).await.unwrap()[0], [json!("cost"), json!("number")]);
        assert_eq!(
            ask("SELECT 1 AS a, 'x' AS a, NULL AS a, now() > DATE '2026-01-01' UNION ALL VALUES (2, 'y', NULL, true)")
                .await
                .unwrap()
                .len(),
            2
        );
        // Other kinds, other apps: nothing there.
        assert_eq!(ask("SELECT count(*) FROM Nothing").await.unwrap(), [[json!(0)]]);
        let shop = field.developer("shop").await;
        let rows =
            explorer.table(&shop, &scope("shop"), &Query::new("SELECT data->>'title' FROM Task")).await.unwrap().rows;
        assert_eq!(rows, [[json!("the diary of shop")]]);
    }
    // Who, where and which query, and not its text.
    let page = field.audit.read(None, None, some(1)).await.unwrap();
    assert!(page.items[0].entry.detail.starts_with("query ") && !page.items[0].entry.detail.contains("SELECT"));
}

#[tokio::test(flavor = "multi_thread")]
async fn tables_of_an_apps_own_are_read_by_their_names() {
    let field = Field::new().await;
    let owner = || Server::parse(&field.world.url(Way::Direct, "host").as_str().into()).unwrap();
    for app in ["todo", "shop"] {
        let schema = Name::parse(&format!("{app}_tables")).unwrap();
        let own = AppTables::own(owner(), field.world.gate.clone(), field.world.keys.clone(), schema);
        own.prepare(&field.world.system, &scope(app)).await.unwrap();
        let (editor, all) = (SchemaEditor::new(own), field.world.grant_of("dev", app, Rights::ALL).await);
        let tables: &[&str] = if app == "todo" { &["people", "task"] } else { &["people", "diary"] };
        for table in tables {
            let column = ColumnSpec::new(Name::parse("name").unwrap(), ColumnType::Text);
            let table = Name::parse(table).unwrap();
            let create = SchemaChange::CreateTable { table, columns: vec![column], primary_key: vec![] };
            let plan = editor.plan(&all, &scope(app), create).await.unwrap();
            editor.apply(&all, &scope(app), &plan).await.unwrap();
        }
    }
    // Past all policies: as their users would have put them there.
    field.world.execute(
        "INSERT INTO todo_tables.people (name) VALUES ('ada'), ('bob'); INSERT INTO shop_tables.people (name) VALUES ('eve'); \
         INSERT INTO shop_tables.diary (name) VALUES ('the diary of shop')",
    );
    let names = "SELECT name FROM People ORDER BY people.name";
    assert_eq!(field.ask(names).await.unwrap().rows, [[json!("ada")], [json!("bob")]]);
    let both = "SELECT p.name, count(t.id) FROM people p, \"Task\" t GROUP BY 1 ORDER BY 1 LIMIT 1";
    assert_eq!(field.ask(both).await.unwrap().rows, [[json!("ada"), json!(500)]]);
    // What a name stands for is never guessed, and another app's is nobody's.
    let e = field.ask("SELECT * FROM task").await.unwrap_err();
    assert!(e.kind() == ErrorKind::Invalid && e.message().contains("a kind of records: rename one"), "{e}");
    assert_eq!(field.ask("SELECT * FROM diary").await.unwrap().rows.len(), 0);
    let e = field.ask("SELECT * FROM shop_tables.people").await.unwrap_err();
    assert!(e.message().contains("without a schema"), "{e}");
    let (explorer, shop) = (field.explorer(Way::Pooled, ExplorerLimits::new()), field.developer("shop").await);
    let rows = explorer.table(&shop, &scope("shop"), &Query::new(names)).await.unwrap().rows;
    assert_eq!(rows, [[json!("eve")]]);
}

#[tokio::test(flavor = "multi_thread")]
async fn columns_keep_their_names_and_their_order() {
    let field = Field::new().await;
    let table = field.ask("SELECT id, data->>'n' AS id, id AS b FROM Task WHERE false").await.unwrap();
    assert_eq!((table.columns, table.rows.len()), (vec!["id".to_owned(), "id_2".into(), "b".into()], 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_and_bytes_are_limited_and_a_cut_shows() {
    let field = Field::new().await;
    let grant = field.developer("todo").await;
    let query = Query::new("SELECT * FROM Task");
    let run = async |limits| field.explorer(Way::Direct, limits).table(&grant, &scope("todo"), &query).await.unwrap();
    let few = run(ExplorerLimits::new().rows(499)).await;
    assert_eq!((few.rows.len(), few.cut), (499, Some(Cut::Rows)));
    let all = run(ExplorerLimits::new().rows(500)).await;
    assert_eq!((all.rows.len(), all.cut), (500, None));
    let small = run(ExplorerLimits::new().bytes(10_000, 10_000)).await;
    assert!(small.rows.len() < 100 && small.cut == Some(Cut::Bytes), "{}", small.rows.len());
    // A row that is too large is not even sent.
    let wide = Query::new("SELECT string_agg(data::text, ',') FROM Task");
    let narrow = field.explorer(Way::Direct, ExplorerLimits::new().bytes(1 << 20, 1_000));
    let wide = narrow.table(&grant, &scope("todo"), &wide).await.unwrap();
    assert_eq!(wide.cut, Some(Cut::Bytes));
    let export = field.explorer(Way::Direct, ExplorerLimits::new().rows(10));
    let export = export.export(&grant, &scope("todo"), &query, Format::Csv).await.unwrap();
    let e = export.try_collect::<Vec<_>>().await.unwrap_err();
    assert_eq!(e.kind(), ErrorKind::LimitExceeded);
}

/// How much memory the process had at most, in bytes.
#[cfg(target_os = "linux")]
fn most_memory() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|it| it.strip_prefix("VmHWM:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<usize>().unwrap() << 10
}

#[cfg(target_os = "linux")]
#[tokio::test(flavor = "multi_thread")]
async fn large_rows_are_not_held_beyond_the_limit() {
    let field = Field::new().await;
    let limits = ExplorerLimits::new().bytes(4 << 20, 1 << 20).timeout(Duration::from_mins(1));
    let (explorer, grant) = (field.explorer(Way::Direct, limits), field.developer("todo").await);
    // 200 rows of 0.6 MB and more: all that travel at a time.
    let large = "SELECT n, q.x FROM (SELECT string_agg(t.data::text, '') AS x FROM Task t, generate_series(1, 20) AS a \
        WHERE t.id < 'task433') AS q, generate_series(1, 200) AS n";
    let query = Query::new(large);
    explorer.table(&grant, &scope("todo"), &Query::new("SELECT * FROM Task")).await.unwrap();
    let before = most_memory();
    let table = explorer.table(&grant, &scope("todo"), &query).await.unwrap();
    let grown = most_memory() - before;
    assert!(table.cut == Some(Cut::Bytes) && (2..=8).contains(&table.rows.len()), "{} rows", table.rows.len());
    assert!(grown < 64 << 20, "it took {} MiB more", grown >> 20);
}

#[tokio::test(flavor = "multi_thread")]
async fn names_with_their_tables_mean_what_they_mean_to_the_database() {
    let field = Field::new().await;
    for (sql, want) in [
        ("SELECT e->>'a' FROM jsonb_array_elements('[{\"a\": 1}]') e", json!("1")),
        ("SELECT e.value->>'a' FROM jsonb_array_elements('[{\"a\": 1}]') e", json!("1")),
        ("SELECT g + g.g FROM generate_series(2, 2) g", json!(4)),
        ("SELECT u.b + u.ordinality FROM unnest(ARRAY[1], ARRAY[2]) WITH ORDINALITY u(a, b)", json!(3)),
        ("SELECT generate_series.generate_series FROM generate_series(3, 3)", json!(3)),
        ("SELECT q.count FROM (SELECT count(*) FROM Task) q", json!(500)),
        ("SELECT s.key FROM (SELECT o.* FROM jsonb_each('{\"k\": 1}') o) s", json!("k")),
        (
            "SELECT s.x FROM (SELECT * FROM Task a JOIN Task b USING (id) WHERE id = 'task001') AS s(x)",
            json!("task001"),
        ),
        ("SELECT k.v FROM jsonb_object_keys('{\"z\": 1}') AS k(v)", json!("z")),
        ("SELECT w.w FROM regexp_split_to_table('a b', ' ') w ORDER BY w.w LIMIT 1", json!("a")),
    ] {
        assert_eq!(field.ask(sql).await.map(|it| it.rows).unwrap(), [[want]], "{sql}");
    }
    // Pages name columns, too.
    let explorer = field.explorer(Way::Direct, ExplorerLimits::new());
    let query = Query::new("SELECT id FROM Task").page(["pg_column_size"], some(5));
    let e = explorer.table(&field.developer("todo").await, &scope("todo"), &query).await.unwrap_err();
    assert_eq!(e.kind(), ErrorKind::Invalid, "{e}");
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_follow_each_other_without_gaps() {
    let field = Field::new().await;
    let (explorer, grant) = (field.explorer(Way::Pooled, ExplorerLimits::new()), field.developer("todo").await);
    for descending in [false, true] {
        let (mut seen, mut after) = (Vec::new(), None);
        loop {
            let query = Query::new("SELECT id, data->'n' AS n, (data->>'n')::int % 7 AS seven FROM Task");
            let query = query.page(["seven", "id"], some(90));
            let query = if descending { query.descending() } else { query };
            let query = after.into_iter().fold(query, Query::after);
            let page = explorer.table(&grant, &scope("todo"), &query).await.unwrap();
            seen.extend(
                page.rows.into_iter().map(|row| (row[2].as_i64().unwrap(), row[0].as_str().unwrap().to_owned())),
            );
            after = page.next;
            if after.is_none() {
                break;
            }
        }
        let mut sorted = seen.clone();
        sorted.sort();
        sorted.dedup();
        if descending {
            sorted.reverse();
        }
        assert!(seen.len() == 500 && seen == sorted);
    }
    let page = |by: &str| Query::new("SELECT id FROM Task").page([by], some(5));
    for bad in [page("a\"b"), page(""), page("id").after(vec![]), page("id").after(vec!["\0".into()]), page("nowhere")]
    {
        let e = explorer.table(&grant, &scope("todo"), &bad).await.unwrap_err();
        assert_eq!(e.kind(), ErrorKind::Invalid, "{bad:?}");
    }
    let quoted = page("id").after(vec!["x' OR true --".into()]);
    assert_eq!(explorer.table(&grant, &scope("todo"), &quoted).await.unwrap().rows, Vec::<Vec<Value>>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn exports_stream_in_three_forms() {
    let field = Field::new().await;
    let (explorer, grant) = (field.explorer(Way::Direct, ExplorerLimits::new()), field.developer("todo").await);
    let query = Query::new("SELECT id, '=1+' || id AS f, data->'n' AS n FROM Task ORDER BY id");
    let export = async |format| {
        let parts = explorer.export(&grant, &scope("todo"), &query, format).await.unwrap();
        let parts: Vec<_> = parts.try_collect().await.unwrap();
        assert!(parts.len() > 2, "it comes in parts");
        String::from_utf8(parts.concat()).unwrap()
    };
    let csv = export(Format::Csv).await;
    assert!(csv.starts_with("id,f,n\r\ntask001,\"'=1+task001\",1\r\n") && csv.lines().count() == 501, "{}", &csv[..60]);
    let rows: Vec<Value> = serde_json::from_str(&export(Format::Json).await).unwrap();
    assert_eq!((rows.len(), &rows[499]), (500, &json!({ "id": "task500", "f": "=1+task500", "n": 500 })));
    assert_eq!(export(Format::Ndjson).await.lines().count(), 500);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_runs_can_be_stopped_and_leaves_nothing() {
    let field = Field::new().await;
    let limits = ExplorerLimits::new().timeout(Duration::from_mins(1)).rows(u64::MAX - 1);
    let (explorer, grant) = (field.explorer(Way::Direct, limits), field.developer("todo").await);
    let endless = Query::new("SELECT count(*) FROM generate_series(1, 1000000000) a, generate_series(1, 1000) b");
    let mut rows = explorer.run(&grant, &scope("todo"), &endless).await.unwrap();
    let canceller = rows.canceller().unwrap();
    let (next, ()) = tokio::join!(rows.next(), async {
        // Until the server has begun with it.
        let raw = field.world.raw(Way::Direct, "postgres").await;
        let running = "SELECT count(*) FROM pg_stat_activity WHERE usename = 'overskill_explorer' AND state = 'active'";
        while raw.query_one(running, &[]).await.unwrap().get::<_, i64>(0) == 0 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        canceller.cancel().await.unwrap();
    });
    assert_eq!(next.unwrap_err().kind(), ErrorKind::Timeout);
    // Two of an app at a time, and as many waiting; then it is told to come later.
    let held = [
        explorer.run(&grant, &scope("todo"), &Query::new("SELECT 1")).await.unwrap(),
        explorer.run(&grant, &scope("todo"), &Query::new("SELECT 1")).await.unwrap(),
    ];
    let waiting = || async { explorer.run(&grant, &scope("todo"), &Query::new("SELECT 1")).await.map(drop) };
    let (first, second, third) = tokio::join!(waiting(), waiting(), waiting());
    let kinds: Vec<_> = [first, second, third].into_iter().map(|it| it.unwrap_err().kind()).collect();
    assert!(kinds.contains(&ErrorKind::RateLimited) && kinds.contains(&ErrorKind::Unavailable), "{kinds:?}");
    // Other apps are not held up.
    let shop = field.developer("shop").await;
    assert_eq!(explorer.table(&shop, &scope("shop"), &Query::new("SELECT 1")).await.unwrap().rows.len(), 1);
    drop(held);
    let timed = field.explorer(Way::Direct, ExplorerLimits::new().timeout(Duration::from_millis(200)));
    let e = timed.table(&grant, &scope("todo"), &endless).await.unwrap_err();
    assert_eq!(e.kind(), ErrorKind::Timeout);
    // Nobody's transaction is left open.
    let raw = field.world.raw(Way::Direct, "postgres").await;
    let open = "SELECT count(*) FROM pg_stat_activity WHERE usename = 'overskill_explorer' AND xact_start IS NOT NULL";
    while raw.query_one(open, &[]).await.unwrap().get::<_, i64>(0) > 0 {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn it_takes_a_developers_grant_of_its_own_gate() {
    let field = Field::new().await;
    let explorer = field.explorer(Way::Direct, ExplorerLimits::new());
    let query = Query::new("SELECT 1");
    let user = field.world.grant("ada", "todo").await;
    let dev = field.developer("todo").await;
    let foreign = World::bare("NOBYPASSRLS").await.grant_of("dev", "todo", Rights::ALL).await;
    for (grant, app) in [(&user, "todo"), (&foreign, "todo"), (&dev, "shop")] {
        assert_eq!(explorer.table(grant, &scope(app), &query).await.unwrap_err().kind(), ErrorKind::Denied);
        assert_eq!(explorer.run(grant, &scope(app), &query).await.unwrap_err().kind(), ErrorKind::Denied);
        let export = explorer.export(grant, &scope(app), &query, Format::Json).await;
        assert_eq!(export.err().map(|e| e.kind()), Some(ErrorKind::Denied));
    }
    let server = Server::parse(&field.world.url(Way::Direct, "postgres").as_str().into()).unwrap();
    let (gate, keys) = (field.world.gate.clone(), field.world.keys.clone());
    let e = Explorer::new(server, gate, keys, Arc::new(field.audit.clone()), ExplorerLimits::new()).unwrap_err();
    assert!(e.message().contains("overskill_explorer"), "{e}");
    assert_eq!(field.audit.read(None, None, some(9)).await.unwrap().items.len(), 0);
}
