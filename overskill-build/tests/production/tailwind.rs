//! Configurations of Tailwind are code of tenants: what they may not reach.

use super::support::{asset, builder, built, request, sources};
use overskill_core::{Artifact, Builder as _, Error};
use std::{
    fs,
    io::Read as _,
    net::TcpListener,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Duration,
};

const PAGE: &str = "<!doctype html><html><head></head><body class=\"p-4 text-brand\">\
                    <link rel=\"stylesheet\" href=\"/src/main.css\"></body></html>";
const MANIFEST: &str = r#"{ "devDependencies": { "tailwindcss": "3.4.17" } }"#;

/// An app whose configuration runs `code` before it says what it is.
async fn with_code(code: &str) -> Result<Artifact, Error> {
    with_colour(code, "#abcdef").await
}

/// The same where the app has this colour.
async fn with_colour(code: &str, colour: &str) -> Result<Artifact, Error> {
    let config = format!(
        "{code}\nexport default {{ content: ['./index.html'], theme: {{ extend: {{ colors: {{ brand: found ?? '#123456' }} }} }} }};"
    );
    built(sources(&[
        ("index.html", PAGE),
        ("package.json", MANIFEST),
        ("src/main.css", "@tailwind utilities;"),
        ("src/colours.ts", &format!("export const found: string = '{colour}';")),
        ("tailwind.config.ts", &config),
    ]))
    .await
}

async fn refused(code: &str, says: &str) {
    let error = with_code(&format!("let found: string | undefined;\n{code}")).await.expect_err(code);
    let message = error.public_message();
    assert!(message.starts_with("tailwind.config.ts: "), "{message}");
    assert!(message.contains(says) && message.contains("and nothing else of the machine"), "{code}: {message}");
}

#[tokio::test]
async fn a_configuration_uses_the_apps_files() {
    let artifact = with_code("import { found } from './src/colours';").await.unwrap_or_else(|e| panic!("{e}"));
    let (_, css) = asset(&artifact, "assets/main-", ".css");
    assert!(css.contains(".p-4{padding:1rem}") && css.contains("171 205 239"), "{css}");
}

/// What was bundled for one build serves the next, as long as nothing that went into it has changed.
#[tokio::test]
async fn what_a_configuration_imports_may_change() {
    for (colour, shown) in [("#abcdef", "171 205 239"), ("#fedcba", "254 220 186"), ("#abcdef", "171 205 239")] {
        for _ in 0..2 {
            let made = with_colour("import { found } from './src/colours';", colour).await;
            let made = made.unwrap_or_else(|e| panic!("{e}"));
            let (_, css) = asset(&made, "assets/main-", ".css");
            assert!(css.contains(shown), "{colour}: {css}");
        }
    }
}

#[tokio::test]
async fn it_reads_no_file_of_the_machine() {
    // The attempt is made: the same call reads what it may read.
    let own = with_code(
        "import { readFileSync } from 'node:fs';\n\
         let found: string | undefined = readFileSync('src/colours.ts', 'utf8').match(/#\\w+/)![0];",
    );
    let own = own.await.unwrap_or_else(|e| panic!("{e}"));
    let (_, css) = asset(&own, "assets/main-", ".css");
    assert!(css.contains("171 205 239"), "{css}");
    let read = "import { readFileSync } from 'node:fs';\nfound = readFileSync('/etc/passwd', 'utf8');";
    refused(read, "/etc/passwd").await;
    refused("found = Deno.readTextFileSync('/etc/passwd');", "/etc/passwd").await;
    refused("found = Deno.readTextFileSync('/proc/self/environ');", "/proc/self/environ").await;
    refused("found = require('fs').readFileSync('/etc/hostname', 'utf8');", "/etc/hostname").await;
    refused("found = JSON.stringify(Deno.statSync(Deno.cwd() + '/../../..'));", "read access").await;
    refused("Deno.writeTextFileSync('src/colours.ts', 'mine');", "write access").await;
    // What it may ask, it learns nothing from.
    let caught =
        with_code("let found: string | undefined;\ntry { found = Deno.readTextFileSync('/etc/passwd') } catch {}");
    let caught = caught.await.unwrap_or_else(|e| panic!("{e}"));
    assert!(asset(&caught, "assets/main-", ".css").1.contains("18 52 86"), "its own colour, and no file's");
}

