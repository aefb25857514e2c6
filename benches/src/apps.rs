//! The example apps, for who changes them.

use crate::Outcome;
use std::{fs, path::Path};

/// Copies an app's folder without what was installed or built in it.
pub fn copy_app(from: &Path, to: &Path) -> Outcome<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let (name, kind) = (entry.file_name(), entry.file_type()?);
        if kind.is_dir() && name != "node_modules" && name != "dist" {
            copy_app(&entry.path(), &to.join(name))?;
        } else if kind.is_file() {
            fs::copy(entry.path(), to.join(name))?;
        }
    }
    Ok(())
}
