//! One file to one module: pure, and cached by contents for all apps.

mod module;

pub use module::{Binding, Glob, Hot, Import, ImportKind, Module, Style, StyleReference, StyleReferenceKind};

/// Compiles files to modules.
#[derive(Clone, Debug, Default)]
pub struct Compiler {}
