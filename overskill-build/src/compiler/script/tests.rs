use super::*;
use crate::Location;
use crate::compiler::{Binding, ImportKind, Linked, link};

fn compiled(path: &str, source: &str) -> Module {
    let dialect = match path.rsplit('.').next().unwrap() {
        "tsx" => Dialect::Tsx,
        "ts" => Dialect::TypeScript,
        "jsx" => Dialect::Jsx,
        _ => Dialect::JavaScript,
    };
    compile(path, source, dialect, &CompilerOptions::development()).unwrap_or_else(|problem| panic!("{problem}"))
}

fn ts(source: &str) -> Module {
    compiled("src/a.ts", source)
}

fn refused(path: &str, source: &str) -> Problem {
    let dialect = if path.ends_with("tsx") { Dialect::Tsx } else { Dialect::TypeScript };
    compile(path, source, dialect, &CompilerOptions::development()).unwrap_err()
}

/// Every import and glob names the text that it says.
fn assert_places(module: &Module) {
    let mut last = 0;
    for import in &module.imports {
        assert!(import.whole.start >= last, "{import:?} is out of order in {}", module.code);
        last = import.whole.end;
        let literal = &module.code[import.literal.clone()];
        assert_eq!(serde_json::from_str::<String>(literal).unwrap(), import.specifier);
        let whole = &module.code[import.whole.clone()];
        let (begin, end) = match &import.kind {
            ImportKind::Static(_) => ("import ", ";"),
            ImportKind::ReExport(_) => ("export {", ";"),
            ImportKind::ReExportAll(_) => ("export *", ";"),
            ImportKind::Dynamic => ("import(", ")"),
            ImportKind::Url => ("new URL(", ", import.meta.url)"),
            ImportKind::Accept => ("\"", "\""),
        };
        assert!(whole.starts_with(begin) && whole.ends_with(end), "{whole:?} of {import:?}");
    }
    for glob in &module.globs {
        let whole = &module.code[glob.whole.clone()];
        assert!(whole.starts_with("import.meta.glob([") && whole.ends_with(')'), "{whole:?}");
    }
}

const APP: &str = "import { useState } from 'react';\nimport type { Foo } from './types';\nimport './App.css';\ninterface P { n: number }\nexport default function App({ n }: P) {\n  const [c, set] = useState<number>(n);\n  return <button className=\"p-4\" onClick={() => set(c + 1)}>count {c}</button>;\n}\n";

#[test]
fn react_refresh_signs_as_vite_does() {
    let module = compiled("src/App.tsx", APP);
    assert!(module.refresh);
    assert!(module.code.contains("_s(App, \"MUjdcRMjvwVVrzLOco/cKBXgC1g=\");"), "{}", module.code);
    assert!(module.code.contains("$RefreshReg$(_c, \"App\");"), "{}", module.code);
    assert!(module.code.contains("jsxDEV"), "{}", module.code);
    assert!(module.code.contains("_jsxFileName = \"src/App.tsx\""), "{}", module.code);
    assert!(module.code.contains("lineNumber: 7"), "{}", module.code);
    let names: Vec<&str> = module.imports.iter().map(|import| &*import.specifier).collect();
    assert_eq!(names, ["react", "./App.css", "react/jsx-dev-runtime"], "{}", module.code);
    assert_eq!(module.exports, Some(["default".to_owned()].into()));
    assert_places(&module);
}

#[test]
fn places_in_the_source_and_in_the_code() {
    let module = ts(
        "// a\nimport d, { a as b, 'x y' as z } from './d';\nimport * as ns from \"./n\";\nexport { a, default as q } from './r';\nexport * from './s';\nexport * as t from './t';\nexport const u = import('./u').then((m) => [m, d, b, z, ns]);\nexport const v = new URL('./v.png', import.meta.url).href;\n",
    );
    assert_places(&module);
    let lines: Vec<_> = module.imports.iter().map(|import| (&*import.specifier, import.at.line)).collect();
    assert_eq!(lines, [("./d", 2), ("./n", 3), ("./r", 4), ("./s", 5), ("./t", 6), ("./u", 7), ("./v.png", 8)]);
    assert_eq!(module.imports[5].at.column, 18);
    assert_eq!(
        module.imports[0].kind,
        ImportKind::Static(vec![
            Binding::Default("d".into()),
            Binding::Named { imported: "a".into(), local: "b".into() },
            Binding::Named { imported: "x y".into(), local: "z".into() },
        ])
    );
    assert_eq!(module.exports, None, "nobody knows what `export *` brings");
    let same = link(&module, &mut |import| Linked::Url(import.specifier.clone()), &mut |_| unreachable!());
    assert_eq!(same, module.code);
}

