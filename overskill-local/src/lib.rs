#![doc = include_str!("../README.md")]

mod disk;
mod entities;
pub mod instruments;
mod local;
mod options;
mod previews;
mod server;
mod target;
mod watch;

pub use entities::EntityApi;
pub use local::LocalBackends;
pub use options::LocalOptions;
pub use previews::LocalPreviewHost;
pub use target::LocalTarget;
pub use watch::{FolderContents, FolderWatcher, Skipped, read_folder};
