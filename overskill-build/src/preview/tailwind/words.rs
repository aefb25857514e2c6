//! The words of an app's sources that may be classes.

use overskill_core::{AppFile, Digest, FilePath};
use serde_json::Value;
use std::{
    collections::{BTreeSet, HashMap, VecDeque},
    fmt,
    sync::{Arc, Mutex, PoisonError},
};

/// Longest file that is looked at, in bytes; what is longer was not written by hand.
const MOST_FILE_BYTES: u64 = 1 << 20;
/// Most words of one app. A document's own classes are seen in the page, so what is beyond is late and not lost.
const MOST_WORDS: usize = 50_000;
/// Most bytes of words that are remembered.
const MOST_CACHED_BYTES: usize = 32 << 20;
const LONGEST_WORD: usize = 200;

/// Finds the words of sources that may be Tailwind's classes: more than there are, never fewer than are written out.
///
/// What a file has is remembered by its contents, for all apps; within limits, the oldest goes first.
///
/// ```
/// use overskill_build::preview::tailwind::Words;
/// use overskill_core::{AppFile, FilePath};
///
/// let path = FilePath::parse("src/App.tsx")?;
/// let file = AppFile::new(r#"<p className={on ? "md:flex" : 'p-1.5'}>Hello</p>"#);
/// let module = Words::default().module([(&path, &file)]);
/// assert_eq!(module, r#"export default "md:flex p-1.5".split(" ");"#);
/// # Ok::<(), overskill_core::ParseError>(())
/// ```
#[derive(Default)]
pub struct Words {
    cache: Mutex<Cache>,
}

#[derive(Default)]
struct Cache {
    /// The words of a file, with a space between.
    by_digest: HashMap<Digest, Arc<str>>,
    oldest_first: VecDeque<Digest>,
    bytes: usize,
}

impl Words {
    /// The module that the page gets as [`CANDIDATES_FILE`](super::CANDIDATES_FILE): the words of those of `files` that are
    /// scripts or pages.
    pub fn module<'a>(&self, files: impl IntoIterator<Item = (&'a FilePath, &'a AppFile)>) -> String {
        format!("export default {}.split(\" \");", Value::from(self.list(files)))
    }

    /// The words themselves, with a space between.
    pub(crate) fn list<'a>(&self, files: impl IntoIterator<Item = (&'a FilePath, &'a AppFile)>) -> String {
        let lists: Vec<_> =
            files.into_iter().filter(|(path, file)| is_looked_at(path, file)).map(|(_, file)| self.of(file)).collect();
        let mut words = BTreeSet::new();
        for word in lists.iter().flat_map(|list| list.split_ascii_whitespace()) {
            if words.len() >= MOST_WORDS {
                break;
            }
            words.insert(word);
        }
        let words: Vec<_> = words.into_iter().collect();
        words.join(" ")
    }

    fn of(&self, file: &AppFile) -> Arc<str> {
        let lock = || self.cache.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = lock().by_digest.get(&file.digest()) {
            return Arc::clone(known);
        }
        let source = String::from_utf8_lossy(file.contents());
        let found: Arc<str> = words(&source).into_iter().collect::<Vec<_>>().join(" ").into();
        lock().keep(file.digest(), &found);
        found
    }
}

impl fmt::Debug for Words {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Words").finish_non_exhaustive()
    }
}

impl Cache {
    fn keep(&mut self, digest: Digest, words: &Arc<str>) {
        if self.by_digest.insert(digest, Arc::clone(words)).is_some() {
            return;
        }
        self.bytes += words.len();
        self.oldest_first.push_back(digest);
        while self.bytes > MOST_CACHED_BYTES {
            let Some(oldest) = self.oldest_first.pop_front() else { return };
            self.bytes -= self.by_digest.remove(&oldest).map_or(0, |words| words.len());
        }
    }
}

fn is_looked_at(path: &FilePath, file: &AppFile) -> bool {
    let kinds = ["html", "js", "jsx", "md", "mdx", "mjs", "svelte", "ts", "tsx", "vue"];
    path.extension().is_some_and(|it| kinds.contains(&it)) && file.size_bytes() <= MOST_FILE_BYTES
}

/// Splits as each sort of string would, so that quotes inside a class (`content-['x']`) are in one of the results.
fn words(source: &str) -> BTreeSet<&str> {
    const QUOTES: [&[char]; 4] = [&['"', '\'', '`'], &['"'], &['\''], &['`']];
    let mut found = BTreeSet::new();
    for quotes in QUOTES {
        for piece in source.split(|c: char| c.is_whitespace() || quotes.contains(&c)) {
            if quotes.len() > 1 || piece.contains(['"', '\'', '`']) {
                found.extend(word(piece));
            }
        }
    }
    found
}

/// The class in a piece of source text, if it can be one.
fn word(piece: &str) -> Option<&str> {
    let mut word = piece.trim_start_matches(['{', '(', ',', '<']);
    // What is left after taking marks off its end one by one would still be too long.
    if word.len() > 2 * LONGEST_WORD {
        return None;
    }
    loop {
        let shorter = word.trim_end_matches([',', ';', ':', '}', '>', '<', '.']);
        // Those of the class itself have a partner.
        let count = |c: char| shorter.matches(c).count();
        let shorter = match shorter.chars().next_back() {
            Some(')') if count(')') > count('(') => &shorter[..shorter.len() - 1],
            Some(']') if count(']') > count('[') => &shorter[..shorter.len() - 1],
            _ => shorter,
        };
        if shorter == word {
            break;
        }
        word = shorter;
    }
    let first = word.chars().next()?;
    let starts = first.is_ascii_lowercase() || first.is_ascii_digit() || matches!(first, '-' | '!' | '@' | '*' | '[');
    (starts && (2..=LONGEST_WORD).contains(&word.len()) && is_shaped_like_a_class(word)).then_some(word)
}

