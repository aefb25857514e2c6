//! Apps' own builds: what they may do, what they may take, and what is left of them.

use super::support::{names, request, sources};
use overskill_build::production::{BuildJail, NpmScriptBuilder};
use overskill_core::{
    AppId, AppRecord, Artifact, Builder as _, DeploymentStrategy, DeploymentTarget as _, Environment, Error, ErrorKind,
    Outcome, Progress, ProgressEvent, ProgressKind, ProgressSink, Secret, StreamName, SystemScopes, Timestamp,
    memory::{MemoryBackends, MemoryTarget},
};
use std::{
    fs,
    net::TcpListener,
    path::Path,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

const LOCK: &str =
    r#"{ "name": "app", "lockfileVersion": 3, "requires": true, "packages": { "": { "name": "app" } } }"#;

/// What was told.
#[derive(Clone, Debug, Default)]
struct Told(Arc<Mutex<Vec<ProgressEvent>>>);

impl ProgressSink for Told {
    fn emit(&self, event: ProgressEvent) {
        self.0.lock().unwrap().push(event);
    }
}

impl Told {
    fn log(&self) -> String {
        let events = self.0.lock().unwrap();
        let lines = events.iter().filter(|it| it.kind == ProgressKind::Log).map(|it| it.message.as_str());
        lines.collect::<Vec<_>>().join("\n")
    }
}

/// An app whose build script is `code`.
fn app(code: &str) -> [(&'static str, String); 4] {
    let manifest = r#"{ "name": "app", "scripts": { "build": "node build.mjs" } }"#;
    let script = format!("import fs from 'node:fs';\nfs.mkdirSync('dist/assets', {{ recursive: true }});\n{code}");
    [
        ("package.json", manifest.to_owned()),
        ("package-lock.json", LOCK.to_owned()),
        (".env", "API_KEY=a-secret-of-the-sources\nPORT=8080".to_owned()),
        ("build.mjs", script),
    ]
}

/// A build of an app whose script is `code`, with what it told; nothing is left of it but what it became.
async fn run(code: &str, set: impl FnOnce(NpmScriptBuilder) -> NpmScriptBuilder) -> (Result<Artifact, Error>, Told) {
    let app = app(code);
    let sources = sources(&app.each_ref().map(|(path, text)| (*path, text.as_str())));
    let folder = tempfile::tempdir().unwrap();
    let builder = set(NpmScriptBuilder::new(folder.path()).time_limit(Duration::from_mins(1)));
    let told = Told::default();
    let progress = Progress::to(Arc::new(told.clone()), StreamName::parse("builds").unwrap(), "1").start("Building");
    let done = builder.build(&request(sources).progress_to(progress)).await;
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0, "nothing is left on the disk");
    (done, told)
}

fn text(artifact: &Artifact, name: &str) -> String {
    String::from_utf8(artifact.assets()[&super::support::path(name)].contents().to_vec()).unwrap()
}

const WELL: &str = "fs.writeFileSync('dist/index.html', '<h1>built</h1>'); fs.writeFileSync('dist/assets/a.js', '1');";

/// How many programs run whose command line holds `mark`.
fn programs(mark: &str) -> usize {
    let holds =
        |path: &Path| fs::read(path.join("cmdline")).is_ok_and(|it| String::from_utf8_lossy(&it).contains(mark));
    fs::read_dir("/proc").unwrap().flatten().filter(|it| holds(&it.path())).count()
}

#[tokio::test]
async fn in_bubblewrap_it_sees_its_folder_and_nothing_else() {
    it_sees_its_folder_and_nothing_else(BuildJail::Bubblewrap).await;
}

#[tokio::test]
async fn in_unshare_it_sees_its_folder_and_nothing_else() {
    it_sees_its_folder_and_nothing_else(BuildJail::Unshare).await;
}

async fn it_sees_its_folder_and_nothing_else(jail: BuildJail) {
    let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    listener.set_nonblocking(true).unwrap();
    let port = listener.local_addr().unwrap().port();
    let here = tempfile::NamedTempFile::new().unwrap();
    let code = format!(
        "import net from 'node:net';
        import {{ execFileSync, spawnSync }} from 'node:child_process';
        const can = (path) => {{ try {{ fs.readFileSync(path); return true; }} catch {{ return false; }} }};
        const reached = await new Promise((done) => net.connect({port}, '127.0.0.1')
            .on('connect', () => done(true)).on('error', () => done(false)));
        const write = (() => {{ try {{ fs.writeFileSync('/usr/overskill', ''); return true; }} catch {{ return false; }} }})();
        const settings = ['sys/kernel/core_pattern', 'sys/vm/drop_caches', 'sysrq-trigger'].filter((it) => {{
            try {{ fs.accessSync(`/proc/${{it}}`, fs.constants.W_OK); return true; }} catch {{ return false; }} }});
        const device = (at) => at.startsWith('/dev/') && !fs.statSync(at).isDirectory() || at === '/dev/pts';
        const writable = fs.readFileSync('/proc/self/mountinfo', 'utf8').trim().split('\\n').map((it) => it.split(' '))
            .filter((it) => it[5].split(',').includes('rw') && !device(it[4])).map((it) => it[4]).sort();
        const tried = ['print(defined shmget(0, 4096, 01700) ? 1 : 0)', 'print(defined msgget(0, 01700) ? 1 : 0)']
            .map((it) => execFileSync('perl', ['-e', it], {{ encoding: 'utf8' }}));
        const namespaces = spawnSync('unshare', ['--user', '--map-root-user', 'true']).status;
        const mounts = spawnSync('unshare', ['--mount', 'true']).status;
        const rights = /^CapEff:\\s*(.*)$/m.exec(fs.readFileSync('/proc/self/status', 'utf8'))[1];
        fs.writeFileSync('dist/index.html', JSON.stringify({{ mounts, rights, settings, writable, tried, namespaces, own: can('package.json'), node: can(process.execPath),
            passwd: can('/etc/passwd'), host: can({:?}), write, reached, cwd: process.cwd(), env: Object.keys(process.env) }}));",
        here.path().display().to_string()
    );
    let (built, _) = run(&code, |it| it.jail(jail)).await;
    let seen: serde_json::Value = serde_json::from_str(&text(&built.unwrap(), "index.html")).unwrap();
    assert!(seen["own"] == true && seen["node"] == true && seen["cwd"] == "/app", "{seen}");
    assert!(seen["passwd"] == false && seen["host"] == false && seen["write"] == false, "{seen}");
    assert_eq!(seen["writable"], serde_json::json!(["/app", "/dev/shm", "/tmp"]), "{seen}");
    assert_eq!(seen["settings"], serde_json::json!([]), "nobody changes the kernel's, root neither: {seen}");
    assert_eq!(seen["tried"], serde_json::json!(["0", "0"]), "what stays when nobody holds it: {seen}");
    for refused in ["namespaces", "mounts"] {
        assert!(seen[refused].as_i64().is_some_and(|it| it != 0), "{seen}");
    }
    assert_eq!(seen["rights"], "0000000000000000", "root has none there either");
    assert!(seen["reached"] == false && listener.accept().is_err(), "{seen}");
    let environment = seen["env"].to_string();
    assert!(std::env::var_os("CARGO_MANIFEST_DIR").is_some() && !environment.contains("CARGO"), "{environment}");
    // The same attempts lead somewhere outside of a jail.
    assert!(fs::read("/etc/passwd").is_ok() && fs::read(here.path()).is_ok());
    assert!(std::net::TcpStream::connect(("127.0.0.1", port)).is_ok());
}

#[tokio::test]
async fn what_it_leaves_is_the_artifact_and_links_are_not() {
    let code = format!("{WELL} fs.symlinkSync('/etc/hosts', 'dist/hosts.txt'); fs.symlinkSync('/', 'dist/all');");
    let (built, _) = run(&code, |it| it).await;
    assert_eq!(names(&built.unwrap()), ["assets/a.js", "index.html"]);
    let (built, _) = run("fs.rmSync('dist', { recursive: true }); fs.symlinkSync('/etc', 'dist');", |it| it).await;
    assert!(built.unwrap_err().public_message().contains("left nothing in `dist/`"));
    let (built, _) = run("fs.writeFileSync('dist/assets/a.js', '1');", |it| it).await;
    assert!(built.unwrap_err().public_message().contains("left neither `index.html` nor `_worker.js` in `dist/`"));
}

#[tokio::test]
async fn a_build_that_fails_says_why() {
    let (built, _) = run("console.error('no such plugin'); process.exit(3);", |it| it).await;
    let error = built.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Invalid);
    assert!(error.public_message().contains("`npm run build` failed"), "{error}");
    assert!(error.public_message().contains("no such plugin"), "{error}");
}

