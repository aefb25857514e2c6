//! Somebody who works on a few apps, at random.

use crate::{
    model::{Breach, Held, IDS, KINDS, Key, Model, wrong},
    support::{
        DATABASE, Way, World, key,
        places::{ACME, acme},
        scope,
    },
};
use overskill_core::{
    AccessToken, Claims, Clock as _, IdsExt as _, Right, Rights, Scope, SeededIds, SubjectId, SystemClock, TenantGrant,
    TenantId, memory::MemoryAudit,
};
use overskill_supabase::{
    Access, ContextKeys, EntityApi, Explorer, ExplorerLimits, Mover, Placement, Plan, PoolOptions, ProjectList,
    TenantPool, TenantTx,
};
use std::{
    collections::BTreeMap,
    num::NonZeroU32,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

/// What everybody works with, directly and behind a pooler.
pub struct Field {
    pub world: Mutex<Option<World>>,
    pub pools: [TenantPool; 2],
    pub apis: [EntityApi; 2],
    pub explorers: [Explorer; 2],
    mover: Mover,
    grants: Grants,
}

/// What makes tokens and grants.
struct Grants {
    tokens: overskill_core::LocalTokens,
    gate: overskill_core::TenantGate,
    system: overskill_core::SystemGrant,
}

impl Field {
    pub async fn new(world: World) -> Self {
        let keys = || ContextKeys::new(key("acme", 21));
        // Moves go to sessions of the server itself, as they should.
        let projects = world.projects(Way::Direct).await;
        let projects = Way::ALL.map(|way| match way {
            Way::Direct => projects.clone(),
            Way::Pooled => ProjectList::new().with(acme(), world.project_as(way, ACME, keys())),
        });
        Self::over(world, &projects)
    }

    /// A world whose apps stay where they are.
    pub fn without_projects(world: World) -> Self {
        Self::over(world, &[ProjectList::new(), ProjectList::new()])
    }

    fn over(world: World, projects: &[ProjectList; 2]) -> Self {
        let many = NonZeroU32::new(8).unwrap();
        let plan = Plan::new("test").connections_per_app(many).wait(Duration::from_mins(5));
        let plan = plan.statement_timeout(Duration::from_mins(2));
        let pools = [0, 1].map(|at| {
            let options = PoolOptions::new().plans(move |_| plan).projects(projects[at].clone());
            world.pool_with(Way::ALL[at], "overskill_app", options)
        });
        let explorers = [0, 1].map(|at| {
            let server = crate::support::server(&world.url(Way::ALL[at], "overskill_explorer"));
            let limits = ExplorerLimits::new().timeout(Duration::from_mins(2)).concurrency(many, many);
            let audit = Arc::new(MemoryAudit::new());
            let explorer = Explorer::new(server, world.gate.clone(), world.keys.clone(), audit, limits).unwrap();
            explorer.projects(projects[at].clone())
        });
        let apis = [0, 1].map(|at| EntityApi::new(pools[at].clone()));
        let mover = world.mover(Way::Direct).projects(projects[0].clone());
        let grants = Grants { tokens: world.tokens.clone(), gate: world.gate.clone(), system: world.system.clone() };
        assert_eq!(DATABASE, "tenants");
        Self { world: Mutex::new(Some(world)), pools, apis, explorers, mover, grants }
    }

    async fn person(&self, subject: &str, app: &str, rights: Rights) -> Person {
        let now = SystemClock.now();
        let subject = SubjectId::parse(subject).unwrap();
        let tenant = TenantId::of_app(scope(app).app);
        let claims = Claims::new(subject.clone(), tenant.clone(), rights, now.plus(Duration::from_hours(6)));
        let token = self.grants.tokens.mint(&claims, now).unwrap();
        let grant = self.grants.gate.admit(&token, &tenant).await.unwrap();
        let name = (subject != SubjectId::visitor()).then(|| subject.to_string());
        Person { name, subject: subject.to_string(), grant, token }
    }
}

/// A subject of an app.
#[derive(Clone)]
pub struct Person {
    /// Nobody's, for a visitor.
    pub name: Option<String>,
    pub subject: String,
    pub grant: TenantGrant,
    pub token: AccessToken,
}

pub struct App {
    pub name: String,
    pub scope: Scope,
    pub model: Model,
    pub people: Vec<Person>,
    pub developer: TenantGrant,
    at: Placement,
    left_behind: bool,
}

/// How often each way is taken, of their sum.
#[derive(Clone, Copy)]
pub struct Mix {
    pub transactions: usize,
    pub calls: usize,
    pub queries: usize,
    pub refusals: usize,
    /// Of apps, from one placement to another; and of who may use a kind.
    pub moves: usize,
    pub redefinitions: usize,
}

pub struct Worker {
    pub field: Arc<Field>,
    pub apps: Vec<App>,
    pub done: usize,
    pub counts: BTreeMap<&'static str, usize>,
    random: SeededIds,
    mix: Mix,
    last: AtomicU64,
}

impl Worker {
    pub async fn new(field: Arc<Field>, n: usize, seed: u64, mix: Mix) -> Self {
        let mut apps = Vec::new();
        for m in 0..3 {
            let name = format!("app{n}x{m}");
            let mut people = Vec::new();
            for subject in ["ada", "bob", "cyd", SubjectId::visitor().as_str()] {
                people.push(field.person(subject, &name, Rights::of([Right::Data])).await);
            }
            let developer = field.person("dev", &name, Rights::ALL).await.grant;
            let (scope, model, at) = (scope(&name), Model::default(), Placement::Shared);
            apps.push(App { name, scope, model, people, developer, at, left_behind: false });
        }
        let random = SeededIds::new(seed.wrapping_mul(31).wrapping_add(n as u64));
        let last = AtomicU64::new(0);
        let mut worker = Self { field, apps, done: 0, counts: BTreeMap::new(), random, mix, last };
        for at in 0..worker.apps.len() {
            for (kind, access) in KINDS.into_iter().zip(0..) {
                worker.define(at, kind, access).await.unwrap_or_else(|e| panic!("{e}"));
            }
        }
        worker
    }

    pub fn random_below(&self, limit: u64) -> u64 {
        self.random.random_u64() % limit
    }

    pub fn below(&self, limit: usize) -> usize {
        usize::try_from(self.random_below(limit as u64)).unwrap()
    }

    /// Greater than any before, over all apps of this worker.
    pub fn number(&self) -> u64 {
        self.last.fetch_add(1, Ordering::Relaxed)
    }

    pub fn place(&self) -> u64 {
        self.number()
    }

    pub fn key(&self) -> Key {
        (KINDS[self.below(3)], format!("r{}", self.random_below(IDS)))
    }

    pub fn count(&mut self, what: &'static str, n: usize) {
        *self.counts.entry(what).or_insert(0) += n;
    }

    /// One turn: one way of acting, on one app.
    pub async fn step(&mut self) -> Held {
        let at = self.below(self.apps.len());
        let Mix { transactions, calls, queries, refusals, moves, redefinitions } = self.mix;
        let mut turn = self.below(transactions + calls + queries + refusals + moves + redefinitions);
        let mut is = |share: usize| {
            let it = turn < share;
            turn = turn.wrapping_sub(share);
            it
        };
        if is(transactions) {
            self.in_a_transaction(at).await
        } else if is(calls) {
            self.through_the_api(at).await
        } else if is(queries) {
            self.explored(at).await
        } else if is(refusals) {
            self.refused(at).await
        } else if is(moves) {
            self.moves(at).await
        } else {
            let (kind, access) = (KINDS[self.below(3)], i16::try_from(self.below(3)).unwrap());
            self.define(at, kind, access).await
        }
    }

    async fn define(&mut self, at: usize, kind: &'static str, access: i16) -> Held {
        let who = [Access::Owner, Access::OwnerWrites, Access::Everybody][usize::try_from(access).unwrap()];
        let App { model, scope, developer, .. } = &mut self.apps[at];
        let work = async |tx: &TenantTx| tx.define(kind, who, &[("t1", "of"), ("n1", "k")]).await;
        self.field.pools[0].with_tenant(developer, scope, work).await.map_err(|e| wrong("define", e))?;
        model.access.insert(kind, access);
        self.count("redefined", 1);
        self.done += 1;
        Ok(())
    }

    /// To another placement; what stays behind is dropped before the next move, if not at once.
    async fn moves(&mut self, at: usize) -> Held {
        let (to, at_once) = (self.below(2), self.below(2) == 0);
        let (mover, system) = (&self.field.mover, &self.field.grants.system);
        let App { scope, at: place, left_behind, .. } = &mut self.apps[at];
        let mut places = vec![Placement::Shared, Placement::Schema, Placement::OwnProject(acme())];
        places.retain(|it| it != place);
        let to = places.remove(to);
        if std::mem::take(left_behind) {
            mover.drop_old(system, scope).await.map_err(|e| wrong("dropping", e))?;
        }
        mover.relocate(system, scope, &to).await.map_err(|e| wrong("a move", e))?;
        if at_once {
            mover.drop_old(system, scope).await.map_err(|e| wrong("dropping", e))?;
        }
        (*place, *left_behind) = (to, !at_once);
        self.count("moved", 1);
        self.done += 1;
        Ok(())
    }
}

impl Breach {
    pub fn is_foreign(&self) -> bool {
        matches!(self, Self::Foreign(_))
    }

    pub fn is_lost(&self) -> bool {
        matches!(self, Self::Lost(_))
    }
}
