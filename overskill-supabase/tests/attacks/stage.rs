//! Where attacks are made: on a twin that is weak in one way, and on the real schema, directly and behind a pooler.

use crate::support::{DATABASE, ROLES, Signed, Way, World, cells, scope};
use futures::StreamExt as _;
use overskill_supabase::{
    Placement,
    tokio_postgres::{self, AsyncMessage, Client, NoTls, types::Type},
};
use overskill_testkit::postgres::PgBouncer;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

/// What only the victim may see.
pub const SECRET: &str = "hushhush";

/// The twin: one table for all apps and a policy on a claim, as the original plan has it. The victim is app 2.
const TWIN: &str = "
    CREATE SCHEMA weak;
    GRANT USAGE, CREATE ON SCHEMA weak TO PUBLIC;
    CREATE ROLE weak_owner LOGIN NOINHERIT;
    CREATE TABLE weak.entities (app_id bigint, entity_type text DEFAULT 'Todo', id text PRIMARY KEY, owner text,
        data jsonb, t1 text);
    CREATE FUNCTION weak.app() RETURNS bigint LANGUAGE sql STABLE AS
        $$ SELECT (nullif(current_setting('request.jwt.claims', true), '')::jsonb ->> 'app_id')::bigint $$;
    ALTER TABLE weak.entities OWNER TO weak_owner;
    ALTER TABLE weak.entities ENABLE ROW LEVEL SECURITY;
    CREATE POLICY app ON weak.entities USING (app_id = weak.app());
    GRANT ALL ON weak.entities TO overskill_app, overskill_explorer, authenticated, service_role;
    INSERT INTO weak.entities (app_id, id, owner, data, t1) VALUES
        (1, 'e1', 'eve', '{\"mine\": 1}', 'mine'), (2, 'v1', 'vic', '{\"secret\": \"hushhush\"}', 'hushhush');";

/// The same by schemas: one for each app, with a table that nobody guards.
const OWN_SCHEMAS: &str = "
    CREATE SCHEMA weak_1; CREATE SCHEMA weak_2;
    CREATE TABLE weak_1.entities AS SELECT * FROM weak.entities WHERE app_id = 1;
    CREATE TABLE weak_2.entities AS SELECT * FROM weak.entities WHERE app_id = 2;
    ALTER TABLE weak_1.entities OWNER TO weak_owner; ALTER TABLE weak_2.entities OWNER TO weak_owner;
    GRANT USAGE ON SCHEMA weak_1, weak_2 TO PUBLIC;
    GRANT SELECT, INSERT ON weak_1.entities, weak_2.entities TO overskill_app, authenticated;";

/// One attack.
#[must_use = "it is not made before `fails`"]
#[derive(Clone)]
pub struct Attack {
    /// What makes the twin weak, beyond what it is.
    weak: &'static str,
    /// What the real schema is changed by, to be as unlucky; as the owner of the tables.
    unlucky: &'static str,
    /// What a superuser does between the two.
    meanwhile: &'static str,
    role: &'static str,
    role_on_ours: Option<&'static str>,
    /// Statements of the attacker, apart by `;;`. `{t}` is the table, `{claims}` claims for the victim's app, `{v}` its
    /// number.
    on_twin: String,
    on_ours: String,
    goal: Goal,
    /// What the victim does meanwhile, in a transaction that stays open: on the twin, on ours.
    victim: Option<(String, String)>,
    /// Whether the attacker has their own app's context first.
    at_home: bool,
    /// Whether the victim's app has a schema of its own, and what the owner of the tables did before it was made.
    placed: Option<&'static str>,
}

#[derive(Clone)]
enum Goal {
    /// The secret is in rows, errors or notices.
    Secret,
    /// The answers differ for `{x}`: something of the victim, and something that is nobody's.
    Difference(&'static str, &'static str),
    /// The answer holds this.
    Says(&'static str),
    /// A superuser's query finds harm: it gives `true`.
    Harm { on_twin: &'static str, on_ours: &'static str },
}

impl Attack {
    /// To read the secret by the same statements on both.
    pub fn reads(statements: &str) -> Self {
        Self {
            weak: "",
            unlucky: "",
            meanwhile: "",
            role: "overskill_app",
            role_on_ours: None,
            on_twin: statements.to_owned(),
            on_ours: statements.to_owned(),
            goal: Goal::Secret,
            victim: None,
            at_home: true,
            placed: None,
        }
    }

    /// To tell from the answers whether the victim has something.
    pub fn tells(statements: &str, victims: &'static str, nobodys: &'static str) -> Self {
        Self { goal: Goal::Difference(victims, nobodys), ..Self::reads(statements) }
    }

