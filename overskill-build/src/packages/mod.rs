//! npm packages, prepared once per set of versions and shared by all apps.

mod builder;
mod bundle;
mod deno;
pub(crate) mod esbuild;
mod fetch;
mod flight;
mod install;
mod integrity;
mod kept;
pub(crate) mod layout;
mod lock;
mod manifest;
pub(crate) mod names;
mod npm;
mod pack;
mod pinned;
mod prepare;
mod prepared;
mod registry;
mod resolve;
mod settings;
mod store;
pub(crate) mod tree;
pub(crate) mod trouble;
mod unpack;

pub use builder::NpmPackagesBuilder;
pub(crate) use install::Installed;
pub use npm::{NpmPackages, PinnedPackage};
pub use prepared::{DependencyResolver, PackageEntry, PackageFile, PackageRequest, Prepared};
