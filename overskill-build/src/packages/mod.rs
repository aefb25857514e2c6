//! npm packages, prepared once per set of versions and shared by all apps.

mod builder;
mod bundle;
mod esbuild;
mod fetch;
mod flight;
mod integrity;
mod kept;
mod layout;
mod lock;
mod manifest;
mod names;
mod npm;
mod pack;
mod pinned;
mod prepare;
mod prepared;
mod registry;
mod resolve;
mod settings;
mod store;
mod tree;
mod trouble;
mod unpack;

pub use builder::NpmPackagesBuilder;
pub use npm::{NpmPackages, PinnedPackage};
pub use prepared::{DependencyResolver, PackageEntry, PackageFile, PackageRequest, Prepared};
