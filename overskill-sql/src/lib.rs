//! overskill's stores on SQL: SQLite for one machine (feature `sqlite`, the default), Postgres for many (feature
//! `postgres`). One schema, one conformance suite.
//!
//! ```
//! # #[cfg(feature = "sqlite")]
//! # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
//! use overskill_core::{AppId, Changes, FilePath, FileStore, Scope};
//! use overskill_sql::SqliteStores;
//!
//! let stores = SqliteStores::in_memory().await?; // or `SqliteStores::open("overskill.db", SqliteOptions::new())`
//! let (files, scope) = (stores.files(), Scope::sources(AppId::parse("todo42")?));
//! let changes = Changes::new().put(FilePath::parse("src/App.tsx")?, "export default () => null");
//! let position = files.apply(&scope, &changes, None).await?;
//! assert_eq!(files.snapshot(&scope).await?.position, position);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! # }).unwrap();
//! ```
//!
//! What a store returned is durable, as far as [`Durability`](sqlite::Durability) (SQLite) or the server's
//! `synchronous_commit` (Postgres) says. What a store refused did not happen.

// ARCHITECTURE-NOTES: how a store is added.
//
// * Each store is written once, in `src/stores/`, and compiled once per driver: `sqlite/mod.rs` and `postgres/mod.rs`
//   both include `stores/mod.rs`, next to a module `driver` of their own. In a store, `use super::driver::…` gives:
//     - `Db` (cheap clone) with `reader()` for reads and `writer()` → `begin()` → `commit()` for writes;
//     - `run("operation", || async { … })`, which a trait method's body is wrapped in: inside, `?` takes `sqlx::Error` and
//       core's `Error` alike (as `Fault`), and Postgres repeats the body when it lost a serialization race;
//     - `sql!(sqlite: "…", postgres: "…")` where the dialects differ. `$1` placeholders work in both;
// * A write is one transaction, and what it returned is durable: never `fetch_optional` a `RETURNING` outside of a
//   transaction (sqlx drops the statement after the first row, and with it the error of the commit). A write of a single
//   statement may go without one, through `Writer::alone`, which says so in its error.
// * A read is one statement, hence one snapshot in both databases.
// * Never ask for a `reader()` while holding a `writer()`: in memory they are the same connection.
// * SQL is `&'static str`. Times are integers (ms), ids and digests text, contents blobs.
// * Numbers are `i64` columns (`BIGINT` in Postgres): `row::int` and `row::number` convert; `row::stored` parses text of
//   a row, and what does not parse is `Unexpected`, never `Invalid`.
// * Migrations: add `migrations/{sqlite,postgres}/000N_name.sql` and a line to `MIGRATIONS` in both drivers.
// * What is written in another way altogether (a trip for each file to SQLite's thread, one for many to a server) is a
//   module of both drivers, as `change_files` and `put_blobs`.
// * Then: `mod name;` and its accessor on the handle, in `stores/mod.rs`.

#[cfg(any(feature = "sqlite", feature = "postgres"))]
mod fault;
#[cfg(any(feature = "sqlite", feature = "postgres"))]
mod migrate;
#[cfg(any(feature = "sqlite", feature = "postgres"))]
mod row;

#[cfg(feature = "postgres")]
#[allow(clippy::duplicate_mod, reason = "the stores are written once and compiled once per driver")]
pub mod postgres;
#[cfg(feature = "sqlite")]
#[allow(clippy::duplicate_mod, reason = "the stores are written once and compiled once per driver")]
pub mod sqlite;

#[cfg(feature = "postgres")]
pub use postgres::{PostgresOptions, PostgresStores};
#[cfg(feature = "sqlite")]
pub use sqlite::{SqliteOptions, SqliteStores};
