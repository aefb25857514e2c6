//! A private Postgres server for tests: started in a fraction of a second, gone with whoever started it.
//!
//! ```no_run
//! use overskill_testkit::postgres::PostgresCluster;
//!
//! let url = PostgresCluster::shared()?.fresh_database()?; // an empty database of this test's own
//! # Ok::<(), overskill_core::Error>(())
//! ```
//!
//! The programs are looked for in `OVERSKILL_POSTGRES_BIN`, on `PATH`, in Debian's folders and among npm's
//! `@embedded-postgres` packages, in this order. What `initdb` makes is kept in the target folder, so that only the
//! first cluster of a machine pays for it. A watchdog ends the server and removes its files when the owner is gone,
//! however it went.
//!
//! Under `cargo nextest` each test is a process, and each that asks has a cluster of its own: they share nothing, and
//! one may kill its server. On an idle machine a cluster takes a fifth of a second.

mod pooler;
mod programs;
mod wire;

use overskill_core::{Error, ErrorKind, Result};
pub use pooler::PgBouncer;
use programs::Programs;
use std::{
    fs, io,
    net::TcpListener,
    os::unix::{
        fs::{DirBuilderExt as _, MetadataExt as _, chown},
        process::CommandExt as _,
    },
    path::{Path, PathBuf},
    process::{Child, ChildStdin, Command, Stdio},
    sync::{
        Mutex, MutexGuard, OnceLock,
        atomic::{AtomicU64, Ordering},
    },
    thread::sleep,
    time::{Duration, Instant},
};

/// How a cluster is to be; see [`PostgresCluster::options`].
#[derive(Clone, Debug, Default)]
pub struct PostgresOptions {
    durable: bool,
    settings: Vec<(String, String)>,
}

impl PostgresOptions {
    /// Makes every commit reach the disk, as in service. Off unless said otherwise: most tests kill no machine, and
    /// run several times faster without.
    pub fn durable(mut self, durable: bool) -> Self {
        self.durable = durable;
        self
    }

    /// Sets a parameter of the server, such as `max_connections`.
    pub fn setting(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.settings.push((name.into(), value.into()));
        self
    }

    /// Starts it.
    pub fn start(self) -> Result<PostgresCluster> {
        PostgresCluster::with(&self)
    }
}

/// A Postgres server of this process alone, reached through a socket in its own folder and a loopback port.
///
/// Its one user is `postgres`, without a password. The files are gone when it is dropped or the process ends.
#[derive(Debug)]
pub struct PostgresCluster {
    folder: PathBuf,
    port: u16,
    programs: Programs,
    user: Option<User>,
    server: Mutex<Option<Child>>,
    // Closing the pipe tells the watchdog to end everything.
    watchdog: Option<(Child, ChildStdin)>,
}

impl PostgresCluster {
    /// Starts a cluster with usual settings.
    pub fn start() -> Result<Self> {
        Self::options().start()
    }

    /// A cluster with other settings.
    pub fn options() -> PostgresOptions {
        PostgresOptions::default()
    }

