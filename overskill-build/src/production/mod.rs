//! Apps built for production.

mod build;
mod builder;
mod bundle;
mod emit;
mod finish;
mod modules;
mod names;
mod page;
mod prebuilt;
mod sheets;
mod styles;
mod tailwind;
mod tokens;
mod trouble;
mod walk;

pub use builder::ModuleBuilder;
pub use prebuilt::Prebuilt;