fn is_shaped_like_a_class(word: &str) -> bool {
    let bytes = word.as_bytes();
    let (mut square, mut round, mut slashes) = (0_i32, 0_i32, 0);
    let mut joined = false;
    for (at, c) in word.char_indices() {
        let before = at.checked_sub(1).map(|it| bytes[it]);
        let after = bytes.get(at + 1).copied();
        let inside = square > 0 || round > 0;
        let fits = match c {
            '[' => {
                square += 1;
                true
            }
            ']' => {
                square -= 1;
                square >= 0
            }
            '(' => {
                let opens = inside || matches!(before, Some(b'-' | b'/'));
                round += 1;
                opens
            }
            ')' => {
                round -= 1;
                round >= 0
            }
            _ if inside => !matches!(c, ';' | '{' | '}'),
            '-' | ':' => {
                joined = true;
                c == '-' || (before.is_some() && after.is_some_and(|it| it != b':'))
            }
            '.' => before.is_some_and(|it| it.is_ascii_digit()) && after.is_some_and(|it| it.is_ascii_digit()),
            '/' => {
                slashes += 1;
                before.is_some() && after.is_some() && slashes <= 2
            }
            '!' => at == 0 || after.is_none() || before == Some(b':'),
            '@' | '*' => at == 0 || matches!(before, Some(b':' | b'*')),
            '%' => before.is_some_and(|it| it.is_ascii_digit()),
            _ => c.is_ascii_alphanumeric() || c == '_',
        };
        if !fits {
            return false;
        }
    }
    // A word in camel case with nothing joined to it is a name of the script.
    let name = !joined && word.bytes().any(|it| it.is_ascii_uppercase());
    square == 0 && round == 0 && !name && !word.ends_with('-')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn classes_are_found_however_they_are_quoted() {
        let source = r#"
            <div class="flex before:content-['hi_there'] w-[calc(100%-theme(spacing.4))] [&>svg]:size-4" />
            cn(`grid ${wide ? 'col-span-2' : "p-1.5"} -mt-2`, { 'opacity-50': off, hidden: !on }, ["!py-0","bg-(--brand)/50"])
            cva('data-[state=open]:animate-in group-hover/item:text-primary/90 *:p-2 @md:flex 2xl:w-1/2 from-10%')
        "#;
        let found = words(source);
        for class in [
            "flex",
            "before:content-['hi_there']",
            "w-[calc(100%-theme(spacing.4))]",
            "[&>svg]:size-4",
            "grid",
            "col-span-2",
            "p-1.5",
            "-mt-2",
            "opacity-50",
            "hidden",
            "!py-0",
            "bg-(--brand)/50",
            "data-[state=open]:animate-in",
            "group-hover/item:text-primary/90",
            "*:p-2",
            "@md:flex",
            "2xl:w-1/2",
            "from-10%",
        ] {
            assert!(found.contains(class), "{class} in {found:?}");
        }
    }

    #[test]
    fn what_cannot_be_a_class_is_left_out() {
        let found = words("import useState from './x/y'; a.b(c=>d); https://e.example/f 'ü' --- {\"}\" x[0 ]");
        for other in ["useState", "./x/y", "a.b", "https://e.example/f", "ü", "}", "x[0"] {
            assert!(!found.contains(other), "{other} in {found:?}");
        }
    }

    #[test]
    fn only_scripts_and_pages_count_and_each_content_once() {
        let words = Words::default();
        let file = |text: &str| AppFile::new(text.to_owned());
        let path = |name: &str| FilePath::parse(name).unwrap();
        let (page, style, script) = (path("index.html"), path("a.css"), path("b.ts"));
        let files = [(&page, &file("p-1 \\ p-2")), (&style, &file("p-3")), (&script, &file("p-2 p-4"))];
        assert_eq!(words.module(files), r#"export default "p-1 p-2 p-4".split(" ");"#);
        assert_eq!(words.cache.lock().unwrap().by_digest.len(), 2);
        assert_eq!(words.module(files), words.module(files));
    }

    #[test]
    fn what_is_remembered_has_a_limit() {
        let words = Words::default();
        let mut cache = words.cache.lock().unwrap();
        let big: Arc<str> = "x".repeat(MOST_CACHED_BYTES / 3).into();
        for n in 0..10_u8 {
            cache.keep(Digest::of(&[n]), &big);
        }
        assert!(cache.bytes <= MOST_CACHED_BYTES);
        assert_eq!(cache.by_digest.len(), 3);
        assert!(cache.by_digest.contains_key(&Digest::of(&[9])));
    }

    #[test]
    fn a_line_of_nothing_but_marks_is_not_counted_again_for_each() {
        let begun = std::time::Instant::now();
        assert!(words(&format!("a{}", ")".repeat(1 << 20))).is_empty());
        assert!(begun.elapsed().as_secs() < 10);
    }
}
