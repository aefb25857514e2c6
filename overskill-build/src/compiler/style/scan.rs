//! Reads a style sheet for what it refers to, by the tokens of CSS Syntax, without changing it: also of syntax that only
//! Tailwind knows.

use crate::compiler::StyleReferenceKind;
use std::ops::Range;

/// What was found.
#[derive(Debug, Default)]
pub(super) struct Scan {
    pub(super) references: Vec<Reference>,
    pub(super) tailwind: bool,
}

#[derive(Debug)]
pub(super) struct Reference {
    pub(super) specifier: String,
    pub(super) kind: StyleReferenceKind,
    pub(super) whole: Range<usize>,
}

/// Where it went wrong, and how.
pub(super) type Failure = (usize, String);

/// Most brackets within each other.
pub(super) const MAX_DEPTH: usize = 256;

/// At-rules of Tailwind, 3 and 4.
const TAILWIND_RULES: [&str; 14] = [
    "tailwind",
    "apply",
    "theme",
    "config",
    "plugin",
    "source",
    "utility",
    "variant",
    "custom-variant",
    "reference",
    "slot",
    "screen",
    "responsive",
    "variants",
];

/// Functions of Tailwind.
const TAILWIND_FUNCTIONS: [&str; 5] = ["theme", "screen", "--spacing", "--alpha", "--theme"];

pub(super) fn scan(css: &str) -> Result<Scan, Failure> {
    let mut scanner = Scanner { css, bytes: css.as_bytes(), at: 0, open: Vec::new(), found: Scan::default() };
    while scanner.at < scanner.bytes.len() {
        scanner.token()?;
    }
    match scanner.open.pop() {
        None => Ok(scanner.found),
        Some((start, close, _)) => {
            let opened = char::from(scanner.bytes[start]);
            Err((start, format!("`{opened}` is not closed: `{}` is missing", char::from(close))))
        }
    }
}

struct Scanner<'c> {
    css: &'c str,
    bytes: &'c [u8],
    at: usize,
    /// What is open: where, what closes it, and whether strings in it are addresses (`image-set(`).
    open: Vec<(usize, u8, bool)>,
    found: Scan,
}

