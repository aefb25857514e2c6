//! Running other programs, loudly.

use std::ffi::OsStr;
use std::fmt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Why a task did not succeed, in words for the person at the terminal.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Failure(String);

impl Failure {
    pub(crate) fn new(message: impl Into<String>) -> Self {
        Self(message.into())
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.0)
    }
}

/// A `cargo` call in the directory given.
pub(crate) fn cargo(directory: &Path) -> Command {
    let program = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    quiet_environment(Command::new(program), directory)
}

/// A call of any program in the directory given, without what `cargo run` told us about xtask itself: some build
/// scripts watch those variables and would run again each time that cargo is called with and without xtask.
pub(crate) fn program(program: impl AsRef<OsStr>, directory: &Path) -> Command {
    quiet_environment(Command::new(program), directory)
}

fn quiet_environment(mut command: Command, directory: &Path) -> Command {
    command.current_dir(directory).stdin(Stdio::null());
    for (name, _) in std::env::vars_os() {
        let name = name.to_string_lossy();
        if name.starts_with("CARGO_PKG_") || name.starts_with("CARGO_MANIFEST_") {
            command.env_remove(name.as_ref());
        }
    }
    if in_ci() {
        // A build that no later one follows gains nothing from incremental compilation.
        command.env("CARGO_INCREMENTAL", "0");
    }
    command
}

/// Is this a CI run, whose machine may be changed?
pub(crate) fn in_ci() -> bool {
    std::env::var_os("CI").is_some_and(|value| !value.is_empty() && value != "false")
}

/// Prints the command and runs it to its end, its output going where ours goes.
pub(crate) fn run(command: &mut Command) -> Result<(), Failure> {
    match run_for_code(command)? {
        0 => Ok(()),
        code => Err(Failure::new(format!("`{}` exited {code}", line(command)))),
    }
}

/// Like [`run`], for a program whose exit code says more than yes or no.
pub(crate) fn run_for_code(command: &mut Command) -> Result<i32, Failure> {
    eprintln!("$ {}", line(command));
    let status = command.status().map_err(|error| could_not_start(command, &error))?;
    status.code().ok_or_else(|| Failure::new(format!("`{}` was killed", line(command))))
}

/// What the program printed, when it succeeded; its errors go where ours go.
pub(crate) fn output(command: &mut Command) -> Result<String, Failure> {
    let output = command.stderr(Stdio::inherit()).output().map_err(|error| could_not_start(command, &error))?;
    if output.status.success() {
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    } else {
        let command = line(command);
        Err(Failure::new(format!("`{command}`: {}", output.status)))
    }
}

/// What the program printed, or nothing when it is not there or did not succeed.
pub(crate) fn quiet_output(command: &mut Command) -> Option<String> {
    let output = command.stderr(Stdio::null()).output().ok()?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    output.status.success().then_some(text)
}

/// The program's place on `PATH`.
pub(crate) fn on_path(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|directory| directory.join(name)).find(|candidate| candidate.is_file())
}

fn could_not_start(command: &Command, error: &std::io::Error) -> Failure {
    Failure::new(format!("could not start `{}`: {error}", line(command)))
}

/// The command as one would type it, its program by its bare name.
fn line(command: &Command) -> String {
    let program = Path::new(command.get_program());
    let mut words = vec![program.file_name().unwrap_or(program.as_os_str())];
    words.extend(command.get_args());
    let words: Vec<_> = words.iter().map(|word| word.to_string_lossy()).collect();
    words.join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_is_shown_as_one_would_type_it() {
        let mut command = Command::new("/some/where/cargo");
        command.args(["fmt", "--check"]);
        assert_eq!(line(&command), "cargo fmt --check");
    }

    #[test]
    fn a_failing_program_is_named_with_its_code() {
        let mut command = program("sh", Path::new("."));
        let failure = run(command.args(["-c", "exit 3"])).expect_err("exited 3");
        assert_eq!(failure.to_string(), "`sh -c exit 3` exited 3");
    }

    #[test]
    fn a_missing_program_has_no_output() {
        assert_eq!(quiet_output(&mut Command::new("no-such-program-here")), None);
        assert_eq!(on_path("no-such-program-here"), None);
    }
}
