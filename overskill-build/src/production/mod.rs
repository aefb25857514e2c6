//! Apps built for production.

mod build;
mod builder;
mod bundle;
mod declared;
mod emit;
mod finish;
mod modules;
mod names;
#[cfg(unix)]
mod npm_script;
mod page;
mod prebuilt;
mod sheets;
mod shortcuts;
mod styles;
mod tailwind;
mod tokens;
mod trouble;
mod walk;

pub use builder::ModuleBuilder;
#[cfg(unix)]
pub use npm_script::{BuildJail, NpmScriptBuilder};
pub use prebuilt::Prebuilt;
