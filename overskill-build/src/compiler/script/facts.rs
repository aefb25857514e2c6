//! What a module says about others and about its surroundings, collected from its transformed syntax tree, with marks put in
//! the places that linking fills.

use super::{
    literals::{glob_option, helper, is_classic_worker, is_glob_path, is_meta, literal, pairs, pattern},
    marks::{Mark, Marks},
    skim::REFRESH,
};
use crate::{
    Location, Problem, ProblemKind,
    compiler::{Binding, Glob, Hot, Mode, lines::Lines},
};
use oxc::{
    allocator::{Allocator, TakeIn},
    ast::{
        ast::{
            Argument, BindingIdentifier, BindingPattern, CallExpression, ChainElement, Class, Declaration, Decorator,
            Expression, IdentifierReference, ImportDeclaration, ImportDeclarationSpecifier, ImportExpression,
            NewExpression, Program, Statement, VariableDeclarator,
        },
        builder::AstBuilder,
    },
    ast_visit::{VisitMut, walk_mut},
    semantic::Scoping,
    span::{GetSpan, Span},
    str::Ident,
};
use std::collections::BTreeSet;

/// The `import.meta.env` names that the page's runtime object holds, besides `VITE_…`.
const RUNTIME_NAMES: [&str; 2] = ["MODE", "BASE_URL"];

/// What stands for `import.meta.env` in modules that are made for production; whoever bundles them imports it.
pub(crate) const PAGE_ENV: &str = "__overskill_env";

/// What a transformed script comes with helpers from; they are written into the module instead.
const HELPERS: &str = "@oxc-project/runtime/helpers/";

/// What was collected.
pub(super) struct Collected {
    pub(super) marks: Marks,
    pub(super) hot: Hot,
    pub(super) refresh: bool,
    pub(super) env: BTreeSet<String>,
    pub(super) exports: Option<BTreeSet<String>>,
    pub(super) warnings: Vec<Problem>,
}

pub(super) struct Facts<'a, 's> {
    builder: AstBuilder<'a>,
    scoping: &'s Scoping,
    lines: &'s Lines<'s>,
    mode: Mode,
    collected: Collected,
    problem: Option<Problem>,
}

/// What to do about an expression.
enum Step<'a> {
    /// Look at its parts.
    Walk,
    /// Leave it, parts and all.
    Keep,
    /// Put this in its place.
    Replace(Expression<'a>),
}

impl<'a, 's> Facts<'a, 's> {
    pub(super) fn new(allocator: &'a Allocator, scoping: &'s Scoping, lines: &'s Lines<'s>, mode: Mode) -> Self {
        let collected = Collected {
            marks: Marks::for_source(lines.source()),
            hot: Hot::default(),
            refresh: false,
            env: BTreeSet::new(),
            exports: Some(BTreeSet::new()),
            warnings: Vec::new(),
        };
        Self { builder: AstBuilder::new(allocator), scoping, lines, mode, collected, problem: None }
    }

    /// `registers` says what the walk would find out if that is all that it would.
    pub(super) fn collect(&mut self, program: &mut Program<'a>, registers: Option<bool>) {
        for statement in &mut program.body {
            self.statement(statement);
        }
        match registers {
            Some(registers) => self.collected.refresh = registers,
            None => self.visit_program(program),
        }
    }

    /// The first problem, if there was one.
    pub(super) fn finish(self) -> Result<Collected, Problem> {
        match self.problem {
            Some(problem) => Err(problem),
            None => Ok(self.collected),
        }
    }

    fn at(&self, span: Span) -> Location {
        self.lines.at(span.start as usize)
    }

    fn refuse(&mut self, span: Span, message: impl Into<String>, help: impl Into<String>) {
        if self.problem.is_none() {
            let problem = Problem::new(ProblemKind::Unsupported, message).help(help);
            self.problem = Some(problem.at_offset(self.lines.source(), span.start as usize));
        }
    }

