//! Which apps are in projects of their own, for as long as it may be remembered.

use crate::{context::ContextKeys, placement::ProjectName, tx::Server};
use overskill_core::Scope;
use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

/// As many are remembered; what is forgotten is asked again.
const MOST: usize = 10_000;

/// How an app in a project of its own is reached.
pub(super) struct Route {
    pub(super) name: ProjectName,
    /// The number of the move that brought it there.
    pub(super) generation: i64,
    pub(super) server: Server,
    pub(super) keys: ContextKeys,
    /// Until when it may be used, by the monotonic clock.
    pub(super) until: Duration,
}

#[derive(Default)]
pub(super) struct Routes(Mutex<HashMap<Scope, Arc<Route>>>);

impl Routes {
    pub(super) fn known(&self, scope: &Scope, now: Duration) -> Option<Arc<Route>> {
        self.lock().get(scope).filter(|route| now < route.until).cloned()
    }

    pub(super) fn learn(&self, scope: &Scope, route: Route) {
        let mut routes = self.lock();
        if routes.len() >= MOST {
            routes.clear();
        }
        routes.insert(scope.clone(), Arc::new(route));
    }

    pub(super) fn forget(&self, scope: &Scope) {
        self.lock().remove(scope);
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Scope, Arc<Route>>> {
        self.0.lock().expect("no holder of the routes panics")
    }
}
