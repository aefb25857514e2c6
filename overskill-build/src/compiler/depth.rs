//! How deep a script may nest. Parsers recurse, and a process that serves many apps must not overflow its stack for one, nor
//! think for minutes.

use crate::{Problem, ProblemKind};

/// Most brackets, elements, and statements or operators that need no bracket (`if (a) if (b) …`), within each other.
const MAX_LEVELS: usize = 1_000;

/// Most `<` that nothing closes in one statement: each may begin type arguments, and every guess is tried.
const MAX_ANGLES: usize = 250;

/// Most stack that a script is given.
const MAX_STACK_BYTES: usize = 512 << 20;

/// The stack of a script without levels.
const BASE_BYTES: usize = 1 << 20;

/// Bytes of stack that a statement or an operator may take that is a word.
const WORD_BYTES: usize = 3 << 10;

/// The stack that parsing `source` may need at most, or what is too deep.
///
/// The stack is counted over all bytes, whether or not they stand in strings, so no source can need more. The other limits
/// are there to refuse sensibly.
pub(super) fn stack_bytes(source: &str, jsx: bool) -> Result<usize, Problem> {
    let bytes = source.as_bytes();
    let (costs, levels) = weigh(bytes);
    let needed_with = |words: usize| BASE_BYTES + costs + words * WORD_BYTES;
    // Of levels each `<` is two.
    let many_angles = || levels > 2 * MAX_ANGLES && count(bytes, |_, byte| byte == b'<') > MAX_ANGLES;
    let may_be_too_deep = |words: usize| levels + words > MAX_LEVELS || many_angles();
    // Most sources do not hold as many levels as are too many, in whatever order, even if each of their words were one that
    // opens a level. Which do matters only where the stack that is there may or may not do.
    let words_at_most = count(bytes, |before, byte| !before.is_ascii_lowercase() & byte.is_ascii_lowercase());
    let needed_at_most = needed_with(words_at_most);
    let there = stacker::remaining_stack().unwrap_or_default();
    let words_decide = (needed_with(0)..needed_at_most).contains(&there) || needed_at_most > MAX_STACK_BYTES;
    if !words_decide && !may_be_too_deep(words_at_most) {
        return Ok(needed_at_most);
    }
    let opening = words(bytes).filter(|(_, word)| is_opening(word)).count();
    let needed = needed_with(opening);
    if may_be_too_deep(opening)
        && let Some(problem) = too_deep(source, jsx)
    {
        return Err(problem);
    }
    if needed > MAX_STACK_BYTES {
        return Err(Problem::new(ProblemKind::Limit, "the script is too large to be compiled safely")
            .help("split it, or put its data into a JSON file"));
    }
    Ok(needed)
}

/// The stack that all bytes together may take, and how many levels they may open.
fn weigh(bytes: &[u8]) -> (usize, usize) {
    /// The KiB of stack of each byte, and from bit 32 on the levels.
    static WEIGHTS: [u64; 256] = {
        let mut weights = [0; 256];
        let mut byte = 0_u8;
        while byte < 0x80 {
            let levels = match byte {
                b'(' | b'[' | b'{' | b':' | b'!' | b'~' => 1,
                b'<' => 2,
                _ => 0,
            };
            weights[byte as usize] = kib(byte) | levels << 32;
            byte += 1;
        }
        weights
    };
    let weigh = |bytes: &[u8]| bytes.iter().map(|byte| WEIGHTS[usize::from(*byte)]).sum::<u64>();
    let (blocks, rest) = bytes.as_chunks::<16>();
    let weights = blocks.iter().map(|block| weigh(block)).sum::<u64>() + weigh(rest);
    let number = |n: u64| usize::try_from(n).unwrap_or(usize::MAX >> 16);
    (number(weights & u64::from(u32::MAX)) << 10, number(weights >> 32))
}

/// KiB of stack that a level may take that begins with this byte: about twice what was measured without optimisation.
const fn kib(byte: u8) -> u64 {
    match byte {
        b'{' => 10,
        b'(' | b'[' | b'<' => 6,
        b'=' | b'*' | b'`' => 3,
        b'!' | b'~' | b'+' | b'-' | b'/' | b'%' | b'&' | b'|' | b'^' | b'?' | b':' | b'.' | b'>' | b'@' => 1,
        _ => 0,
    }
}

/// How many bytes are so after the byte before them. Counted in blocks whose counts fit a byte: then many are looked at at once.
fn count(bytes: &[u8], is: impl Fn(u8, u8) -> bool) -> usize {
    let Some(first) = bytes.first() else { return 0 };
    let block = |(before, here): (&[u8], &[u8])| -> usize {
        usize::from(before.iter().zip(here).map(|(before, here)| u8::from(is(*before, *here))).sum::<u8>())
    };
    usize::from(is(0, *first)) + bytes.chunks(255).zip(bytes[1..].chunks(255)).map(block).sum::<usize>()
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
    use proptest::prelude::*;

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

    proptest! {
        #[test]
        fn blocks_are_counted_like_bytes(source in "([a-z]{1,3}|[A-Z0-9_ ]|[({<=!~:.`]|\n|é){0,400}") {
            let bytes = source.as_bytes();
            let levels_of = |byte: u8| match byte {
                b'<' => 2,
                _ => usize::from(b"([{:!~".contains(&byte)),
            };
            let costs = bytes.iter().map(|byte| kib(*byte)).sum::<u64>();
            let levels = bytes.iter().map(|byte| levels_of(*byte)).sum::<usize>();
            prop_assert_eq!(weigh(bytes), (usize::try_from(costs).unwrap() << 10, levels));
            let begin = |before: u8, byte: u8| !before.is_ascii_lowercase() && byte.is_ascii_lowercase();
            prop_assert_eq!(count(bytes, begin), words(bytes).count());
            prop_assert_eq!(count(bytes, |_, byte| byte == b'<'), source.matches('<').count());
        }
    }

    #[test]
    fn no_source_gets_less_than_its_bytes_may_take() {
        for words in [10, 300, 3_000] {
            // Where the stack that is there leaves no doubt, and where it does.
            for there in [256 << 10, 2 << 20, 16 << 20, 64 << 20] {
                let source = "if (a) b(c, d);\n".repeat(words);
                let least = BASE_BYTES + weigh(source.as_bytes()).0 + words * WORD_BYTES;
                let given = stacker::grow(there, || stack_bytes(&source, false).unwrap());
                assert!((least..=least + 4 * words * WORD_BYTES).contains(&given), "{words} words, {there}: {given}");
            }
        }
    }
}
