//! Connections for tenants: few, for many apps, in turn.

mod routes;
mod turns;

use crate::{
    context::{Context, ContextKeys, Session},
    placement::{ProjectName, Projects},
    tx::{At, Begun, Preamble, Server, TenantTx, connection::Connection, fault::BACKEND},
};
use overskill_core::{
    AppId, Clock, Effect, Error, ErrorKind, Ids, Readiness, Result, Right, Scope, SystemClock, SystemIds, TenantGate,
    TenantGrant, timeout,
};
use routes::{Route, Routes};
use std::{
    fmt,
    num::NonZeroU32,
    sync::{Arc, Mutex},
    time::Duration,
};
pub(crate) use turns::Place;
use turns::Turns;

/// What an app may take of a pool.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Plan {
    name: &'static str,
    connections_per_app: NonZeroU32,
    connections: NonZeroU32,
    waiting_per_app: u32,
    wait: Duration,
    statement_timeout: Duration,
}

impl Plan {
    /// Two connections for an app, no limit for all of the plan together but the pool's own, 32 calls of an app waiting for
    /// at most 5 seconds, and 8 seconds for a statement.
    pub const fn new(name: &'static str) -> Self {
        Self {
            name,
            connections_per_app: NonZeroU32::new(2).expect("not zero"),
            connections: NonZeroU32::MAX,
            waiting_per_app: 32,
            wait: Duration::from_secs(5),
            statement_timeout: Duration::from_secs(8),
        }
    }

    /// Sets how many transactions of an app may run at a time.
    pub const fn connections_per_app(mut self, connections: NonZeroU32) -> Self {
        self.connections_per_app = connections;
        self
    }

    /// Sets how many transactions of all apps of this plan may run at a time, so that they leave room for others.
    pub const fn connections(mut self, connections: NonZeroU32) -> Self {
        self.connections = connections;
        self
    }

    /// Sets how many calls of an app may wait; more are `RateLimited`.
    pub const fn waiting_per_app(mut self, calls: u32) -> Self {
        self.waiting_per_app = calls;
        self
    }

    /// Sets how long a call may wait; then it is `Unavailable`.
    pub const fn wait(mut self, wait: Duration) -> Self {
        self.wait = wait;
        self
    }

    /// Sets how long the server lets a statement run.
    pub const fn statement_timeout(mut self, timeout: Duration) -> Self {
        self.statement_timeout = timeout;
        self
    }
}

/// How a [`TenantPool`] is to be.
#[derive(Clone)]
pub struct PoolOptions {
    connections: NonZeroU32,
    connect_timeout: Duration,
    transaction: Duration,
    plans: Arc<dyn Fn(&AppId) -> Plan + Send + Sync>,
    right: Right,
    projects: Option<Arc<dyn Projects>>,
    route_age: Duration,
    clock: Arc<dyn Clock>,
    ids: Arc<dyn Ids>,
}

impl PoolOptions {
    /// Ten connections, each app on the same plan, ten seconds to connect and a minute for a transaction.
    pub fn new() -> Self {
        Self {
            connections: NonZeroU32::new(10).expect("not zero"),
            connect_timeout: Duration::from_secs(10),
            transaction: Duration::from_mins(1),
            plans: Arc::new(|_| Plan::new("default")),
            right: Right::Data,
            projects: None,
            route_age: Duration::from_secs(30),
            clock: Arc::new(SystemClock),
            ids: Arc::new(SystemIds),
        }
    }

    /// Sets how many connections may be open at a time.
    pub fn connections(mut self, connections: NonZeroU32) -> Self {
        self.connections = connections;
        self
    }

    /// Sets how long connecting may take.
    pub fn connect_timeout(mut self, timeout: Duration) -> Self {
        self.connect_timeout = timeout;
        self
    }

    /// Sets how long a transaction may take until its commit is refused. Its context outlives it by a minute, which is as
    /// much as the clocks of this machine and the server may differ.
    pub fn transaction(mut self, limit: Duration) -> Self {
        self.transaction = limit;
        self
    }

    /// Says which plan an app is on. It is asked for each transaction and must not wait.
    pub fn plans(mut self, plan_of: impl Fn(&AppId) -> Plan + Send + Sync + 'static) -> Self {
        self.plans = Arc::new(plan_of);
        self
    }

    /// Sets the right that a grant needs here: `Data`, unless the pool's role is one for developers.
    pub fn right(mut self, right: Right) -> Self {
        self.right = right;
        self
    }

