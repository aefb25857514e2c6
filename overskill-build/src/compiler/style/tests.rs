use super::*;
use crate::compiler::{Linked, StyleReferenceKind, link, link_style};
use proptest::prelude::*;

fn style(css: &str) -> Style {
    compile("src/a.css", css).unwrap_or_else(|problem| panic!("{problem}")).style.unwrap()
}

fn module(css: &str) -> Module {
    compile("src/card.module.css", css).unwrap_or_else(|problem| panic!("{problem}"))
}

#[test]
fn references_are_found_where_they_stand() {
    let css = "@charset \"utf-8\";\n@import './base.css' layer(base) screen and (min-width: 1px);\n\
               @import url(theme.css);\n/* url(no.png) @import 'no.css'; */\n\
               .a { background: url( \"./b\\\"c.png\" ) , URL(d.png); content: \"url(no.png)\"; }\n\
               .b { background: image-set(\"e.png\" 1x, url(f.png) 2x); }\n\
               @font-face { src: url('../g.woff2?x#y') format('woff2'); }\n\
               .c { fill: url(#id); mask: url(data:image/png;base64,xx); background: url(https://x.y/z.png), url(//a/b) }\n\
               @import url('https://fonts.example/css2?family=A');\n";
    let style = style(css);
    let found: Vec<_> =
        style.references.iter().map(|it| (&*it.specifier, &css[it.whole.clone()], it.at.line)).collect();
    assert_eq!(
        found,
        [
            ("./base.css", "@import './base.css' layer(base) screen and (min-width: 1px);", 2),
            ("theme.css", "@import url(theme.css);", 3),
            ("./b\"c.png", "url( \"./b\\\"c.png\" )", 5),
            ("d.png", "URL(d.png)", 5),
            ("e.png", "\"e.png\"", 6),
            ("f.png", "url(f.png)", 6),
            ("../g.woff2?x#y", "url('../g.woff2?x#y')", 7),
        ]
    );
    assert_eq!(style.references[0].kind, StyleReferenceKind::Import("layer(base) screen and (min-width: 1px)".into()));
    assert!(!style.tailwind);
    let same = link_style(&style, &mut |it| css[it.whole.clone()].to_owned());
    assert_eq!(same, css);
    let linked = link_style(&style, &mut |it| format!("<{}>", it.specifier));
    assert!(
        linked.contains("<./base.css>\n<theme.css>\n") && linked.contains("image-set(<e.png> 1x, <f.png> 2x)"),
        "{linked}"
    );
}

#[test]
fn what_tailwind_has_to_see() {
    for css in [
        "@tailwind base;",
        "@import \"tailwindcss\";",
        "@import 'tailwindcss/utilities' layer(utilities);",
        ".a { @apply p-4; }",
        "@theme { --color-x: red; }",
        ".a { color: theme(colors.red.500); }",
        "@custom-variant dark (&:is(.dark *));",
        ".a { margin: --spacing(4); }",
        "@config '../tailwind.config.js';",
    ] {
        assert!(style(css).tailwind, "{css}");
        assert_eq!(style(css).css, css);
    }
    for css in [".a { color: red }", "/* @apply */", "@layer base { a { color: red } }", ".theme { content: '@apply' }"]
    {
        assert!(!style(css).tailwind, "{css}");
    }
}

#[test]
fn mistakes_are_placed() {
    for (css, line, says) in [
        (".a { color: red;\n.b { color: blue; }\n", 1, "`}` is missing"),
        (".a { color: red; }\n}\n", 2, "closes nothing"),
        (".a { content: 'x\n; }\n", 1, "string is not closed"),
        (".a {}\n/* so\n", 2, "comment is not closed"),
        (".a { width: calc(1px + (2px); }\n", 1, "`)` is missing"),
    ] {
        let problem = compile("src/a.css", css).unwrap_err();
        assert_eq!((problem.kind, problem.at.unwrap().line), (ProblemKind::Syntax, line), "{problem}");
        assert!(problem.message.contains(says), "{problem}");
    }
    let warned = compile("src/a.css", ".a { color: red; }\n.b { colour red; }\n").unwrap().warnings;
    assert_eq!(warned.len(), 1, "{warned:?}");
    assert_eq!(warned[0].at.unwrap().line, 2);
}

