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
    let Marks { prefix, taken: marks, .. } = marks;
    let count = marks.len();
    if count == 0 {
        let source_map = map.map(|map| map.to_json_string());
        return Some(Emitted { code: printed, source_map, imports: Vec::new(), globs: Vec::new() });
    }
    let longer: usize = marks.iter().map(|mark| mark.text.len()).sum();
    let mut marks: Vec<_> = marks.into_iter().map(Some).collect();
    let mut out = Emitted { code: String::new(), source_map: None, imports: Vec::new(), globs: Vec::new() };
    let mut shifts = Vec::with_capacity(count);
    // Where `done` is in the printed code.
    let (mut done, mut line, mut column, mut found) = (0, 0_u32, 0, 0);
    out.code.reserve_exact(printed.len() + longer);
    out.imports.reserve_exact(count);
    // A single rare byte is found faster than a prefix of common ones.
    for (dollar, _) in printed.match_indices('$') {
        let digits_at = dollar - printed.as_bytes()[..dollar].iter().rev().take_while(|it| it.is_ascii_digit()).count();
        let Some(before) = printed[done..digits_at].strip_suffix(&*prefix) else { continue };
        let start = done + before.len();
        let mark = marks.get_mut(printed[digits_at..dollar].parse::<usize>().ok()?)?.take()?;
        found += 1;
        let (end, after) = (dollar + 1, &printed[dollar + 1..]);
        if let Some(newline) = before.rfind('\n') {
            line += u32::try_from(before.bytes().filter(|byte| *byte == b'\n').count()).ok()?;
            column = utf16(&before[newline + 1..]);
        } else {
            column += utf16(before);
        }
        let width = utf16(&printed[start..end]);
        shifts.push(Shift { line, column, by: i64::from(utf16(&mark.text)) - i64::from(width) });
        column += width;

        out.code.push_str(before);
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
    out.code.push_str(&printed[done..]);
    out.source_map = map.map(|map| move_columns(map, &shifts).to_json_string());
    Some(out)
}

/// Moves what stands behind a mark on its line; most lines hold none, and are left alone.
fn move_columns<'m>(map: SourceMap<'m>, shifts: &[Shift]) -> SourceMap<'m> {
    let mut parts = map.into_parts();
    let mut at = 0;
    for shifts in shifts.chunk_by(|one, next| one.line == next.line) {
        let (line, mut next, mut by) = (shifts[0].line, 0, 0);
        at += parts.tokens[at..].partition_point(|token| token.get_dst_line() < line);
        while let Some(token) = parts.tokens.get_mut(at).filter(|token| token.get_dst_line() == line) {
            let column = token.get_dst_col();
            while let Some(shift) = shifts.get(next).filter(|shift| shift.column < column) {
                by += shift.by;
                next += 1;
            }
            *token = Token::new(
                line,
                u32::try_from(i64::from(column) + by).unwrap_or(0),
                token.get_src_line(),
                token.get_src_col(),
                token.get_source_id(),
                token.get_name_id(),
            );
            at += 1;
        }
    }
    SourceMap::from_parts(SourceMapParts { token_chunks: None, ..parts })
}

fn utf16(text: &str) -> u32 {
    let units = if text.is_ascii() { text.len() } else { text.encode_utf16().count() };
    u32::try_from(units).unwrap_or(u32::MAX)
}
