//! From printed code with marks in it to code with what they stand for, and its source map.

use super::marks::{Marks, shifted};
use crate::compiler::{Glob, Import};
use oxc_sourcemap::{SourceMap, SourceMapParts, Token};

pub(super) struct Emitted {
    pub(super) code: String,
    pub(super) source_map: Option<String>,
    pub(super) imports: Vec<Import>,
    pub(super) globs: Vec<Glob>,
}

/// A place in the printed code after which columns move.
struct Shift {
    line: u32,
    column: u32,
    by: i64,
}

/// `None` if the printed code does not hold each mark once: the source forged some.
pub(super) fn put_marks_in(printed: String, map: Option<SourceMap<'_>>, marks: Marks) -> Option<Emitted> {
    let Marks { prefix, marks } = marks;
    let count = marks.len();
    let mut marks: Vec<_> = marks.into_iter().map(Some).collect();
    let mut out = Emitted { code: String::new(), source_map: None, imports: Vec::new(), globs: Vec::new() };
    let mut shifts = Vec::new();
    // Where `done` is in the printed code.
    let (mut done, mut line, mut column, mut found) = (0, 0_u32, 0, 0);
    out.code.reserve(printed.len() + count * 16);
    for (start, _) in printed.match_indices(&prefix) {
        let rest = &printed[start + prefix.len()..];
        let (digits, after) = rest.split_once('$')?;
        let mark = marks.get_mut(digits.parse::<usize>().ok()?)?.take()?;
        found += 1;
        let end = printed.len() - after.len();
        let between = &printed[done..start];
        if let Some(newline) = between.rfind('\n') {
            line += u32::try_from(between.bytes().filter(|byte| *byte == b'\n').count()).ok()?;
            column = utf16(&between[newline + 1..]);
        } else {
            column += utf16(between);
        }
        let width = utf16(&printed[start..end]);
        shifts.push(Shift { line, column, by: i64::from(utf16(&mark.text)) - i64::from(width) });
        column += width;

        out.code.push_str(between);
        let base = out.code.len();
        out.code.push_str(&mark.text);
        done = end;
        let semicolon = usize::from(mark.statement && after.starts_with(';'));
        out.imports.extend(mark.import.map(|import| {
            let whole = shifted(&import.whole, base);
            Import { literal: shifted(&import.literal, base), whole: whole.start..whole.end + semicolon, ..import }
        }));
        out.globs.extend(mark.glob.map(|glob| Glob { whole: shifted(&glob.whole, base), ..glob }));
    }
    if found != count {
        return None;
    }
    if count == 0 {
        out.code = printed;
    } else {
        out.code.push_str(&printed[done..]);
    }
    out.source_map = map.map(|map| move_columns(map, &shifts).to_json_string());
    Some(out)
}

fn move_columns<'m>(map: SourceMap<'m>, shifts: &[Shift]) -> SourceMap<'m> {
    let parts = map.into_parts();
    let (mut next, mut line, mut by) = (0, u32::MAX, 0);
    let tokens = parts.tokens.iter().map(|token| {
        let (token_line, column) = (token.get_dst_line(), token.get_dst_col());
        if token_line != line {
            (line, by) = (token_line, 0);
            next += shifts[next..].iter().take_while(|shift| shift.line < line).count();
        }
        while let Some(shift) = shifts.get(next).filter(|shift| shift.line == line && shift.column < column) {
            by += shift.by;
            next += 1;
        }
        let column = u32::try_from(i64::from(column) + by).unwrap_or(0);
        Token::new(
            token_line,
            column,
            token.get_src_line(),
            token.get_src_col(),
            token.get_source_id(),
            token.get_name_id(),
        )
    });
    let tokens = tokens.collect();
    SourceMap::from_parts(SourceMapParts { tokens, token_chunks: None, ..parts })
}

fn utf16(text: &str) -> u32 {
    u32::try_from(text.encode_utf16().count()).unwrap_or(u32::MAX)
}
