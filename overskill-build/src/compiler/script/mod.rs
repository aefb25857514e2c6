//! Scripts: TypeScript, JSX and JavaScript to modules. Only this module and its children name oxc.

mod emit;
mod facts;
mod literals;
mod marks;
mod skim;

pub(crate) use facts::PAGE_ENV;
pub(super) use oxc::syntax::identifier::is_identifier_name;

use super::{CompilerOptions, Mode, Module, lines::Lines};
use crate::{Problem, ProblemKind};
use facts::Facts;
use oxc::{
    allocator::Allocator,
    codegen::{Codegen, CodegenOptions},
    diagnostics::{OxcDiagnostic, Severity},
    parser::{ParseOptions, Parser},
    semantic::SemanticBuilder,
    span::SourceType,
    transformer::{JsxOptions, JsxRuntime, ReactRefreshOptions, TransformOptions, Transformer, TypeScriptOptions},
};
use std::path::Path;

/// Sorts of scripts, by what their syntax may hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Dialect {
    /// `.js` and the like; JSX is let pass, as many apps have it there.
    JavaScript,
    /// `.jsx`.
    Jsx,
    /// `.ts`.
    TypeScript,
    /// `.tsx`.
    Tsx,
}

/// Compiles a script. `path` is the app's own path of it, for source maps and for React's notes of where elements come from.
pub(super) fn compile(
    path: &str,
    source: &str,
    dialect: Dialect,
    options: &CompilerOptions,
) -> Result<Module, Problem> {
    let allocator = Allocator::default();
    let source_type = match dialect {
        Dialect::JavaScript | Dialect::Jsx => SourceType::jsx().with_module(true),
        Dialect::TypeScript => SourceType::ts(),
        Dialect::Tsx => SourceType::tsx(),
    };
    let parse = ParseOptions { preserve_parens: false, ..ParseOptions::default() };
    let parsed = Parser::new(&allocator, source, source_type).with_options(parse).parse();
    if let Some(problem) = first_problem(source, &parsed.diagnostics) {
        return Err(problem);
    }
    let mut program = parsed.program;
    let semantic = SemanticBuilder::new()
        .with_check_syntax_error(true)
        .with_excess_capacity(2.0)
        .with_enum_eval(true)
        .build(&program);
    if let Some(problem) = first_problem(source, &semantic.diagnostics) {
        return Err(problem);
    }
    let classes = semantic.semantic.classes().len() > 0;
    let transform = transform_options(source, dialect, options);
    let transformed = Transformer::new(&allocator, Path::new(path), &transform)
        .build_with_scoping(semantic.semantic.into_scoping(), &mut program);
    if let Some(problem) = first_problem(source, &transformed.diagnostics) {
        return Err(problem);
    }
    let lines = Lines::of(source);
    let mut facts = Facts::new(&allocator, &transformed.scoping, &lines, options.mode);
    let registers = skim::registers_components(source, &parsed.module_record, classes, &transformed.scoping);
    facts.collect(&mut program, registers);
    let facts = facts.finish()?;

    let name = path.rsplit('/').next().unwrap_or(path);
    let codegen = CodegenOptions { source_map_path: Some(name.into()), ..CodegenOptions::default() };
    let generated = Codegen::new().with_options(codegen).build(&program);
    let emitted = emit::put_marks_in(generated.code, generated.map, facts.marks).ok_or_else(|| {
        Problem::new(ProblemKind::Unsupported, "the source holds names that this compiler uses itself")
            .help(format!("rename what begins with `{}`", marks::STEM))
    })?;
    Ok(Module {
        code: emitted.code,
        source_map: emitted.source_map.map(Into::into),
        imports: emitted.imports,
        globs: emitted.globs,
        refresh: facts.refresh && transform.jsx.refresh.is_some(),
        hot: facts.hot,
        env: facts.env,
        exports: facts.exports,
        warnings: facts.warnings,
        style: None,
    })
}