#[test]
fn syntax_errors_have_a_place_and_a_frame() {
    let problem = refused("src/Bad.tsx", "export default () => (\n  <div>\n    <p>hi</div>\n);\n");
    assert_eq!(problem.kind, ProblemKind::Syntax);
    assert_eq!(problem.at.unwrap().line, 3, "{problem}");
    assert!(problem.frame.as_ref().unwrap().contains("> 3 |     <p>hi</div>"), "{:?}", problem.frame);
    let twice = refused("src/a.ts", "const a = 1;\nconst a = 2;\n");
    assert!(twice.message.contains("already been declared"), "{twice}");
}

#[test]
fn what_only_types_name_is_gone() {
    let module = ts(
        "import { A, type B, c } from './x';\nimport D from './d';\nimport E = require('./e');\nexport type { F } from './f';\nexport { type G } from './g';\nlet a: A; let d: D; c(); export interface H {}; export type I = B;\n",
    );
    let names: Vec<_> = module.imports.iter().map(|import| &*import.specifier).collect();
    assert_eq!(names, ["./x"], "{}", module.code);
    assert!(module.code.starts_with("import { c } from \"./x\";\n"), "{}", module.code);
    let verbatim = CompilerOptions { verbatim_modules: true, ..CompilerOptions::development() };
    let source = "import { A, type B } from './x';\nimport D from './d';\n";
    let module = compile("src/a.ts", source, Dialect::TypeScript, &verbatim).unwrap();
    assert_eq!(module.imports.len(), 2, "{}", module.code);
    let js = compiled("src/a.js", "import { unused } from './x';\n");
    assert_eq!(js.imports.len(), 1, "{}", js.code);
}

#[test]
fn typescript_that_is_more_than_types() {
    let module = ts(
        "export enum Color { Red, Blue = 'b' }\nnamespace N { export const x = 1 }\nexport class C { constructor(private readonly p: number, public q = N.x) {} f?: string; static { C.length } }\nexport const s = <const T,>(x: T) => x satisfies unknown as any;\nexport abstract class G<T> { declare z: T; abstract m(): void; w!: number }\n",
    );
    for gone in ["enum ", "namespace", "private", "satisfies", "declare", "abstract"] {
        assert!(!module.code.contains(gone), "{gone} in {}", module.code);
    }
    assert!(module.code.contains("this.p = p") && module.code.contains("f;"), "{}", module.code);
    assert_eq!(module.exports, Some(["Color", "C", "s", "G"].map(str::to_owned).into()));
    let set = CompilerOptions { define_class_fields: false, ..CompilerOptions::development() };
    let module = compile("src/a.ts", "class C { a = 1; b?: string }\n", Dialect::TypeScript, &set).unwrap();
    assert!(module.code.contains("this.a = 1") && !module.code.contains('b'), "{}", module.code);
}

#[test]
fn decorators() {
    let source = "import { tag } from './tag';\n@tag class A { @tag field = 1; @tag method(@tag p: string) {} }\n";
    let legacy = CompilerOptions { legacy_decorators: true, ..CompilerOptions::development() };
    let module = compile("src/a.ts", source, Dialect::TypeScript, &legacy).unwrap();
    assert!(module.code.contains("const _decorate = function(decorators"), "{}", module.code);
    assert!(module.code.contains("const _decorateParam = "), "{}", module.code);
    let names: Vec<_> = module.imports.iter().map(|import| &*import.specifier).collect();
    assert_eq!(names, ["./tag"], "helpers come from nowhere else: {}", module.code);
    let problem = refused("src/a.ts", source);
    assert!(problem.help.as_ref().unwrap().contains("experimentalDecorators"), "{problem}");
}

