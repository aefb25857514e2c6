//! What a Worker of the platform is made of: its modules, and what it wants to be bound to.

use overskill_core::Environment;

/// A Worker that `install` uploads to the account.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct WorkerBundle {
    /// The name of the module that is started.
    pub(crate) main: &'static str,
    /// Every module, the main one among them.
    pub(crate) modules: Vec<WorkerModule>,
    /// Its Durable Object classes, in the order their migrations came.
    pub(crate) durable_objects: Vec<DurableObject>,
    /// Grows with every change of the modules that matters.
    pub(crate) version: u32,
    /// The first day whose behaviour of the runtime it expects: `2026-11-01`.
    pub(crate) compatibility_date: &'static str,
    /// Behaviours it asks for besides.
    pub(crate) compatibility_flags: &'static [&'static str],
    /// The names under which it finds what it needs.
    pub(crate) bindings: BindingNames,
}

/// One module.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct WorkerModule {
    /// As others import it: `dispatch.js`.
    pub(crate) name: &'static str,
    /// `application/javascript+module` for an ES module.
    pub(crate) content_type: &'static str,
    /// Its text.
    pub(crate) text: &'static str,
}

/// A Durable Object class of the Worker; all keep their data in SQLite.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct DurableObject {
    /// The binding's name in `env`.
    pub(crate) binding: &'static str,
    /// The exported class.
    pub(crate) class: &'static str,
    /// The migration that made it, such as `v1`. Migrations are in the order of the classes.
    pub(crate) migration: &'static str,
}

/// Names in the Worker's `env`. A name that is empty is not bound.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct BindingNames {
    /// The dispatch namespace of an environment.
    pub(crate) namespace: fn(Environment) -> &'static str,
    /// The KV namespace with the files of an environment.
    pub(crate) files: fn(Environment) -> &'static str,
    /// The R2 bucket for larger assets.
    pub(crate) bucket: &'static str,
    /// Text: the key that signs what the platform writes through the ingest route.
    pub(crate) ingest_key: &'static str,
    /// Text: the key that signs app tokens for `/api/*`.
    pub(crate) token_key: &'static str,
    /// Text: where `/api/*` goes.
    pub(crate) upstream: &'static str,
    /// JSON: the domains that apps are served under, as an array of texts.
    pub(crate) domains: &'static str,
    /// JSON: limits by plan, as the host gave them.
    pub(crate) plans: &'static str,
    /// Text: the [version](WorkerBundle::version).
    pub(crate) version: &'static str,
}
