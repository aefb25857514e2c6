//! Pages: what an `index.html` loads, and what goes into it.

use html5gum::{DefaultEmitter, StartTag, Token, Tokenizer};
use std::{fmt::Write as _, ops::Range};

/// Most scripts and style sheets of one page that are looked at; what comes after them stays as it is.
const MOST_LOADS: usize = 500;
/// Most inline scripts of one page that become modules: for each the page is read again.
const MOST_INLINE: usize = 50;

/// A page of the sources, read but not run.
#[derive(Debug, Default)]
pub(crate) struct Page {
    /// What it loads, in order.
    pub(crate) loads: Vec<Load>,
    /// Where the head begins: what is put there comes before everything else in it.
    head: usize,
    /// Where the head ends.
    head_end: Option<usize>,
    /// Where scripts and styles stand whose text is not markup.
    pub(crate) raw: Vec<Range<usize>>,
}

/// Something that a page loads from the sources.
#[derive(Debug)]
pub(crate) struct Load {
    pub(crate) kind: LoadKind,
    /// The tag, or for an inline script the element, in the page.
    span: Range<usize>,
    /// The tag's attributes with their values.
    attributes: Vec<(String, String)>,
}

#[derive(Debug, PartialEq, Eq)]
pub(crate) enum LoadKind {
    /// `<script type="module" src="…">`.
    Script(String),
    /// `<script type="module">…</script>`, with its number and its code.
    Inline(usize, String),
    /// `<link rel="stylesheet" href="…">`.
    Style(String),
}

/// What takes the place of a tag.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Tag {
    /// It stays.
    Same,
    /// It gets another address.
    At(String),
    /// A style sheet that has to be loaded by a script.
    AsScript(String),
}

impl Page {
    pub(crate) fn read(html: &str) -> Self {
        let mut emitter = DefaultEmitter::<usize>::new_with_span();
        emitter.naively_switch_states(true);
        let mut page = Self::default();
        let mut inside: Option<(StartTag<usize>, usize)> = None;
        let (mut before_head, mut inline) = (None, 0);
        for token in Tokenizer::new_with_emitter(html, emitter).flatten() {
            match token {
                Token::StartTag(tag) => {
                    let name = text(&tag.name);
                    match name.as_str() {
                        "head" if page.head == 0 => page.head = tag.span.end,
                        "html" => before_head = Some(tag.span.end),
                        "link" => page.link(&tag),
                        "script" | "style" if !tag.self_closing || name == "script" => {
                            inside = Some((tag.clone(), tag.span.end));
                        }
                        _ => {}
                    }
                }
                Token::EndTag(end) => {
                    if inside.is_none() && text(&end.name) == "head" {
                        page.head_end.get_or_insert(end.span.start);
                    }
                    let closes = inside.take_if(|(tag, _)| tag.name == end.name);
                    if let Some((tag, begin)) = closes {
                        page.raw.push(begin..end.span.start);
                        let code = html.get(begin..end.span.start).unwrap_or_default();
                        page.script(&tag, code, tag.span.start..end.span.end, &mut inline);
                    }
                }
                Token::Doctype(doctype) => before_head = before_head.or(Some(doctype.span.end)),
                Token::String(_) | Token::Comment(_) | Token::Error(_) => {}
            }
        }
        if page.head == 0 {
            page.head = before_head.unwrap_or(0);
        }
        page
    }

    /// The same page, with what is put into its head at the head's end.
    pub(crate) fn with_head_end(mut self) -> Self {
        self.head = self.head_end.unwrap_or(self.head);
        self
    }

    fn script(&mut self, tag: &StartTag<usize>, code: &str, element: Range<usize>, inline: &mut usize) {
        let attributes = attributes(tag);
        let is_module = attribute(&attributes, "type").is_some_and(|kind| kind.trim().eq_ignore_ascii_case("module"));
        if text(&tag.name) != "script" || !is_module {
            return;
        }
        let (kind, span) = match attribute(&attributes, "src") {
            Some(src) => (LoadKind::Script(src.trim().to_owned()), tag.span.start..tag.span.end),
            None if code.trim().is_empty() || *inline >= MOST_INLINE => return,
            None => {
                *inline += 1;
                (LoadKind::Inline(*inline - 1, code.to_owned()), element)
            }
        };
        self.load(kind, span, attributes);
    }

    fn load(&mut self, kind: LoadKind, span: Range<usize>, attributes: Vec<(String, String)>) {
        if self.loads.len() < MOST_LOADS {
            self.loads.push(Load { kind, span, attributes });
        }
    }

    fn link(&mut self, tag: &StartTag<usize>) {
        let attributes = attributes(tag);
        let rel = attribute(&attributes, "rel").unwrap_or_default();
        let is_sheet = rel.split_ascii_whitespace().any(|rel| rel.eq_ignore_ascii_case("stylesheet"));
        if let Some(href) = attribute(&attributes, "href").filter(|_| is_sheet) {
            let kind = LoadKind::Style(href.trim().to_owned());
            self.load(kind, tag.span.start..tag.span.end, attributes);
        }
    }