impl Scanner<'_> {
    fn token(&mut self) -> Result<(), Failure> {
        let start = self.at;
        match self.bytes[start] {
            b'/' if self.bytes.get(start + 1) == Some(&b'*') => self.comment()?,
            b'"' | b'\'' => {
                let specifier = self.string()?;
                if self.open.last().is_some_and(|(_, _, addresses)| *addresses) {
                    self.refer(specifier, StyleReferenceKind::Url, start);
                }
            }
            b'@' => {
                self.at += 1;
                let name = self.name().to_ascii_lowercase();
                if name == "import" {
                    self.import(start)?;
                } else if TAILWIND_RULES.contains(&&*name) {
                    self.found.tailwind = true;
                }
            }
            b'(' => self.enter(b')', false)?,
            b'[' => self.enter(b']', false)?,
            b'{' => self.enter(b'}', false)?,
            close @ (b')' | b']' | b'}') => match self.open.pop() {
                Some((_, expected, _)) if expected == close => self.at += 1,
                Some((opened, expected, _)) => {
                    let (open, expected) = (char::from(self.bytes[opened]), char::from(expected));
                    return Err((opened, format!("`{open}` is not closed: `{expected}` is missing")));
                }
                None => return Err((start, format!("`{}` closes nothing", char::from(close)))),
            },
            b'\\' => self.escape(),
            byte if is_name(byte) => {
                let name = self.name().to_ascii_lowercase();
                if self.bytes.get(self.at) != Some(&b'(') {
                    return Ok(());
                }
                match &*name {
                    "url" => {
                        let specifier = self.url()?;
                        if let Some(specifier) = specifier {
                            self.refer(specifier, StyleReferenceKind::Url, start);
                        }
                    }
                    "image-set" | "-webkit-image-set" => self.enter(b')', true)?,
                    function => {
                        self.found.tailwind |= TAILWIND_FUNCTIONS.contains(&function);
                        self.enter(b')', false)?;
                    }
                }
            }
            _ => self.at += 1,
        }
        Ok(())
    }

    fn enter(&mut self, close: u8, addresses: bool) -> Result<(), Failure> {
        if self.open.len() >= MAX_DEPTH {
            return Err((self.at, format!("more than {MAX_DEPTH} brackets within each other")));
        }
        self.open.push((self.at, close, addresses));
        self.at += 1;
        Ok(())
    }

    /// Notes a reference that ends here, unless it leads out of the app or nowhere.
    fn refer(&mut self, specifier: String, kind: StyleReferenceKind, start: usize) {
        if !is_elsewhere(&specifier) {
            self.found.references.push(Reference { specifier, kind, whole: start..self.at });
        }
    }

    fn comment(&mut self) -> Result<(), Failure> {
        let start = self.at;
        match self.css[start + 2..].find("*/") {
            Some(end) => self.at = start + 2 + end + 2,
            None => return Err((start, "the comment is not closed: `*/` is missing".to_owned())),
        }
        Ok(())
    }

    fn escape(&mut self) {
        let escaped = self.css[self.at + 1..].chars().next();
        self.at += 1 + escaped.map_or(0, char::len_utf8);
    }

    fn name(&mut self) -> &str {
        let start = self.at;
        while let Some(byte) = self.bytes.get(self.at) {
            match byte {
                b'\\' => self.escape(),
                byte if is_name(*byte) => self.at += 1,
                _ => break,
            }
        }
        &self.css[start..self.at]
    }

    fn string(&mut self) -> Result<String, Failure> {
        let (start, quote) = (self.at, self.bytes[self.at]);
        self.at += 1;
        loop {
            match self.bytes.get(self.at) {
                Some(byte) if *byte == quote => break,
                Some(b'\\') => self.escape(),
                Some(b'\n') | None => {
                    return Err((start, format!("the string is not closed: `{}` is missing", char::from(quote))));
                }
                Some(_) => self.at += 1,
            }
        }
        self.at += 1;
        Ok(unescaped(&self.css[start + 1..self.at - 1]))
    }

    fn blank(&mut self) -> Result<(), Failure> {
        loop {
            match self.bytes.get(self.at) {
                Some(byte) if byte.is_ascii_whitespace() => self.at += 1,
                Some(b'/') if self.bytes.get(self.at + 1) == Some(&b'*') => self.comment()?,
                _ => return Ok(()),
            }
        }
    }

    /// From the `(` of `url(` to after its `)`; `None` if it is not written out.
    fn url(&mut self) -> Result<Option<String>, Failure> {
        let start = self.at;
        self.at += 1;
        while self.bytes.get(self.at).is_some_and(u8::is_ascii_whitespace) {
            self.at += 1;
        }
        if matches!(self.bytes.get(self.at), Some(b'"' | b'\'')) {
            let specifier = self.string()?;
            self.blank()?;
            if self.bytes.get(self.at) == Some(&b')') {
                self.at += 1;
                return Ok(Some(specifier));
            }
            // Modifiers after the string: rare, and left as they are.
            self.open.push((start, b')', false));
            return Ok(None);
        }
        let text = self.at;
        loop {
            match self.bytes.get(self.at) {
                Some(b')') => break,
                Some(b'\\') => self.escape(),
                // `url(var(--x))` and the like, which browsers do not take either.
                Some(b'(') => {
                    self.open.push((start, b')', false));
                    return Ok(None);
                }
                Some(_) => self.at += 1,
                None => return Err((start, "`(` is not closed: `)` is missing".to_owned())),
            }
        }
        self.at += 1;
        Ok(Some(unescaped(self.css[text..self.at - 1].trim_end())))
    }

    /// From after `@import` to after its `;`.
    fn import(&mut self, start: usize) -> Result<(), Failure> {
        self.blank()?;
        let specifier = match self.bytes.get(self.at) {
            Some(b'"' | b'\'') => self.string()?,
            Some(b'u' | b'U') if self.name().eq_ignore_ascii_case("url") && self.bytes.get(self.at) == Some(&b'(') => {
                match self.url()? {
                    Some(specifier) => specifier,
                    None => return Ok(()),
                }
            }
            _ => return Ok(()),
        };
        let conditions = self.at;
        let mut depth = 0_usize;
        loop {
            match self.bytes.get(self.at) {
                None | Some(b';') if depth == 0 || self.at >= self.bytes.len() => break,
                None | Some(b'{' | b'}') => break,
                Some(b'"' | b'\'') => drop(self.string()?),
                Some(b'/') if self.bytes.get(self.at + 1) == Some(&b'*') => self.comment()?,
                Some(b'(') => (depth, self.at) = (depth + 1, self.at + 1),
                Some(b')') => (depth, self.at) = (depth.saturating_sub(1), self.at + 1),
                Some(b'\\') => self.escape(),
                Some(_) => self.at += 1,
            }
        }
        let text = self.css[conditions..self.at].trim().to_owned();
        if self.bytes.get(self.at) == Some(&b';') {
            self.at += 1;
        }
        self.found.tailwind |= specifier == "tailwindcss" || specifier.starts_with("tailwindcss/");
        self.refer(specifier, StyleReferenceKind::Import(text), start);
        Ok(())
    }
}

fn is_name(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_' || byte >= 0x80
}

/// Whether it leads out of the app, is data itself, or names a place in the page.
fn is_elsewhere(specifier: &str) -> bool {
    let scheme = specifier.split_once(':').is_some_and(|(scheme, _)| {
        scheme.starts_with(|c: char| c.is_ascii_alphabetic())
            && scheme.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte))
    });
    specifier.is_empty() || specifier.starts_with('#') || specifier.starts_with("//") || scheme
}

fn unescaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(backslash) = rest.find('\\') {
        out.push_str(&rest[..backslash]);
        rest = &rest[backslash + 1..];
        let digits = rest.bytes().take(6).take_while(u8::is_ascii_hexdigit).count();
        if digits > 0 {
            let code = u32::from_str_radix(&rest[..digits], 16).unwrap_or_default();
            out.push(char::from_u32(code).filter(|c| *c != '\0').unwrap_or('\u{fffd}'));
            rest = &rest[digits..];
            rest = rest.strip_prefix([' ', '\t', '\n']).unwrap_or(rest);
        } else if let Some(escaped) = rest.chars().next() {
            if escaped != '\n' {
                out.push(escaped);
            }
            rest = &rest[escaped.len_utf8()..];
        }
    }
    out.push_str(rest);
    out
}
