//! The seams: the traits that backends implement, and the types that cross them.
//!
//! Every seam is object-safe (`async-trait`), `Debug + Send + Sync + 'static`, and implemented by `Arc<T>`, `Box<T>` and
//! [`Around<T, P>`](crate::Around) for every `T` that implements it. Each has `check()`, which a platform asks before it
//! starts. A seam gains a method only with a default of `Unsupported`, or in a major version.
//!
//! Calls that change something take what makes them safe to repeat: a position, a fence, an id.

mod apps;
mod audit;
mod bundles;
mod deployments;
mod env;
mod files;
mod jobs;
mod preview;
mod progress;
mod routes;
mod services;
mod target;
mod tenant;

pub use apps::*;
pub use audit::*;
pub use bundles::*;
pub use deployments::*;
pub use env::*;
pub use files::*;
pub use jobs::*;
pub use preview::*;
pub use progress::*;
pub use routes::*;
pub use services::*;
pub use target::*;
pub use tenant::*;

use std::borrow::Cow;

/// What a backend says of itself before it is used.
///
/// A backend that works answers [`ready`](Self::ready); one that lacks something names it, and what to do about it, with
/// [`lacks`](Self::lacks). A platform gathers these into one report.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Readiness {
    backend: Cow<'static, str>,
    problems: Vec<Problem>,
}

/// Something a backend lacks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// What is missing or wrong.
    pub what: String,
    /// What to do about it.
    pub remedy: String,
}

impl Readiness {
    /// `backend` lacks nothing.
    pub fn ready(backend: impl Into<Cow<'static, str>>) -> Self {
        Self { backend: backend.into(), problems: Vec::new() }
    }

    /// Adds something that is missing, and what to do about it.
    pub fn lacks(mut self, what: impl Into<String>, remedy: impl Into<String>) -> Self {
        self.problems.push(Problem { what: what.into(), remedy: remedy.into() });
        self
    }

    /// The backend that answered.
    pub fn backend(&self) -> &str {
        &self.backend
    }

    /// Whether it lacks nothing.
    pub fn is_ready(&self) -> bool {
        self.problems.is_empty()
    }

    /// What it lacks.
    pub fn problems(&self) -> &[Problem] {
        &self.problems
    }
}

/// One page of a listing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page<T, K> {
    /// The entries, in the listing's order.
    pub items: Vec<T>,
    /// Where the next page begins: pass it as `after`. `None` at the end.
    pub next: Option<K>,
}

impl<T, K> Page<T, K> {
    /// Cuts a page of `limit` entries out of `limit + 1` that were asked for; `key` names an entry.
    pub fn cut(mut items: Vec<T>, limit: usize, key: impl Fn(&T) -> K) -> Self {
        let more = items.len() > limit;
        items.truncate(limit);
        let next = items.last().filter(|_| more).map(key);
        Self { items, next }
    }
}

/// Whether a method may be called again after a failure that may have had its effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Repeat {
    /// It only reads, or a second call does no more than one.
    Safe,
    /// A second call could do it twice: only after a failure without effect.
    Unsafe,
}

/// One method of one seam, as wrappers, metrics and faults name it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Operation {
    /// The seam, such as `files`.
    pub seam: &'static str,
    /// The method, such as `apply`.
    pub name: &'static str,
    /// Whether it may be called again after a failure that may have had its effect.
    pub repeat: Repeat,
}

/// Implements a seam for `Arc<T>`, `Box<T>` and `Around<T, P>` by forwarding every method.
///
/// Methods in brackets are not async and are passed on as they are; `safe fn` and `unsafe_to_repeat fn` go through the
/// policy of `Around`. The compiler checks the list against the trait.
macro_rules! forward_seam {
    ($Seam:ident as $seam:literal [$(fn $plain:ident(&self) -> $pret:ty;)*] {
        $($repeat:ident fn $name:ident(&self $(, $arg:ident: $ty:ty)*) -> $ret:ty;)*
    }) => {
        $crate::seam::forward_seam!(@pointer std::sync::Arc, $Seam [$(fn $plain(&self) -> $pret;)*] {
            $($repeat fn $name(&self $(, $arg: $ty)*) -> $ret;)*
        });
        $crate::seam::forward_seam!(@pointer std::boxed::Box, $Seam [$(fn $plain(&self) -> $pret;)*] {
            $($repeat fn $name(&self $(, $arg: $ty)*) -> $ret;)*
        });

        #[deny(clippy::missing_trait_methods)]
        #[async_trait::async_trait]
        impl<S: $Seam, P: $crate::Policy> $Seam for $crate::Around<S, P> {
            $(fn $plain(&self) -> $pret { self.inner().$plain() })*
            $(async fn $name(&self $(, $arg: $ty)*) -> $crate::Result<$ret> {
                const OPERATION: $crate::Operation = $crate::Operation {
                    seam: $seam,
                    name: stringify!($name),
                    repeat: $crate::seam::forward_seam!(@repeat $repeat),
                };
                self.policy().run(OPERATION, || self.inner().$name($($crate::seam::again(&$arg)),*)).await
            })*
        }
    };
    (@pointer $($Pointer:ident)::+, $Seam:ident [$(fn $plain:ident(&self) -> $pret:ty;)*] {
        $($repeat:ident fn $name:ident(&self $(, $arg:ident: $ty:ty)*) -> $ret:ty;)*
    }) => {
        #[deny(clippy::missing_trait_methods)]
        #[async_trait::async_trait]
        impl<S: $Seam + ?Sized> $Seam for $($Pointer)::+<S> {
            $(fn $plain(&self) -> $pret { (**self).$plain() })*
            $(async fn $name(&self $(, $arg: $ty)*) -> $crate::Result<$ret> { (**self).$name($($arg),*).await })*
        }
    };
    (@repeat safe) => { $crate::Repeat::Safe };
    (@repeat unsafe_to_repeat) => { $crate::Repeat::Unsafe };
}
pub(crate) use forward_seam;

/// An argument for one more call: a reference is copied, an owned value cloned.
pub(crate) fn again<T: Clone>(argument: &T) -> T {
    argument.clone()
}