#[test]
fn the_environment() {
    let module = ts(
        "export const a = [import.meta.env.DEV, import.meta.env.PROD, import.meta.env?.SSR, import.meta.env['DEV'], process.env.NODE_ENV];\nexport const b = [import.meta.env.VITE_X, import.meta.env.MODE, import.meta.env.BASE_URL.length, (import.meta as any).env.VITE_Y?.z];\n",
    );
    assert!(
        module.code.contains("export const a = [\n\ttrue,\n\tfalse,\n\tfalse,\n\ttrue,\n\t\"development\"\n];"),
        "{}",
        module.code
    );
    assert_eq!(module.env, ["VITE_X", "MODE", "BASE_URL", "VITE_Y"].map(str::to_owned).into());
    assert_eq!(
        ts("use(import.meta.env);\nconst { VITE_Q, DEV } = import.meta.env;\n").env,
        ["*", "VITE_Q"].map(str::to_owned).into()
    );
    let production = compile(
        "src/a.ts",
        "if (import.meta.env.PROD && process.env.NODE_ENV) import.meta.hot?.accept();\n",
        Dialect::TypeScript,
        &CompilerOptions::production(),
    )
    .unwrap();
    assert_eq!(production.code, "if (true && \"production\") undefined?.accept();\n");
    assert!(!production.hot.used && !production.hot.accepts_self);

    for source in [
        "const k = import.meta.env.SUPABASE_SERVICE_KEY;\n",
        "const k = import.meta.env['SUPABASE_SERVICE_KEY'];\n",
        "const { SUPABASE_SERVICE_KEY } = import.meta.env;\n",
        "f(import.meta.env?.SUPABASE_SERVICE_KEY);\n",
    ] {
        let problem = refused("src/a.ts", source);
        assert_eq!(problem.kind, ProblemKind::Unsupported);
        assert!(problem.to_string().contains("`VITE_SUPABASE_SERVICE_KEY`"), "{problem}");
        assert!(problem.at.is_some() && problem.frame.is_some());
    }
    let module = ts("function f(process) { return process.env.NODE_ENV }\nexport const g = process.env.API;\n");
    assert!(module.code.contains("return process.env.NODE_ENV"), "another `process`: {}", module.code);
    assert_eq!(module.warnings.len(), 1);
    assert!(module.warnings[0].message.contains("process.env.API"));
}

#[test]
fn hot_updates() {
    let own = ts("import.meta.hot?.accept();\nif (import.meta.hot) { import.meta.hot.dispose(() => {}) }\n");
    assert!(own.hot.used && own.hot.accepts_self && own.hot.accepts.is_empty());
    assert!(ts("import.meta.hot!.accept((m) => m);\n").hot.accepts_self);
    let deps = ts(
        "import.meta.hot.accept('./a', (m) => m);\nimport.meta.hot.accept(['./b', `./c`], ([b, c]) => b ?? import('./d'));\n",
    );
    assert!(!deps.hot.accepts_self);
    assert_eq!(deps.hot.accepts, ["./a", "./b", "./c"]);
    assert_places(&deps);
    let code = link(
        &deps,
        &mut |import| match import.kind {
            ImportKind::Accept => Linked::Url(format!("/src/{}.ts", &import.specifier[2..])),
            _ => Linked::Url("/d".into()),
        },
        &mut |_| unreachable!(),
    );
    assert_eq!(
        code,
        "import.meta.hot.accept(\"/src/a.ts\", (m) => m);\nimport.meta.hot.accept([\"/src/b.ts\", \"/src/c.ts\"], ([b, c]) => b ?? import(\"/d\"));\n"
    );
    assert!(!ts("const s = 'import.meta.hot.accept()';\n").hot.used);
    let problem = refused("src/a.ts", "import.meta.hot.accept([name], () => {});\n");
    assert!(problem.message.contains("array of strings"), "{problem}");
}

