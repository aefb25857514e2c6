//! What a file is by its name and query, and what is made of it.

use super::{
    Compiler, CompilerOptions, Module, Query,
    link::quote,
    script::{self, Dialect},
};
use crate::{Problem, ProblemKind};
use overskill_core::{AppFile, FilePath};

/// Compiles a file for what its name and query say that it is.
pub(super) fn compile(
    path: &FilePath,
    file: &AppFile,
    query: Query,
    options: &CompilerOptions,
) -> Result<Module, Problem> {
    match query {
        Query::Raw => {
            limit(path, file, "file to be imported with `?raw`", Compiler::MAX_INLINE_BYTES)?;
            return Ok(default_export(&quote(text(file)?)));
        }
        _ => {}
    }
    let extension = path.extension().unwrap_or_default().to_ascii_lowercase();
    match &*extension {
        "js" | "mjs" | "cjs" => script(path, file, Dialect::JavaScript, options),
        "jsx" => script(path, file, Dialect::Jsx, options),
        "ts" | "mts" | "cts" => script(path, file, Dialect::TypeScript, options),
        "tsx" => script(path, file, Dialect::Tsx, options),
        _ => Err(Problem::new(ProblemKind::Unsupported, format!("`.{extension}` files cannot be imported"))),
    }
}

fn script(path: &FilePath, file: &AppFile, dialect: Dialect, options: &CompilerOptions) -> Result<Module, Problem> {
    limit(path, file, "script", Compiler::MAX_SCRIPT_BYTES)?;
    script::compile(path.as_str(), text(file)?, dialect, options)
}

/// Refuses a file that is too large, before anything is done with it.
fn limit(path: &FilePath, file: &AppFile, what: &str, max_bytes: u64) -> Result<(), Problem> {
    if file.size_bytes() <= max_bytes {
        return Ok(());
    }
    let message = format!("`{path}` has {} bytes; a {what} may have {max_bytes}", file.size_bytes());
    Err(Problem::new(ProblemKind::Limit, message).help("put large data into `public/` and fetch it"))
}

/// The file's text.
fn text(file: &AppFile) -> Result<&str, Problem> {
    std::str::from_utf8(file.contents()).map_err(|error| {
        let valid = std::str::from_utf8(&file.contents()[..error.valid_up_to()]).unwrap_or_default();
        let message = format!("the file is not UTF-8 from byte {} on", error.valid_up_to());
        Problem::new(ProblemKind::Syntax, message).help("save it as UTF-8").at_offset(valid, valid.len())
    })
}

/// A module whose only export is `value`.
fn default_export(value: &str) -> Module {
    Module {
        code: format!("export default {value};\n"),
        exports: Some(["default".to_owned()].into()),
        ..Module::default()
    }
}
