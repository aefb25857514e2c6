//! What the bundler gets for a module: its code, with everything in it that our own rules decide.

use super::{
    modules::{self, For},
    names::Assets,
    shortcuts::Shortcuts,
    tokens::Token,
    walk::{App, Ground, Made, Side, To, Unit},
};
use crate::{
    Problem, ProblemKind, Result,
    compiler::{Compiler, Edit, ImportKind, Module, PAGE_ENV, Query, quote, splice},
    packages::Installed,
    preview::{resolve::Ask, scan::Sort},
};
use overskill_core::{AppFile, FilePath};
use std::{collections::BTreeMap, fmt::Write as _};

/// Where pages take their variables from.
pub(super) const ENV_MODULE: &str = "overskill-env.js";
/// The helper of modules that import others when they are needed.
pub(super) const LOAD_MODULE: &str = "load.js";

/// What is made of an app's units.
pub(super) struct Emitted {
    /// The code of each unit, in their order.
    pub(super) code: Vec<String>,
    /// Units that are imported when they are needed.
    pub(super) dynamic: Vec<usize>,
    /// Units that workers run.
    pub(super) workers: Vec<usize>,
    /// Packages' style sheets that modules bring (`import "swiper/css"`), by unit and the import's number there.
    pub(super) package_styles: BTreeMap<(usize, usize), modules::PackageFile>,
    /// Files that modules import from instead of packages, with their code.
    pub(super) shortcuts: Vec<(String, String)>,
    /// Whether anything reads the page's variables.
    pub(super) reads_env: bool,
    /// `WebAssembly` that the server side imports, by the path it is imported under.
    pub(super) wasm: BTreeMap<FilePath, AppFile>,
    pub(super) problems: Vec<Problem>,
}

/// The name of a unit's file.
pub(super) fn file_name(unit: usize) -> String {
    format!("m{unit:05}.js")
}

/// The unit that a file is of.
pub(super) fn unit_of(file: &str) -> Option<usize> {
    file.rsplit('/').next()?.strip_prefix('m')?.strip_suffix(".js")?.parse().ok()
}

pub(super) struct Emitter<'a> {
    pub(super) ground: &'a Ground,
    pub(super) app: &'a App,
    pub(super) installed: &'a Installed,
    pub(super) assets: &'a mut Assets,
    pub(super) shortcuts: Shortcuts<'a>,
}