#[test]
fn globs() {
    let module = ts(
        "const a = import.meta.glob('./pages/*.tsx');\nconst b = import.meta.glob<Mod>(['./x/**/*.ts', '!**/y.ts'], { eager: true, import: 'default', query: 'raw' });\nimport.meta.glob(`@/z/*.md`, { as: 'raw' });\n",
    );
    assert_places(&module);
    let [a, b, c] = &module.globs[..] else { panic!("{:?}", module.globs) };
    assert_eq!((&*a.patterns, a.eager, &a.import, &a.query), (&["./pages/*.tsx".to_owned()][..], false, &None, &None));
    assert_eq!((b.eager, b.import.as_deref(), b.query.as_deref()), (true, Some("default"), Some("?raw")));
    assert_eq!(b.patterns, ["./x/**/*.ts", "!**/y.ts"]);
    assert_eq!((c.import.as_deref(), c.query.as_deref(), c.at.line), (Some("default"), Some("?raw"), 3));
    let code = link(&module, &mut |_| unreachable!(), &mut |glob| format!("{{ n: {} }}", glob.patterns.len()));
    assert_eq!(code, "const a = ({ n: 1 });\nconst b = ({ n: 2 });\n({ n: 1 });\n");

    for (source, says) in [
        ("import.meta.glob(pattern)", "a string or an array"),
        ("import.meta.glob(`./${x}/*.ts`)", "a string or an array"),
        ("import.meta.glob('./a', options)", "not an object literal"),
        ("import.meta.glob('./a', { eager: yes })", "option `eager`"),
        ("import.meta.glob('./a', { base: './b' })", "option `base`"),
        ("import.meta.globEager('./a')", "gone since Vite 3"),
    ] {
        let problem = refused("src/a.ts", source);
        assert!(problem.message.contains(says), "{problem}");
    }
}

#[test]
fn dynamic_imports() {
    let module = ts(
        "const a = await import('./a');\nconst b = (name: string) => import(`./pages/${name}/index.tsx`);\nconst c = import(`./c`);\nexport { a, b, c };\n",
    );
    assert_places(&module);
    let names: Vec<_> = module.imports.iter().map(|import| &*import.specifier).collect();
    assert_eq!(names, ["./a", "./c"]);
    assert_eq!(module.globs[0].patterns, ["./pages/*/index.tsx"]);
    assert!(module.code.contains(")(`./pages/${name}/index.tsx`);"), "{}", module.code);
    let odd = ts(
        "const a = (x: string) => import(x);\nconst b = (x: string) => import(`@/p/${x}`);\nconst c = new URL(`./${a}.png`, import.meta.url);\nrequire('x');\n",
    );
    assert!(odd.imports.is_empty() && odd.globs.is_empty());
    let lines: Vec<_> = odd.warnings.iter().map(|warning| warning.at.unwrap().line).collect();
    assert_eq!(lines, [1, 2, 3, 4], "{:?}", odd.warnings);
}

#[test]
fn addresses_of_files() {
    let module = ts(
        "new Worker(new URL('./w.ts', import.meta.url), { type: 'module' });\nnew URL('https://a.b/c', import.meta.url);\nnew URL('./no.png', location.href);\nnew URL('./no.png');\n",
    );
    assert_eq!(module.imports.len(), 1);
    assert_places(&module);
    let code = link(&module, &mut |_| Linked::Url("/src/w.ts?t=1".into()), &mut |_| unreachable!());
    assert!(
        code.starts_with("new Worker(new URL(\"/src/w.ts?t=1\", import.meta.url), { type: \"module\" });\n"),
        "{code}"
    );
}

#[test]
fn text_that_looks_like_imports_is_left_alone() {
    let source = "// import a from './a'\n/* export * from './b' */\nexport const s = \"import c from './c'; import('./d')\";\nexport const t = `import e from './e'`;\nexport const r = /import f from '.\\/f'/;\n";
    let module = compiled("src/a.js", source);
    assert!(module.imports.is_empty(), "{:?}", module.imports);
    let linked = link(&module, &mut |_| unreachable!(), &mut |_| unreachable!());
    assert_eq!(linked, module.code);
    for kept in ["import c from './c'; import('./d')", "import e from './e'", "import f from '.\\/f'"] {
        assert!(linked.contains(kept), "{kept}: {linked}");
    }
    let forged = "const __overskill_mark0_0$ = 1;\nimport './x';\nconst s = '\\u005f_overskill_mark1_0$';\n";
    match compile("src/a.js", forged, Dialect::JavaScript, &CompilerOptions::development()) {
        Ok(module) => assert_places(&module),
        Err(problem) => assert!(problem.message.contains("uses itself"), "{problem}"),
    }
}