#[test]
fn css_modules() {
    let module = module(
        ".card { color: red; composes: base glow; background: url(./a.png); }\n.base { composes: root; top: 0 }\n\
         .root { left: 0 }\n.glow { composes: shine from './fx.module.css'; composes: flex from global; animation: spin 1s }\n\
         @keyframes spin { to { rotate: 1turn } }\n:global(.plain) .a-b { right: 0 }\n.delete {}\n",
    );
    let style = module.style.as_ref().unwrap();
    let classes: BTreeMap<_, _> = style.classes.clone().unwrap().into_iter().collect();
    let hash = classes["root"].strip_prefix("_root_").unwrap().to_owned();
    assert!(hash.len() >= 5 && hash.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_".contains(&b)), "{hash}");
    assert_eq!(classes["card"], format!("_card_{hash} _base_{hash} _root_{hash} _glow_{hash} flex"));
    assert!(
        style.css.contains(".plain ._a-b_") && style.css.contains(&format!("@keyframes _spin_{hash}")),
        "{}",
        style.css
    );
    assert_eq!(style.references.len(), 1);
    assert_eq!(style.references[0].at.line, 1);
    assert_eq!(&style.css[style.references[0].whole.clone()], "url(\"./a.png\")");

    let exports = module.exports.as_ref().unwrap();
    assert!(
        exports.contains("card")
            && exports.contains("default")
            && exports.contains("delete")
            && !exports.contains("a-b")
    );
    let linked = link(&module, &mut |it| Linked::Url(format!("/src/{}", &it.specifier[2..])), &mut |_| unreachable!());
    assert!(linked.starts_with("import __overskill_composed0 from \"/src/fx.module.css\";\n"), "{linked}");
    assert!(linked.contains(&format!("\"_glow_{hash} flex\" + \" \" + __overskill_composed0[\"shine\"],")), "{linked}");
    assert_eq!(module.imports[0].at.line, 4);
}

#[test]
fn class_names_depend_on_the_path_and_the_name_alone() {
    let class = |path: &str, css: &str| compile(path, css).unwrap().style.unwrap().classes.unwrap()[0].1.clone();
    assert_eq!(class("src/a.module.css", ".x { top: 0 }"), class("src/a.module.css", "\n\n.x { top: 1px }"));
    assert_ne!(class("src/a.module.css", ".x { top: 0 }"), class("src/b.module.css", ".x { top: 0 }"));
    let problem = compile("src/a.module.css", ".x { top: 0 }\n.y { & & & {{ }\n}").unwrap_err();
    assert!(problem.at.is_some(), "{problem}");
}

proptest! {
    #[test]
    fn it_never_panics_and_places_hold(css in "[@a-z{}()\\[\\];:'\"/*\\\\. \nu,é-]{0,120}") {
        for path in ["src/a.css", "src/a.module.css"] {
            if let Ok(module) = compile(path, &css) {
                let style = module.style.unwrap();
                for it in &style.references {
                    prop_assert!(style.css.get(it.whole.clone()).is_some());
                }
            }
        }
    }

    #[test]
    fn urls_of_any_spelling_are_found(name in "[a-z]{1,8}", quote in "['\"]?", space in "[ ]{0,2}", before in "[a-z ]{0,5}") {
        let css = format!("/* {before} */ .a {{ b: url({space}{quote}{name}.png{quote}{space}) }}");
        let style = compile("src/a.css", &css).unwrap().style.unwrap();
        prop_assert_eq!(&style.references[0].specifier, &format!("{name}.png"));
    }
}