    /// The cluster of this process, started when it is first asked for.
    pub fn shared() -> Result<&'static Self> {
        static SHARED: OnceLock<PostgresCluster> = OnceLock::new();
        static STARTING: Mutex<()> = Mutex::new(());
        if let Some(cluster) = SHARED.get() {
            return Ok(cluster);
        }
        let _one_at_a_time = lock(&STARTING);
        if SHARED.get().is_none() {
            let _ = SHARED.set(Self::start()?); // nobody else sets it: the lock is held
        }
        Ok(SHARED.get().expect("it was set above"))
    }

    /// The URL of a database, through the socket.
    pub fn url(&self, database: &str) -> String {
        let (folder, port) = (self.folder.display(), self.port);
        format!("postgres://postgres@localhost:{port}/{database}?host={folder}")
    }

    /// The URL of a database, through the loopback port.
    pub fn tcp_url(&self, database: &str) -> String {
        format!("postgres://postgres@127.0.0.1:{}/{database}", self.port)
    }

    /// Makes an empty database. The name is taken as it is: only `a-z`, `0-9` and `_`, please.
    pub fn create_database(&self, name: &str) -> Result<()> {
        let legal = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_';
        if name.is_empty() || name.len() > 63 || !name.bytes().all(legal) {
            return Err(Error::invalid(format!("database name must be 1 to 63 of a-z, 0-9 and _, but was {name:?}")));
        }
        self.execute("postgres", &format!("CREATE DATABASE {name}"))
    }

    /// Makes an empty database that nobody else has, and returns its [`url`](Self::url).
    pub fn fresh_database(&self) -> Result<String> {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        let name = format!("fresh_{}", NEXT.fetch_add(1, Ordering::Relaxed));
        self.create_database(&name)?;
        Ok(self.url(&name))
    }

    /// Runs statements in a database, and throws their rows away.
    pub fn execute(&self, database: &str, sql: &str) -> Result<()> {
        wire::execute(&self.socket(), database, sql)
    }

    /// Kills the server and all its workers at once, as a crash does. Nothing happens if it is not running.
    pub fn kill(&self) -> Result<()> {
        let mut server = self.server();
        if let Some(mut child) = server.take() {
            let pid = child.id();
            // Workers that outlive the server for a moment would end a commit that a crash would not. It makes no new
            // ones while it is stopped.
            shell(&format!("kill -s STOP {pid}; kill -s KILL $(cat /proc/{pid}/task/{pid}/children) {pid}; true"))?;
            child.wait().map_err(|e| failed("wait for the server to end", &e))?;
        }
        Ok(())
    }

    /// Starts the server again after a [`kill`](Self::kill): it recovers what was committed. Nothing happens if it is
    /// running.
    pub fn start_again(&self) -> Result<()> {
        let mut server = self.server();
        let since = Instant::now();
        while server.is_none() {
            *server = match self.spawn() {
                Ok(started) => Some(started),
                // The kernel still clears up after processes that were killed.
                Err(_) if since.elapsed() < Duration::from_secs(30) && self.is_still_in_use() => None,
                Err(e) => return Err(e),
            };
        }
        Ok(())
    }

    /// Whether the last start failed because a killed server's processes were not quite gone.
    fn is_still_in_use(&self) -> bool {
        sleep(Duration::from_millis(50));
        last_lines(&self.log()).contains("is still in use")
    }

    /// Stops the server in an orderly way, which cuts all connections, and starts it again.
    pub fn restart(&self) -> Result<()> {
        let mut server = self.server();
        if let Some(mut child) = server.take() {
            shell(&format!("kill -s INT {}", child.id()))?;
            child.wait().map_err(|e| failed("wait for the server to end", &e))?;
        }
        *server = Some(self.spawn()?);
        Ok(())
    }

    /// What the server wrote to its log.
    pub fn log(&self) -> String {
        fs::read(self.folder.join("log")).map(|log| String::from_utf8_lossy(&log).into_owned()).unwrap_or_default()
    }

    fn with(options: &PostgresOptions) -> Result<Self> {
        let programs = Programs::find()?;
        let folder = new_folder()?;
        let user = User::for_server(&folder)?;
        let mut cluster = Self { folder, port: 0, programs, user, server: Mutex::new(None), watchdog: None };
        // From here on, the watchdog or the drop removes what was made.
        cluster.watchdog = Some(cluster.watch()?);
        cluster.fill_data_folder()?;
        // Another process may take the port between our look and the server's.
        for attempt in 1.. {
            cluster.port = free_port()?;
            cluster.configure(options)?;
            match cluster.spawn() {
                Ok(server) => {
                    *cluster.server() = Some(server);
                    break;
                }
                Err(_) if attempt < 5 && cluster.log().contains("Address already in use") => {
                    let _ = fs::remove_file(cluster.folder.join("log"));
                }
                Err(e) => return Err(e),
            }
        }
        Ok(cluster)
    }

    fn server(&self) -> MutexGuard<'_, Option<Child>> {
        lock(&self.server)
    }

    fn data(&self) -> PathBuf {
        self.folder.join("data")
    }

    fn socket(&self) -> PathBuf {
        self.folder.join(format!(".s.PGSQL.{}", self.port))
    }

    /// A program of Postgres, as the user it may run as, out of reach of the terminal's signals.
    fn program(&self, name: &str) -> Command {
        let mut command = Command::new(self.programs.path(name));
        command.current_dir(&self.folder).env_clear().env("LC_ALL", "C").env("TZ", "UTC").process_group(0);
        if let Some(path) = std::env::var_os("PATH") {
            command.env("PATH", path);
        }
        if let Some(user) = &self.user {
            command.gid(user.gid).uid(user.uid);
        }
        command
    }

    /// Fills the data folder from what an earlier cluster kept, or with `initdb`.
    fn fill_data_folder(&self) -> Result<()> {
        let data = self.data();
        let kept = kept_data_folder(&self.programs);
        if let Some(kept) = kept.as_ref().filter(|kept| kept.is_dir()) {
            return copy_folder(kept, &data, self.user.as_ref()).map_err(|e| failed("copy the data folder", &e));
        }
        let output = self
            .program("initdb")
            .args(["--no-sync", "--auth=trust", "--username=postgres", "--encoding=UTF8", "--locale=C", "--pgdata"])
            .arg(&data)
            .stdin(Stdio::null())
            .output()
            .map_err(|e| failed("run initdb", &e))?;
        if !output.status.success() {
            let said = String::from_utf8_lossy(&output.stderr);
            return Err(Error::new(ErrorKind::Unavailable, format!("initdb: {}: {said}", output.status)));
        }
        if let Some(kept) = kept {
            // Under a name of its own first: a process that dies or races must not leave half a folder.
            let partial = kept.with_extension(std::process::id().to_string());
            let done = copy_folder(&data, &partial, None).and_then(|()| fs::rename(&partial, &kept));
            if done.is_err() {
                let _ = fs::remove_dir_all(&partial); // somebody else was first; the next cluster finds theirs
            }
        }
        Ok(())
    }

    fn configure(&self, options: &PostgresOptions) -> Result<()> {
        let on = |it: bool| if it { "on" } else { "off" };
        let durable = on(options.durable);
        let mut text = format!(
            "listen_addresses = '127.0.0.1'\nport = {}\nunix_socket_directories = '{}'\nfsync = {durable}\n\
             full_page_writes = {durable}\nmax_connections = 200\n",
            self.port,
            self.folder.display()
        );
        for (name, value) in &options.settings {
            for part in [name.as_ref(), " = '", &value.replace('\'', "''"), "'\n"] {
                text.push_str(part);
            }
        }
        let path = self.data().join("postgresql.auto.conf");
        fs::write(&path, text).map_err(|e| failed("write the settings", &e))
    }

    /// Starts the server and waits until it takes connections.
    fn spawn(&self) -> Result<Child> {
        let log = fs::OpenOptions::new().create(true).append(true).open(self.folder.join("log"));
        let log = log.map_err(|e| failed("open the log", &e))?;
        let log_too = log.try_clone().map_err(|e| failed("open the log", &e))?;
        let mut server = self
            .program("postgres")
            .arg("-D")
            .arg(self.data())
            .stdin(Stdio::null())
            .stdout(log)
            .stderr(log_too)
            .spawn()
            .map_err(|e| failed("run postgres", &e))?;
        let since = Instant::now();
        loop {
            let why = match wire::execute(&self.socket(), "postgres", "") {
                Ok(()) => return Ok(server),
                Err(e) => e,
            };
            let ended = server.try_wait().map_err(|e| failed("look at the server", &e))?;
            if ended.is_some() || since.elapsed() > Duration::from_mins(1) {
                let _ = server.kill(); // it may have ended
                let _ = server.wait();
                let message = format!("postgres did not start; its log ends with: {}", last_lines(&self.log()));
                return Err(Error::new(ErrorKind::Unavailable, message).caused_by(why));
            }
            sleep(Duration::from_millis(10));
        }
    }

    /// A shell that waits until our end of its pipe is closed, by a drop or by the end of this process, then stops the
    /// server (whichever runs by then) and removes the folder.
    fn watch(&self) -> Result<(Child, ChildStdin)> {
        const SCRIPT: &str = r#"
            trap '' INT TERM HUP
            # A server that was killed leaves its file, and its number may be somebody else's by now.
            is_ours() {
                case "$(tr '\0' ' ' <"/proc/$2/cmdline" || ps -o args= -p "$2")" in
                    *"$1/data"*) return 0 ;;
                esac
                return 1
            }
            read -r _
            if read -r pid 2>/dev/null <"$1/data/postmaster.pid" && is_ours "$1" "$pid" 2>/dev/null; then
                kill -s QUIT "$pid" 2>/dev/null
                for _ in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20; do
                    kill -s 0 "$pid" 2>/dev/null || break
                    sleep 0.05
                done
                kill -s KILL "$pid" 2>/dev/null
            fi
            for _ in 1 2 3 4 5; do
                rm -rf "$1" 2>/dev/null && break
                sleep 0.2
            done"#;
        let mut watchdog = Command::new("sh")
            .args(["-c", SCRIPT, "overskill-postgres-watchdog"])
            .arg(&self.folder)
            .current_dir("/")
            .process_group(0)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .map_err(|e| failed("run sh", &e))?;
        let pipe = watchdog.stdin.take().expect("its stdin is a pipe");
        Ok((watchdog, pipe))
    }
}

