//! What proves a backend of overskill, ours or yours, in one line.
//!
//! # Prove a backend
//!
//! Every seam that has a second implementation has a *suite*: named cases, each of one rule from the seam's
//! documentation. One macro line in a test file makes a test of every case:
//!
//! ```
//! # mod example {
//! use overskill_core::{RouteTable, memory::MemoryRoutes};
//! use overskill_testkit::RouteTableFixture;
//! use std::sync::Arc;
//!
//! async fn fixture() -> RouteTableFixture {
//!     let routes: Arc<dyn RouteTable> = Arc::new(MemoryRoutes::new());
//!     let again = routes.clone(); // a real one opens its file or database again
//!     RouteTableFixture::new(routes).reopen(move || std::future::ready(again.clone()))
//! }
//!
//! overskill_testkit::route_table_conformance!(v1, fixture());
//! # }
//! ```
//!
//! - The **version** names a list of cases that never changes: an update of the kit breaks nobody's build. New cases make
//!   a new version.
//! - The **fixture** is an async expression that is evaluated anew for every case. It says how to
//!   [open the store again](Fixture::reopen), for cases of durability, and [keeps](Fixture::keep) what must live as long
//!   as the case, such as a temporary directory. Cases use names that nobody else has, so a store need not be empty, and
//!   nothing of others is deleted.
//! - A known difference is **declared**, with its reason, and shows in the report:
//!
//!   ```
//!   # mod example {
//!   # use overskill_testkit::RouteTableFixture;
//!   # async fn fixture() -> RouteTableFixture { unimplemented!() }
//!   overskill_testkit::route_table_conformance!(v1, fixture(), except {
//!       a_cleared_scope_remembers_its_fence: "the provider deletes the row, fence and all",
//!   });
//!   # }
//!   ```
//!
//!   Its case still runs. Once it passes, or does not apply any more, the test fails, so that no exception outlives its
//!   reason.
//! - **Nothing is skipped in silence.** A case does not apply where the backend's own `info` says so, and the report says
//!   that. What the *fixture* lacks, such as a way to open the store again, fails its case until it is excepted.
//! - **Late and slow are not wrong.** Reads of a store that declares how stale they may be are repeated for so long. A case
//!   may take 2 minutes, or what the fixture [says](Fixture::limit).
//! - A failure names the rule that is broken, the case, the seed and the line:
//!   `rule broken: "…" (route_table/v1/…): …`. With `OVERSKILL_CONFORMANCE_SEED` set to that seed, the same names are
//!   used again.
//! - The macro makes a module (`route_table_v1` here; so a second backend in one file stands in a module of its own) with
//!   the tests and an async fn `report(backend)` that runs all of
//!   them and gives a [`Report`](report::Report) to publish, as JSON or Markdown. [`report::run`] does it without the
//!   macro.
//!
//! # Add a case or a suite
//!
//! A case is an `async fn(&TheFixture) -> Verdict` in a file under `suites/`; it says what it found with `ensure!`,
//! `ensure_eq!` and `?` (an error of the store breaks the rule). `suite!` lists the cases with their rules, and makes the
//! macro. `suites/routes.rs` is the shortest example.

mod check;
#[cfg(feature = "cloudflare")]
pub mod cloudflare;
pub mod faulty;
mod fixture;
pub mod fixtures;
mod keys;
mod platform;
#[cfg(feature = "postgres")]
pub mod postgres;
mod raw_answer;
pub mod recording;
pub mod report;
mod story;
pub mod suite;
pub mod suites;
#[cfg(feature = "supabase")]
pub mod supabase;
#[cfg(feature = "tokens")]
pub mod tokens;

pub(crate) use check::{PassThrough, outlast, poll_times, race, settle};
pub use fixture::{Fixture, Names};
pub use keys::TestKeys;
pub use overskill_core::TestClock;
pub use platform::{TestPlatform, platform};
pub use raw_answer::RawAnswer;
pub use story::assert_story;
pub use suite::{Broken, Exception, Stop, Suite, Verdict};
pub use suites::apps::AppDirectoryFixture;
pub use suites::audit::AuditLogFixture;
pub use suites::bundles::BundleStoreFixture;
pub use suites::deployments::DeploymentStoreFixture;
pub use suites::entities::{EntityApiFixture, EntityTokens};
pub use suites::env::EnvStoreFixture;
pub use suites::files::FileStoreFixture;
pub use suites::jobs::{Jobs, JobsFixture};
pub use suites::preview::{PreviewHostFixture, PreviewOutside};
pub use suites::progress::{ProgressReader, ProgressSinkFixture};
pub use suites::routes::RouteTableFixture;
pub use suites::target::{DeploymentTargetFixture, TargetOutside};
pub use suites::tenants::{Flaw, KeyForm, TenantValidatorFixture, TokenAlgorithm, TokenClaim, TokenSource, TokenWish};

#[doc(hidden)]
pub mod __macro {
    pub use crate::suite::{admit, test_case};
}
