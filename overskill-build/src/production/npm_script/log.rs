//! What a build says: line by line, with secrets left out.

use overskill_core::{AppFile, FilePath, Progress, Secret, Snapshot};
use std::{
    collections::{BTreeMap, VecDeque},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};
use tokio::io::{AsyncBufReadExt as _, AsyncRead, BufReader};

/// Longest line in characters; what follows is left out.
const LONGEST_LINE: usize = 2_000;
/// How much of a line is looked at, in bytes: so much that no secret is cut before it is found.
const LOOKED_AT_BYTES: usize = 40 << 10;
/// Values shorter than this are words that stand everywhere.
const SHORTEST_SECRET: usize = 6;

/// What must not be said.
#[derive(Clone, Default)]
pub(super) struct Mask(Vec<Secret>);

impl Mask {
    /// `given`, and what the app's own `.env` files hold.
    pub(super) fn of(given: &[Secret], snapshot: &Snapshot) -> Self {
        let mut values: Vec<Secret> = given.to_vec();
        let is_env = |path: &FilePath| path.as_str().rsplit('/').next().is_some_and(|name| name.starts_with(".env"));
        for (_, file) in snapshot.files.iter().filter(|(path, _)| is_env(path)) {
            values.extend(values_of(file).into_iter().map(Secret::new));
        }
        values.retain(|it| it.expose().len() >= SHORTEST_SECRET);
        // The longest first: a part of it may be one of its own.
        values.sort_by_key(|it| std::cmp::Reverse(it.expose().len()));
        Self(values)
    }

    pub(super) fn masked(&self, line: &str) -> String {
        let mut line = line.to_owned();
        for secret in &self.0 {
            // Each line of a value that has several.
            for part in secret.expose().lines().filter(|it| it.len() >= SHORTEST_SECRET) {
                if line.contains(part) {
                    line = line.replace(part, "•••");
                }
            }
        }
        line
    }
}

fn values_of(file: &AppFile) -> Vec<String> {
    let mut values = BTreeMap::new();
    crate::preview::env::parse(&String::from_utf8_lossy(file.contents()), &mut values);
    values.into_values().collect()
}

/// The log of a build: told as it comes, and its end kept.
pub(super) struct Log {
    mask: Mask,
    progress: Progress,
    printed: Arc<AtomicU64>,
    told: usize,
    most_lines: usize,
    last: VecDeque<String>,
}

impl Log {
    /// How many lines an error repeats.
    const KEPT: usize = 12;

    pub(super) fn new(mask: Mask, progress: Progress, most_lines: usize) -> Self {
        Self { mask, progress, printed: Arc::default(), told: 0, most_lines, last: VecDeque::new() }
    }

    /// How much was printed, in bytes: what [`lines`] counts.
    pub(super) fn printed(&self) -> &Arc<AtomicU64> {
        &self.printed
    }

    pub(super) fn line(&mut self, line: &str) {
        let line: String = self.mask.masked(&plain(line)).chars().take(LONGEST_LINE).collect();
        if line.trim().is_empty() {
            return;
        }
        self.told += 1;
        if self.told <= self.most_lines {
            self.progress.log(line.clone());
        } else if self.told == self.most_lines + 1 {
            self.progress.log(format!("(more than {} lines: the rest is left out)", self.most_lines));
        }
        if self.last.len() == Self::KEPT {
            self.last.pop_front();
        }
        self.last.push_back(line);
    }

    /// The last lines that were said.
    pub(super) fn end(&self) -> String {
        self.last.iter().map(String::as_str).collect::<Vec<_>>().join(" | ")
    }
}

/// Reads lines and gives them on until the end, and counts all bytes; what is too long is cut, and never kept whole.
pub(super) async fn lines(
    from: Option<impl AsyncRead + Unpin>,
    printed: Arc<AtomicU64>,
    to: tokio::sync::mpsc::Sender<String>,
) {
    let Some(from) = from else { return };
    let mut from = BufReader::new(from);
    let mut line: Vec<u8> = Vec::new();
    loop {
        let Ok(chunk) = from.fill_buf().await else { return };
        if chunk.is_empty() {
            break;
        }
        let end = chunk.iter().position(|byte| *byte == b'\n');
        let part = &chunk[..end.unwrap_or(chunk.len())];
        let room = LOOKED_AT_BYTES.saturating_sub(line.len());
        line.extend_from_slice(&part[..part.len().min(room)]);
        let used = end.map_or(chunk.len(), |end| end + 1);
        from.consume(used);
        printed.fetch_add(used as u64, Ordering::Relaxed);
        if end.is_some() && to.send(String::from_utf8_lossy(&std::mem::take(&mut line)).into_owned()).await.is_err() {
            return;
        }
    }
    if !line.is_empty() {
        let _ = to.send(String::from_utf8_lossy(&line).into_owned()).await; // nobody listens any more
    }
}

/// Without colours and the like.
fn plain(line: &str) -> String {
    let mut plain = String::with_capacity(line.len());
    let mut rest = line.chars();
    while let Some(c) = rest.next() {
        if c == '\u{1b}' {
            // `ESC [ … letter`
            if rest.next() == Some('[') {
                rest.by_ref().find(char::is_ascii_alphabetic);
            }
        } else if !c.is_control() || c == '\t' {
            plain.push(c);
        }
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::preview::testing::snapshot;

    #[test]
    fn secrets_are_left_out_wherever_they_stand() {
        let sources =
            snapshot(1, &[(".env.production", "KEY=\"first line\nsecond line\"\nSHORT=abc"), ("a.ts", "KEY=visible")]);
        let mask = Mask::of(&[Secret::new("hunter2-and-more"), Secret::new("hunter2")], &sources);
        assert_eq!(mask.masked("x hunter2-and-more hunter2 y"), "x ••• ••• y");
        assert_eq!(mask.masked("first line, then: second line abc visible"), "•••, then: ••• abc visible");
    }

    #[test]
    fn colours_are_left_out() {
        assert_eq!(plain("\u{1b}[32m✓\u{1b}[39m built\u{7}"), "✓ built");
    }

    #[tokio::test]
    async fn lines_are_cut_and_never_kept_whole() {
        let text = format!("one\n{}\nthree", "x".repeat(5_000_000));
        let (to, mut lines_of) = tokio::sync::mpsc::channel(8);
        let printed = Arc::new(AtomicU64::new(0));
        let whole = text.len() as u64;
        let reading = lines(Some(std::io::Cursor::new(text.into_bytes())), printed.clone(), to);
        let (mut got, ()) = (Vec::new(), reading.await);
        while let Some(line) = lines_of.recv().await {
            got.push(line.len());
        }
        assert_eq!(got, [3, LOOKED_AT_BYTES, 5]);
        assert_eq!(printed.load(Ordering::Relaxed), whole);
    }
}
