//! What runs the code of configurations: deno's own binary, as its npm packages ship it.

use super::{
    esbuild::{PackageTable, for_this_machine},
    fetch::Tool,
    trouble::Trouble,
};

/// The version that is used.
pub(crate) const VERSION: &str = "2.9.6";

/// Its packages for the systems whose binaries were checked.
const PACKAGES: &PackageTable = &[(
    "linux",
    "x86_64",
    "@deno/linux-x64-glibc",
    "sha512-3md4TKLCuzsLDmfOoC5KN7NAZaxSVkMgm64vg6foD00JBADCpYS2/5QqXfzgnP5ZQz3iLP9vBQJtEgc116OAoQ==",
)];

/// The program for this machine.
pub(crate) fn tool() -> Result<Tool, Trouble> {
    let (package, integrity) = for_this_machine(PACKAGES)?;
    Ok(Tool { name: "deno", version: VERSION, package, integrity, file: "deno", max_bytes: 192 << 20 })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::packages::integrity::Integrity;

    #[test]
    fn every_platform_in_the_table_has_a_usable_integrity() {
        for (.., integrity) in PACKAGES {
            assert_eq!(Integrity::parse(integrity).unwrap().to_string(), *integrity);
        }
    }
}
