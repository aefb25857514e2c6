//! npm packages, prepared once per set of versions and shared by all apps.

mod prepared;

pub use prepared::{DependencyResolver, PackageEntry, PackageFile, PackageRequest, Prepared};
