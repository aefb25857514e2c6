//! `PgBouncer` in transaction mode: what hands a server's connection to another client after each transaction, as
//! Supabase's pooler does.

use super::{PostgresCluster, User, failed, free_port, last_lines, new_folder};
use overskill_core::{Error, ErrorKind, Result};
use std::{
    fs,
    net::TcpStream,
    os::unix::process::CommandExt as _,
    path::{Path, PathBuf},
    process::{Child, ChildStdin, Command, Stdio},
    thread::sleep,
    time::{Duration, Instant},
};

/// A `PgBouncer` of this process alone, on a loopback port, before a [`PostgresCluster`].
///
/// The program is looked for in `OVERSKILL_PGBOUNCER`, on `PATH` and in `/usr/sbin`: Debian's package is `pgbouncer`. It is
/// gone when this is dropped or the process ends.
#[derive(Debug)]
pub struct PgBouncer {
    folder: PathBuf,
    port: u16,
    // Closing the pipe ends it.
    running: Option<(Child, ChildStdin)>,
}

impl PgBouncer {
    /// Starts one that lets `roles` in without passwords and keeps at most `connections` to the server for each of them and
    /// each database.
    pub fn start(cluster: &PostgresCluster, roles: &[&str], connections: u32) -> Result<Self> {
        let program = program()?;
        let folder = new_folder()?;
        let user = User::for_server(&folder)?;
        for attempt in 1.. {
            let port = free_port()?;
            let mut pooler = Self { folder: folder.clone(), port, running: None };
            pooler.configure(cluster, roles, connections)?;
            match pooler.spawn(&program, user) {
                Err(_) if attempt < 5 => {
                    let _ = fs::create_dir(&folder); // the failed one took it away
                }
                done => return done.map(|()| pooler),
            }
        }
        unreachable!("the fifth attempt returns")
    }

    /// The URL of a database for one of the roles.
    pub fn url(&self, role: &str, database: &str) -> String {
        format!("postgres://{role}@127.0.0.1:{}/{database}", self.port)
    }

    fn configure(&self, cluster: &PostgresCluster, roles: &[&str], connections: u32) -> Result<()> {
        let users: Vec<_> = roles.iter().map(|role| format!("\"{role}\" \"\"")).collect();
        let users = users.join("\n") + "\n";
        let folder = self.folder.display();
        let settings = format!(
            "[databases]\n* = host={} port={}\n[pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {}\nunix_socket_dir =\n\
             auth_type = trust\nauth_file = {folder}/users\npool_mode = transaction\ndefault_pool_size = {connections}\n\
             max_client_conn = 500\nlogfile = {folder}/pooler-log\npidfile = {folder}/pid\n",
            cluster.folder.display(),
            cluster.port,
            self.port,
        );
        for (name, text) in [("users", users), ("settings", settings)] {
            fs::write(self.folder.join(name), text).map_err(|e| failed("write PgBouncer's settings", &e))?;
        }
        Ok(())
    }

    fn spawn(&mut self, program: &Path, user: Option<User>) -> Result<()> {
        const SCRIPT: &str = r#"
            trap '' INT TERM HUP
            "$1" -q "$2/settings" </dev/null >/dev/null 2>&1 &
            read -r _
            kill -s KILL $! 2>/dev/null
            rm -rf "$2""#;
        let mut command = Command::new("sh");
        command.args(["-c", SCRIPT, "overskill-pgbouncer"]).arg(program).arg(&self.folder);
        command.current_dir(&self.folder).process_group(0).stdin(Stdio::piped());
        command.stdout(Stdio::null()).stderr(Stdio::null());
        if let Some(user) = user {
            command.gid(user.gid).uid(user.uid);
        }
        let mut shell = command.spawn().map_err(|e| failed("run sh", &e))?;
        let pipe = shell.stdin.take().expect("its stdin is a pipe");
        self.running = Some((shell, pipe));
        let since = Instant::now();
        while TcpStream::connect(("127.0.0.1", self.port)).is_err() {
            if since.elapsed() > Duration::from_secs(20) {
                let log = fs::read_to_string(self.folder.join("pooler-log")).unwrap_or_default();
                let message = format!("PgBouncer did not start; its log ends with: {}", last_lines(&log));
                return Err(Error::new(ErrorKind::Unavailable, message));
            }
            sleep(Duration::from_millis(10));
        }
        Ok(())
    }
}

impl Drop for PgBouncer {
    fn drop(&mut self) {
        if let Some((mut shell, pipe)) = self.running.take() {
            drop(pipe);
            let _ = shell.wait();
        }
        let _ = fs::remove_dir_all(&self.folder); // as a rule the shell did it
    }
}

fn program() -> Result<PathBuf> {
    let named = std::env::var_os("OVERSKILL_PGBOUNCER").map(PathBuf::from);
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::env::split_paths(&path).chain([PathBuf::from("/usr/sbin")]);
    named.into_iter().chain(folders.map(|folder| folder.join("pgbouncer"))).find(|file| file.is_file()).ok_or_else(|| {
        let message = "there is no PgBouncer here: looked in OVERSKILL_PGBOUNCER, PATH and /usr/sbin; install the package \
                       `pgbouncer`, or run `cargo xtask setup`";
        Error::new(ErrorKind::Unavailable, message)
    })
}