/// What the parser, the transformer and the printer do by themselves with the same options: code and its source map. The
/// benchmarks set [`compile`] against it.
#[cfg(feature = "bare-peer")]
pub(super) fn bare(path: &str, source: &str, dialect: Dialect, options: &CompilerOptions) -> Option<(String, String)> {
    let allocator = Allocator::default();
    let source_type = match dialect {
        Dialect::JavaScript | Dialect::Jsx => SourceType::jsx().with_module(true),
        Dialect::TypeScript => SourceType::ts(),
        Dialect::Tsx => SourceType::tsx(),
    };
    let parse = ParseOptions { preserve_parens: false, ..ParseOptions::default() };
    let parsed = Parser::new(&allocator, source, source_type).with_options(parse).parse();
    let mut program = parsed.program;
    let semantic = SemanticBuilder::new()
        .with_check_syntax_error(true)
        .with_excess_capacity(2.0)
        .with_enum_eval(true)
        .build(&program);
    if !parsed.diagnostics.is_empty() || !semantic.diagnostics.is_empty() {
        return None;
    }
    let transform = transform_options(source, dialect, options);
    let transformed = Transformer::new(&allocator, Path::new(path), &transform)
        .build_with_scoping(semantic.semantic.into_scoping(), &mut program);
    if !transformed.diagnostics.is_empty() {
        return None;
    }
    let codegen = CodegenOptions { source_map_path: Some(path.into()), ..CodegenOptions::default() };
    let generated = Codegen::new().with_options(codegen).build(&program);
    Some((generated.code, generated.map?.to_json_string()))
}

fn transform_options(source: &str, dialect: Dialect, options: &CompilerOptions) -> TransformOptions {
    let development = options.mode == Mode::Development;
    let jsx_here = match dialect {
        Dialect::Jsx | Dialect::Tsx => true,
        Dialect::JavaScript => source.contains("/>") || source.contains("</"),
        Dialect::TypeScript => false,
    };
    let classic = options.jsx_factory.is_some();
    let jsx = JsxOptions {
        runtime: if classic { JsxRuntime::Classic } else { JsxRuntime::Automatic },
        development: development && !classic,
        import_source: options.jsx_import_source.clone().filter(|_| !classic),
        pragma: options.jsx_factory.clone(),
        pragma_frag: options.jsx_fragment.clone().filter(|_| classic),
        refresh: (development && options.refresh && jsx_here).then(ReactRefreshOptions::default),
        ..JsxOptions::enable()
    };
    let mut typescript = TypeScriptOptions {
        only_remove_type_imports: options.verbatim_modules,
        remove_class_fields_without_initializer: !options.define_class_fields,
        ..TypeScriptOptions::default()
    };
    if let Some(factory) = &options.jsx_factory {
        typescript.jsx_pragma = factory.clone().into();
    }
    if let Some(fragment) = options.jsx_fragment.as_ref().filter(|_| classic) {
        typescript.jsx_pragma_frag = fragment.clone().into();
    }
    let mut transform = TransformOptions { jsx, typescript, ..TransformOptions::default() };
    transform.decorator.legacy = options.legacy_decorators;
    transform.decorator.emit_decorator_metadata = options.decorator_metadata && options.legacy_decorators;
    transform.assumptions.set_public_class_fields = !options.define_class_fields;
    transform
}

fn first_problem(source: &str, diagnostics: &[OxcDiagnostic]) -> Option<Problem> {
    let first = diagnostics.iter().find(|diagnostic| diagnostic.severity == Severity::Error)?;
    let mut problem = Problem::new(ProblemKind::Syntax, first.message.to_string());
    if let Some(help) = &first.help {
        problem = problem.help(help.to_string());
    }
    let place = first.labels.iter().find(|label| label.primary()).or_else(|| first.labels.first());
    Some(match place {
        Some(label) => problem.at_offset(source, label.offset() as usize),
        None => problem,
    })
}

#[cfg(test)]
mod tests;
