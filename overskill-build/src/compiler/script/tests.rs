use super::*;
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