    /// Sets who knows the projects that apps were [moved](crate::Mover) to; without it, those apps are `Unsupported` here.
    pub fn projects(mut self, projects: impl Projects) -> Self {
        self.projects = Some(Arc::new(projects));
        self
    }

    /// Sets for how long it may be remembered that an app is in a project of its own: 30 seconds, unless said otherwise.
    ///
    /// What is remembered only saves a question. The project's database refuses an app that has been moved away, and the
    /// number of its last move is compared at each use, so an old answer leads to another question. A move out of a project
    /// tells it so right after the cut-over: until then, and for as long as this time if the project cannot be told, a pool
    /// that remembers may still read the rows that the app left there. It cannot write them: writes there stay paused.
    /// For apps in the platform's own database nothing is remembered at all. What the platform alone decides, such as that an
    /// app is [suspended](crate::Schema::suspend), holds within this time for an app in a project of its own.
    pub fn route_age(mut self, age: Duration) -> Self {
        self.route_age = age;
        self
    }

    /// Sets where time comes from. The database compares contexts with its own clock.
    pub fn clock(mut self, clock: impl Clock) -> Self {
        self.clock = Arc::new(clock);
        self
    }

    /// Sets where the names of sessions come from.
    pub fn ids(mut self, ids: impl Ids) -> Self {
        self.ids = Arc::new(ids);
        self
    }
}

impl Default for PoolOptions {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for PoolOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PoolOptions")
            .field("connections", &self.connections)
            .field("connect_timeout", &self.connect_timeout)
            .field("transaction", &self.transaction)
            .field("right", &self.right)
            .finish_non_exhaustive()
    }
}

/// Connections as one role that tenants' transactions run in. Cheap to clone.
///
/// ```no_run
/// # async fn example(gate: overskill_core::TenantGate, grant: overskill_core::TenantGrant, keys: overskill_supabase::ContextKeys) -> overskill_core::Result<()> {
/// use overskill_core::{Environment, Scope, Secret};
/// use overskill_supabase::{PoolOptions, Server, TenantPool};
///
/// let server = Server::parse(&Secret::new("postgres://overskill_app:…@db.example.com:6543/postgres"))?;
/// let pool = TenantPool::new(server, gate, keys, PoolOptions::new());
/// let scope = Scope::new(grant.app().clone(), Environment::Production);
/// let records: i64 = pool
///     .with_tenant(&grant, &scope, async |tx| {
///         let row = tx.query_opt("SELECT count(*) FROM overskill_data.entities", &[]).await?;
///         Ok(row.map_or(0, |row| row.get(0)))
///     })
///     .await?;
/// # Ok(())
/// # }
/// ```
///
/// Only grants of its own gate are taken, and each is checked at each use.
#[derive(Clone, Debug)]
pub struct TenantPool(Arc<Inner>);

struct Inner {
    server: Server,
    gate: TenantGate,
    keys: ContextKeys,
    options: PoolOptions,
    turns: Turns,
    routes: Routes,
    /// Each with the project it leads to; `None` is the platform.
    idle: Mutex<Vec<(Option<ProjectName>, Connection)>>,
}

impl TenantPool {
    /// A pool that connects when it is first used, as the role that `server` names: `overskill_app`, or
    /// `overskill_explorer` with [`PoolOptions::right`] set to `Develop`.
    pub fn new(server: Server, gate: TenantGate, keys: ContextKeys, options: PoolOptions) -> Self {
        let turns = Turns::new(options.connections.get());
        Self(Arc::new(Inner { server, gate, keys, options, turns, routes: Routes::default(), idle: Mutex::default() }))
    }

    /// The gate whose grants it takes.
    pub fn gate(&self) -> &TenantGate {
        &self.0.gate
    }

    /// The same, and who knows the projects that apps were moved to.
    pub(crate) fn with_projects(&self, projects: Arc<dyn Projects>) -> Self {
        let Inner { server, gate, keys, options, .. } = &*self.0;
        let options = PoolOptions { projects: Some(projects), ..options.clone() };
        Self::new(server.clone(), gate.clone(), keys.clone(), options)
    }

    /// Whether the server can be reached and its role is as harmless as it has to be.
    pub async fn check(&self) -> Result<Readiness> {
        let connection = self.connected(&self.0.server).await?;
        let problems = crate::schema::audit::role(&connection.client).await?;
        self.keep(None, connection);
        let mut readiness = Readiness::ready(BACKEND);
        for problem in problems {
            readiness = readiness.lacks(problem, "install the schema again, and connect as one of its roles");
        }
        Ok(readiness)
    }

