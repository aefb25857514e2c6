//! What a request asks for: paths decoded once, and nothing that leads elsewhere.

use overskill_core::FilePath;
use percent_encoding::percent_decode_str;

/// The path of a request, decoded, without the `/` before it; or why it is refused.
pub(super) fn decode(path: &str) -> Result<String, &'static str> {
    let rest = path.strip_prefix('/').ok_or("a path begins with `/`")?;
    let bytes = rest.as_bytes();
    for (index, _) in bytes.iter().enumerate().filter(|(_, byte)| **byte == b'%') {
        if !bytes.get(index + 1..index + 3).is_some_and(|digits| digits.iter().all(u8::is_ascii_hexdigit)) {
            return Err("a `%` in a path is followed by two hex digits");
        }
    }
    let decoded = percent_decode_str(rest).decode_utf8().map_err(|_| "a path is UTF-8")?;
    if decoded.chars().any(|c| c.is_control() || c == '\\') {
        return Err("a path holds no control character and no backslash");
    }
    if decoded.split('/').any(|segment| matches!(segment, "." | "..")) {
        return Err("a path has no `.` or `..` segment");
    }
    // Whoever encodes twice wants what one decoding would have been refused.
    let lower = decoded.to_ascii_lowercase();
    if ["%2e", "%2f", "%5c", "%25", "%00"].iter().any(|twice| lower.contains(twice)) {
        return Err("a path is percent-encoded once");
    }
    Ok(decoded.into_owned())
}

/// What stands after the `?`.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Params<'a>(&'a str);

impl<'a> Params<'a> {
    pub(super) fn of(query: Option<&'a str>) -> Self {
        Self(query.unwrap_or_default())
    }

    pub(super) fn has(self, name: &str) -> bool {
        self.get(name).is_some()
    }

    pub(super) fn get(self, name: &str) -> Option<&'a str> {
        self.0.split('&').find_map(|pair| {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            (key == name).then_some(value)
        })
    }
}

/// Whether a file of the sources is nobody's business: dotfiles, what names packages and versions, keys.
pub(super) fn is_private(path: &str) -> bool {
    const NAMES: [&str; 9] = [
        "package.json",
        "package-lock.json",
        "npm-shrinkwrap.json",
        "yarn.lock",
        "pnpm-lock.yaml",
        "pnpm-workspace.yaml",
        "bun.lock",
        "bun.lockb",
        "deno.lock",
    ];
    let name = path.rsplit('/').next().unwrap_or(path).to_ascii_lowercase();
    path.split('/').any(|segment| segment.starts_with('.'))
        || NAMES.contains(&name.as_str())
        || [".pem", ".key", ".crt", ".p12"].iter().any(|ending| name.ends_with(ending))
}

/// Whether a path looks like a file and not like a page of an app's own router.
pub(super) fn looks_like_file(path: &str) -> bool {
    FilePath::parse(path).is_ok_and(|path| {
        let known = |ext: &str| {
            matches!(ext, "ts" | "tsx" | "mts" | "cts" | "jsx" | "mjs" | "cjs" | "map" | "vue" | "svelte")
                || mime_guess::from_ext(ext).first_raw().is_some()
        };
        // `john.com` is a page too: an extension that names a sort of file which pages never load.
        path.extension().is_some_and(|ext| ext != "com" && known(ext))
    })
}

/// The media type of a file, by its name.
pub(crate) fn content_type(path: &str) -> String {
    let ext = path.rsplit_once('.').map_or("", |(_, ext)| ext);
    let text = match ext {
        "ts" | "tsx" | "mts" | "cts" | "jsx" | "js" | "mjs" | "cjs" => "text/javascript; charset=utf-8",
        "css" => "text/css; charset=utf-8",
        "html" | "htm" => "text/html; charset=utf-8",
        "json" | "map" => "application/json",
        "webmanifest" => "application/manifest+json",
        "svg" => "image/svg+xml",
        "wasm" => "application/wasm",
        "txt" | "md" => "text/plain; charset=utf-8",
        _ => return mime_guess::from_ext(ext).first_raw().unwrap_or("application/octet-stream").to_owned(),
    };
    text.to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_leads_elsewhere_is_refused() {
        for bad in [
            "/../etc/passwd",
            "/src/../../x",
            "/%2e%2e/x",
            "/%2E%2e%2fx",
            "/%252e%252e/x",
            "/%25%32%65/x",
            "/..%5cx",
            "/a\\b",
            "/a%00b",
            "/a%0ab",
            "/./x",
            "/%",
            "/%2",
            "/%zz",
            "/%ff",
            "src",
            "",
        ] {
            assert!(decode(bad).is_err(), "{bad}");
        }
        assert_eq!(decode("/src/my%20file.tsx").unwrap(), "src/my file.tsx");
        assert_eq!(decode("/%E6%97%A5/x...y").unwrap(), "日/x...y");
        assert_eq!(decode("/").unwrap(), "");
    }

    #[test]
    fn what_nobody_may_fetch() {
        for private in [".env", "sub/.env.local", "package.json", "a/Package.JSON", ".git/config", "bun.lockb", "a.pem"]
        {
            assert!(is_private(private), "{private}");
        }
        for open in ["src/App.tsx", "a.env.ts", "packages.json"] {
            assert!(!is_private(open), "{open}");
        }
    }

    #[test]
    fn pages_and_files_are_told_apart() {
        for file in ["src/missing.tsx", "logo.png", "a/b.css", "x.mts", "favicon.ico"] {
            assert!(looks_like_file(file), "{file}");
        }
        for page in ["users/john.doe", "about", "v1.2", "", "shop/acme.com"] {
            assert!(!looks_like_file(page), "{page}");
        }
    }

    #[test]
    fn parameters() {
        let params = Params::of(Some("import&t=5&raw"));
        assert_eq!(
            (params.get("t"), params.has("import"), params.has("raw"), params.has("r")),
            (Some("5"), true, true, false)
        );
    }

    proptest! {
        #[test]
        fn decoding_never_yields_a_way_out(path in "/([a-z./%\\\\\u{0}é]|%2[eEfF]|%5c|%25){0,24}") {
            if let Ok(decoded) = decode(&path) {
                prop_assert!(!decoded.contains('\\') && !decoded.contains('\0'));
                prop_assert!(decoded.split('/').all(|segment| segment != ".." && segment != "."));
            }
        }
    }
}
