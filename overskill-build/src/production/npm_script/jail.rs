//! Where an app's own build runs: nothing of the machine but programs and the app's folder.

use std::{
    ffi::OsString,
    path::{Path, PathBuf},
};

/// What keeps an app's own build from the machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum BuildJail {
    /// bubblewrap (`bwrap`), 0.8 or newer.
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

/// The app's folder, and where it may put what it does not keep; in the jail these are `/app` and `/tmp`. With `/dev/shm`,
/// they are all that can be written to there.
pub(super) struct Folders<'a> {
    pub(super) app: &'a Path,
    pub(super) tmp: &'a Path,
    /// What is `/dev/shm` there.
    pub(super) shm: &'a Path,
    /// An empty folder that becomes the jail's root.
    pub(super) root: &'a Path,
    /// Where [`filter`] is.
    pub(super) filter: &'a Path,
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
/// the app, `$3` where passing things go, `$4` what is `/dev/shm`, `$5` a folder with programs; then what to run.
///
/// It makes no namespaces of its own, where it could mount memory, and no memory or messages of System V, which nobody has to
/// hold; older kernels refuse the latter limits. `/proc` is read only: settings of the kernel belong to root, in a jail too.
const ENTER: &str = r#"
set -eu
root=$1 app=$2 tmp=$3 shm=$4 tools=$5
shift 5
mount --make-rprivate /
mount -t tmpfs -o mode=755,size=1m overskill "$root"
see() {
  if [ -h "$1" ]; then cp -P "$1" "$root$1"; elif [ -e "$1" ]; then
    mkdir -p "$root$1"
    mount --rbind "$1" "$root$1"
    mount -o remount,bind,ro "$root$1"
    # And what is mounted below it.
    while read -r _ _ _ _ at _; do
      at=$(printf %b "$at")
      case "$at" in "$root$1"/*) mount -o remount,bind,ro "$at" ;; esac
    done < /proc/self/mountinfo
  fi
}
mkdir -p "$root/etc" "$root/proc" "$root/dev/shm" "$root/app" "$root/tmp" "$root/old"
for path in @READABLE@; do see "$path"; done
for path in @COPIED@; do [ -e "$path" ] && cp -L "$path" "$root$path" || true; done
case "$tools" in /usr/*) ;; *) see "$tools" ;; esac
for device in null zero random urandom; do : > "$root/dev/$device"; mount --bind "/dev/$device" "$root/dev/$device"; done
mount -t proc proc "$root/proc"
echo 0 > "$root/proc/sys/user/max_user_namespaces"
for most in shmmni msgmni; do { echo 0 > "$root/proc/sys/kernel/$most"; } 2> /dev/null || true; done
mount -o remount,bind,ro "$root/proc"
mount --bind "$shm" "$root/dev/shm"
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
    // It takes the filter from a file that is open.
    let mut arguments: Vec<OsString> = vec!["-c".into(), r#"exec bwrap "$@" 9< "$0""#.into(), folders.filter.into()];
    arguments.extend(["--unshare-all", "--unshare-user", "--disable-userns", "--die-with-parent"].map(OsString::from));
    arguments
        .extend(["--new-session", "--seccomp", "9", "--proc", "/proc", "--remount-ro", "/proc"].map(OsString::from));
    arguments.extend(["--dev".into(), "/dev".into(), "--bind".into(), folders.shm.into(), "/dev/shm".into()]);
    arguments.extend(["--remount-ro", "/dev"].map(OsString::from));
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
    // Last: it makes the places of all the others.
    arguments.extend(["--remount-ro".into(), "/".into(), call.program.into()]);
    arguments.extend(call.arguments);
    Call { program: "/bin/sh".into(), arguments, environment: call.environment }
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
    arguments.extend([folders.root, folders.app, folders.tmp, folders.shm].map(OsString::from));
    arguments.push(tools(&call.program).unwrap_or_else(|| "/usr/bin".into()).into());
    arguments.push(call.program.into());
    arguments.extend(call.arguments);
    Call { program: "unshare".into(), arguments, environment: call.environment }
}

/// What bubblewrap gives to the kernel (seccomp): no memory and no messages of System V, for they stay when nobody holds
/// them, and no other calling convention than the machine's own. Programs are told that there is no such thing (`ENOSYS`).
pub(super) fn filter() -> Vec<u8> {
    const LOAD: u16 = 0x20;
    const IF_EQUAL: u16 = 0x15;
    const IF_AT_LEAST: u16 = 0x35;
    const RETURN: u16 = 0x06;
    const NUMBER_AT: u32 = 0;
    const CONVENTION_AT: u32 = 4;
    const ALLOW: u32 = 0x7fff_0000;
    const REFUSE: u32 = 0x0005_0026;
    // The convention, and the numbers of `shmget` and `msgget`.
    const MACHINE: Option<(u32, [u32; 2])> = if cfg!(target_arch = "x86_64") {
        Some((0xc000_003e, [29, 68]))
    } else if cfg!(target_arch = "aarch64") {
        Some((0xc000_00b7, [194, 186]))
    } else {
        None // its programs may do so
    };
    // The one of x32 on x86-64; no other machine has so many calls.
    const OTHER_CONVENTION: u32 = 0x4000_0000;

    let refusals = MACHINE.into_iter().flat_map(|(convention, [memory, messages])| {
        // Each skips so many of those that follow.
        [
            (LOAD, 0, 0, CONVENTION_AT),
            (IF_EQUAL, 1, 0, convention),
            (RETURN, 0, 0, REFUSE),
            (LOAD, 0, 0, NUMBER_AT),
            (IF_AT_LEAST, 2, 0, OTHER_CONVENTION),
            (IF_EQUAL, 1, 0, memory),
            (IF_EQUAL, 0, 1, messages),
            (RETURN, 0, 0, REFUSE),
        ]
    });
    let bytes = |(code, yes, no, value): (u16, u8, u8, u32)| {
        [&code.to_ne_bytes()[..], &[yes, no], &value.to_ne_bytes()].concat()
    };
    refusals.chain([(RETURN, 0, 0, ALLOW)]).flat_map(bytes).collect()
}

/// The folder that a program was installed to, if it is not the system's.
fn tools(program: &Path) -> Option<PathBuf> {
    let real = program.canonicalize().unwrap_or_else(|_| program.to_owned());
    let outside = |path: &Path| !["/usr", "/bin", "/sbin"].iter().any(|it| path.starts_with(it));
    // `prefix/lib/node_modules/npm/bin/npm-cli.js`, or `prefix/bin/node`.
    let prefix = real.ancestors().find(|it| it.join("bin/node").exists());
    prefix.filter(|it| outside(it) && it.components().count() > 1).map(Path::to_owned)
}