    /// Runs `work` in a transaction of its own, and commits it if `work` succeeds.
    ///
    /// `Denied` or `Unauthenticated` if the grant does not allow it here and now; `RateLimited` or `Unavailable` if the
    /// app's plan or the pool has no room. While the app is being [moved](crate::Mover), a statement that writes is
    /// `Unavailable`, and so is any statement of a transaction that began before the new place counted and goes on after:
    /// nothing was done, and it may be tried again.
    pub async fn with_tenant<T>(
        &self,
        grant: &TenantGrant,
        scope: &Scope,
        work: impl AsyncFnOnce(&TenantTx) -> Result<T>,
    ) -> Result<T> {
        let tx = self.begin(grant, scope).await?;
        match work(&tx).await {
            Ok(done) => tx.commit().await.map(|()| done),
            Err(e) => {
                drop(tx.rollback().await); // the first error is the one to tell
                Err(e)
            }
        }
    }

    /// Begins a transaction that may write.
    pub async fn begin(&self, grant: &TenantGrant, scope: &Scope) -> Result<TenantTx> {
        self.begin_as(grant, scope, false).await
    }

    /// Begins a transaction that the server lets write nothing.
    pub async fn begin_read_only(&self, grant: &TenantGrant, scope: &Scope) -> Result<TenantTx> {
        self.begin_as(grant, scope, true).await
    }

    async fn begin_as(&self, grant: &TenantGrant, scope: &Scope, read_only: bool) -> Result<TenantTx> {
        let Inner { gate, options, turns, routes, .. } = &*self.0;
        let allowed = || gate.permit(&grant.clone().into(), scope, options.right);
        allowed()?;
        let plan = (options.plans)(&scope.app);
        let mut place = turns.take(&scope.app, plan, &*options.clock).await?;
        let mut refused = None;
        for _ in 0..4 {
            // It may have waited for longer than the grant lasts.
            allowed()?;
            let now = options.clock.now();
            let deadline = now.plus(options.transaction).min(grant.expires_at());
            let context = Context {
                scope,
                rights: grant.rights(),
                subject: grant.subject(),
                session: Session::generate(&*options.ids),
                expires_at: deadline.plus(CLOCKS_DIFFER),
            };
            let preamble = Preamble { context, read_only, statement_timeout: plan.statement_timeout, deadline };
            let route = routes.known(scope, options.clock.monotonic());
            let (named, project);
            (place, named, project) = match self.begin_at(route.as_deref(), place, plan, preamble).await? {
                Begun::Here(tx) => return Ok(*tx),
                Begun::Elsewhere { place, project: Some((name, generation)) } => (place, Some(name), generation),
                Begun::Elsewhere { place, project: None } => (place, None, 0),
            };
            match (named, route) {
                (Some(name), _) if refused.as_ref() == Some(&(name.clone(), project)) => {
                    let message = format!(
                        "the database of project `{name}` does not hold the data of this app that move {project} brought \
                         there: if it was restored from a backup, restore a newer one"
                    );
                    return Err(unavailable(message, scope));
                }
                (Some(name), _) => routes.learn(scope, self.route(&name, project).await?),
                (None, Some(route)) => {
                    routes.forget(scope);
                    refused = Some((route.name.to_string(), route.generation));
                }
                (None, None) => {
                    let message =
                        "the database says neither where this app's data is nor that it has none: audit the schema";
                    return Err(unavailable(message, scope));
                }
            }
        }
        Err(unavailable("the app is being moved: try again", scope))
    }

    /// Begins in the project that `route` leads to, or in the platform's database.
    async fn begin_at(
        &self,
        route: Option<&Route>,
        mut place: Place,
        plan: Plan,
        preamble: Preamble<'_>,
    ) -> Result<Begun> {
        let Inner { server, keys, options, turns, .. } = &*self.0;
        let (server, keys, name, at) = match route {
            None => (server, keys, None, At::Platform),
            Some(Route { server, keys, name, generation, .. }) => {
                (server, keys, Some(name.clone()), At::Project { generation: *generation })
            }
        };
        let clock = || options.clock.clone();
        let held =
            |connection, place| Held { connection: Some(connection), name: name.clone(), pool: self.clone(), place };
        if let Some(connection) = self.idle(name.as_ref()) {
            match TenantTx::begin(held(connection, place), keys, clock(), preamble, at).await {
                // The server, or what lies between, closed what was idle: the others too, as like as not.
                Err(e) if e.kind() == ErrorKind::Unavailable && e.effect() == Effect::None => {
                    self.close_idle_of(name.as_ref());
                }
                begun => return begun,
            }
            place = turns.take(&preamble.context.scope.app, plan, &*options.clock).await?;
        }
        let connection = self.connected(server).await?;
        TenantTx::begin(held(connection, place), keys, clock(), preamble, at).await
    }

