//! Connections for tenants: few, for many apps, in turn.

mod turns;

use crate::{
    context::{Context, ContextKeys, Session},
    tx::{Preamble, Server, TenantTx, connection::Connection, fault::BACKEND},
};
use overskill_core::{
    AppId, Clock, Effect, Error, ErrorKind, Ids, Readiness, Result, Right, Scope, SystemClock, SystemIds, TenantGate,
    TenantGrant, timeout,
};
use std::{
    fmt,
    num::NonZeroU32,
    sync::{Arc, Mutex},
    time::Duration,
};
use turns::{Place, Turns};

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
    idle: Mutex<Vec<Connection>>,
}

impl TenantPool {
    /// A pool that connects when it is first used, as the role that `server` names: `overskill_app`, or
    /// `overskill_explorer` with [`PoolOptions::right`] set to `Develop`.
    pub fn new(server: Server, gate: TenantGate, keys: ContextKeys, options: PoolOptions) -> Self {
        let turns = Turns::new(options.connections.get());
        Self(Arc::new(Inner { server, gate, keys, options, turns, idle: Mutex::default() }))
    }

    /// The gate whose grants it takes.
    pub fn gate(&self) -> &TenantGate {
        &self.0.gate
    }

    /// Whether the server can be reached and its role is as harmless as it has to be.
    pub async fn check(&self) -> Result<Readiness> {
        let connection = self.connected().await?;
        let problems = crate::schema::audit::role(&connection.client).await?;
        self.keep(connection);
        let mut readiness = Readiness::ready(BACKEND);
        for problem in problems {
            readiness = readiness.lacks(problem, "install the schema again, and connect as one of its roles");
        }
        Ok(readiness)
    }

    /// Runs `work` in a transaction of its own, and commits it if `work` succeeds.
    ///
    /// `Denied` or `Unauthenticated` if the grant does not allow it here and now; `RateLimited` or `Unavailable` if the
    /// app's plan or the pool has no room.
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
        let Inner { gate, keys, options, turns, .. } = &*self.0;
        let allowed = || gate.permit(&grant.clone().into(), scope, options.right);
        allowed()?;
        let plan = (options.plans)(&scope.app);
        let mut place = turns.take(&scope.app, plan, &*options.clock).await?;
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
        if let Some(connection) = self.idle() {
            let held = Held { connection: Some(connection), pool: self.clone(), place };
            match TenantTx::begin(held, keys, options.clock.clone(), preamble).await {
                // The server, or what lies between, closed what was idle: the others too, as like as not.
                Err(e) if e.kind() == ErrorKind::Unavailable && e.effect() == Effect::None => self.close_idle(),
                begun => return begun,
            }
            place = turns.take(&scope.app, plan, &*options.clock).await?;
        }
        let held = Held { connection: Some(self.connected().await?), pool: self.clone(), place };
        TenantTx::begin(held, keys, options.clock.clone(), preamble).await
    }

    fn idle(&self) -> Option<Connection> {
        let mut idle = self.0.idle.lock().expect("no holder of the connections panics");
        idle.retain(|connection| !connection.client.is_closed());
        idle.pop()
    }

    fn keep(&self, connection: Connection) {
        if !connection.client.is_closed() {
            self.0.idle.lock().expect("no holder of the connections panics").push(connection);
        }
    }

    async fn connected(&self) -> Result<Connection> {
        let Inner { server, options, .. } = &*self.0;
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

/// A connection with its place in the pool. Dropped, it closes the connection.
pub(crate) struct Held {
    connection: Option<Connection>,
    pool: TenantPool,
    place: Place,
}

impl Held {
    pub(crate) fn connection(&self) -> &Connection {
        self.connection.as_ref().expect("it is there until it is given back")
    }

    /// Gives back a connection that has no transaction open.
    pub(crate) fn give_back(mut self) {
        if let Some(connection) = self.connection.take() {
            self.pool.keep(connection);
        }
    }
}

impl fmt::Debug for Held {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Held").field("place", &self.place).finish_non_exhaustive()
    }
}
