//! How deep a script may nest. Parsers recurse, and a process that serves many apps must not overflow its stack for one, nor
//! think for minutes.

use crate::{Problem, ProblemKind};

/// Most brackets within each other.
const MAX_BRACKETS: usize = 1_000;

/// Most `<` that nothing closes in one statement: each may begin type arguments, and every guess is tried.
const MAX_ANGLES: usize = 250;

/// Most statements and operators within each other that need no bracket (`if (a) if (b) …`).
const MAX_RUN: usize = 1_000;

/// Most stack that a script is given.
const MAX_STACK_BYTES: usize = 512 << 20;

/// The stack that parsing `source` may need at most, or what is too deep.
///
/// The stack is counted over all bytes, whether or not they stand in strings, so no source can need more. The other limits
/// are there to refuse sensibly.
pub(super) fn stack_bytes(source: &str) -> Result<usize, Problem> {
    let needed = (1 << 20) + source.bytes().map(cost).sum::<usize>() + keywords(source.as_bytes());
    if let Some(problem) = too_deep(source) {
        return Err(problem);
    }
    if needed > MAX_STACK_BYTES {
        return Err(Problem::new(ProblemKind::Limit, "the script is too large to be compiled safely")
            .help("split it, or put its data into a JSON file"));
    }
    Ok(needed)
}

/// Bytes of stack that a level may take that begins with this byte: about twice what was measured without optimisation.
fn cost(byte: u8) -> usize {
    match byte {
        b'{' => 10 << 10,
        b'(' | b'[' | b'<' => 6 << 10,
        b'=' | b'*' | b'`' => 3 << 10,
        b'!' | b'~' | b'+' | b'-' | b'/' | b'%' | b'&' | b'|' | b'^' | b'?' | b':' | b'.' | b'>' | b'@' => 1 << 10,
        _ => 0,
    }
}

/// The same for words that begin a level.
fn keywords(source: &[u8]) -> usize {
    words(source).filter(|(_, word)| is_opening(word)).count() * (3 << 10)
}

fn words(source: &[u8]) -> impl Iterator<Item = (usize, &[u8])> {
    let is_word = |byte: &u8| byte.is_ascii_lowercase();
    let mut at = 0;
    std::iter::from_fn(move || {
        at += source[at..].iter().position(is_word)?;
        let start = at;
        at += source[at..].iter().position(|byte| !is_word(byte)).unwrap_or(source.len() - at);
        Some((start, &source[start..at]))
    })
}

fn is_opening(word: &[u8]) -> bool {
    matches!(
        word,
        b"new"
            | b"await"
            | b"typeof"
            | b"void"
            | b"delete"
            | b"yield"
            | b"if"
            | b"else"
            | b"for"
            | b"while"
            | b"do"
            | b"with"
            | b"as"
            | b"in"
            | b"of"
            | b"instanceof"
            | b"satisfies"
            | b"async"
            | b"keyof"
            | b"infer"
            | b"extends"
            | b"readonly"
            | b"unique"
            | b"function"
            | b"class"
            | b"is"
            | b"asserts"
            | b"try"
            | b"case"
            | b"throw"
            | b"return"
    )
}

struct Level {
    close: u8,
    angles: usize,
    run: usize,
}