    /// How a project is reached, as this pool's role.
    async fn route(&self, name: &str, generation: i64) -> Result<Route> {
        let Inner { server, options, .. } = &*self.0;
        let refuse = |message: String| {
            Error::new(ErrorKind::Unsupported, message)
                .effect_as(Effect::None)
                .at(BACKEND, "begin")
                .with("project", name)
        };
        let Some(projects) = &options.projects else {
            return Err(refuse(format!(
                "the app's data is in project `{name}`, and nobody told this pool of projects: set `PoolOptions::projects`"
            )));
        };
        let name = ProjectName::parse(name)?;
        let project = projects.project(&name).await?;
        let server = match server.role_name() {
            "overskill_explorer" => project.explorer,
            _ => project.app,
        };
        let until = options.clock.monotonic() + options.route_age;
        Ok(Route { name, generation, server, keys: project.keys, until })
    }

    fn idle(&self, name: Option<&ProjectName>) -> Option<Connection> {
        let mut idle = self.0.idle.lock().expect("no holder of the connections panics");
        idle.retain(|(_, connection)| !connection.client.is_closed());
        let last = idle.iter().rposition(|(of, _)| of.as_ref() == name)?;
        Some(idle.remove(last).1)
    }

    /// Keeps as many as may be open at a time, whichever databases they lead to.
    fn keep(&self, name: Option<ProjectName>, connection: Connection) {
        if !connection.client.is_closed() {
            let mut idle = self.0.idle.lock().expect("no holder of the connections panics");
            idle.push((name, connection));
            if idle.len() > self.0.options.connections.get() as usize {
                idle.remove(0);
            }
        }
    }

    async fn connected(&self, server: &Server) -> Result<Connection> {
        let options = &self.0.options;
        let late = |e: Error| match e.kind() {
            ErrorKind::Timeout => Error::new(ErrorKind::Unavailable, "the database took too long to connect")
                .effect_as(Effect::None)
                .at(BACKEND, "connect"),
            _ => e,
        };
        let connecting = async {
            let connection = server.connect().await?;
            crate::schema::versions::refuse_known_holes(&connection.client).await?;
            Ok(connection)
        };
        timeout(&*options.clock, options.connect_timeout, connecting).await.map_err(late)
    }

    fn close_idle_of(&self, name: Option<&ProjectName>) {
        let mut idle = self.0.idle.lock().expect("no holder of the connections panics");
        idle.retain(|(of, _)| of.as_ref() != name);
    }

    /// Closes the connections that nobody uses.
    pub fn close_idle(&self) {
        self.0.idle.lock().expect("no holder of the connections panics").clear();
    }
}

/// As much as the clocks of this machine and of the server may differ.
const CLOCKS_DIFFER: Duration = Duration::from_mins(1);

impl fmt::Debug for Inner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TenantPool")
            .field("server", &self.server)
            .field("options", &self.options)
            .finish_non_exhaustive()
    }
}

fn unavailable(message: impl Into<std::borrow::Cow<'static, str>>, scope: &Scope) -> Error {
    Error::new(ErrorKind::Unavailable, message).effect_as(Effect::None).at(BACKEND, "begin").with("scope", scope)
}

/// A connection with its place in the pool. Dropped, it closes the connection.
pub(crate) struct Held {
    connection: Option<Connection>,
    name: Option<ProjectName>,
    pool: TenantPool,
    place: Place,
}

impl Held {
    pub(crate) fn connection(&self) -> &Connection {
        self.connection.as_ref().expect("it is there until it is given back")
    }

    /// Whether it is for statements that developers write.
    pub(crate) fn is_developers(&self) -> bool {
        self.pool.0.options.right == Right::Develop
    }

    /// Gives back a connection that has no transaction open.
    pub(crate) fn give_back(self) -> Place {
        let Self { connection, name, pool, place } = self;
        if let Some(connection) = connection {
            pool.keep(name, connection);
        }
        place
    }
}

impl fmt::Debug for Held {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Held").field("place", &self.place).finish_non_exhaustive()
    }
}
