//! The example apps.

use super::support::{asset, built, example, names};

#[tokio::test]
async fn todo_studio() {
    let artifact = built(example("todo-studio")).await.unwrap_or_else(|e| panic!("{e}"));
    if let Some(to) = std::env::var_os("OVERSKILL_WRITE_BUILT") {
        for (path, file) in artifact.assets() {
            let at = std::path::Path::new(&to).join(path.as_str());
            std::fs::create_dir_all(at.parent().unwrap()).unwrap();
            std::fs::write(at, file.contents()).unwrap();
        }
    }
    eprintln!("{:#?}", names(&artifact));
    let (_, page) = asset(&artifact, "index", ".html");
    eprintln!("{page}");
}
