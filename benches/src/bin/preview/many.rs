//! Many apps at once, in a process of their own: what one costs while nobody touches it, and what an edit takes among them.

use crate::{
    crowd::{Answer, Command, most_sockets, name, raise_limit},
    prepare::Ground,
};
use futures::{StreamExt as _, stream};
use overskill_benches::{Bench, Figure, Goal, Outcome, Reading, Turns};
use std::{fs, path::PathBuf, process::Stdio, time::Duration, time::Instant};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader, Lines},
    net::TcpStream,
    process::{Child, ChildStdin, ChildStdout},
    sync::mpsc,
};

const THOUSAND: &str = "1,000 apps from one template";
const ALL: &str = "10,000 apps from one template";
const AT_ONCE: &str = "1,000 apps made at once";
const SOCKETS: &str = "10,000 open previews with sockets";

/// What an app may cost besides its own files.
const LIMIT_KB: f64 = 64.0;

const THOUSAND_TIME: Figure = Figure::shown(THOUSAND, "time to make and open one", "ms", "");
const THOUSAND_TAIL: Figure = Figure::shown(THOUSAND, "the same, 95th percentile", "ms", "");
const THOUSAND_MEMORY: Figure =
    Figure::shown(THOUSAND, "memory of one besides its own files", "kB", "limit").goal(Goal::AtMost(1.0));
const ALL_TIME: Figure = Figure::shown(ALL, "time to make and open one", "ms", "");
const ALL_TAIL: Figure = Figure::shown(ALL, "the same, 95th percentile", "ms", "");
const ALL_MEMORY: Figure =
    Figure::shown(ALL, "memory of one besides its own files", "kB", "limit").goal(Goal::AtMost(1.0));
const AT_ONCE_AVERAGE: Figure = Figure::shown(AT_ONCE, "average", "ms", "");
const AT_ONCE_TAIL: Figure = Figure::shown(AT_ONCE, "95th percentile", "ms", "");
const AT_ONCE_RATE: Figure = Figure::shown(AT_ONCE, "rate", "apps/s", "");
const AT_ONCE_ERRORS: Figure = Figure::shown(AT_ONCE, "errors", "", "");
const SOCKETS_HELD: Figure = Figure::shown(SOCKETS, "sockets held", "", "");
const SOCKETS_MEMORY: Figure = Figure::shown(SOCKETS, "memory of one socket", "kB", "");
const SOCKETS_TOTAL: Figure = Figure::shown(SOCKETS, "memory of the process", "MB", "");
const SOCKETS_MEDIAN: Figure = Figure::shown(SOCKETS, "edit to message, median", "ms", "");
const SOCKETS_TAIL: Figure = Figure::shown(SOCKETS, "edit to message, 99th percentile", "ms", "");

pub(crate) const FIGURES: [Figure; 15] = [
    THOUSAND_TIME,
    THOUSAND_TAIL,
    THOUSAND_MEMORY,
    ALL_TIME,
    ALL_TAIL,
    ALL_MEMORY,
    AT_ONCE_AVERAGE,
    AT_ONCE_TAIL,
    AT_ONCE_RATE,
    AT_ONCE_ERRORS,
    SOCKETS_HELD,
    SOCKETS_MEMORY,
    SOCKETS_TOTAL,
    SOCKETS_MEDIAN,
    SOCKETS_TAIL,
];

/// The process with the apps.
struct Crowd {
    _child: Child,
    input: ChildStdin,
    output: Lines<BufReader<ChildStdout>>,
    folder: PathBuf,
}