    /// The page with `head` first in its head, other addresses where `tag` says so, and `%NAME%` replaced.
    pub(crate) fn write<'v>(
        &self,
        html: &str,
        head: &str,
        tag: &mut dyn FnMut(&LoadKind) -> Tag,
        variable: &dyn Fn(&str) -> Option<&'v str>,
    ) -> String {
        let mut written = String::with_capacity(html.len() + head.len() + 256);
        let mut done = 0;
        let mut head = Some(head);
        for load in &self.loads {
            let new = match tag(&load.kind) {
                Tag::Same => continue,
                Tag::At(address) => load.at(&address),
                Tag::AsScript(address) => {
                    format!("<script type=\"module\" src=\"{}\"></script>", escaped(&address))
                }
            };
            self.copy(html, done..load.span.start, &mut head, variable, &mut written);
            written.push_str(&new);
            done = load.span.end;
        }
        self.copy(html, done..html.len(), &mut head, variable, &mut written);
        written
    }

    fn copy<'v>(
        &self,
        html: &str,
        range: Range<usize>,
        head: &mut Option<&str>,
        variable: &dyn Fn(&str) -> Option<&'v str>,
        to: &mut String,
    ) {
        let mut at = range.start;
        if self.head <= range.end
            && let Some(head) = head.take()
        {
            let head_at = self.head.max(at);
            self.replace(html, at..head_at, variable, to);
            to.push_str(head);
            at = head_at;
        }
        self.replace(html, at..range.end, variable, to);
    }

    fn replace<'v>(
        &self,
        html: &str,
        range: Range<usize>,
        variable: &dyn Fn(&str) -> Option<&'v str>,
        to: &mut String,
    ) {
        let (mut at, end) = (range.start, range.end);
        while let Some(open) = html[at..end].find('%').map(|open| at + open) {
            let name_end =
                html[open + 1..end].find(|c: char| !c.is_ascii_alphanumeric() && c != '_').map(|n| open + 1 + n);
            let found = name_end.filter(|close| html[*close..end].starts_with('%'));
            if let Some((close, value)) = found.and_then(|close| Some((close, variable(&html[open + 1..close])?))) {
                to.push_str(&html[at..open]);
                // They stand in order: the first that ends behind it is the only one that may hold it.
                let raw = self.raw.get(self.raw.partition_point(|raw| raw.end <= open));
                if raw.is_some_and(|raw| raw.contains(&open)) {
                    // Nothing in a script is an entity; only its end must not be written.
                    to.push_str(&value.replace("</", "<\\/").replace("<!--", "<\\!--"));
                } else {
                    to.push_str(&escaped(value));
                }
                at = close + 1;
            } else {
                to.push_str(&html[at..=open]);
                at = open + 1;
            }
        }
        to.push_str(&html[at..end]);
    }
}

impl Load {
    fn at(&self, address: &str) -> String {
        let (name, attribute_name, end) = match self.kind {
            LoadKind::Script(_) => ("script", "src", ">"),
            LoadKind::Inline(..) => ("script", "src", "></script>"),
            LoadKind::Style(_) => ("link", "href", ">"),
        };
        let mut tag = format!("<{name} {attribute_name}=\"{}\"", escaped(address));
        // What would check the bytes that the author had in mind does not fit those that are served.
        let others = self.attributes.iter().filter(|(other, _)| other != attribute_name && other != "integrity");
        for (name, value) in others {
            write!(tag, " {name}=\"{}\"", escaped(value)).expect("a string takes all");
        }
        tag + end
    }
}

/// Text as it may stand in markup and in attributes.
pub(crate) fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            c => escaped.push(c),
        }
    }
    escaped
}

/// JSON as it may stand in a `<script>`.
pub(super) fn in_script(json: &serde_json::Value) -> String {
    json.to_string().replace('<', "\\u003c")
}

fn attributes(tag: &StartTag<usize>) -> Vec<(String, String)> {
    let legal = |name: &str| !name.contains(['"', '\'', '<', '>', '/', '=', ' ']);
    let all = tag.attributes.iter().map(|(name, value)| (text(name), text(value)));
    all.filter(|(name, _)| legal(name)).collect()
}

