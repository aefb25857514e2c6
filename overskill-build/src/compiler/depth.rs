//! How deep a script may nest. Parsers recurse, and a process that serves many apps must not overflow its stack for one, nor
//! think for minutes.

use crate::{Problem, ProblemKind};

/// Most brackets, elements, and statements or operators that need no bracket (`if (a) if (b) …`), within each other.
const MAX_LEVELS: usize = 1_000;

/// Most `<` that nothing closes in one statement: each may begin type arguments, and every guess is tried.
const MAX_ANGLES: usize = 250;

/// Most stack that a script is given.
const MAX_STACK_BYTES: usize = 512 << 20;

/// The stack that parsing `source` may need at most, or what is too deep.
///
/// The stack is counted over all bytes, whether or not they stand in strings, so no source can need more. The other limits
/// are there to refuse sensibly.
pub(super) fn stack_bytes(source: &str, jsx: bool) -> Result<usize, Problem> {
    let mut counts = [0_usize; 256];
    source.bytes().for_each(|byte| counts[usize::from(byte)] += 1);
    let keywords = words(source.as_bytes()).filter(|(_, word)| is_opening(word)).count();
    let costs: usize = (0..=u8::MAX).map(|byte| counts[usize::from(byte)] * cost(byte)).sum();
    let needed = (1 << 20) + costs + keywords * (3 << 10);
    // Most sources do not hold as many levels as are too many, in whatever order.
    let angles = counts[usize::from(b'<')];
    let levels = b"([{:!~".iter().map(|byte| counts[usize::from(*byte)]).sum::<usize>() + 2 * angles + keywords;
    let may_be_too_deep = levels > MAX_LEVELS || angles > MAX_ANGLES;
    if may_be_too_deep && let Some(problem) = too_deep(source, jsx) {
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

/// What is open between two brackets.
struct Level {
    close: u8,
    /// Levels around it.
    outside: usize,
    angles: usize,
    elements: usize,
    run: usize,
}

impl Level {
    fn depth(&self) -> usize {
        self.outside + self.angles + self.elements + self.run
    }

    fn inner(&self, close: u8) -> Self {
        Self { close, outside: self.depth() + 1, angles: 0, elements: 0, run: 0 }
    }
}

fn too_deep(source: &str, jsx: bool) -> Option<Problem> {
    let bytes = source.as_bytes();
    let mut open = vec![Level { close: 0, outside: 0, angles: 0, elements: 0, run: 0 }];
    let (mut at, mut after_opening, mut open_now) = (0, false, [0_usize; 256]);
    let mut significant = 0;
    while let Some(&byte) = bytes.get(at) {
        let start = at;
        let was_opening = after_opening;
        let last = significant;
        if !byte.is_ascii_whitespace() {
            significant = byte;
        }
        after_opening &= byte.is_ascii_whitespace();
        let next = bytes.get(start + 1).copied().unwrap_or_default();
        at += 1;
        let here = open.last_mut()?;
        match byte {
            b'"' | b'\'' => at = after_string(bytes, start),
            b'/' if next == b'/' => at += source[at..].find('\n').unwrap_or(bytes.len() - at),
            b'/' if next == b'*' => at = source[at + 1..].find("*/").map_or(bytes.len(), |end| at + 1 + end + 2),
            b'/' if next == b'>' => here.elements = here.elements.saturating_sub(1),
            b'(' | b'[' | b'{' => {
                if byte == b'{' {
                    here.run = 0;
                }
                let inner = here.inner(if byte == b'(' { b')' } else { byte + 2 });
                open_now[usize::from(inner.close)] += 1;
                open.push(inner);
            }
            b')' | b']' | b'}' => {
                // What stands between, text of JSX for one, may leave some open. Each is looked at once.
                if open_now[usize::from(byte)] > 0 {
                    while let Some(level) = open.pop() {
                        open_now[usize::from(level.close)] -= 1;
                        if level.close == byte {
                            break;
                        }
                    }
                }
                let here = open.last_mut()?;
                if byte == b'}' {
                    (here.run, here.angles) = (0, 0);
                }
            }
            // Where a statement may end without `;`.
            b'\n' if !was_opening && ends_operand(last) => here.run = 0,
            b';' | b',' => (here.run, here.angles) = (0, 0),
            b'<' if jsx && next == b'/' => here.elements = here.elements.saturating_sub(1),
            b'<' => {
                here.angles += 1;
                here.elements += usize::from(jsx && (next.is_ascii_alphabetic() || next == b'>'));
            }
            b'>' if bytes[..start].last() != Some(&b'=') => here.angles = here.angles.saturating_sub(1),
            b':' | b'!' | b'~' => here.run += 1,
            b'a'..=b'z' => {
                let (_, word) = words(&bytes[start..]).next()?;
                at = start + word.len();
                after_opening = is_opening(word);
                here.run += usize::from(after_opening);
            }
            _ => {}
        }
        let here = open.last()?;
        if here.depth() > MAX_LEVELS || here.angles > MAX_ANGLES {
            let (most, what) = if here.angles > MAX_ANGLES { (MAX_ANGLES, "`<`") } else { (MAX_LEVELS, "levels") };
            let message = format!("more than {most} {what} within each other");
            return Some(Problem::new(ProblemKind::Limit, message).help("write it flatter").at_offset(source, start));
        }
    }
    None
}

fn ends_operand(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'$' | b'"' | b'\'' | b'`' | b']')
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
    use crate::compiler::{Compiler, Query};
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
            ("\"(\",(", ")"),
            ("/*)*/(", ")"),
            ("await ", ""),
            ("a as ", ""),
            ("a ? (", ") : 1"),
            ("<a>", "</a>"),
        ];
        for (open, close) in shapes {
            for levels in [900, 10_000] {
                let name = if open == "<a>" { "src/a.tsx" } else { "src/a.ts" };
                let (path, file) = (FilePath::parse(name).unwrap(), AppFile::new(nested(open, close, levels)));
                let compiled = Compiler::default().compile(&path, &file, Query::None);
                if let Err(problem) = compiled {
                    assert!(!problem.message.contains("defect"), "{open} {levels}: {problem}");
                }
            }
        }
    }

    #[test]
    fn what_goes_too_deep_is_placed() {
        for (source, jsx) in [
            ("if(a)".repeat(5_000), false),
            ("a:".repeat(5_000), false),
            ("(".repeat(5_000), false),
            ("<a>{".repeat(600), true),
            ("<a>".repeat(5_000), true),
            ("a<".repeat(300), false),
            ("new\n".repeat(5_000), false),
        ] {
            let problem = stack_bytes(&source, jsx).unwrap_err();
            assert!(problem.message.contains("within each other") && problem.at.is_some(), "{problem}");
        }
        let problem = stack_bytes(&"() => {};".repeat(100_000), false).unwrap_err();
        assert!(problem.message.contains("too large"), "{problem}");
    }

    #[test]
    fn flat_sources_are_not_deep() {
        let text = "<p>:( don't ( open {value} :( <b>x</b><br/></p>\n".repeat(300);
        let source = format!("const a = <div>{{list.map((x: A<B>) => (\n{text}))}}</div>;\n").repeat(3);
        stack_bytes(&source, true).unwrap();
        for flat in [
            "if (a < b) { c = d; } else if (e) f(); // (((( '\n",
            "const m = { a: 1, 'b': [2, 3] };\n",
            "export type A<T> = Array<Record<string, Promise<T>>>;\n",
            "case 'a': return x ? y : z;\n",
            "const a: T = b as U\n",
        ] {
            stack_bytes(&flat.repeat(5_000), false).unwrap();
        }
        stack_bytes(&format!("const x = '{}';", "a+/=".repeat(60_000)), false).unwrap();
    }
}
