//! Names that stand for what is known only later: what a file holds decides its name, and what others hold that it names.

use std::fmt;

/// What a token stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Token {
    /// The name of the file that a unit begins: of a page's script, or of what is imported when it is needed.
    Entry(usize),
    /// What has to be loaded along with such a file: addresses with spaces between.
    Loads(usize),
    /// The address of a worker's script.
    Worker(usize),
    /// The name of the server side's module.
    Server,
    /// The text of a style sheet, as it may stand in any sort of literal.
    Text(usize),
}

const BEFORE: &str = "__overskill_";
const AFTER: &str = "__";

impl fmt::Display for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (letter, number) = match self {
            Self::Entry(n) => ('e', n),
            Self::Loads(n) => ('l', n),
            Self::Worker(n) => ('w', n),
            Self::Server => ('s', &0),
            Self::Text(n) => ('t', n),
        };
        write!(f, "{BEFORE}{letter}{number}{AFTER}")
    }
}

/// What esbuild is to call files whose names it chooses.
pub(super) const CHOSEN: &str = "__overskill_h[hash]__";

/// The names between the marks in a text, in order, with where they begin and end.
pub(super) fn tokens(text: &str) -> impl Iterator<Item = (usize, usize, &str)> {
    text.match_indices(BEFORE).filter_map(move |(at, _)| {
        let rest = &text[at + BEFORE.len()..];
        let length = rest.find(|c: char| !c.is_ascii_alphanumeric())?;
        let legal = length > 1 && rest[length..].starts_with(AFTER);
        legal.then(|| {
            (at, at + BEFORE.len() + length + AFTER.len(), &text[at..at + BEFORE.len() + length + AFTER.len()])
        })
    })
}

/// The text with what `value` gives in place of tokens; those that it does not know stay.
pub(super) fn replace<'v>(text: &str, value: impl Fn(&str) -> Option<&'v str>) -> String {
    let (mut done, mut replaced) = (0, String::with_capacity(text.len()));
    for (start, end, token) in tokens(text) {
        if let Some(value) = value(token) {
            replaced.push_str(&text[done..start]);
            replaced.push_str(value);
            done = end;
        }
    }
    replaced.push_str(&text[done..]);
    replaced
}

/// Text as it may stand in a string or a template, whichever quotes a minifier gave it.
pub(super) fn in_any_literal(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        match c {
            '\\' => escaped.push_str("\\\\"),
            '"' => escaped.push_str("\\x22"),
            '\'' => escaped.push_str("\\x27"),
            '`' => escaped.push_str("\\x60"),
            '$' => escaped.push_str("\\x24"),
            '<' => escaped.push_str("\\x3c"),
            '\n' => escaped.push_str("\\n"),
            '\r' => escaped.push_str("\\r"),
            '\u{2028}' => escaped.push_str("\\u2028"),
            '\u{2029}' => escaped.push_str("\\u2029"),
            c => escaped.push(c),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_are_found_and_others_stay() {
        let text = format!("a(\"./{}.js\"); __overskill_; __overskill_env; __overskill_x9__", Token::Entry(12));
        let found: Vec<_> = tokens(&text).map(|(_, _, token)| token).collect();
        assert_eq!(found, ["__overskill_e12__", "__overskill_x9__"]);
        let replaced = replace(&text, |token| (token == "__overskill_e12__").then_some("App-x"));
        assert_eq!(replaced, "a(\"./App-x.js\"); __overskill_; __overskill_env; __overskill_x9__");
    }

    #[test]
    fn texts_fit_every_literal() {
        assert_eq!(in_any_literal("a\"'`${x}\n\\"), "a\\x22\\x27\\x60\\x24{x}\\n\\\\");
    }
}