    fn warn(&mut self, span: Span, message: impl Into<String>, help: impl Into<String>) {
        /// More say no more.
        const MOST: usize = 20;
        if self.collected.warnings.len() >= MOST {
            return;
        }
        let warning = Problem::new(ProblemKind::Unsupported, message).help(help);
        self.collected.warnings.push(warning.at_offset(self.lines.source(), span.start as usize));
    }

    fn mark(&mut self, span: Span, mark: Mark) -> Expression<'a> {
        let name = self.collected.marks.add(mark);
        Expression::new_identifier(span, Ident::from_str_in(name, &self.builder), &self.builder)
    }

    fn export(&mut self, name: &str) {
        if let Some(exports) = &mut self.collected.exports {
            exports.insert(name.to_owned());
        }
    }

    /// Top-level statements: imports and exports.
    fn statement(&mut self, statement: &mut Statement<'a>) {
        let span = statement.span();
        let mark = match statement {
            Statement::ImportDeclaration(import) => self.import(import),
            Statement::ExportFromDeclaration(export) => {
                let names = pairs(&export.specifiers);
                for (_, here) in &names {
                    self.export(here);
                }
                Mark::re_export(&export.source.value, names, self.at(span))
            }
            Statement::ExportAllDeclaration(export) => {
                let name = export.exported.as_ref().map(|name| name.name().as_str().to_owned());
                match &name {
                    Some(name) => self.export(name),
                    None => self.collected.exports = None,
                }
                Mark::re_export_all(&export.source.value, name, self.at(span))
            }
            Statement::ExportDefaultDeclaration(_) => return self.export("default"),
            Statement::ExportNamedDeclaration(export) => {
                return pairs(&export.specifiers).iter().for_each(|(_, here)| self.export(here));
            }
            Statement::ExportDeclaration(export) => return self.declared(&export.declaration),
            _ => return,
        };
        let name = self.mark(span, mark);
        *statement = Statement::new_expression_statement(span, name, &self.builder);
    }

    fn declared(&mut self, declaration: &Declaration<'a>) {
        match declaration {
            Declaration::VariableDeclaration(variables) => {
                for name in variables.declarations.iter().flat_map(|variable| variable.id.get_binding_identifiers()) {
                    self.export(&name.name);
                }
            }
            Declaration::FunctionDeclaration(function) => {
                function.id.iter().for_each(|name| self.export(&name.name));
            }
            Declaration::ClassDeclaration(class) => class.id.iter().for_each(|name| self.export(&name.name)),
            _ => {}
        }
    }

    fn import(&mut self, import: &ImportDeclaration<'a>) -> Mark {
        if import.phase.is_some() {
            self.refuse(import.span, "`import defer` and `import source` are not supported", "use a plain `import`");
        }
        let name = |local: &BindingIdentifier<'a>| local.name.as_str().to_owned();
        let bindings: Vec<Binding> = import
            .specifiers
            .iter()
            .flatten()
            .map(|specifier| match specifier {
                ImportDeclarationSpecifier::ImportDefaultSpecifier(it) => Binding::Default(name(&it.local)),
                ImportDeclarationSpecifier::ImportNamespaceSpecifier(it) => Binding::Namespace(name(&it.local)),
                ImportDeclarationSpecifier::ImportSpecifier(it) => {
                    Binding::Named { imported: it.imported.name().as_str().to_owned(), local: name(&it.local) }
                }
            })
            .collect();
        match (import.source.value.strip_prefix(HELPERS).and_then(helper), &bindings[..]) {
            (Some(helper), [Binding::Default(local)]) => Mark::plain(format!("const {local} = {helper}")),
            _ => Mark::static_import(&import.source.value, bindings, self.at(import.span)),
        }
    }

    fn step(&mut self, it: &mut Expression<'a>) -> Step<'a> {
        match it {
            Expression::ImportExpression(import) => self.dynamic(import),
            Expression::NewExpression(new) => self.url(new),
            Expression::CallExpression(call) => self.call(call),
            Expression::ChainExpression(chain) => match &chain.expression {
                ChainElement::StaticMemberExpression(member) => {
                    self.member(&member.object, &member.property.name, member.span)
                }
                _ => Step::Walk,
            },
            Expression::StaticMemberExpression(member) => {
                if matches!(member.object, Expression::ImportMeta(_)) {
                    return self.meta(&member.property.name, member.span);
                }
                self.member(&member.object, &member.property.name, member.span)
            }
            Expression::ComputedMemberExpression(member) => match &member.expression {
                Expression::StringLiteral(name) => self.member(&member.object, &name.value, member.span),
                _ => Step::Walk,
            },
            _ => Step::Walk,
        }
    }

    /// `import.meta.name`, not followed by a name that was handled.
    fn meta(&mut self, name: &str, span: Span) -> Step<'a> {
        match name {
            "env" => {
                self.collected.env.insert("*".to_owned());
                if self.mode == Mode::Development {
                    return Step::Keep;
                }
                // Bundled modules share one `import.meta`: what is imported under this name takes its place.
                Step::Replace(Expression::new_identifier(span, PAGE_ENV, &self.builder))
            }
            "hot" if self.mode == Mode::Production => {
                Step::Replace(Expression::new_identifier(span, "undefined", &self.builder))
            }
            "hot" => {
                self.collected.hot.used = true;
                Step::Keep
            }
            _ => Step::Keep,
        }
    }

    /// `object.name`.
    fn member(&mut self, object: &Expression<'a>, name: &str, span: Span) -> Step<'a> {
        if is_meta(object, "env") {
            return self.env(name, span);
        }
        if !self.is_process_env(object) {
            return Step::Walk;
        }
        if name == "NODE_ENV" {
            let value = if self.mode == Mode::Development { "development" } else { "production" };
            return Step::Replace(Expression::new_string_literal(span, value, None, &self.builder));
        }
        self.warn(
            span,
            format!("`process.env.{name}` does not exist in a browser"),
            "use `import.meta.env.VITE_…` for what may be public",
        );
        Step::Keep
    }

    fn env(&mut self, name: &str, span: Span) -> Step<'a> {
        let value = match name {
            "DEV" => self.mode == Mode::Development,
            "PROD" => self.mode == Mode::Production,
            "SSR" => false,
            _ => {
                self.env_name(name, span);
                return if self.mode == Mode::Development { Step::Keep } else { Step::Walk };
            }
        };
        Step::Replace(Expression::new_boolean_literal(span, value, &self.builder))
    }

    /// Notes a name that is read at run time, or refuses it.
    fn env_name(&mut self, name: &str, span: Span) {
        if name.starts_with("VITE_") || RUNTIME_NAMES.contains(&name) {
            self.collected.env.insert(name.to_owned());
            return;
        }
        let shown: String = name.chars().take(60).collect();
        self.refuse(
            span,
            format!("`import.meta.env.{shown}` is not given to pages: only names that begin with `VITE_` are public"),
            format!("if everyone who opens the page may read it, rename it to `VITE_{shown}`; if it is a secret, use it on the server"),
        );
    }

    fn is_process_env(&self, object: &Expression<'a>) -> bool {
        let Expression::StaticMemberExpression(member) = object else { return false };
        member.property.name == "env"
            && matches!(&member.object, Expression::Identifier(name) if self.is_global(name, "process"))
    }

    fn is_global(&self, it: &IdentifierReference<'a>, name: &str) -> bool {
        let bound = |reference| self.scoping.get_reference(reference).symbol_id().is_some();
        it.name == name && !it.reference_id.get().is_some_and(bound)
    }

    fn dynamic(&mut self, import: &mut ImportExpression<'a>) -> Step<'a> {
        let (span, at) = (import.span, self.at(import.span));
        if import.phase.is_some() {
            self.refuse(span, "`import.defer` and `import.source` are not supported", "use a plain `import(…)`");
        }
        if let Some(specifier) = literal(&import.source) {
            return Step::Replace(self.mark(span, Mark::dynamic(&specifier, at)));
        }
        if let Expression::TemplateLiteral(template) = &import.source
            && let Some(pattern) = pattern(template)
        {
            let glob = Glob { patterns: vec![pattern], eager: false, import: None, query: None, whole: 0..0, at };
            let callee = self.mark(
                span,
                Mark::glob(
                    "((modules) => (path) => modules[path] ? modules[path]() : \
                     Promise.reject(new Error(`Unknown variable dynamic import: ${path}`)))(",
                    glob,
                    ")",
                ),
            );
            let template = import.source.take_in(&self.builder);
            let arguments = oxc::allocator::ArenaVec::from_array_in([Argument::from(template)], &self.builder);
            let call = Expression::new_call_expression(span, callee, None, arguments, false, &self.builder);
            return Step::Replace(call);
        }
        self.warn(
            span,
            "this `import()` names what nobody can tell beforehand",
            "begin with `./` or `../` and end with the file's extension, as in import(`./pages/${name}.tsx`), or use `import.meta.glob`",
        );
        Step::Walk
    }

    fn url(&mut self, new: &NewExpression<'a>) -> Step<'a> {
        let Expression::Identifier(callee) = &new.callee else { return Step::Walk };
        if callee.name == "Worker" && is_classic_worker(new) {
            self.warn(
                new.span,
                "this worker runs as a classic script, which cannot import anything",
                "pass `{ type: 'module' }` as second argument",
            );
        }
        let [first, second] = &new.arguments[..] else { return Step::Walk };
        let base = second.as_expression().is_some_and(|base| is_meta(base, "url"));
        if !base || !self.is_global(callee, "URL") {
            return Step::Walk;
        }
        match first.as_expression().and_then(literal) {
            // An address with a scheme, or a place in the module itself, is no file of the app.
            Some(file) if !file.starts_with('#') && !file.contains("://") && !file.starts_with("data:") => {
                Step::Replace(self.mark(new.span, Mark::url(&file, self.at(new.span))))
            }
            Some(_) => Step::Walk,
            None => {
                self.warn(
                    new.span,
                    "this `new URL(…, import.meta.url)` names a file that nobody can tell beforehand",
                    "use a literal, or `import.meta.glob` with `query: '?url'`",
                );
                Step::Walk
            }
        }
    }

    fn call(&mut self, call: &CallExpression<'a>) -> Step<'a> {
        if is_meta(&call.callee, "globEager") {
            self.refuse(
                call.span,
                "`import.meta.globEager` is gone since Vite 3",
                "use `import.meta.glob(…, { eager: true })`",
            );
            return Step::Keep;
        }
        if is_meta(&call.callee, "glob") {
            return match self.glob(call) {
                Some(glob) => Step::Replace(self.mark(call.span, Mark::glob("", glob, ""))),
                None => Step::Keep,
            };
        }
        if let (Expression::Identifier(callee), Some(argument)) = (&call.callee, call.arguments.first())
            && self.is_global(callee, "require")
            && let Some(name) = argument.as_expression().and_then(literal)
        {
            self.warn(call.span, format!("`require(\"{name}\")` does not exist in a browser"), "use `import`");
        }
        Step::Walk
    }

    fn glob(&mut self, call: &CallExpression<'a>) -> Option<Glob> {
        let help = "patterns and options of `import.meta.glob` have to be literals";
        let patterns = match call.arguments.first().and_then(Argument::as_expression) {
            Some(Expression::ArrayExpression(array)) => {
                array.elements.iter().map(|element| element.as_expression().and_then(literal)).collect()
            }
            Some(pattern) => literal(pattern).map(|pattern| vec![pattern]),
            None => None,
        };
        let Some(patterns) = patterns else {
            self.refuse(call.span, "`import.meta.glob` takes a string or an array of strings", help);
            return None;
        };
        if let Some(bad) = patterns.iter().find(|pattern| !is_glob_path(pattern.trim_start_matches('!'))) {
            let bad: String = bad.chars().take(80).collect();
            self.refuse(
                call.span,
                format!("the pattern `{bad}` of `import.meta.glob` is not a path"),
                "begin with `./`, `../`, `/` or an alias",
            );
            return None;
        }
        let at = self.at(call.span);
        let mut glob = Glob { patterns, eager: false, import: None, query: None, whole: 0..0, at };
        let properties = match call.arguments.get(1).and_then(Argument::as_expression) {
            None => return Some(glob),
            Some(Expression::ObjectExpression(options)) => &options.properties,
            Some(_) => {
                self.refuse(call.span, "the options of `import.meta.glob` are not an object literal", help);
                return None;
            }
        };
        for property in properties {
            if let Err(what) = glob_option(property, &mut glob) {
                self.refuse(property.span(), what, help);
                return None;
            }
        }
        Some(glob)
    }

    /// `import.meta.hot.accept(…)`.
    fn accept(&mut self, call: &mut CallExpression<'a>) {
        let span = call.span;
        match call.arguments.first_mut().map(Argument::as_expression_mut) {
            Some(Some(Expression::ArrayExpression(array))) => {
                for element in &mut array.elements {
                    let named = element.as_expression().and_then(literal);
                    let (Some(specifier), Some(place)) = (named, element.as_expression_mut()) else {
                        self.refuse(
                            span,
                            "`import.meta.hot.accept` takes a string or an array of strings",
                            "write the dependencies as literals",
                        );
                        return;
                    };
                    *place = self.accepted(&specifier, place.span());
                }
            }
            Some(Some(dependency)) => match literal(dependency) {
                Some(specifier) => *dependency = self.accepted(&specifier, dependency.span()),
                None => self.collected.hot.accepts_self = true,
            },
            _ => self.collected.hot.accepts_self = true,
        }
    }

    fn accepted(&mut self, specifier: &str, span: Span) -> Expression<'a> {
        self.collected.hot.accepts.push(specifier.to_owned());
        let at = self.at(span);
        self.mark(span, Mark::accept(specifier, at))
    }
}

impl<'a> VisitMut<'a> for Facts<'a, '_> {
    fn visit_expression(&mut self, it: &mut Expression<'a>) {
        match self.step(it) {
            Step::Walk => walk_mut::walk_expression(self, it),
            Step::Keep => {}
            Step::Replace(new) => {
                *it = new;
                // What a rebuilt call carries along still has to be looked at.
                if let Expression::CallExpression(call) = it {
                    self.visit_arguments(&mut call.arguments);
                }
            }
        }
    }

    fn visit_call_expression(&mut self, it: &mut CallExpression<'a>) {
        if self.mode == Mode::Development
            && let Expression::StaticMemberExpression(member) = &it.callee
            && is_meta(&member.object, "hot")
        {
            match &*member.property.name {
                "accept" => self.accept(it),
                "acceptExports" => self.collected.hot.accepts_self = true,
                _ => {}
            }
        }
        walk_mut::walk_call_expression(self, it);
    }

    fn visit_identifier_reference(&mut self, it: &mut IdentifierReference<'a>) {
        self.collected.refresh |= REFRESH.contains(&it.name.as_str());
    }

    fn visit_class(&mut self, it: &mut Class<'a>) {
        // Class components are registered by their exports, as in Vite's React plugin.
        let base = match it.heritage.as_ref().map(|heritage| &heritage.expression) {
            Some(Expression::Identifier(name)) => name.name.as_str(),
            Some(Expression::StaticMemberExpression(member)) => member.property.name.as_str(),
            _ => "",
        };
        self.collected.refresh |= base == "Component" || base == "PureComponent";
        walk_mut::walk_class(self, it);
    }

    fn visit_decorator(&mut self, it: &mut Decorator<'a>) {
        self.refuse(
            it.span,
            "decorators of the standard are not supported, as browsers do not know them yet",
            "set `experimentalDecorators` in tsconfig.json",
        );
    }

    fn visit_variable_declarator(&mut self, it: &mut VariableDeclarator<'a>) {
        // `const { VITE_A, SECRET } = import.meta.env`
        if let (BindingPattern::ObjectPattern(pattern), Some(init)) = (&it.id, &it.init)
            && is_meta(init, "env")
        {
            let names: Vec<_> =
                pattern.properties.iter().filter_map(|p| Some((p.key.static_name()?, p.span))).collect();
            for (name, span) in names {
                if !matches!(&*name, "DEV" | "PROD" | "SSR") {
                    self.env_name(&name, span);
                }
            }
        }
        walk_mut::walk_variable_declarator(self, it);
    }
}