#[tokio::test]
async fn a_build_that_never_ends_is_ended() {
    for (jail, mark) in
        [(BuildJail::Bubblewrap, "overskill-test-endless"), (BuildJail::Unshare, "overskill-test-forever")]
    {
        a_build_that_never_ends_is_ended_in(jail, mark).await;
    }
}

async fn a_build_that_never_ends_is_ended_in(jail: BuildJail, mark: &str) {
    let begun = Instant::now();
    let code =
        format!("process.title = '{mark}'; setInterval(() => {{}}, 1000); await new Promise(() => {{}}); // {mark}");
    let (built, _) = run(&code, |it| it.jail(jail).time_limit(Duration::from_secs(6))).await;
    let error = built.unwrap_err();
    assert!(error.public_message().contains("took longer than 6 s"), "{error}");
    assert!(begun.elapsed() >= Duration::from_secs(6), "it did run");
    assert_eq!(programs(mark), 0);
}

#[tokio::test]
async fn a_build_that_fills_the_disk_is_ended() {
    let code = "for (let n = 0; n < 100_000; n++) { fs.writeFileSync(`/tmp/${n}`, new Uint8Array(1 << 20).fill(1));
        await new Promise((go) => setTimeout(go, 2)); }";
    let (built, _) = run(code, |it| it.max_bytes(4 << 30, 64 << 20)).await;
    let error = built.unwrap_err();
    assert!(error.public_message().contains("67108864 bytes of the disk"), "{error}");
}

