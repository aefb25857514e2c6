//! Package names, versions and specifiers, as far as they may be trusted.

/// Whether a name can be a package's: also one folder, or two with a scope, and part of an address.
pub(crate) fn is_package_name(name: &str) -> bool {
    let part = |it: &str| {
        !it.is_empty()
            && !it.starts_with('.')
            && it.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.~".contains(&b))
            && it != "node_modules"
    };
    name.len() <= 214
        && match name.strip_prefix('@') {
            Some(scoped) => scoped.split_once('/').is_some_and(|(scope, name)| part(scope) && part(name)),
            None => part(name),
        }
}

/// Whether a text looks enough like an exact version to be part of an address.
pub(crate) fn is_version(version: &str) -> bool {
    version.len() <= 256
        && version.starts_with(|c: char| c.is_ascii_digit())
        && version.bytes().all(|b| b.is_ascii_alphanumeric() || b".-+".contains(&b))
}

/// The package that a bare specifier is of, and what it wants of it; `None` when it is no bare specifier.
pub(crate) fn split_specifier(specifier: &str) -> Option<(&str, &str)> {
    let end = match specifier.strip_prefix('@') {
        Some(_) => specifier.match_indices('/').nth(1).map(|(at, _)| at),
        None => specifier.find('/'),
    };
    let (name, rest) = specifier.split_at(end.unwrap_or(specifier.len()));
    let fine = |it: &str| !matches!(it, "" | "." | "..");
    let clean = |c: char| !c.is_control() && !"\\*?#\"".contains(c);
    let rest_is_fine = rest.is_empty() || (rest[1..].split('/').all(fine) && rest.chars().all(clean));
    (is_package_name(name) && rest_is_fine && specifier.len() <= 512).then_some((name, rest))
}

/// The last part of a name: what its tarball is called after.
pub(crate) fn base_name(name: &str) -> &str {
    name.rsplit('/').next().unwrap_or(name)
}

/// What Node has built in, and browsers have not.
pub(crate) const NODE_BUILTINS: [&str; 42] = [
    "assert",
    "async_hooks",
    "buffer",
    "child_process",
    "cluster",
    "console",
    "constants",
    "crypto",
    "dgram",
    "diagnostics_channel",
    "dns",
    "domain",
    "events",
    "fs",
    "http",
    "http2",
    "https",
    "inspector",
    "module",
    "net",
    "os",
    "path",
    "perf_hooks",
    "process",
    "punycode",
    "querystring",
    "readline",
    "repl",
    "stream",
    "string_decoder",
    "sys",
    "timers",
    "tls",
    "trace_events",
    "tty",
    "url",
    "util",
    "v8",
    "vm",
    "wasi",
    "worker_threads",
    "zlib",
];

/// Whether a specifier names something of Node's; `node:` may stand before it.
pub(crate) fn is_node_builtin(specifier: &str) -> bool {
    let plain = specifier.strip_prefix("node:").unwrap_or(specifier);
    NODE_BUILTINS.contains(&plain.split('/').next().unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names() {
        for good in ["react", "@scope/name", "lodash.debounce", "JSONStream", "a_b~c", "3d"] {
            assert!(is_package_name(good), "{good}");
        }
        for bad in [
            "",
            ".",
            "..",
            ".bin",
            "@scope",
            "@/x",
            "@a/",
            "@a/b/c",
            "a/b",
            "a b",
            "a\\b",
            "node_modules",
            "@a/..",
            "é",
            "a\0",
            "%2e",
        ] {
            assert!(!is_package_name(bad), "{bad}");
        }
        assert!(is_version("1.2.3-rc.1+x") && !is_version("1.2.3/../x") && !is_version("latest"));
    }

    #[test]
    fn specifiers() {
        assert_eq!(split_specifier("react"), Some(("react", "")));
        assert_eq!(split_specifier("react/jsx-runtime"), Some(("react", "/jsx-runtime")));
        assert_eq!(split_specifier("@a/b"), Some(("@a/b", "")));
        assert_eq!(split_specifier("@a/b/c/d.css"), Some(("@a/b", "/c/d.css")));
        for bad in
            ["", "./a", "/a", "a//b", "a/../b", "a/*", "@a", "a/b?raw", "a/\n", "node:fs", "https://x/y", "-a/\"b"]
        {
            assert_eq!(split_specifier(bad), None, "{bad}");
        }
        assert!(is_node_builtin("node:fs/promises") && is_node_builtin("path") && !is_node_builtin("react"));
    }
}
