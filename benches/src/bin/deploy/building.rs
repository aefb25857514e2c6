//! `ModuleBuilder` against `vite build`, on todo-studio: each a process of its own that reads the app from the disk and
//! writes what it made of it there. Both have the app's packages already: Vite installed by npm, we in our cache.

use flate2::{Compression, write::GzEncoder};
use overskill::{
    AppFile, BuildMode, BuildRequest, Builder as _, FilePath, Incarnation, Snapshot, StreamPosition,
    build::{packages::NpmPackages, production::ModuleBuilder},
};
use overskill_benches::{Bench, Figure, Goal, Outcome, Reading, interleave};
use std::{
    collections::BTreeMap,
    fs,
    io::Write as _,
    path::{Path, PathBuf},
    process::Command,
    sync::Arc,
    time::Instant,
};

const CASE: &str = "todo-studio built";

const WALL: Figure = Figure::shown(CASE, "time", "s", "vite build").goal(Goal::AtMost(0.5));
const BYTES: Figure = Figure::shown(CASE, "output, gzip", "bytes", "vite build").goal(Goal::AtMost(1.1));
const COLD: Figure = Figure::shown(CASE, "time with packages only downloaded", "s", "");

pub(crate) const FIGURES: [Figure; 3] = [WALL, BYTES, COLD];

/// `deploy build FOLDER CACHE OUT`: builds the folder, and writes the artifact.
pub(crate) async fn run(arguments: &[String]) -> Outcome<()> {
    let [folder, cache, out] = arguments else { return Err("build needs a folder, a cache and where to write".into()) };
    let mut files = BTreeMap::new();
    collect(Path::new(folder), Path::new(folder), &mut files)?;
    let sources = Snapshot::new(StreamPosition::start(Incarnation::from_u64(1)), files);
    let builder = ModuleBuilder::new(NpmPackages::builder(cache).build()?);
    let request = BuildRequest::new("bench/production".parse()?, Arc::new(sources), BuildMode::Production);
    let artifact = builder.build(&request).await?;
    let _ = fs::remove_dir_all(out); // from the run before
    for (path, file) in artifact.assets() {
        let to = Path::new(out).join(path.as_str());
        fs::create_dir_all(to.parent().unwrap_or(Path::new(out)))?;
        fs::write(to, file.contents())?;
    }
    Ok(())
}

pub(crate) async fn measure(bench: &mut Bench) -> Outcome<()> {
    let ground = Ground::prepare()?;
    ground.vite()?;
    // What both download and prepare once is there from here on.
    ground.ours()?;
    let turns = interleave::<2>(bench.size(15, 3), async |who| {
        let begun = Instant::now();
        if who == 0 {
            ground.ours()?;
        } else {
            ground.vite()?;
        }
        Ok(begun.elapsed().as_secs_f64())
    })
    .await?;
    bench.show(&WALL, turns.compare(0, 1));
    let (ours, vite) = (gzipped(&ground.root.join("out"))?, gzipped(&ground.app.join("dist"))?);
    bench.show(&BYTES, Reading::limited(ours, vite));
    for made in ["unpacked", "work"] {
        let _ = fs::remove_dir_all(ground.root.join("packages").join(made)); // all that is not a download
    }
    let begun = Instant::now();
    ground.ours()?;
    bench.show(&COLD, Reading::alone(begun.elapsed().as_secs_f64()));
    Ok(())
}

/// The app with its packages installed, and what we keep between two runs.
struct Ground {
    root: PathBuf,
    app: PathBuf,
}

impl Ground {
    fn prepare() -> Outcome<Self> {
        let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").canonicalize()?;
        let from = workspace.join("examples/apps/todo-studio");
        let root = workspace.join("target/bench-deploy");
        let app = root.join("app");
        let mut files = BTreeMap::new();
        collect(&from, &from, &mut files)?;
        for old in ["src", "public"] {
            let _ = fs::remove_dir_all(app.join(old)); // from the run before
        }
        for (path, file) in &files {
            let to = app.join(path.as_str());
            fs::create_dir_all(to.parent().unwrap_or(&app))?;
            fs::write(to, file.contents())?;
        }
        let (lock, stamp) = (fs::read(from.join("package-lock.json"))?, app.join("node_modules/.installed-from.json"));
        if fs::read(&stamp).ok().as_ref() != Some(&lock) {
            run_program(
                Command::new("npm").args(["ci", "--no-audit", "--no-fund", "--ignore-scripts"]).current_dir(&app),
            )?;
            fs::write(stamp, lock)?;
        }
        Ok(Self { root, app })
    }

    fn ours(&self) -> Outcome<()> {
        let mut command = Command::new(std::env::current_exe()?);
        command.arg("build").args([self.app.clone(), self.root.join("packages"), self.root.join("out")]);
        run_program(&mut command)
    }

    fn vite(&self) -> Outcome<()> {
        run_program(Command::new("node").args(["node_modules/vite/bin/vite.js", "build"]).current_dir(&self.app))
    }
}

fn run_program(command: &mut Command) -> Outcome<()> {
    let program = command.get_program().to_string_lossy().into_owned();
    let output = command.output().map_err(|e| format!("{program}: {e}"))?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(format!("{program}: {}: {}", output.status, said.lines().last().unwrap_or_default()).into())
}

/// The files of an app, without what was installed and built.
fn collect(root: &Path, folder: &Path, files: &mut BTreeMap<FilePath, AppFile>) -> Outcome<()> {
    for entry in fs::read_dir(folder)? {
        let (at, kind) = {
            let entry = entry?;
            (entry.path(), entry.file_type()?)
        };
        let name = at.file_name().unwrap_or_default();
        if kind.is_dir() && name != "node_modules" && name != "dist" {
            collect(root, &at, files)?;
        } else if kind.is_file() {
            files.insert(FilePath::parse(&at.strip_prefix(root)?.to_string_lossy())?, AppFile::new(fs::read(&at)?));
        }
    }
    Ok(())
}

/// What all files of a folder take when each is compressed by itself, as servers do.
fn gzipped(folder: &Path) -> Outcome<f64> {
    let mut bytes = 0.0;
    for entry in fs::read_dir(folder)? {
        let at = entry?.path();
        if at.is_dir() {
            bytes += gzipped(&at)?;
        } else {
            let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
            encoder.write_all(&fs::read(&at)?)?;
            bytes += f64::from(u32::try_from(encoder.finish()?.len())?);
        }
    }
    Ok(bytes)
}