#[test]
fn jsx_of_other_libraries() {
    let preact = CompilerOptions { jsx_import_source: Some("preact".into()), ..CompilerOptions::development() };
    let module = compile("src/a.tsx", "export default () => <p/>;\n", Dialect::Tsx, &preact).unwrap();
    assert_eq!(module.imports[0].specifier, "preact/jsx-dev-runtime");
    let classic = CompilerOptions {
        jsx_factory: Some("h".into()),
        jsx_fragment: Some("Fragment".into()),
        ..CompilerOptions::development()
    };
    let source = "import { h, Fragment } from 'preact';\nexport const a = <><p class=\"x\">1</p></>;\n";
    let module = compile("src/a.tsx", source, Dialect::Tsx, &classic).unwrap();
    assert!(
        module.code.contains("h(Fragment, null, /* @__PURE__ */ h(\"p\", { class: \"x\" }, \"1\"))"),
        "{}",
        module.code
    );
    let production = compile("src/a.tsx", APP, Dialect::Tsx, &CompilerOptions::production()).unwrap();
    assert!(!production.refresh && production.imports.iter().any(|import| import.specifier == "react/jsx-runtime"));
    let js = compiled("src/a.js", "export function App() { return <p>js</p>; }\n");
    assert!(js.refresh && js.code.contains("jsxDEV"), "{}", js.code);
    assert!(!ts("export function useX() { return useState(1); }\n").refresh, "as in Vite, only where JSX may stand");
    assert!(
        compiled("src/b.tsx", "export default class B extends React.Component { render() { return null } }\n").refresh
    );
}

#[test]
fn what_is_not_walked_through_says_what_the_walk_would() {
    let hook = "import { useState } from 'react';\nexport function useX() { return useState(1); }\nexport const A = () => <p>{useX()}</p>;\n";
    for (path, source) in [
        ("src/App.tsx", APP),
        ("src/hook.tsx", hook),
        ("src/hook.ts", "import { useState } from 'react';\nexport const useX = () => useState(1);\n"),
        ("src/a.ts", "import { b } from './b';\nexport * as c from './c';\nexport enum D { E = b }\n"),
        ("src/a.js", "export const a = () => $RefreshReg$(1);\n"),
        ("src/b.js", "export const a = ($RefreshReg$) => $RefreshReg$(1);\n"),
        ("src/empty.tsx", ""),
    ] {
        let skimmed = compiled(path, source);
        let walked = compiled(path, &format!("{source}import.meta;\n"));
        let said = |it: &Module| (it.refresh, it.imports.clone(), it.exports.clone(), it.env.clone(), it.hot.clone());
        assert_eq!(said(&skimmed), said(&walked), "{path}");
    }
}

/// For every identifier that stands once in source and code: the map leads from its place in the code to that in the source.
fn assert_map(source: &str, code: &str, map: &str, names: &[&str]) {
    let map = oxc_sourcemap::SourceMap::from_json_string(map).unwrap();
    assert_eq!(map.get_source_content(0), Some(source));
    let table = map.generate_lookup_table();
    for name in names {
        let (there, here) =
            (Lines::of(code).at(code.find(name).unwrap()), Lines::of(source).at(source.find(name).unwrap()));
        let token = map.lookup_token(&table, there.line - 1, there.column - 1).unwrap();
        assert_eq!((token.get_src_line() + 1, token.get_src_col() + 1), (here.line, here.column), "{name} in {code}");
    }
}

#[test]
fn source_maps_lead_back() {
    let source = "import alpha from './é'; import './y';\ninterface Gone { x: 1 }\n\nexport const beta = 1, p = import('./long-name-of-a-module').then(gamma => gamma), u = [new URL('./z', import.meta.url), delta, import('./q'), epsilon];\nexport function zeta() { return alpha }\n";
    let module = ts(source);
    assert!(module.code.contains("then((gamma) => gamma)"), "{}", module.code);
    let map = module.source_map.clone().unwrap();
    assert!(map.contains("\"sources\":[\"a.ts\"]"), "{map}");
    assert_map(source, &module.code, &map, &["beta", "gamma", "delta", "epsilon", "zeta", "import(", "new URL"]);
    let many = format!("f({});\nexport const omega = 1;\n", "import('./é'), é, ".repeat(2_000));
    let module = ts(&many);
    assert_map(&many, &module.code, module.source_map.as_ref().unwrap(), &["omega"]);
    assert_eq!(module.imports.last().unwrap().at, Location::of(&many, many.rfind("import(").unwrap()));
    let module = ts(source);
    // Linking moves columns after an address, and never lines.
    let linked = link(&module, &mut |_| Linked::CommonJs("/@npm/x/y.js".into()), &mut |_| unreachable!());
    assert_eq!(linked.lines().count(), module.code.lines().count());
    assert_map(source, &linked, &map, &["beta", "zeta"]);
}
