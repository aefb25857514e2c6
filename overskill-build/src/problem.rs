//! What is wrong with an app's sources or packages, for the people who wrote them.

use overskill_core::FilePath;
use serde::Serialize;
use std::fmt::{self, Write as _};

/// Something that keeps a part of an app from running: shown in the page's overlay and in errors. The rest of the app goes
/// on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct Problem {
    /// What sort it is.
    pub kind: ProblemKind,
    /// What is wrong, in a sentence that names the thing.
    pub message: String,
    /// What to do about it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub help: Option<String>,
    /// In which file.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub file: Option<FilePath>,
    /// Where in it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub at: Option<Location>,
    /// The lines around it, with a mark under the place.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub frame: Option<String>,
}

/// A place in a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Location {
    /// Line, from 1.
    pub line: u32,
    /// Column in UTF-16 units, from 1, as editors and browsers count.
    pub column: u32,
}

/// Sorts of problems.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum ProblemKind {
    /// A file is not what its name says: a syntax error, text that is not UTF-8.
    Syntax,
    /// An import leads nowhere.
    Unresolved,
    /// A package cannot be had: unknown, no such version, damaged, registry not reachable.
    Package,
    /// Something that this compiler does not do, or refuses.
    Unsupported,
    /// A limit was passed.
    Limit,
    /// The page itself is missing or cannot be used.
    Entry,
}

impl Problem {
    /// A problem without a place yet.
    pub fn new(kind: ProblemKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into(), help: None, file: None, at: None, frame: None }
    }

    /// Says what to do.
    pub fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }

    /// Says in which file.
    pub fn in_file(mut self, file: FilePath) -> Self {
        self.file = Some(file);
        self
    }

    /// Says where in `source`, by byte offset, and draws the lines around it.
    pub fn at_offset(self, source: &str, offset: usize) -> Self {
        self.at(source, Location::of(source, offset))
    }

    /// Says where in `source`, and draws the lines around it.
    pub fn at(mut self, source: &str, at: Location) -> Self {
        self.frame = Some(frame(source, at));
        self.at = Some(at);
        self
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(file) = &self.file {
            write!(f, "{file}")?;
            if let Some(at) = self.at {
                write!(f, ":{}:{}", at.line, at.column)?;
            }
            f.write_str(": ")?;
        }
        f.write_str(&self.message)?;
        if let Some(help) = &self.help {
            write!(f, " ({help})")?;
        }
        Ok(())
    }
}

impl Location {
    /// The place of a byte offset; past the end or inside a character, the nearest before.
    pub fn of(source: &str, offset: usize) -> Self {
        let offset = source.floor_char_boundary(offset);
        let before = &source[..offset];
        let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
        let number = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
        Self {
            line: number(before.bytes().filter(|b| *b == b'\n').count() + 1),
            column: number(before[line_start..].encode_utf16().count() + 1),
        }
    }
}

/// Two lines before and after, numbered, long ones cut, with a mark under the place.
fn frame(source: &str, at: Location) -> String {
    const AROUND: usize = 2;
    const WIDEST: usize = 160;
    let line = at.line as usize;
    let first = line.saturating_sub(AROUND + 1);
    let width = (line + AROUND).to_string().len();
    let mut frame = String::new();
    for (index, text) in source.lines().enumerate().skip(first).take(line + AROUND - first) {
        let number = index + 1;
        let mark = if number == line { '>' } else { ' ' };
        let text: String = text.chars().take(WIDEST).collect();
        writeln!(frame, "{mark} {number:>width$} | {text}").expect("a string takes all");
        if number == line {
            let indent = (at.column as usize - 1).min(WIDEST);
            writeln!(frame, "  {:width$} | {:indent$}^", "", "").expect("a string takes all");
        }
    }
    frame
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_says_where_and_what_to_do() {
        let source = "import a from 'a'\nconst é = <div>\nlast";
        let problem = Problem::new(ProblemKind::Syntax, "`<div>` is not closed")
            .help("add `</div>`")
            .in_file(FilePath::parse("src/App.tsx").unwrap())
            .at_offset(source, source.find('<').unwrap());
        assert_eq!(problem.to_string(), "src/App.tsx:2:11: `<div>` is not closed (add `</div>`)");
        assert_eq!(
            problem.frame.unwrap(),
            "  1 | import a from 'a'\n> 2 | const é = <div>\n    |           ^\n  3 | last\n"
        );
    }

    #[test]
    fn places_past_the_end_are_the_end() {
        assert_eq!(Location::of("ab\ncd", 99), Location { line: 2, column: 3 });
        assert_eq!(Location::of("", 0), Location { line: 1, column: 1 });
    }
}