    /// To be told something that shows what the victim does.
    pub fn hears(statements: &str, word: &'static str) -> Self {
        Self { goal: Goal::Says(word), ..Self::reads(statements) }
    }

    /// To change what is the victim's.
    pub fn harms(statements: &str, on_twin: &'static str, on_ours: &'static str) -> Self {
        Self { goal: Goal::Harm { on_twin, on_ours }, ..Self::reads(statements) }
    }

    pub fn twin(mut self, weak: &'static str) -> Self {
        self.weak = weak;
        self
    }

    pub fn unlucky(mut self, sql: &'static str) -> Self {
        self.unlucky = sql;
        self
    }

    pub fn meanwhile(mut self, sql: &'static str) -> Self {
        self.meanwhile = sql;
        self
    }

    /// As the owner of the tables, on both.
    pub fn by_the_owner(mut self) -> Self {
        (self.role, self.role_on_ours) = ("weak_owner", Some("host"));
        self
    }

    pub fn role(mut self, role: &'static str) -> Self {
        self.role = role;
        self
    }

    /// Other statements on the real schema: the same mechanism, by its names.
    pub fn ours(mut self, statements: impl Into<String>) -> Self {
        self.on_ours = statements.into();
        self
    }

    /// Other statements on the twin.
    pub fn on_twin(mut self, statements: &str) -> Self {
        statements.clone_into(&mut self.on_twin);
        self
    }

    /// While the victim has a transaction open in which it did this.
    pub fn while_the_victim(mut self, on_twin: &str, on_ours: &str) -> Self {
        self.victim = Some((on_twin.to_owned(), on_ours.to_owned()));
        self
    }

    /// On a victim whose app was moved into a schema of its own: `{s}`, which is `weak_2` on the twin.
    pub fn on_a_schema(mut self) -> Self {
        self.placed = Some("");
        self
    }

    /// The same, and what the owner of the tables did before the schema was made.
    pub fn on_a_schema_made_after(mut self, sql: &'static str) -> Self {
        self.placed = Some(sql);
        self
    }

    /// Without a context of their own.
    pub fn stranger(mut self) -> Self {
        self.at_home = false;
        self
    }

    /// It succeeds on the twin, and on the real schema it does not.
    pub fn fails(self) {
        Stage::on(async |stage| {
            if let Some(before) = self.placed {
                stage.world.execute(OWN_SCHEMAS);
                stage.world.raw(Way::Direct, "host").await.batch_execute(before).await.unwrap();
                stage.moves_the_victim().await;
            }
            stage.world.execute(self.weak);
            let (done, seen) = self.succeeds(stage, None).await;
            assert!(done, "the attack shows nothing: it fails on the twin too: {seen}");
            stage.world.execute(self.meanwhile);
            let as_owner = stage.world.raw(Way::Direct, "host").await;
            as_owner.batch_execute(&stage.named(self.unlucky, Some(Way::Direct))).await.unwrap();
            for way in Way::ALL {
                let (done, seen) = self.succeeds(stage, Some(way)).await;
                assert!(!done, "the attack succeeds, {way:?}: {seen}");
            }
            stage.the_victim_lost_nothing().await;
        });
    }

    async fn succeeds(&self, stage: &Stage, ours: Option<Way>) -> (bool, String) {
        let meanwhile = match (&self.victim, ours) {
            (None, _) => None,
            (Some((sql, _)), None) => {
                let victim = stage.world.raw(Way::Direct, "overskill_app").await;
                let claims = r#"SELECT set_config('request.jwt.claims', '{"app_id": 2, "sub": "vic"}', true)"#;
                victim.batch_execute(&format!("BEGIN; {claims}; {sql}")).await.unwrap();
                Some((Some(victim), None))
            }
            (Some((_, sql)), Some(way)) => {
                let victim = stage.world.grant("vic", "victim").await;
                let tx = stage.world.pool(way).begin(&victim, &scope("victim")).await.unwrap();
                tx.query(sql, &[]).await.unwrap();
                Some((None, Some(tx)))
            }
        };
        let done = self.strikes(stage, ours).await;
        if let Some((_, Some(tx))) = meanwhile {
            tx.rollback().await.unwrap();
        }
        done
    }