/// It says so much that there is always more to read: it is looked at all the same.
#[tokio::test]
async fn a_build_that_prints_without_end_is_ended() {
    let mark = "overskill-test-chatter";
    for (jail, end) in [(BuildJail::Bubblewrap, "\\n"), (BuildJail::Unshare, "")] {
        let code = format!(
            "process.title = '{mark}'; for (;;) if (!process.stdout.write('-'.repeat(500) + '{end}'))
                await new Promise((go) => process.stdout.once('drain', go)); // {mark}, in lines or in one"
        );
        let (built, told) = run(&code, |it| it.jail(jail).max_output(4 << 20, 20)).await;
        let error = built.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Invalid);
        assert!(error.public_message().contains("printed more than 4194304 bytes"), "{error}");
        assert!(error.public_message().len() < 1_000, "nothing of it is repeated: {error}");
        assert!(told.log().lines().count() <= 21, "{}", told.log());
        assert!(end.is_empty() || told.log().ends_with("(more than 20 lines: the rest is left out)"), "{}", told.log());
        assert_eq!(programs(mark), 0);
    }
}

#[tokio::test]
async fn a_build_that_never_ends_and_keeps_saying_so_is_ended() {
    let mark = "overskill-test-ticking";
    let code = format!("process.title = '{mark}'; setInterval(() => console.log('still here'), 20); // {mark}");
    let (built, told) = run(&code, |it| it.time_limit(Duration::from_secs(6))).await;
    let error = built.unwrap_err();
    assert!(error.public_message().contains("took longer than 6 s"), "{error}");
    assert!(told.log().contains("still here"), "{}", told.log());
    assert_eq!(programs(mark), 0);
}

#[tokio::test]
async fn a_build_that_leaves_too_much_is_refused() {
    let code = format!("{WELL} fs.writeFileSync('dist/assets/large.bin', new Uint8Array(5 << 20));");
    let (built, _) = run(&code, |it| it.max_output(4 << 20, 20)).await;
    let error = built.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Invalid);
    assert!(error.public_message().contains("the built app has more than 4194304 bytes"), "{error}");
    let (built, _) = run(&code, |it| it.max_output(8 << 20, 20)).await;
    assert_eq!(names(&built.unwrap()), ["assets/a.js", "assets/large.bin", "index.html"]);
}

#[tokio::test]
async fn a_build_that_takes_all_memory_is_ended() {
    let code = "const all = []; for (;;) { all.push(Buffer.alloc(16 << 20, 1)); await new Promise((go) => setTimeout(go, 20)); }";
    let (built, _) = run(code, |it| it.max_bytes(512 << 20, 4 << 30)).await;
    let error = built.unwrap_err();
    assert!(error.public_message().contains("536870912 bytes of memory"), "{error}");
}

const JAILS: [BuildJail; 2] = [BuildJail::Bubblewrap, BuildJail::Unshare];
/// More than npm and Node take.
const MEMORY: u64 = 320 << 20;
const DISK: u64 = 64 << 20;