impl Emitter<'_> {
    pub(super) fn emit(mut self) -> Result<Emitted> {
        let mut all = Emitted {
            code: Vec::with_capacity(self.app.units.len()),
            dynamic: Vec::new(),
            workers: Vec::new(),
            package_styles: BTreeMap::new(),
            shortcuts: Vec::new(),
            reads_env: false,
            wasm: BTreeMap::new(),
            problems: Vec::new(),
        };
        for (index, unit) in self.app.units.iter().enumerate() {
            let code = self.unit(index, unit, &mut all)?;
            all.code.push(code);
        }
        all.shortcuts = self.shortcuts.files();
        for list in [&mut all.dynamic, &mut all.workers] {
            list.sort_unstable();
            list.dedup();
        }
        Ok(all)
    }

    fn unit(&mut self, index: usize, unit: &Unit, all: &mut Emitted) -> Result<String> {
        Ok(match &unit.made {
            Made::Code { module, imports, globs } => self.code(index, unit, module, imports, globs, all)?,
            Made::Style { module, imports } => {
                let classes = module.style.as_ref().is_some_and(|style| style.classes.is_some());
                if classes { self.code(index, unit, module, imports, &[], all)? } else { String::new() }
            }
            Made::StyleText => format!("export default \"{}\";\n", Token::Text(index)),
            Made::Address => format!("export default {};\n", quote(&self.address(&unit.path)?)),
            Made::Init => {
                let file = self.ground.file(unit.path.as_str());
                let address = match file {
                    Some(file) => self.assets.file_address(unit.path.as_str(), &file)?,
                    None => String::new(),
                };
                format!(
                    "export default async (imports = {{}}) => (await WebAssembly.instantiateStreaming(fetch({}), imports)).instance;\n",
                    quote(&address)
                )
            }
            Made::Worker(script) => {
                all.workers.push(*script);
                format!(
                    "export default function WorkerWrapper(options) {{\n  return new Worker(\"{}\", {{ type: \"module\", name: options?.name }});\n}}\n",
                    Token::Worker(*script)
                )
            }
            Made::Nothing => String::new(),
        })
    }

    fn address(&mut self, path: &FilePath) -> Result<String> {
        // What lies in `public/` is served under its own name.
        if let Some(public) = path.as_str().strip_prefix("public/") {
            return Ok(format!("/{public}"));
        }
        match self.ground.file(path.as_str()) {
            Some(file) => self.assets.address(path.as_str(), &file),
            None => Ok(String::new()),
        }
    }

    fn code(
        &mut self,
        index: usize,
        unit: &Unit,
        module: &Module,
        imports: &[To],
        globs: &[Vec<(String, usize)>],
        all: &mut Emitted,
    ) -> Result<String> {
        let mut edits: Vec<Edit> = Vec::with_capacity(imports.len() + globs.len());
        let (mut loads, mut tail) = (false, String::new());
        for (place, (import, to)) in module.imports.iter().zip(imports).enumerate() {
            let literal = |address: &str| (import.literal.clone(), quote(address));
            match to {
                To::Unit(to) if import.kind == ImportKind::Dynamic && self.app.side == Side::Page => {
                    all.dynamic.push(*to);
                    loads = true;
                    edits.push((import.whole.clone(), dynamic(*to)));
                }
                To::Unit(to) => edits.push(literal(&format!("./{}", file_name(*to)))),
                To::Worker(to) => {
                    all.workers.push(*to);
                    edits.push(literal(&Token::Worker(*to).to_string()));
                }
                To::File(path) => {
                    let address = self.address(path)?;
                    let is_url = import.kind == ImportKind::Url;
                    // An import of it becomes a module of its own.
                    let module = format!("data:text/javascript,export default {}", encoded(&quote(&address)));
                    edits.push(literal(if is_url { &address } else { &module }));
                }
                To::Package(name, ask) => {
                    if let Some(edit) = self.package((index, place), unit, import, name, *ask, all)? {
                        edits.push((import.literal.clone(), quote(&edit)));
                    }
                }
                To::Address(address) => edits.push(literal(address)),
                To::Wasm(path) => {
                    let Some(file) = self.ground.file(path.as_str()) else { continue };
                    let named = super::names::hashed_path(
                        super::names::stem_and_extension(path.as_str()).0,
                        "wasm",
                        file.digest(),
                    )?;
                    let name = named.as_str().rsplit('/').next().unwrap_or_default().to_owned();
                    edits.push(literal(&format!("./{name}")));
                    let named = FilePath::parse(&name)?;
                    all.wasm.insert(named, file.into_owned());
                }
                To::Nowhere => {}
            }
        }
        for (number, (call, found)) in module.globs.iter().zip(globs).enumerate() {
            let lazy = !call.eager;
            let page = self.app.side == Side::Page;
            if lazy && page {
                all.dynamic.extend(found.iter().map(|(_, to)| *to));
                loads |= !found.is_empty();
            }
            let object = glob(call, number, found, page, &mut tail);
            edits.push((call.whole.clone(), format!("({object})")));
        }
        let mut code = splice(&module.code, edits);
        code.push_str(&tail);
        let mut first = String::new();
        if code.contains(PAGE_ENV) {
            all.reads_env = true;
            let from = if self.app.side == Side::Page { "/" } else { "./" };
            let _ = write!(first, "import {PAGE_ENV} from \"{from}{ENV_MODULE}\"; ");
        }
        if loads {
            let _ = write!(first, "import {{ load as __overskill_load }} from \"./{LOAD_MODULE}\"; ");
        }
        // On the first line, so that all others keep their numbers.
        code.insert_str(0, &first);
        Ok(code)
    }

    /// What an import of a package is written as; `None` if it stays.
    fn package(
        &mut self,
        place: (usize, usize),
        unit: &Unit,
        import: &crate::compiler::Import,
        name: &str,
        ask: Ask,
        all: &mut Emitted,
    ) -> Result<Option<String>> {
        let is_url = import.kind == ImportKind::Url;
        let found = modules::find(self.installed, "", name, For::Script);
        let style = modules::find(self.installed, "", name, For::Style);
        let is_style = |it: &modules::PackageFile| Sort::of(it.path.as_str()) == Sort::Style;
        let plain_style = found.as_ref().is_none_or(is_style);
        match (found, style) {
            (_, Some(sheet)) if ask == Ask::Plain && !is_url && plain_style && is_style(&sheet) => {
                all.package_styles.insert(place, sheet);
                Ok(Some("data:text/javascript,".to_owned()))
            }
            (Some(file), _) if is_url || ask == Ask::Url || Sort::of(file.path.as_str()) == Sort::Asset => {
                let contents = AppFile::new(super::sheets::read(&file)?);
                let address = self.assets.address(file.path.as_str(), &contents)?;
                if is_url {
                    return Ok(Some(address));
                }
                Ok(Some(format!("data:text/javascript,export default {}", encoded(&quote(&address)))))
            }
            (Some(file), _) if matches!(ask, Ask::Raw | Ask::Inline) => {
                let contents = AppFile::new(super::sheets::read(&file)?);
                let query = if ask == Ask::Raw || is_style(&file) { Query::Raw } else { Query::Inline };
                let compiler: &Compiler = &self.ground.compiler;
                match compiler.compile(&file.path, &contents, query) {
                    Ok(module) => Ok(Some(format!("data:text/javascript,{}", encoded(&module.code)))),
                    Err(problem) => {
                        all.problems.push((*problem).clone());
                        Ok(None)
                    }
                }
            }
            _ if ask == Ask::Plain => {
                let instead = match &import.kind {
                    // The server side is bundled under other conditions, which may lead to other files.
                    ImportKind::Static(bindings) if self.app.side == Side::Page => {
                        self.shortcuts.instead(name, bindings)
                    }
                    _ => None,
                };
                Ok(Some(instead.unwrap_or_else(|| name.to_owned())))
            }
            _ => {
                let why = format!("`{}` of a package cannot be imported in this form", import.specifier);
                let problem = Problem::new(ProblemKind::Unsupported, why);
                let problem = problem.help("copy the file into the app's sources and import it from there");
                let problem = problem.in_file(unit.path.clone());
                let file = self.ground.file(unit.path.as_str());
                let text = file.as_ref().and_then(|it| std::str::from_utf8(it.contents()).ok());
                all.problems.push(match text {
                    Some(text) => problem.at(text, import.at),
                    None => problem,
                });
                Ok(None)
            }
        }
    }
}

