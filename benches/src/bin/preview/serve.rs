//! Our side of a contest: a program that serves one folder, as the example `quickstart` does with `--serve`.

use overskill::{
    AppHandle, AppId, AppRecord, Clock, Overskill, Sources, SystemClock, SystemScopes,
    build::compiler::{Compiler, CompilerOptions},
    local::{FolderWatcher, LocalOptions},
};
use overskill_benches::Outcome;
use std::path::Path;

/// What the app is called, and so where it is: `http://preview-bench.localhost:PORT`.
pub(crate) const APP: &str = "bench";

/// `preview serve FOLDER DATA PORT`: shows the folder, and pushes what changes in it, until the program is killed.
pub(crate) async fn run(arguments: &[String]) -> Outcome<()> {
    let [folder, data, port] = arguments else {
        return Err("serve needs a folder, a data folder and a port".into());
    };
    let compiler = Compiler::new(CompilerOptions::development());
    let (mut watcher, contents) = FolderWatcher::start(Path::new(folder), compiler.clone()).await?;
    let server = LocalOptions::new().port(port.parse()?);
    let platform = Overskill::local(data).server(server).compiler(compiler).await?;
    let background = platform.clone();
    tokio::spawn(async move { background.run(std::future::pending()).await });
    let app = app(&platform, APP).await?;
    app.preview().open(Sources::files(contents.files)?).await?;
    loop {
        let changes = watcher.next().await?;
        app.apply(&changes, None).await?;
    }
}

/// An app, made if it is not there.
pub(crate) async fn app(platform: &Overskill, id: &str) -> Outcome<AppHandle> {
    let id = AppId::parse(id)?;
    let grant = platform.gate().system("bench", "measures previews", SystemScopes::app(id.clone())).await?;
    platform.put_app(&grant, &AppRecord::new(id.clone(), id.as_str(), SystemClock.now())).await?;
    Ok(platform.open(grant, id).await?)
}
