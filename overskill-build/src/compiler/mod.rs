//! One file to one module: pure, and cached by contents for all apps.
//!
//! ```
//! use overskill_build::compiler::{Compiler, CompilerOptions, Linked, Query, link};
//! use overskill_core::{AppFile, FilePath};
//!
//! let compiler = Compiler::new(CompilerOptions::development());
//! let path = FilePath::parse("src/hello.ts")?;
//! let file = AppFile::new("import { name } from './name';\nexport const hello: string = 'hi ' + name;\n");
//! let module = compiler.compile(&path, &file, Query::None).unwrap();
//! assert_eq!(module.imports[0].specifier, "./name");
//! let code = link(&module, &mut |_| Linked::Url("/src/name.ts".to_owned()), &mut |_| "{}".to_owned());
//! assert_eq!(code, "import { name } from \"/src/name.ts\";\nexport const hello = \"hi \" + name;\n");
//! # Ok::<(), overskill_core::ParseError>(())
//! ```

mod cache;
mod data;
mod depth;
mod kinds;
mod lines;
mod link;
mod module;
mod options;
mod script;
mod style;

pub use kinds::address;
pub(crate) use link::{Edit, quote, splice};
pub use link::{Linked, link, link_style};
pub use module::{Binding, Glob, Hot, Import, ImportKind, Module, Style, StyleReference, StyleReferenceKind};
pub use options::{CompilerOptions, Mode, Query};
pub(crate) use script::PAGE_ENV;

use crate::{Problem, ProblemKind};
use cache::{Cache, Key};
use overskill_core::{AppFile, FilePath};
use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
    time::Instant,
};

/// What a compilation gives.
pub type Compiled = Result<Arc<Module>, Arc<Problem>>;

/// Compiles files, and remembers what it made of them. Cheap to clone; clones share what they remember.
///
/// A module depends on the path, the contents, the query and the options, on nothing else: apps made from one template
/// share nearly all of theirs.
#[derive(Clone, Debug)]
pub struct Compiler {
    cache: Arc<Cache>,
    options: Arc<CompilerOptions>,
}

impl Compiler {
    /// How much a compiler remembers unless told otherwise: 256 MiB.
    pub const DEFAULT_CACHE_BYTES: u64 = 256 << 20;

    /// Largest script in bytes (5 MiB).
    pub const MAX_SCRIPT_BYTES: u64 = 5 << 20;

    /// Largest style sheet or JSON file in bytes (10 MiB).
    pub const MAX_TEXT_BYTES: u64 = 10 << 20;

    /// Largest file in bytes that `?inline` or `?raw` puts into a module (4 MiB).
    pub const MAX_INLINE_BYTES: u64 = 4 << 20;

    /// Most imports and calls of `import.meta.glob` of one file (10,000): each is resolved among all files of its app.
    pub const MAX_IMPORTS: usize = 10_000;

    /// A compiler that remembers up to [`DEFAULT_CACHE_BYTES`](Self::DEFAULT_CACHE_BYTES).
    pub fn new(options: CompilerOptions) -> Self {
        Self::with_cache_bytes(options, Self::DEFAULT_CACHE_BYTES)
    }

    /// A compiler that remembers modules of up to `max_bytes` together.
    pub fn with_cache_bytes(options: CompilerOptions, max_bytes: u64) -> Self {
        Self { cache: Arc::new(Cache::new(max_bytes)), options: Arc::new(options) }
    }

    /// The same compiler with other options, for an app whose `tsconfig.json` asks for them. What is remembered is shared.
    pub fn with_options(&self, options: CompilerOptions) -> Self {
        Self { cache: self.cache.clone(), options: Arc::new(options) }
    }

    /// Its options.
    pub fn options(&self) -> &CompilerOptions {
        &self.options
    }

    /// How many bytes of modules it remembers now.
    pub fn cached_bytes(&self) -> u64 {
        self.cache.bytes()
    }

    /// Compiles a file, or gives what was made of the same file before. Callers that ask for the same thing at the same
    /// time wait for one computation.
    ///
    /// Of a style sheet, [`Module::style`] is what matters: whoever serves it wraps it. Only a CSS module (`.module.css`) has
    /// code: its exports, and the imports of what it composes from other files.
    pub fn compile(&self, path: &FilePath, file: &AppFile, query: Query) -> Compiled {
        let key = Key { path: path.clone(), digest: file.digest(), query, options: self.options.clone() };
        self.cache.get_or_compute(key, || self.compile_now(path, file, query))
    }

    /// Compiles a file whether or not it was compiled before, and does not remember it.
    pub fn compile_now(&self, path: &FilePath, file: &AppFile, query: Query) -> Compiled {
        let begun = Instant::now();
        // A defect in a parser must cost one file, not the process that serves ten thousand apps.
        let compiled = catch_unwind(AssertUnwindSafe(|| kinds::compile(path, file, query, &self.options)))
            .unwrap_or_else(|_| {
                Err(Problem::new(ProblemKind::Unsupported, "the compiler failed on this file, which is a defect of it")
                    .help("write the newest part of the file in another way"))
            });
        let compiled = compiled.and_then(|module| {
            let imports = module.imports.len() + module.globs.iter().map(|it| it.patterns.len()).sum::<usize>();
            if imports <= Self::MAX_IMPORTS {
                return Ok(module);
            }
            let why = format!("a file may have at most {} imports and this one has {imports}", Self::MAX_IMPORTS);
            Err(Problem::new(ProblemKind::Limit, why).help("split it"))
        });
        metrics::histogram!("overskill_compile_seconds").record(begun.elapsed());
        compiled.map(Arc::new).map_err(|problem| Arc::new(problem.in_file(path.clone())))
    }
}

/// What oxc does by itself for the same file and options: code and its source map. Only for the benchmark; no part of the API.
#[cfg(feature = "bare-peer")]
#[doc(hidden)]
pub fn bare_peer(path: &FilePath, source: &str, options: &CompilerOptions) -> Option<(String, String)> {
    kinds::bare_script(path, source, options)
}

impl Default for Compiler {
    fn default() -> Self {
        Self::new(CompilerOptions::development())
    }
}
