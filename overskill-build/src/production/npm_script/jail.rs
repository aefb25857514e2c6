//! Where an app's own build runs: nothing of the machine but programs and the app's folder.

use std::{
    ffi::OsString,
    path::{Path, PathBuf},
};

/// What keeps an app's own build from the machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum BuildJail {
    /// bubblewrap (`bwrap`).
    Bubblewrap,
    /// `unshare` of util-linux, with `pivot_root`.
    Unshare,
}

/// Where a build runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Jail {
    In(BuildJail),
    /// In none: the host said that it trusts its apps.
    Nothing,
}

/// The app's folder, and where it may put what it does not keep; in the jail these are `/app` and `/tmp`.
pub(super) struct Folders<'a> {
    pub(super) app: &'a Path,
    pub(super) tmp: &'a Path,
    /// An empty folder that becomes the jail's root.
    pub(super) root: &'a Path,
}

/// A program with its arguments and its environment.
pub(super) struct Call {
    pub(super) program: PathBuf,
    pub(super) arguments: Vec<OsString>,
    pub(super) environment: Vec<(String, OsString)>,
}

/// What of the machine a build may read: programs and libraries, and how names and certificates are found.
const READABLE: [&str; 9] =
    ["/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/etc/ssl", "/etc/pki", "/etc/ca-certificates"];
/// Files of which it may read a copy.
const COPIED: [&str; 4] = ["/etc/resolv.conf", "/etc/hosts", "/etc/nsswitch.conf", "/etc/localtime"];

/// Makes the jail from within new namespaces, and runs what follows in it with no right to leave it. `$1` is the root, `$2`
/// the app, `$3` where passing things go, `$4` a folder with programs; then what to run.
const ENTER: &str = r#"
set -eu
root=$1 app=$2 tmp=$3 tools=$4
shift 4
mount --make-rprivate /
mount -t tmpfs -o mode=755,size=1m overskill "$root"
see() { if [ -h "$1" ]; then cp -P "$1" "$root$1"; elif [ -e "$1" ]; then mkdir -p "$root$1"; mount --rbind "$1" "$root$1"; mount -o remount,bind,ro "$root$1"; fi; }
mkdir -p "$root/etc" "$root/proc" "$root/dev" "$root/app" "$root/tmp" "$root/old"
for path in @READABLE@; do see "$path"; done
for path in @COPIED@; do [ -e "$path" ] && cp -L "$path" "$root$path" || true; done
case "$tools" in /usr/*) ;; *) see "$tools" ;; esac
for device in null zero random urandom; do : > "$root/dev/$device"; mount --bind "/dev/$device" "$root/dev/$device"; done
mount -t proc proc "$root/proc"
mount --bind "$app" "$root/app"
mount --bind "$tmp" "$root/tmp"
cd "$root"
pivot_root . old
umount -l /old
mount -o remount,ro /
cd /app
exec setpriv --no-new-privs --bounding-set=-all --inh-caps=-all --ambient-caps=-all "$@"
"#;

impl Jail {
    /// The call that makes `call` in the jail, with the network or without.
    pub(super) fn around(self, call: Call, folders: &Folders<'_>, network: bool) -> Call {
        match self {
            Self::Nothing => call,
            Self::In(BuildJail::Bubblewrap) => bubblewrap(call, folders, network),
            Self::In(BuildJail::Unshare) => unshare(call, folders, network),
        }
    }

    /// What the app's folder and the other one are called inside.
    pub(super) fn inside<'a>(self, folders: &Folders<'a>) -> (&'a Path, &'a Path) {
        match self {
            Self::Nothing => (folders.app, folders.tmp),
            Self::In(_) => (Path::new("/app"), Path::new("/tmp")),
        }
    }
}

fn bubblewrap(call: Call, folders: &Folders<'_>, network: bool) -> Call {
    let mut arguments: Vec<OsString> =
        ["--unshare-all", "--die-with-parent", "--new-session", "--proc", "/proc", "--dev", "/dev"]
            .map(Into::into)
            .into();
    if network {
        arguments.push("--share-net".into());
    }
    for path in READABLE.iter().chain(&COPIED) {
        arguments.extend(["--ro-bind-try", path, path].map(OsString::from));
    }
    if let Some(tools) = tools(&call.program) {
        arguments.extend(["--ro-bind".into(), tools.clone().into(), tools.into()]);
    }
    arguments.extend(["--bind".into(), folders.app.into(), "/app".into()]);
    arguments.extend(["--bind".into(), folders.tmp.into(), "/tmp".into(), "--chdir".into(), "/app".into()]);
    arguments.push(call.program.into());
    arguments.extend(call.arguments);
    Call { program: "bwrap".into(), arguments, environment: call.environment }
}

fn unshare(call: Call, folders: &Folders<'_>, network: bool) -> Call {
    let mut arguments: Vec<OsString> =
        ["--user", "--map-root-user", "--mount", "--pid", "--fork", "--kill-child=KILL", "--ipc", "--uts"]
            .map(Into::into)
            .into();
    if !network {
        arguments.push("--net".into());
    }
    let enter = ENTER.replace("@READABLE@", &READABLE.join(" ")).replace("@COPIED@", &COPIED.join(" "));
    arguments.extend(["/bin/sh".into(), "-c".into(), enter.into(), "jail".into()]);
    arguments.extend([folders.root.into(), folders.app.into(), folders.tmp.into()]);
    arguments.push(tools(&call.program).unwrap_or_else(|| "/usr/bin".into()).into());
    arguments.push(call.program.into());
    arguments.extend(call.arguments);
    Call { program: "unshare".into(), arguments, environment: call.environment }
}

/// The folder that a program was installed to, if it is not the system's.
fn tools(program: &Path) -> Option<PathBuf> {
    let real = program.canonicalize().unwrap_or_else(|_| program.to_owned());
    let outside = |path: &Path| !["/usr", "/bin", "/sbin"].iter().any(|it| path.starts_with(it));
    // `prefix/lib/node_modules/npm/bin/npm-cli.js`, or `prefix/bin/node`.
    let prefix = real.ancestors().find(|it| it.join("bin/node").exists());
    prefix.filter(|it| outside(it) && it.components().count() > 1).map(Path::to_owned)
}