fn too_deep(source: &str) -> Option<Problem> {
    let bytes = source.as_bytes();
    let level = |close| Level { close, angles: 0, run: 0 };
    let mut open = vec![level(0)];
    let mut at = 0;
    while let Some(&byte) = bytes.get(at) {
        let start = at;
        at += 1;
        let here = open.last_mut()?;
        match byte {
            b'"' | b'\'' => at = after_string(bytes, start),
            b'/' if bytes.get(at) == Some(&b'/') => at += source[at..].find('\n').unwrap_or(bytes.len() - at),
            b'/' if bytes.get(at) == Some(&b'*') => {
                at = source[at + 1..].find("*/").map_or(bytes.len(), |end| at + 1 + end + 2);
            }
            b'(' => open.push(level(b')')),
            b'[' => open.push(level(b']')),
            b'{' => {
                here.run = 0;
                open.push(level(b'}'));
            }
            b')' | b']' | b'}' => {
                // What stands between, text of JSX for one, may leave some open.
                if let Some(opened) = open.iter().rposition(|level| level.close == byte) {
                    open.truncate(opened);
                }
                let here = open.last_mut()?;
                if byte == b'}' {
                    (here.run, here.angles) = (0, 0);
                }
            }
            b';' | b',' => (here.run, here.angles) = (0, 0),
            b'<' => here.angles += 1,
            b'>' if bytes[..start].last() != Some(&b'=') => here.angles = here.angles.saturating_sub(1),
            b':' | b'!' | b'~' => here.run += 1,
            b'a'..=b'z' => {
                let (_, word) = words(&bytes[start..]).next()?;
                at = start + word.len();
                here.run += usize::from(is_opening(word));
            }
            _ => {}
        }
        let here = open.last()?;
        let (what, most) = if open.len() > MAX_BRACKETS {
            ("brackets", MAX_BRACKETS)
        } else if here.angles > MAX_ANGLES {
            ("`<`", MAX_ANGLES)
        } else if here.run > MAX_RUN {
            ("statements or operators", MAX_RUN)
        } else {
            continue;
        };
        let message = format!("more than {most} {what} within each other");
        return Some(Problem::new(ProblemKind::Limit, message).help("write it flatter").at_offset(source, start));
    }
    None
}

/// The place after a string that begins at `start`; strings end with their line.
fn after_string(bytes: &[u8], start: usize) -> usize {
    let mut at = start + 1;
    while let Some(byte) = bytes.get(at) {
        match byte {
            b'\\' => at += 1,
            b'\n' => return at,
            byte if *byte == bytes[start] => return at + 1,
            _ => {}
        }
        at += 1;
    }
    bytes.len()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compiler::{Compiler, CompilerOptions, Query};
    use overskill_core::{AppFile, FilePath};

    fn nested(open: &str, close: &str, levels: usize) -> String {
        format!("x = {}1{};\n", open.repeat(levels), close.repeat(levels))
    }

    #[test]
    fn deep_sources_are_refused_or_compiled_but_never_overflow() {
        let shapes = [
            ("(", ")"),
            ("[", "]"),
            ("{a:", "}"),
            ("!", ""),
            ("a=>", ""),
            ("(a)=>", ""),
            ("a+", ""),
            ("a**", ""),
            ("a=", ""),
            ("a?b:", ""),
            ("a(", ")"),
            ("`${", "}`"),
            ("class{a=", "}"),
            ("function(){", "}"),
            ("new ", ""),
            ("a<", ""),
            ("<a>", "</a>"),
            ("\"(\",(", ")"),
            ("/*)*/(", ")"),
            ("await ", ""),
            ("a as ", ""),
            ("a ? (", ") : 1"),
        ];
        for (open, close) in shapes {
            for levels in [50, 900, 20_000] {
                let source = nested(open, close, levels);
                for name in ["src/a.ts", "src/a.tsx"] {
                    let file = AppFile::new(source.clone());
                    let compiled = Compiler::new(CompilerOptions::development()).compile(
                        &FilePath::parse(name).unwrap(),
                        &file,
                        Query::None,
                    );
                    if let Err(problem) = compiled {
                        assert!(
                            problem.at.is_some() || problem.kind == ProblemKind::Limit,
                            "{open} {levels}: {problem}"
                        );
                    }
                }
            }
        }
    }

    #[test]
    fn statements_without_brackets_are_counted() {
        for source in ["if(a)".repeat(5_000), "a:".repeat(5_000), "(".repeat(5_000)] {
            let problem = stack_bytes(&source).unwrap_err();
            assert_eq!(problem.kind, ProblemKind::Limit);
            assert!(problem.message.contains("more than 1000"), "{problem}");
        }
    }

    #[test]
    fn flat_sources_are_not_deep() {
        let text = "<p>:( don't ( open {value} :( <b>x</b></p>\n".repeat(300);
        let source = format!("const a = <div>{{list.map((x) => (\n{text}))}}</div>;\n").repeat(3);
        stack_bytes(&source).unwrap();
        stack_bytes(&"if (a < b) { c = d; } else if (e) f(); // (((( '\n".repeat(5_000)).unwrap();
        stack_bytes(&"const m = { a: 1, 'b': [2, 3] };\n".repeat(5_000)).unwrap();
        stack_bytes(&format!("const x = '{}';", "a+/=".repeat(60_000))).unwrap();
    }
}
