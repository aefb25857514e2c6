//! Which scripts hold nothing but imports and exports that [`Facts`](super::facts::Facts) is about: most of them. A walk
//! through their syntax trees finds nothing.

use oxc::{semantic::Scoping, syntax::module_record::ModuleRecord};

/// The names that React components are registered by.
pub(super) const REFRESH: [&str; 2] = ["$RefreshReg$", "$RefreshSig$"];

/// What the whole syntax tree would say, if that is known without walking through it: whether components are registered.
///
/// What the walk looks for is an `import()` or hangs on `import.meta`, which the parser has noted; or is a class, and
/// `classes` says whether there are some; or is a global of these names.
pub(super) fn registers_components(
    source: &str,
    record: &ModuleRecord<'_>,
    classes: bool,
    scoping: &Scoping,
) -> Option<bool> {
    let globals = scoping.root_unresolved_references();
    let nothing = record.import_metas.is_empty()
        && record.dynamic_imports.is_empty()
        && !classes
        && !["process", "require"].iter().any(|name| globals.contains_key(*name))
        // Names that the source itself binds are no globals.
        && !source.contains("$Refresh");
    nothing.then(|| REFRESH.iter().any(|name| globals.contains_key(*name)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use oxc::{allocator::Allocator, parser::Parser, semantic::SemanticBuilder, span::SourceType};

    fn skimmed(source: &str) -> Option<bool> {
        let allocator = Allocator::default();
        let parsed = Parser::new(&allocator, source, SourceType::tsx()).parse();
        assert!(parsed.diagnostics.is_empty(), "{source}: {:?}", parsed.diagnostics);
        let semantic = SemanticBuilder::new().with_check_syntax_error(true).build(&parsed.program).semantic;
        registers_components(source, &parsed.module_record, semantic.classes().len() > 0, semantic.scoping())
    }

    #[test]
    fn what_the_walk_is_for_is_walked_through() {
        for source in [
            "f(import.meta.env.DEV);",
            "f(import /* a */ . meta?.env);",
            "const { VITE_A } = (import.meta).env;",
            "const a = <p a={import.meta.env.DEV}/>;",
            "(a = import.meta) => a;",
            "import(x);",
            "const f = <T,>(a = import('./a')) => a;",
            "type A = 1; export default async () => await import('./a');",
            "export const a = process.env.NODE_ENV;",
            "pr\\u006fcess.env.A;",
            "function f(a) { return process.env.A } function g(process) { return process }",
            "require('a');",
            "if (a) { class A {} }",
            "export default class extends B {}",
            "const a = class{};",
            "const a = [class/**/A {}];",
            "@tag class A {}",
            "function f($RefreshReg$) { $RefreshReg$() }",
        ] {
            assert_eq!(skimmed(source), None, "{source}");
        }
    }

    #[test]
    fn the_rest_is_not() {
        for (source, registers) in [
            ("", false),
            ("import a from './a'; export * from './b'; export default <a className=\"c\"/>;", false),
            ("type A = import('./a').A; export const processed = (a: A) => a.process.env;", false),
            ("export function f(process, require) { require('a'); return process.env.B; }", false),
            ("const classes = { class: 'class A {}', import: f.import.meta };", false),
        ] {
            assert_eq!(skimmed(source), Some(registers), "{source}");
        }
    }
}