#[tokio::test]
async fn a_build_that_takes_little_stays_within_small_limits() {
    for jail in JAILS {
        run(WELL, |it| it.jail(jail).max_bytes(MEMORY, DISK)).await.0.unwrap();
    }
}

/// A script by whose end 96 MiB are written to the open `file`; then it waits.
const FILL: &str = "for (let n = 0; n < 96; n++) fs.writeSync(file, new Uint8Array(1 << 20).fill(1));
    setInterval(() => {}, 1000); await new Promise(() => {});";

#[tokio::test]
async fn a_build_that_fills_the_disk_with_a_file_that_it_deleted_is_ended() {
    let code = format!("const file = fs.openSync('/tmp/gone', 'w'); fs.unlinkSync('/tmp/gone'); {FILL}");
    for jail in JAILS {
        let error = run(&code, |it| it.jail(jail).max_bytes(4 << 30, DISK)).await.0.unwrap_err();
        assert!(error.public_message().contains("67108864 bytes of the disk"), "{jail:?}: {error}");
    }
}

#[tokio::test]
async fn a_build_that_fills_dev_shm_is_ended() {
    let code = format!("const file = fs.openSync('/dev/shm/file', 'w'); {FILL}");
    for jail in JAILS {
        let error = run(&code, |it| it.jail(jail).max_bytes(4 << 30, DISK)).await.0.unwrap_err();
        assert!(error.public_message().contains("67108864 bytes of the disk"), "{jail:?}: {error}");
    }
}

/// A script that runs a program of perl's, which waits when it has taken 400 MiB. `$at` is where they are mapped if they are.
fn takes_memory(program: &str) -> String {
    format!(
        "import {{ execFileSync }} from 'node:child_process';
        const [read, mmap, madvise, memfd] = process.arch === 'arm64' ? [63, 222, 233, 279] : [0, 9, 28, 319];
        const program = `my ($part, $parts) = (1 << 20, 400); open(my $zero, '<', '/dev/zero') or die;
            {program}; sleep 100;`;
        execFileSync('perl', ['-we', program], {{ stdio: 'inherit' }});"
    )
}

async fn is_ended_for_its_memory(program: &str) {
    for jail in JAILS {
        let error = run(&takes_memory(program), |it| it.jail(jail).max_bytes(MEMORY, 4 << 30)).await.0.unwrap_err();
        assert!(error.public_message().contains("335544320 bytes of memory"), "{jail:?}: {error}");
    }
}

/// Maps shared memory and reads zeros to it, part by part.
const SHARED: &str = "my $at = syscall(${mmap}, 0, $part * $parts, 3, 0x21, -1, 0);
    for my $n (0 .. $parts - 1) {
        syscall(${read}, fileno($zero), $at + $n * $part, $part) == $part or die; }";

#[tokio::test]
async fn a_build_that_takes_shared_memory_is_ended() {
    is_ended_for_its_memory(SHARED).await;
}

#[tokio::test]
async fn a_build_that_takes_memory_as_a_file_is_ended() {
    let program = "my $number = syscall(${memfd}, my $name = 'file', 0); open(my $file, '>&=', $number) or die;
        for (1 .. $parts) { syswrite($file, 'x' x $part) == $part or die; }";
    is_ended_for_its_memory(program).await;
}

/// The pages are there, but no program has them at the moment. Only root may look for them.
#[tokio::test]
async fn shared_memory_that_was_given_back_counts() {
    use std::os::unix::fs::MetadataExt as _;
    if fs::metadata("/proc/self").unwrap().uid() == 0 {
        is_ended_for_its_memory(&format!("{SHARED}; syscall(${{madvise}}, $at, $part * $parts, 4) == 0 or die")).await;
    }
}

#[tokio::test]
async fn secrets_are_not_in_its_log() {
    let code = format!(
        "{WELL} console.log('given: hunter2-hunter2, own: ' + fs.readFileSync('.env', 'utf8').split('\\n')[0]);
         console.error('\\x1b[31mand again hunter2-hunter2\\x1b[0m'); console.log('PORT 8080 stays');"
    );
    let (built, told) = run(&code, |it| it.mask([Secret::new("hunter2-hunter2")])).await;
    built.unwrap();
    let log = told.log();
    assert!(log.contains("given: •••, own: API_KEY=•••"), "{log}");
    assert!(log.contains("and again •••") && log.contains("PORT 8080 stays"), "{log}");
    let all = format!("{:?}", told.0.lock().unwrap());
    assert!(!all.contains("hunter2") && !all.contains("a-secret-of-the-sources"), "{all}");

    // Neither are they in what it fails with.
    let (built, _) =
        run("console.error('hunter2-hunter2'); process.exit(1);", |it| it.mask([Secret::new("hunter2-hunter2")])).await;
    let error = built.unwrap_err();
    assert!(error.to_string().contains("•••") && !format!("{error:?}").contains("hunter2"), "{error}");
}