impl Drop for PostgresCluster {
    fn drop(&mut self) {
        let server = self.server().take();
        if let Some((mut watchdog, pipe)) = self.watchdog.take() {
            drop(pipe);
            // The watchdog waits for the server to be gone, and the server is gone once its parent, we, took note.
            if let Some(mut server) = server {
                let _ = server.wait();
            }
            let _ = watchdog.wait();
        }
    }
}

/// The user that the server runs as when we are root, which it refuses to be.
#[derive(Clone, Copy, Debug)]
struct User {
    uid: u32,
    gid: u32,
}

impl User {
    /// `None` when we may run it ourselves. Gives `folder` to the user.
    fn for_server(folder: &Path) -> Result<Option<Self>> {
        // Whoever owns what we made is who we are.
        let owner = fs::metadata(folder).map_err(|e| failed("look at the folder", &e))?.uid();
        if owner != 0 {
            return Ok(None);
        }
        let users = fs::read_to_string("/etc/passwd").map_err(|e| failed("read /etc/passwd", &e))?;
        let found = ["postgres", "nobody"].into_iter().find_map(|name| Self::named(name, &users)).ok_or_else(|| {
            let message = "Postgres refuses to run as root, and there is no user `postgres` or `nobody` to run it as";
            Error::new(ErrorKind::Unavailable, message)
        })?;
        chown(folder, Some(found.uid), Some(found.gid)).map_err(|e| failed("give the folder away", &e))?;
        Ok(Some(found))
    }

