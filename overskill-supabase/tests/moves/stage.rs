//! Apps with data, a mover, and everything that can be asked of both.

use crate::support::{DATABASE, Way, World, places::ACME, scope};
use overskill_core::{
    ApiMethod, ApiRequest, ApiResponse, ApiUpstream as _, FilePath, Right, Rights, memory::MemoryAudit,
};
use overskill_supabase::{
    Access, EntityApi, Explorer, ExplorerLimits, Mover, Plan, PoolOptions, ProjectList, Query, Schema, TenantPool,
    TenantTx,
    tokio_postgres::{Client, NoTls},
};
use serde_json::{Value, json};
use std::{collections::BTreeMap, num::NonZeroU32, sync::Arc, time::Duration};

pub struct Stage {
    pub world: World,
    pub projects: ProjectList,
    pub mover: Mover,
    pub pool: TenantPool,
    pub api: EntityApi,
    explorer: Explorer,
}

impl Stage {
    pub async fn new(way: Way) -> Self {
        let world = World::new().await;
        let projects = world.projects(way).await;
        let mover = world.mover(way).projects(projects.clone());
        let pool = Self::another_pool(&world, way, &projects);
        let server = world.server_in(way, "overskill_explorer", DATABASE);
        let audit = Arc::new(MemoryAudit::new());
        let limits = ExplorerLimits::new().timeout(Duration::from_mins(1));
        let explorer = Explorer::new(server, world.gate.clone(), world.keys.clone(), audit, limits).unwrap();
        let explorer = explorer.projects(projects.clone());
        Self { api: EntityApi::new(pool.clone()), world, projects, mover, pool, explorer }
    }

    /// Another machine's: it remembers things of its own.
    pub fn another_pool(world: &World, way: Way, projects: &ProjectList) -> TenantPool {
        let plan = Plan::new("test").wait(Duration::from_mins(2)).statement_timeout(Duration::from_mins(2));
        let plan = plan.connections_per_app(NonZeroU32::new(8).unwrap());
        let options = PoolOptions::new().plans(move |_| plan).projects(projects.clone());
        world.pool_with(way, "overskill_app", options)
    }

    /// Twelve rows of every sort, and `todos` plain ones.
    pub async fn fill(&self, app: &str, todos: usize) {
        let odd = [
            ("text", json!({ "s": "x\u{1f600}\u{e9}\n\"\\'\t\u{2028} $1 {} %s", "empty": "" })),
            ("numbers", json!({ "a": 0.1, "b": -0.0, "c": 1e300, "d": 9_007_199_254_740_993_u64, "e": 1.10 })),
            ("nested", json!({ "list": [1, [null, true], {"k": {}}], "n": 5 })),
            ("null", json!({ "nothing": null })),
            ("large", json!({ "body": "y".repeat(200_000) })),
        ];
        let pool = &self.pool;
        for who in ["ada", "bob"] {
            let grant = self.world.grant_of(who, app, Rights::of([Right::Data, Right::Develop])).await;
            pool.with_tenant(&grant, &scope(app), async |tx| {
                tx.define("Odd", Access::OwnerWrites, &[("t1", "s"), ("n1", "n")]).await?;
                let insert = format!("INSERT INTO {} (entity_type, id, data) VALUES ", tx.table("entities"));
                for (id, data) in &odd {
                    let data = data.to_string().replace('\'', "''");
                    tx.simple(&format!("{insert} ('Odd', '{id}-{who}', '{data}')")).await?;
                }
                tx.simple(&format!(
                    "UPDATE {} SET deleted_at = now() WHERE entity_type = 'Odd' AND id = 'null-{who}'",
                    tx.table("entities")
                ))
                .await
                .map(drop)
            })
            .await
            .unwrap();
        }
        let ada = self.world.grant("ada", app).await;
        pool.with_tenant(&ada, &scope(app), async |tx| {
            let table = tx.table("entities");
            tx.simple(&format!(
                "INSERT INTO {table} (entity_type, id, data) SELECT 'Todo', 't' || n, jsonb_build_object('n', n) \
                 FROM generate_series(1, {todos}) n"
            ))
            .await
            .map(drop)
        })
        .await
        .unwrap();
    }

    pub async fn call(&self, app: &str, method: ApiMethod, id: &str, body: &str) -> ApiResponse {
        call_on(&self.api, &self.world, app, method, id, body).await
    }

    pub async fn create(&self, app: &str, id: &str, n: i64) -> ApiResponse {
        self.call(app, ApiMethod::Post, "", &json!({ "id": id, "n": n }).to_string()).await
    }

    /// What the kind `Todo` has in its field `n`, by id: all pages.
    pub async fn numbers(&self, app: &str) -> BTreeMap<String, i64> {
        let mut all = BTreeMap::new();
        for record in self.list(app, &[("limit", "1000")]).await {
            all.insert(record["id"].as_str().unwrap().to_owned(), record["n"].as_i64().unwrap());
        }
        all
    }

    pub async fn list(&self, app: &str, query: &[(&str, &str)]) -> Vec<Value> {
        let (mut items, mut cursor) = (Vec::new(), None::<String>);
        loop {
            let path = FilePath::parse("entities/Todo").unwrap();
            let token = self.world.token("ada", app, Rights::of([Right::Data]));
            let mut request = ApiRequest::new(scope(app), token, ApiMethod::Get, path);
            for (name, value) in query {
                request = request.query(*name, *value);
            }
            if let Some(cursor) = &cursor {
                request = request.query("cursor", cursor);
            }
            let answer = self.api.call(&request).await.unwrap();
            assert_eq!(answer.status, 200, "{answer:?}");
            let page: Value = serde_json::from_slice(&answer.body).unwrap();
            items.extend(page["items"].as_array().unwrap().clone());
            cursor = page["next"].as_str().map(str::to_owned);
            if cursor.is_none() {
                return items;
            }
        }
    }