    async fn strikes(&self, stage: &Stage, ours: Option<Way>) -> (bool, String) {
        let statements = stage.named(if ours.is_some() { &self.on_ours } else { &self.on_twin }, ours);
        let strike = async |x: &str| {
            let role = self.role_on_ours.filter(|_| ours.is_some()).unwrap_or(self.role);
            let attacker = Attacker::connect(stage, ours.unwrap_or(Way::Direct), role).await;
            attacker.begin(ours.is_some(), self.at_home, role).await;
            let said = attacker.say(&statements.replace("{x}", x)).await;
            // The attacker's own word in the answer is no difference.
            match x.parse::<u64>() {
                Ok(_) => said.replace(&format!("= {x})"), "= {x})"),
                Err(_) => said.replace(x, "{x}"),
            }
        };
        match &self.goal {
            Goal::Secret => {
                let seen = strike("-").await;
                (seen.contains(SECRET), seen)
            }
            Goal::Difference(victims, nobodys) => {
                let (one, other) = (strike(victims).await, strike(nobodys).await);
                (one != other, format!("{one}\n-- and --\n{other}"))
            }
            Goal::Says(word) => {
                let seen = strike("-").await;
                (seen.contains(word), seen)
            }
            Goal::Harm { on_twin, on_ours } => {
                let seen = strike("-").await;
                let root = stage.world.raw(Way::Direct, "postgres").await;
                let harm = stage.named(if ours.is_some() { on_ours } else { on_twin }, ours);
                (root.query_one(&harm, &[]).await.unwrap().get(0), seen)
            }
        }
    }
}

/// A database with both, and a victim.
pub struct Stage {
    pub world: World,
    one_connection: OnceLock<PgBouncer>,
    /// The victim's `app_id` in the real schema.
    victim: i64,
    /// The victim's own schema, if it has one.
    home: Option<String>,
    /// Everything that databases of one server share, as it was.
    shared: String,
    number: u32,
}

/// Stages of attacks before, which left the server as they found it.
static LEFT: Mutex<Vec<Stage>> = Mutex::new(Vec::new());

impl Stage {
    /// Runs `test` on a stage that nobody was on: a new database, and a new server if the one before is not as it was. A
    /// test that panics takes its server with it.
    pub fn on(test: impl AsyncFnOnce(&mut Self)) {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        runtime.block_on(async {
            let left = LEFT.lock().unwrap_or_else(PoisonError::into_inner).pop();
            let mut stage = match left {
                Some(stage) => stage,
                None => Self::new().await,
            };
            stage.number += 1;
            let database = format!("stage_{}", stage.number);
            let copied = format!("CREATE DATABASE {database} TEMPLATE {DATABASE} OWNER host");
            stage.world.cluster.execute("postgres", &copied).unwrap();
            stage.world.move_to(&database);
            stage.home = None;
            test(&mut stage).await;
            let gone = format!("DROP DATABASE {database} WITH (FORCE)");
            stage.world.cluster.execute("postgres", &gone).unwrap();
            if stage.shared().await == stage.shared {
                LEFT.lock().unwrap_or_else(PoisonError::into_inner).push(stage);
            }
        });
    }

    async fn new() -> Self {
        let world = World::new().await;
        world.execute(TWIN);
        let mut stage =
            Self { world, one_connection: OnceLock::new(), victim: 0, home: None, shared: String::new(), number: 0 };
        stage.victim_writes(Way::Direct, "v1").await;
        let eve = stage.world.grant("eve", "evil").await;
        let pool = stage.world.pool(Way::Direct);
        let sql = "INSERT INTO overskill_data.entities (entity_type, id, data) VALUES ('Todo', 'e1', '{\"mine\": 1}')";
        pool.with_tenant(&eve, &scope("evil"), async |tx| tx.execute(sql, &[]).await).await.unwrap();
        let root = stage.world.raw(Way::Direct, "postgres").await;
        let number = root.query_one("SELECT app_id FROM overskill_guard.apps WHERE app = 'victim'", &[]).await.unwrap();
        stage.victim = number.get(0);
        stage.shared = stage.shared().await;
        stage
    }

    /// A pooler with one connection to the server for everybody.
    pub fn one_connection(&self) -> &PgBouncer {
        self.one_connection.get_or_init(|| PgBouncer::start(&self.world.cluster, &ROLES, 1).unwrap())
    }

    /// Roles, their memberships, settings and rights.
    async fn shared(&self) -> String {
        const SHARED: &str = "SELECT string_agg(it, E'\\n' ORDER BY it) FROM (
            SELECT a::text AS it FROM pg_authid a UNION ALL SELECT m::text FROM pg_auth_members m
            UNION ALL SELECT s::text FROM pg_db_role_setting s UNION ALL SELECT p::text FROM pg_parameter_acl p
            UNION ALL SELECT d.datname || d.datacl::text FROM pg_database d
            UNION ALL SELECT t::text FROM pg_tablespace t UNION ALL SELECT x.gid FROM pg_prepared_xacts x) AS all_of_it";
        let (root, connection) = tokio_postgres::connect(&self.world.cluster.url("postgres"), NoTls).await.unwrap();
        tokio::spawn(connection);
        root.query_one(SHARED, &[]).await.unwrap().get(0)
    }