pub(crate) async fn measure(bench: &mut Bench, ground: &Ground) -> Outcome<()> {
    raise_limit();
    let mut crowd = Crowd::start(ground)?;
    // Until what all share is there, and what is remembered of compiled modules is full.
    let before = bench.size(600, 150);
    crowd.open(bench, 0, before, false).await?;
    let (thousand, all) = (bench.size(1_000, 100), bench.size(10_000, 300));
    let start = crowd.rest().await?;
    let made = crowd.open(bench, before, before + thousand, false).await?;
    let rest = crowd.rest().await?;
    bench.show(&THOUSAND_TIME, Reading::alone(made.average_ms));
    bench.show(&THOUSAND_TAIL, Reading::alone(made.p95_ms));
    bench.show(&THOUSAND_MEMORY, Reading::limited(besides_own(&start, &rest, thousand, made.own_bytes), LIMIT_KB));
    let made = crowd.open(bench, before + thousand, before + all, false).await?;
    let rest = crowd.rest().await?;
    bench.show(&ALL_TIME, Reading::alone(made.average_ms));
    bench.show(&ALL_TAIL, Reading::alone(made.p95_ms));
    bench.show(&ALL_MEMORY, Reading::limited(besides_own(&start, &rest, all, made.own_bytes), LIMIT_KB));
    let own = kilobytes(made.own_bytes);
    let compiled = kilobytes(start.compiled_bytes);
    bench.note(format!("what is remembered of compiled modules took {compiled:.0} kB of at most 8192 when it began"));
    bench.note(format!("each app has {own:.1} kB in six files of its own; the rest is the template's"));

    sockets(bench, &mut crowd, before, all).await?;

    let at_once = bench.size(1_000, 100);
    let made = crowd.open(bench, before + all, before + all + at_once, true).await?;
    bench.show(&AT_ONCE_AVERAGE, Reading::alone(made.average_ms));
    bench.show(&AT_ONCE_TAIL, Reading::alone(made.p95_ms));
    bench.show(&AT_ONCE_RATE, Reading::alone(f64::from(at_once) / made.seconds));
    bench.show(&AT_ONCE_ERRORS, Reading::alone(f64::from(u32::try_from(made.errors.len())?)));
    Ok(())
}

/// A viewer for each preview; then edits of one after the other.
async fn sockets(bench: &mut Bench, crowd: &mut Crowd, first: u32, apps: u32) -> Outcome<()> {
    let held = apps.min(most_sockets());
    if held < apps {
        bench.note(format!("this system lets a process open {held} sockets: there are no more"));
    }
    let before = crowd.rest().await?;
    let (heard, mut messages) = mpsc::unbounded_channel();
    let opened = stream::iter(first..first + held).map(|number| look(before.port, number, heard.clone()));
    let outcomes: Vec<Outcome<()>> = opened.buffer_unordered(32).collect().await;
    let failed = outcomes.iter().filter_map(|outcome| outcome.as_ref().err());
    failed.take(3).for_each(|e| bench.note(format!("a socket could not be opened: {e}")));
    let there = u32::try_from(outcomes.iter().filter(|outcome| outcome.is_ok()).count())?;
    let after = crowd.rest().await?;
    bench.show(&SOCKETS_HELD, Reading::alone(f64::from(there)));
    let each = (kilobytes(after.memory_bytes) - kilobytes(before.memory_bytes)) / f64::from(there);
    bench.show(&SOCKETS_MEMORY, Reading::alone(each));
    bench.show(&SOCKETS_TOTAL, Reading::alone(kilobytes(after.memory_bytes) / 1024.0));

    let edits = bench.size(1_000, 50);
    let mut seen = Vec::new();
    // Each app is edited twice: the first time it is fetched out of the store.
    for round in 0..2 {
        for edit in 0..edits / 2 {
            let number = first + edit * 7_919 % there.max(1);
            while messages.try_recv().is_ok() {}
            let begun = Instant::now();
            let text = format!("Round {round}");
            crowd.ask(&Command::Edit { app: number, text }).await?;
            let told = tokio::time::timeout(Duration::from_secs(10), async {
                loop {
                    match messages.recv().await {
                        Some((who, at)) if who == number => return Some(at),
                        Some(_) => {}
                        None => return None,
                    }
                }
            });
            let at: Instant = told.await?.ok_or("all sockets were closed")?;
            seen.push([at.duration_since(begun).as_secs_f64() * 1e3]);
        }
    }
    let seen = Turns::seen(seen);
    bench.show(&SOCKETS_MEDIAN, Reading::alone(seen.of(0)));
    bench.show(&SOCKETS_TAIL, Reading::alone(seen.quantile_of(0, 0.99)));
    Ok(())
}