    /// Says which fields of `Todo` have columns of their own.
    pub async fn define(&self, app: &str, columns: &[(&str, &str)]) {
        let developer = self.world.grant_of("dev", app, Rights::ALL).await;
        let work = async |tx: &TenantTx| tx.define("Todo", Access::Everybody, columns).await;
        self.pool.with_tenant(&developer, &scope(app), work).await.unwrap();
    }

    /// How many records of that id a developer finds.
    pub async fn explored(&self, app: &str, id: &str) -> u64 {
        let developer = self.world.grant_of("dev", app, Rights::ALL).await;
        let query = Query::new(format!("SELECT count(*) AS n FROM Todo WHERE id = '{id}'"));
        let table = self.explorer.table(&developer, &scope(app), &query).await.unwrap();
        table.rows[0][0].as_u64().unwrap()
    }

    pub async fn root(&self, database: &str) -> Client {
        let url = self.world.url_in(Way::Direct, "postgres", database);
        let (client, connection) = overskill_supabase::tokio_postgres::connect(&url, NoTls).await.unwrap();
        tokio::spawn(connection);
        client
    }

    /// Where the app's live tables are: database, schema, number.
    pub async fn live(&self, app: &str) -> (&'static str, String, i64) {
        const LIVE: &str =
            "SELECT home, app_id FROM overskill_guard.apps WHERE app = $1 AND environment = 'production'";
        for database in [DATABASE, ACME] {
            let row = self.root(database).await.query_opt(LIVE, &[&app]).await.unwrap();
            if let Some((Some(home), number)) = row.map(|row| (row.get::<_, Option<String>>(0), row.get(1))) {
                return (database, home, number);
            }
        }
        panic!("the app is nowhere");
    }

    /// Every row of every table of the app, whole, without the number that a database gives it.
    pub async fn dump(&self, app: &str) -> Vec<String> {
        let (database, home, number) = self.live(app).await;
        let root = self.root(database).await;
        let mut rows = Vec::new();
        for table in ["entities", "entity_types"] {
            let sql = format!(
                "SELECT (to_jsonb(t) - 'app_id')::text || t.tableoid::regclass::text FROM {home}.{table} t WHERE app_id = $1"
            );
            for row in root.query(&sql, &[&number]).await.unwrap() {
                rows.push(row.get::<_, String>(0).replace(&format!("{home}."), "").replace("overskill_data.", ""));
            }
        }
        rows.sort();
        rows
    }

    /// Removes a record for good.
    pub async fn erase(&self, app: &str, id: &str) {
        let (database, home, number) = self.live(app).await;
        let sql = format!("DELETE FROM {home}.entities WHERE app_id = $1 AND id = $2");
        assert_eq!(self.root(database).await.execute(&sql, &[&number, &id]).await.unwrap(), 1);
    }

    /// How many rows of the app are in tables that are not its live ones.
    pub async fn leftovers(&self, app: &str) -> usize {
        let (live_in, live_home, _) = self.live(app).await;
        let mut count = 0_i64;
        for database in [DATABASE, ACME] {
            let root = self.root(database).await;
            let homes = "SELECT nspname::text FROM pg_namespace WHERE nspname = 'overskill_data' OR nspname LIKE 'overskill\\_app\\_%'";
            for row in root.query(homes, &[]).await.unwrap() {
                let home: String = row.get(0);
                if (database, &home) == (live_in, &live_home) {
                    continue;
                }
                for table in ["entities", "entity_types"] {
                    let sql = format!(
                        "SELECT count(*) FROM {home}.{table} JOIN overskill_guard.apps USING (app_id) WHERE app = $1"
                    );
                    count += root.query_one(&sql, &[&app]).await.unwrap().get::<_, i64>(0);
                }
            }
        }
        usize::try_from(count).unwrap()
    }

    /// How many apps' own schemas there are.
    pub async fn schemas(&self) -> i64 {
        let sql = "SELECT count(*) FROM pg_namespace WHERE nspname LIKE 'overskill\\_app\\_%'";
        self.root(DATABASE).await.query_one(sql, &[]).await.unwrap().get(0)
    }

    /// In both databases.
    pub async fn walls_stand(&self) {
        for database in [DATABASE, ACME] {
            let schema = Schema::new(self.world.server_in(Way::Direct, "host", database), self.world.gate.clone());
            assert_eq!(schema.audit(&self.world.system).await.unwrap(), Vec::<String>::new(), "{database}");
        }
    }
}

pub async fn call_on(
    api: &EntityApi,
    world: &World,
    app: &str,
    method: ApiMethod,
    id: &str,
    body: &str,
) -> ApiResponse {
    let path = if id.is_empty() { "entities/Todo".to_owned() } else { format!("entities/Todo/{id}") };
    let token = world.token("ada", app, Rights::of([Right::Data]));
    let mut request = ApiRequest::new(scope(app), token, method, FilePath::parse(&path).unwrap());
    if !body.is_empty() {
        request = request.body("application/json", body.to_owned());
    }
    api.call(&request).await.unwrap()
}