/// Through the whole service: it says why, nothing is deployed, and nothing is left behind.
#[tokio::test]
async fn what_does_not_build_deploys_nothing() {
    const FILLS: &str = "console.log('hunter2-hunter2');
        for (let n = 0; n < 100_000; n++) { fs.writeFileSync(`/tmp/${n}`, new Uint8Array(1 << 20).fill(1));
            await new Promise((go) => setTimeout(go, 2)); }";
    const ENDLESS: &str = "console.log('hunter2-hunter2'); setInterval(() => {}, 1000); await new Promise(() => {});";
    const PRINTS: &str = "console.error('hunter2-hunter2'); process.exit(1);";
    for (code, why) in
        [(FILLS, "67108864 bytes of the disk"), (ENDLESS, "took longer than 6 s"), (PRINTS, "\u{2022}\u{2022}\u{2022}")]
    {
        let folder = tempfile::tempdir().unwrap();
        let builder = NpmScriptBuilder::new(folder.path()).max_bytes(4 << 30, 64 << 20);
        let builder = builder.time_limit(Duration::from_secs(6)).mask([Secret::new("hunter2-hunter2")]);
        let edge = MemoryTarget::new("edge".try_into().unwrap());
        let platform = MemoryBackends::new().platform().builder(builder);
        let platform = platform.deploy_with(DeploymentStrategy::prefer(edge.clone()));
        let platform = platform.build().await.unwrap();
        let id = AppId::parse("todo42").unwrap();
        let host = platform.gate().system("test", "what does not build", SystemScopes::app(id.clone())).await.unwrap();
        platform.put_app(&host, &AppRecord::new(id.clone(), "Todo", Timestamp::EPOCH)).await.unwrap();
        let todo = platform.open(host, id).await.unwrap();
        todo.write(app(code)).await.unwrap();
        let deployment = todo.deploy(Environment::Production).await.unwrap();
        let outcome = deployment.outcome().await.unwrap();
        assert!(matches!(&outcome, Outcome::Failed { reason } if reason.contains(why)), "{outcome}");
        let record = deployment.record().await.unwrap();
        let told = format!("{outcome} {record:?} {}", record.timeline());
        assert!(!told.contains("hunter2") && !told.contains("a-secret-of-the-sources"), "{told}");
        assert_eq!(edge.observe(deployment.scope()).await.unwrap(), [], "{}", record.timeline());
        assert_eq!(record.digest(), None);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0, "nothing is left on the disk");
    }
}

#[tokio::test]
async fn what_it_leaves_running_is_ended() {
    let mark = "86399.25"; // seconds: nobody else sleeps as long
    let code = format!(
        "import {{ spawn }} from 'node:child_process';
         {WELL} for (const stdio of ['ignore', 'inherit']) spawn('sleep', ['{mark}'], {{ detached: true, stdio }}).unref();
         await new Promise((go) => setTimeout(go, 300));
         console.log('they run: ' + fs.readdirSync('/proc').filter((it) => {{ try {{
            return fs.readFileSync(`/proc/${{it}}/cmdline`, 'utf8').includes('{mark}'); }} catch {{ }} }}).length);"
    );
    let (built, told) = run(&code, |it| it).await;
    built.unwrap();
    assert!(told.log().contains("they run: 2"), "{}", told.log());
    assert_eq!(programs(mark), 0);
}

#[tokio::test]
async fn a_build_that_nobody_waits_for_is_ended() {
    let mark = "86399.5";
    let code = format!("import {{ execFileSync }} from 'node:child_process';\nexecFileSync('sleep', ['{mark}']);");
    let waiting = run(&code, |it| it);
    let gone = tokio::time::timeout(Duration::from_secs(8), waiting).await;
    assert!(gone.is_err(), "it was still building");
    for _ in 0..100 {
        if programs(mark) == 0 {
            return;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("it still runs");
}