fn dynamic(to: usize) -> String {
    format!("__overskill_load(() => import(\"./{}\"), \"{}\")", file_name(to), Token::Loads(to))
}

/// The object that takes the place of a call of `import.meta.glob`; its imports go to the module's end.
fn glob(
    call: &crate::compiler::Glob,
    number: usize,
    found: &[(String, usize)],
    page: bool,
    tail: &mut String,
) -> String {
    let name = call.import.as_deref().filter(|name| *name != "*");
    let mut object = "{".to_owned();
    for (index, (key, to)) in found.iter().enumerate() {
        let value = if call.eager {
            let local = format!("__overskill_glob{number}_{index}");
            let what = name.map_or_else(|| format!("* as {local}"), |name| format!("{{ {} as {local} }}", quote(name)));
            let _ = write!(tail, "\nimport {what} from \"./{}\";", file_name(*to));
            local
        } else {
            let get = if page { dynamic(*to) } else { format!("import(\"./{}\")", file_name(*to)) };
            let then = name.map_or(String::new(), |name| format!(".then((m) => m[{}])", quote(name)));
            format!("() => {get}{then}")
        };
        let comma = if index == 0 { "" } else { ", " };
        let _ = write!(object, "{comma}{}: {value}", quote(key));
    }
    object.push('}');
    object
}

fn encoded(text: &str) -> String {
    percent_encoding::utf8_percent_encode(text, percent_encoding::NON_ALPHANUMERIC).to_string()
}