/// What the bundler reads it puts into the script: it must not read what is not the app's.
#[tokio::test]
async fn bundling_reads_no_file_of_the_machine() {
    let outside = tempfile::tempdir().unwrap();
    let secret = outside.path().join("secret.json");
    std::fs::write(&secret, r#"{ "colour": "the secret" }"#).unwrap();
    let code = format!(
        "import secret from {:?};\nlet found: string | undefined = secret.colour;",
        secret.display().to_string()
    );
    let error = with_code(&code).await.unwrap_err();
    assert!(error.public_message().contains("outside of the app"), "{error}");
    assert!(!error.to_string().contains("the secret"), "{error}");
}

#[tokio::test]
async fn it_learns_nothing_of_the_environment() {
    // Cargo's tests have this one.
    assert!(std::env::var_os("CARGO_MANIFEST_DIR").is_some());
    refused("found = process.env.CARGO_MANIFEST_DIR;", "CARGO_MANIFEST_DIR").await;
    refused("found = JSON.stringify(Deno.env.toObject());", "env access").await;
    refused("found = Deno.hostname();", "sys access").await;
    // Those that it may ask for it does not have: the control is one that the child is given.
    let asked = with_code(
        "let found: string | undefined = process.env.NODE_ENV === 'production' && !process.env.TERM ? '#abcdef' : '#000000';",
    );
    assert!(asset(&asked.await.unwrap_or_else(|e| panic!("{e}")), "assets/main-", ".css").1.contains("171 205 239"));
}

#[tokio::test]
async fn it_reaches_no_network() {
    let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    listener.set_nonblocking(true).unwrap();
    let port = listener.local_addr().unwrap().port();
    refused(&format!("await fetch('http://127.0.0.1:{port}/');"), "net access").await;
    refused(&format!("await Deno.connect({{ port: {port} }});"), "net access").await;
    refused(
        &format!("import net from 'node:net';\nawait new Promise((_, no) => net.connect({port}, '127.0.0.1').on('error', no));"),
        "net access",
    )
    .await;
    refused("await import('https://example.com/' + 'colours.js');", "").await;
    assert!(listener.accept().is_err(), "nobody came");
    // Somebody would have been heard.
    let mut control = std::net::TcpStream::connect(("127.0.0.1", port)).unwrap();
    std::thread::sleep(Duration::from_millis(50));
    let (mut heard, _) = listener.accept().unwrap();
    std::io::Write::write_all(&mut control, b"x").unwrap();
    heard.set_nonblocking(false).unwrap();
    assert_eq!(heard.read(&mut [0; 4]).unwrap(), 1);
}

#[tokio::test]
async fn it_starts_no_program() {
    let mark = tempfile::tempdir().unwrap();
    let mark = mark.path().join("mark");
    let touch = format!("'/bin/touch', ['{}']", mark.display());
    refused(&format!("new Deno.Command('/bin/touch', {{ args: ['{}'] }}).outputSync();", mark.display()), "run access")
        .await;
    refused(&format!("import cp from 'node:child_process';\ncp.execFileSync({touch}, {{ env: {{}} }});"), "access")
        .await;
    assert!(!mark.exists());
    let control = std::process::Command::new("/bin/touch").arg(&mark).status().unwrap();
    assert!(control.success() && mark.exists(), "the program would have done it");
}

#[tokio::test]
async fn it_is_stopped_when_it_takes_too_much() {
    let app = |code: &str| {
        let config = format!("{code}\nexport default {{ content: [] }};");
        sources(&[
            ("index.html", PAGE),
            ("package.json", MANIFEST),
            ("src/main.css", "@tailwind utilities;"),
            ("tailwind.config.ts", &config),
        ])
    };
    // The programs and packages are there before the clock runs.
    built(app("")).await.unwrap_or_else(|e| panic!("{e}"));
    let limited = builder().tailwind_limits(Duration::from_secs(10), 256 << 20);
    for (code, says) in [
        ("while (true) {}", "took longer than 10 s"),
        ("await new Promise(() => setInterval(() => {}, 1000));", "took longer than 10 s"),
        ("const all = []; for (;;) all.push(new Uint8Array(32 << 20).fill(1));", "memory"),
    ] {
        let error = limited.build(&request(app(code))).await.expect_err(code);
        assert!(error.public_message().contains(says), "{code}: {error}");
    }
    let left = std::fs::read_dir(super::support::cache().join("work")).unwrap().count();
    eprintln!("{left} folders of builds that run now");
}

/// Set for a copy of this program that builds, and is killed while it does.
const OWNER: &str = "OVERSKILL_TEST_OWNER";

/// It sees that nobody waits for it any more. Where it does not come to look, what it may work is bounded by the system.
#[tokio::test]
async fn it_ends_with_its_owner() {
    if std::env::var_os(OWNER).is_some() {
        let endless = sources(&[
            ("index.html", PAGE),
            ("package.json", MANIFEST),
            ("src/main.css", "@tailwind utilities;"),
            ("tailwind.config.ts", "await new Promise(() => setInterval(() => {}, 1000));\nexport default {};"),
        ]);
        let limited = builder().tailwind_limits(Duration::from_mins(5), 256 << 20);
        panic!("it was built: {:?}", limited.build(&request(endless)).await.map(drop));
    }
    let mut owner = Command::new(std::env::current_exe().unwrap());
    owner.args(["--exact", "tailwind::it_ends_with_its_owner"]).env(OWNER, "1").stdout(Stdio::null());
    let mut owner = owner.spawn().unwrap();
    let mut child = None;
    while child.is_none() {
        assert!(owner.try_wait().unwrap().is_none(), "it builds");
        tokio::time::sleep(Duration::from_millis(50)).await;
        child = tailwind_of(owner.id());
    }
    let (child, folder) = child.unwrap();
    // What a build of 5 minutes may work on eight processors, as soon as it was told to the system.
    let bounded = || fs::read_to_string(child.join("limits")).is_ok_and(|it| cpu_seconds(&it) == Some("2408"));
    let found = patiently(bounded).await;
    owner.kill().unwrap();
    owner.wait().unwrap();
    assert!(patiently(|| driver(&child).is_none()).await, "Tailwind still runs a minute after its owner ended");
    fs::remove_dir_all(folder).unwrap(); // its owner could not
    assert!(found, "its work is bounded");
}

async fn patiently(mut until: impl FnMut() -> bool) -> bool {
    for _ in 0..600 {
        if until() {
            return true;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    false
}

/// How long a process may work, by `/proc/…/limits`.
fn cpu_seconds(limits: &str) -> Option<&str> {
    limits.lines().find_map(|line| line.strip_prefix("Max cpu time"))?.split_whitespace().next()
}

/// The child of a process that runs Tailwind, and the folder that it works in.
fn tailwind_of(owner: u32) -> Option<(PathBuf, PathBuf)> {
    let of_owner = |process: &PathBuf| {
        let stat = fs::read_to_string(process.join("stat")).unwrap_or_default();
        let parent = stat.rsplit(')').next().and_then(|rest| rest.split_whitespace().nth(1)?.parse().ok());
        parent == Some(owner)
    };
    let processes = fs::read_dir("/proc").unwrap().flatten().map(|it| it.path()).filter(of_owner);
    processes.into_iter().find_map(|process| driver(&process).map(|folder| (process, folder)))
}

/// The folder that a process runs Tailwind in, if it does.
fn driver(process: &Path) -> Option<PathBuf> {
    let line = fs::read(process.join("cmdline")).ok()?;
    let line = String::from_utf8_lossy(&line).into_owned();
    let script = line.split('\0').find(|it| it.ends_with("/app/.overskill/driver.mjs"))?;
    Some(Path::new(script).ancestors().nth(3)?.to_owned())
}