fn attribute<'a>(attributes: &'a [(String, String)], name: &str) -> Option<&'a str> {
    attributes.iter().find(|(other, _)| other == name).map(|(_, value)| value.as_str())
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn kinds(html: &str) -> Vec<LoadKind> {
        Page::read(html).loads.into_iter().map(|load| load.kind).collect()
    }

    fn write(html: &str, tag: Tag) -> String {
        let mut tag = Some(tag);
        let variable = |name: &str| match name {
            "VITE_T" => Some("<i>\"&"),
            "VITE_S" => Some("</script><b>"),
            _ => None,
        };
        Page::read(html).write(html, "[HEAD]", &mut |_| tag.take().unwrap_or(Tag::Same), &variable)
    }

    #[test]
    fn what_a_page_loads() {
        let html = "<!doctype html><html><head><LINK REL='preload stylesheet' href=/src/a.css><link rel=icon href=x>\
            <script src=/old.js></script><script type=module src=\"/src/main.tsx?a&amp;b\"></script></head>\
            <body><script type='module'>import '/x.ts'; '<script>'</script><script type=module> </script></body>";
        assert_eq!(
            kinds(html),
            [
                LoadKind::Style("/src/a.css".into()),
                LoadKind::Script("/src/main.tsx?a&b".into()),
                LoadKind::Inline(0, "import '/x.ts'; '<script>'".into()),
            ]
        );
    }

    #[test]
    fn what_only_looks_like_a_tag_is_none() {
        for html in [
            "<!-- <script type=module src=/a.js></script> --><head>",
            "<title><script type=module src=/a.js></script></title>",
            "<textarea><script type=module src=/a.js></script></textarea>",
            "<script>'<script type=module src=/a.js>'</script>",
            "<style><link rel=stylesheet href=/a.css></style>",
            "<p title='<script type=module src=/a.js></script>'>",
            "<p title=\"<head>\">",
        ] {
            assert_eq!(kinds(html), [], "{html}");
        }
        assert!(
            write("<!-- <head> --><p title='<head>'><html><head x=y><b>", Tag::Same).contains("<head x=y>[HEAD]<b>")
        );
    }

    #[test]
    fn the_head_comes_first_wherever_it_is() {
        assert_eq!(write("<b>", Tag::Same), "[HEAD]<b>");
        assert_eq!(write("<!doctype html><b>", Tag::Same), "<!doctype html>[HEAD]<b>");
        assert_eq!(write("<!doctype html><html lang=a><body>", Tag::Same), "<!doctype html><html lang=a>[HEAD]<body>");
        assert_eq!(write("", Tag::Same), "[HEAD]");
        let html = "<head><script type=module src=/a.ts></script><head>";
        assert_eq!(write(html, Tag::Same), "<head>[HEAD]<script type=module src=/a.ts></script><head>");
    }

    #[test]
    fn tags_get_addresses_and_keep_what_else_they_say() {
        let at = || Tag::At("/a.ts?import&t=1".to_owned());
        let html = "<head></head><script async type=module src=/a.ts integrity=x data-x='<\"'></script>!";
        assert_eq!(
            write(html, at()),
            "<head>[HEAD]</head><script src=\"/a.ts?import&amp;t=1\" async=\"\" data-x=\"&lt;&quot;\" type=\"module\"></script>!"
        );
        let html = "<script type=module>let a = 1</script>!";
        assert_eq!(write(html, at()), "[HEAD]<script src=\"/a.ts?import&amp;t=1\" type=\"module\"></script>!");
        let html = "<link rel=stylesheet href=/a.css />!";
        assert_eq!(
            write(html, Tag::AsScript("/a.css".into())),
            "[HEAD]<script type=\"module\" src=\"/a.css\"></script>!"
        );
    }

    #[test]
    fn variables_are_put_in_and_cannot_break_out() {
        assert_eq!(
            write("<p a=\"%VITE_T%\">100%%VITE_T% %NO% %", Tag::Same),
            "[HEAD]<p a=\"&lt;i&gt;&quot;&amp;\">100%&lt;i&gt;&quot;&amp; %NO% %"
        );
        assert_eq!(
            write("<script>let a = '%VITE_S%'</script>", Tag::Same),
            "[HEAD]<script>let a = '<\\/script><b>'</script>"
        );
    }

    proptest! {
        #[test]
        fn nothing_panics_and_nothing_is_lost(parts in proptest::collection::vec(prop_oneof![
            Just("<head>"), Just("<script type=module src=/a>"), Just("</script>"), Just("<!--"), Just("-->"), Just("<"), Just("'"),
            Just("<link rel=stylesheet href=/b>"), Just("%VITE_X%"), Just("é"), Just("<title>"), Just("text "), Just("</"), Just(">"),
        ], 0..20)) {
            let html = parts.concat();
            let page = Page::read(&html);
            let same = page.write(&html, "", &mut |_| Tag::Same, &|_| None);
            prop_assert_eq!(&same, &html);
            page.write(&html, "[H]", &mut |_| Tag::At("/x".into()), &|_| Some("v"));
        }
    }

    #[test]
    fn a_page_of_nothing_but_scripts_is_read_in_parts() {
        let inline = "<script type=module>let a</script>".repeat(200);
        let linked = "<script type=module src=a.js></script><link rel=stylesheet href=a.css>".repeat(2_000);
        let page = Page::read(&format!("{inline}{linked}"));
        assert_eq!(page.loads.len(), MOST_LOADS);
        assert_eq!(page.loads.iter().filter(|load| matches!(load.kind, LoadKind::Inline(..))).count(), MOST_INLINE);
        let html = format!("%VITE_S%{}%VITE_S%", "<script>%VITE_S%</script>".repeat(3));
        let written = Page::read(&html).write(&html, "", &mut |_| Tag::Same, &|_| Some("</b>"));
        assert_eq!(written, format!("&lt;/b&gt;{}&lt;/b&gt;", "<script><\\/b></script>".repeat(3)));
    }
}
