//! How fast scripts are compiled: with React Refresh, addresses put in, and source maps, on one core.
//!
//! The files are those of the example apps, many times over, in a folder in memory. esbuild's program gets the same files, is
//! held to one core, bundles nothing and has no React Refresh; it and we read every file and write every result. Bare oxc is
//! measured without files: parser, transformer with React Refresh, and printer with source maps, as we call them; what we add
//! is what ties a module to its app.

use crate::prepare::{Ground, run};
use overskill::build::compiler::{Compiler, CompilerOptions, Linked, Query, bare_peer, link};
use overskill::{AppFile, FilePath};
use overskill_benches::{Bench, Figure, Goal, OneCore, Outcome, interleave};
use std::{
    fs,
    hint::black_box,
    path::{Path, PathBuf},
    process::Command,
    sync::Arc,
    time::Instant,
};

const CASE: &str = "scripts compiled";

const ESBUILD: Figure = Figure::shown(CASE, "rate on one core", "MB/s", "esbuild").goal(Goal::AtLeast(5.0));
const BARE: Figure = Figure::shown(CASE, "rate on one core, in memory", "MB/s", "oxc alone").goal(Goal::AtLeast(0.8));

pub(crate) const FIGURES: [Figure; 2] = [ESBUILD, BARE];

/// The scripts of the apps.
struct Scripts {
    all: Vec<(FilePath, AppFile)>,
    bytes: f64,
}

pub(crate) async fn measure(bench: &mut Bench, ground: &Ground) -> Outcome<()> {
    let scripts = Scripts::of(&ground.workspace().join("examples/apps"))?;
    // On a core of its own, programs and all.
    let one_core = OneCore::keep();
    let compiler = Compiler::new(CompilerOptions::development());
    let passes = bench.size(8, 2);
    let turns = interleave::<2>(bench.size(40, 5), async |who| {
        let begun = Instant::now();
        for _ in 0..passes {
            for (path, file) in &scripts.all {
                if who == 0 {
                    black_box(compiled(&compiler, path, file)?);
                } else {
                    let source = std::str::from_utf8(file.contents())?;
                    black_box(bare_peer(path, source, compiler.options()).ok_or("oxc refused a file")?);
                }
            }
        }
        Ok(rate(scripts.bytes * f64::from(passes), begun))
    })
    .await?;
    bench.show(&BARE, turns.compare(0, 1));

    let copies = bench.size(16, 4);
    let folder = Folder::new()?;
    let (input, output) = (folder.0.join("in"), folder.0.join("out"));
    let mut names = Vec::new();
    for copy in 0..copies {
        for (path, file) in &scripts.all {
            let name = format!("{copy}/{path}");
            let at = input.join(&name);
            fs::create_dir_all(at.parent().unwrap_or(&input))?;
            fs::write(at, file.contents())?;
            names.push(name);
        }
    }
    let esbuild = esbuild(&ground.workspace().join("tools/node_modules/@esbuild"))?;
    let turns = interleave::<2>(bench.size(15, 3), async |who| {
        let begun = Instant::now();
        if who == 0 {
            for name in &names {
                let path = FilePath::parse(name)?;
                let file = AppFile::new(fs::read(input.join(name))?);
                let (mut code, map) = compiled(&compiler, &path, &file)?;
                code.push_str(map.as_deref().unwrap_or_default());
                let to = output.join("ours").join(name);
                fs::create_dir_all(to.parent().unwrap_or(&output))?;
                fs::write(to, code)?;
            }
        } else {
            let mut command = Command::new(&esbuild);
            command.args(&names).current_dir(&input).env("GOMAXPROCS", "1");
            command.arg(format!("--outdir={}", output.join("esbuild").display()));
            command.args(["--sourcemap=inline", "--jsx=automatic", "--jsx-dev", "--format=esm", "--log-level=error"]);
            run(&mut command)?;
        }
        Ok(rate(scripts.bytes * f64::from(copies), begun))
    })
    .await?;
    drop(one_core);
    bench.show(&ESBUILD, turns.compare(0, 1));
    let kilobytes = scripts.bytes / 1e3;
    bench.note(format!("compiled are {} scripts of the example apps, {kilobytes:.0} kB together", scripts.all.len()));
    Ok(())
}

/// A script with addresses in it, and its source map.
fn compiled(compiler: &Compiler, path: &FilePath, file: &AppFile) -> Outcome<(String, Option<Arc<str>>)> {
    let module = compiler.compile_now(path, file, Query::None).map_err(|problem| problem.to_string())?;
    let code = link(&module, &mut |import| Linked::Url(import.specifier.clone()), &mut |_| "{}".to_owned());
    Ok((code, module.source_map.clone()))
}

/// The program itself: what npm puts into its place where no scripts may run is a program of Node's that starts it.
fn esbuild(packages: &Path) -> Outcome<PathBuf> {
    let missing = "tools/node_modules lacks esbuild: run `cargo xtask setup`";
    let mut found = fs::read_dir(packages).map_err(|_| missing)?.flatten().map(|it| it.path().join("bin/esbuild"));
    Ok(found.find(|program| program.is_file()).ok_or(missing)?)
}

fn rate(bytes: f64, begun: Instant) -> f64 {
    bytes / 1e6 / begun.elapsed().as_secs_f64()
}

impl Scripts {
    fn of(apps: &Path) -> Outcome<Self> {
        let (mut all, mut queue) = (Vec::new(), vec![apps.to_owned()]);
        while let Some(folder) = queue.pop() {
            for entry in fs::read_dir(folder)? {
                let path = entry?.path();
                let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
                if path.is_dir() {
                    if name != "node_modules" && name != "dist" {
                        queue.push(path);
                    }
                } else if matches!(path.extension().and_then(|e| e.to_str()), Some("ts" | "tsx"))
                    && !name.ends_with(".d.ts")
                {
                    let inside = path.strip_prefix(apps)?.to_string_lossy().into_owned();
                    all.push((FilePath::parse(&inside)?, AppFile::new(fs::read(&path)?)));
                }
            }
        }
        all.sort_by(|a, b| a.0.cmp(&b.0));
        let bytes = all.iter().map(|(_, file)| file.contents().len()).sum::<usize>();
        Ok(Self { all, bytes: f64::from(u32::try_from(bytes)?) })
    }
}

/// An empty folder in memory, where there is such a thing, gone when it is dropped.
struct Folder(PathBuf);

impl Folder {
    fn new() -> std::io::Result<Self> {
        let memory = Some(PathBuf::from("/dev/shm")).filter(|folder| folder.is_dir());
        let folder = memory.unwrap_or_else(std::env::temp_dir);
        let folder = folder.join(format!("overskill-bench-preview-{}", std::process::id()));
        fs::create_dir(&folder)?;
        Ok(Self(folder))
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0); // what is left over harms nobody
    }
}