    /// Into a schema of its own. The copy in the shared tables stays.
    async fn moves_the_victim(&mut self) {
        let system = &self.world.system;
        self.world.mover(Way::Direct).relocate(system, &scope("victim"), &Placement::Schema).await.unwrap();
        let root = self.world.raw(Way::Direct, "postgres").await;
        let home = "SELECT home FROM overskill_guard.apps WHERE app = 'victim'";
        self.home = Some(root.query_one(home, &[]).await.unwrap().get(0));
    }

    /// The victim writes the secret once more, as the library does it.
    pub async fn victim_writes(&self, way: Way, id: &str) {
        let victim = self.world.grant("vic", "victim").await;
        let sql = "INSERT INTO overskill_data.entities (entity_type, id, data) VALUES ('Todo', $1, $2)";
        let data = serde_json::json!({ "secret": SECRET });
        let work =
            async |tx: &overskill_supabase::TenantTx| tx.execute(sql, &[(&id, Type::TEXT), (&data, Type::JSONB)]).await;
        self.world.pool(way).with_tenant(&victim, &scope("victim"), work).await.unwrap();
    }

    fn named(&self, statements: &str, ours: Option<Way>) -> String {
        let (schema, number) = match (ours, &self.home) {
            (Some(_), home) => (home.as_deref().unwrap_or("overskill_data"), self.victim),
            (None, Some(_)) => ("weak_2", 2),
            (None, None) => ("weak", 2),
        };
        statements
            .replace("{t}", &format!("{schema}.entities"))
            .replace("{s}", schema)
            .replace("{claims}", &format!("{{\"app_id\": {number}, \"app_metadata\": {{\"app_id\": {number}}}}}"))
            .replace("{v}", &number.to_string())
    }

    async fn the_victim_lost_nothing(&self) {
        let root = self.world.raw(Way::Direct, "postgres").await;
        let rows = "SELECT count(*) FROM {t} WHERE app_id = $1 AND id = 'v1' \
                    AND data = '{\"secret\": \"hushhush\"}' AND deleted_at IS NULL";
        let rows = self.named(rows, Some(Way::Direct));
        assert_eq!(
            root.query_one(&rows, &[&self.victim]).await.unwrap().get::<_, i64>(0),
            1,
            "the victim's record is there"
        );
    }
}

/// Somebody who can send any statement, as one of the roles: the worst that a hole in our own code could be.
pub struct Attacker {
    client: Client,
    told: Arc<Mutex<String>>,
}

impl Attacker {
    pub async fn connect(stage: &Stage, way: Way, role: &str) -> Self {
        Self::at(&stage.world.url(way, role)).await
    }

    pub async fn at(url: &str) -> Self {
        let (client, mut connection) = tokio_postgres::connect(url, NoTls).await.unwrap();
        let told = Arc::new(Mutex::new(String::new()));
        let ear = told.clone();
        tokio::spawn(async move {
            let mut messages = futures::stream::poll_fn(move |context| connection.poll_message(context));
            while let Some(Ok(message)) = messages.next().await {
                let heard = match message {
                    AsyncMessage::Notice(notice) => notice.message().to_owned(),
                    AsyncMessage::Notification(news) => news.payload().to_owned(),
                    _ => continue,
                };
                ear.lock().unwrap().push_str(&heard);
            }
        });
        Self { client, told }
    }

    /// Begins a transaction, with the context of the attacker's own app.
    pub async fn begin(&self, ours: bool, at_home: bool, role: &str) {
        self.client.batch_execute("BEGIN").await.unwrap();
        let (name, context) = if ours {
            ("overskill.context", Signed::of("eve", "evil").text())
        } else {
            ("request.jwt.claims", r#"{"app_id": 1, "sub": "eve"}"#.to_owned())
        };
        if role == "authenticator" {
            self.client.batch_execute("SELECT set_config('role', 'authenticated', true)").await.unwrap();
        }
        if at_home {
            let set = format!("SELECT set_config('{name}', '{context}', true)");
            self.client.batch_execute(&set).await.unwrap();
        }
    }

    /// Everything that comes back: rows, errors with their details, notices.
    pub async fn say(&self, statements: &str) -> String {
        let mut said = String::new();
        for statement in statements.split(";;") {
            match self.client.simple_query(statement).await {
                Ok(answer) => {
                    for cell in cells(&answer).into_iter().flatten() {
                        said.push_str(cell.as_deref().unwrap_or("null"));
                        said.push('\n');
                    }
                }
                Err(e) => {
                    let told = e.as_db_error().map_or_else(|| e.to_string(), |e| format!("{e:?}"));
                    said.push_str(&told);
                    said.push('\n');
                }
            }
        }
        said + &self.told.lock().unwrap()
    }
}