/// Opens the page of a preview and its socket, and tells of every update.
async fn look(port: u16, number: u32, heard: mpsc::UnboundedSender<(u32, Instant)>) -> Outcome<()> {
    let host = format!("preview-{}.localhost:{port}", name(number));
    let mut stream = TcpStream::connect(("127.0.0.1", port)).await?;
    let request = format!("GET / HTTP/1.1\r\nhost: {host}\r\naccept: text/html\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut page = String::new();
    stream.read_to_string(&mut page).await?;
    let config = page.split("id=\"overskill-preview\"").nth(1).and_then(|rest| rest.split(['<', '>']).nth(1));
    let config: serde_json::Value = serde_json::from_str(config.ok_or("a page names no socket")?)?;
    let token = config["token"].as_str().ok_or("a page has no token")?;
    let stream = TcpStream::connect(("127.0.0.1", port)).await?;
    let address = format!("ws://{host}/@overskill/socket?token={token}");
    let (mut socket, _) = tokio_tungstenite::client_async(address, stream).await?;
    socket.next().await.ok_or("a socket was closed")??; // `connected`
    tokio::spawn(async move {
        while let Some(Ok(message)) = socket.next().await {
            if message.to_text().is_ok_and(|text| text.contains("\"type\":\"update\"")) {
                let _ = heard.send((number, Instant::now()));
            }
        }
    });
    Ok(())
}

impl Crowd {
    fn start(ground: &Ground) -> Outcome<Self> {
        let folder = ground.root().join("crowd");
        let _ = fs::remove_dir_all(&folder); // from the run before
        let mut child = tokio::process::Command::new(std::env::current_exe()?)
            .arg("crowd")
            .args([&folder, &ground.data().join("packages"), &ground.workspace().join("examples/apps/todo-studio")])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()?;
        let input = child.stdin.take().ok_or("the process has no input")?;
        let output = BufReader::new(child.stdout.take().ok_or("the process has no output")?).lines();
        Ok(Self { _child: child, input, output, folder })
    }

    async fn ask(&mut self, command: &Command) -> Outcome<Answer> {
        self.input.write_all(format!("{}\n", serde_json::to_string(command)?).as_bytes()).await?;
        let line = self.output.next_line().await?.ok_or("the process with the apps ended")?;
        Ok(serde_json::from_str(&line)?)
    }

    async fn open(&mut self, bench: &mut Bench, from: u32, to: u32, at_once: bool) -> Outcome<Answer> {
        let answer = self.ask(&Command::Open { from, to, at_once }).await?;
        if let Some(first) = answer.errors.first() {
            bench.note(format!("{} of {} apps could not be made: {first}", answer.errors.len(), to - from));
        }
        Ok(answer)
    }

    /// What it holds once nothing is under way any more.
    async fn rest(&mut self) -> Outcome<Answer> {
        tokio::time::sleep(Duration::from_secs(2)).await;
        self.ask(&Command::Memory).await
    }
}

impl Drop for Crowd {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.folder); // what is left over harms nobody
    }
}

fn besides_own(before: &Answer, after: &Answer, apps: u32, own_bytes: u64) -> f64 {
    (kilobytes(after.memory_bytes) - kilobytes(before.memory_bytes)) / f64::from(apps) - kilobytes(own_bytes)
}

fn kilobytes(bytes: u64) -> f64 {
    bytes.to_string().parse::<f64>().unwrap_or(f64::NAN) / 1024.0
}