    fn named(name: &str, users: &str) -> Option<Self> {
        let line = users.lines().find(|line| line.split(':').next() == Some(name))?;
        let mut fields = line.split(':').skip(2);
        let (uid, gid) = (fields.next()?.parse().ok()?, fields.next()?.parse().ok()?);
        Some(Self { uid, gid })
    }
}

/// A folder of our own, with a path short enough for a socket in it.
fn new_folder() -> Result<PathBuf> {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    let temp = std::env::temp_dir();
    let temp = if temp.as_os_str().len() > 60 { PathBuf::from("/tmp") } else { temp };
    loop {
        let n = NEXT.fetch_add(1, Ordering::Relaxed);
        let folder = temp.join(format!("overskill-pg-{}-{n}", std::process::id()));
        match fs::DirBuilder::new().mode(0o700).create(&folder) {
            Ok(()) => return Ok(folder),
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {} // left by a process with our number
            Err(e) => return Err(failed("make a folder for the cluster", &e).with("folder", folder.display())),
        }
    }
}

/// Where to keep what `initdb` makes: in cargo's target folder, if this program lies in one.
fn kept_data_folder(programs: &Programs) -> Option<PathBuf> {
    let program = std::env::current_exe().ok()?;
    let target = program.ancestors().find(|folder| folder.join("CACHEDIR.TAG").is_file())?;
    let folder = target.join("tmp/overskill-postgres");
    fs::create_dir_all(&folder).ok()?;
    Some(folder.join(programs.version().ok()?))
}

fn copy_folder(from: &Path, to: &Path, owner: Option<&User>) -> io::Result<()> {
    let give = |path: &Path| owner.map_or(Ok(()), |user| chown(path, Some(user.uid), Some(user.gid)));
    fs::DirBuilder::new().mode(0o700).create(to)?;
    give(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy_folder(&entry.path(), &target, owner)?;
        } else {
            fs::copy(entry.path(), &target)?;
            give(&target)?;
        }
    }
    Ok(())
}

fn free_port() -> Result<u16> {
    let listener = TcpListener::bind(("127.0.0.1", 0)).and_then(|it| it.local_addr());
    listener.map(|it| it.port()).map_err(|e| failed("find a free port", &e))
}

/// Signals are the shell's: the standard library sends none but SIGKILL, and that to children alone.
fn shell(script: &str) -> Result<()> {
    let status = Command::new("sh").args(["-c", script]).stderr(Stdio::null()).status();
    let status = status.map_err(|e| failed("run sh", &e))?;
    if status.success() {
        return Ok(());
    }
    Err(Error::new(ErrorKind::Unexpected, format!("sh: {status}")))
}

fn last_lines(log: &str) -> String {
    let lines: Vec<_> = log.lines().rev().take(5).collect();
    lines.into_iter().rev().collect::<Vec<_>>().join("\n")
}

fn failed(what: &str, e: &io::Error) -> Error {
    Error::new(ErrorKind::Unavailable, format!("Postgres for tests: could not {what}: {e}"))
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner) // what it guards is whole at every moment
}
