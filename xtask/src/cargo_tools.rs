//! The cargo subcommands that the checks use, installed by cargo at the versions named here.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::process::{self, Failure};
use crate::workspace::Workspace;

pub(crate) const NEXTEST: CargoTool =
    CargoTool { name: "cargo-nextest", version: "0.9.143", any_on_path: true, opt_level: "0" };

pub(crate) const DENY: CargoTool =
    CargoTool { name: "cargo-deny", version: "0.20.2", any_on_path: false, opt_level: "0" };

pub(crate) const HACK: CargoTool =
    CargoTool { name: "cargo-hack", version: "0.6.46", any_on_path: false, opt_level: "0" };

pub(crate) const SEMVER_CHECKS: CargoTool = CargoTool {
    name: "cargo-semver-checks",
    version: "0.51.0",
    any_on_path: false,
    opt_level: "1", // it runs hundreds of queries over large documents
};

pub(crate) const MUTANTS: CargoTool =
    CargoTool { name: "cargo-mutants", version: "27.1.0", any_on_path: false, opt_level: "0" };

/// One cargo subcommand.
#[derive(Debug)]
pub(crate) struct CargoTool {
    /// The package and its program.
    pub(crate) name: &'static str,
    version: &'static str,
    /// Is a program on `PATH` as good, whatever its version?
    any_on_path: bool,
    /// How far to optimise it. Most run for a second or two: on two cores cargo-deny builds in 107 s at level 1 and
    /// in 69 s at level 0, and then checks this workspace in 0.7 s and 1.5 s.
    opt_level: &'static str,
}

impl CargoTool {
    /// A call of the subcommand in the workspace's root; installs the tool first when it is not there.
    pub(crate) fn command(&self, workspace: &Workspace) -> Result<Command, Failure> {
        let program = self.ensure(workspace)?;
        Ok(self.call(&program, workspace.root()))
    }

    /// Installs the tool when it is not there, and says where it is.
    pub(crate) fn ensure(&self, workspace: &Workspace) -> Result<PathBuf, Failure> {
        let installed = workspace.cargo_tools().join("bin").join(self.name);
        if self.is_right(&installed, false) {
            return Ok(installed);
        }
        if let Some(found) = process::on_path(self.name)
            && self.is_right(&found, self.any_on_path)
        {
            return Ok(found);
        }
        self.install(workspace)?;
        Ok(installed)
    }

    fn is_right(&self, program: &Path, any_version: bool) -> bool {
        program.is_file()
            && process::quiet_output(self.call(program, Path::new(".")).arg("--version"))
                .is_some_and(|text| any_version || names_version(&text, self.version))
    }

    fn install(&self, workspace: &Workspace) -> Result<(), Failure> {
        let package = format!("{}@{}", self.name, self.version);
        let mut install = process::cargo(workspace.root());
        install
            .args(["install", "--quiet", "--locked", "--force", &package])
            .arg("--root")
            .arg(workspace.cargo_tools())
            .env("CARGO_PROFILE_RELEASE_OPT_LEVEL", self.opt_level)
            .env("CARGO_PROFILE_RELEASE_LTO", "off")
            .env("CARGO_PROFILE_RELEASE_CODEGEN_UNITS", "16")
            .env("CARGO_PROFILE_RELEASE_DEBUG", "0");
        process::run(&mut install)
    }

    fn call(&self, program: &Path, directory: &Path) -> Command {
        let subcommand = self.name.strip_prefix("cargo-").unwrap_or(self.name);
        let mut command = process::program(program, directory);
        command.arg(subcommand);
        command
    }
}

/// Is this the version that the text of `--version` names?
fn names_version(text: &str, version: &str) -> bool {
    text.split_whitespace().any(|word| word == version)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_is_a_whole_word() {
        assert!(names_version("cargo-deny 0.20.2\n", "0.20.2"));
        assert!(names_version("cargo-nextest 0.9.143 (60fa45f63)", "0.9.143"));
        assert!(!names_version("cargo-deny 0.20.21", "0.20.2"));
        assert!(!names_version("", "0.20.2"));
    }
}
