//! Which libraries of the system a program needs, and in which version; by what `readelf` says.

use crate::process;
use anyhow::ensure;
use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

/// What programs need.
#[derive(Debug, Clone, Default)]
pub(super) struct Needs {
    /// As `libc.so.6`.
    libraries: BTreeSet<String>,
    /// The versions of glibc's symbols, as (2, 34).
    glibc: BTreeSet<(u32, u32)>,
}

impl Needs {
    /// What the dynamic programs and libraries at `files` need.
    pub(super) fn of(files: &[&Path]) -> anyhow::Result<Self> {
        let mut needs = Self::default();
        for file in files {
            needs.read(&readelf(file)?);
        }
        ensure!(!needs.glibc.is_empty(), "readelf does not tell which glibc is needed");
        Ok(needs)
    }

    fn read(&mut self, text: &str) {
        for line in text.lines() {
            if let Some((_, rest)) = line.split_once("(NEEDED)") {
                self.libraries.extend(
                    rest.split_once('[').and_then(|(_, name)| Some(name.split_once(']')?.0.to_owned())),
                );
            }
            for word in line.split_whitespace().filter_map(|word| word.strip_prefix("GLIBC_")) {
                let mut numbers = word.split('.').map(str::parse);
                if let (Some(Ok(major)), Some(Ok(minor))) = (numbers.next(), numbers.next()) {
                    self.glibc.insert((major, minor));
                }
            }
        }
    }

    /// The packages of Debian that have it.
    pub(super) fn of_debian(&self) -> Vec<String> {
        let glibc = self.glibc.last().map(|(major, minor)| format!("libc6 (>= {major}.{minor})"));
        let gcc = self.libraries.contains("libgcc_s.so.1").then(|| "libgcc-s1".to_owned());
        glibc.into_iter().chain(gcc).collect()
    }

    /// As rpm calls it.
    pub(super) fn of_rpm(&self) -> Vec<String> {
        let glibc =
            self.glibc.last().map(|(major, minor)| format!("libc.so.6(GLIBC_{major}.{minor})(64bit)"));
        let others = self.libraries.iter().filter(|name| !name.starts_with("ld-"));
        others.map(|name| format!("{name}()(64bit)")).chain(glibc).collect()
    }
}

/// Fails if a program needs any library, or somebody who loads it.
pub(super) fn must_be_static(program: &Path) -> anyhow::Result<()> {
    let text = readelf(program)?;
    let loads =
        text.lines().find(|line| line.contains("(NEEDED)") || line.trim_start().starts_with("INTERP"));
    ensure!(loads.is_none(), "{} is not static: {}", program.display(), loads.unwrap_or_default().trim());
    Ok(())
}

fn readelf(file: &Path) -> anyhow::Result<String> {
    let mut readelf = Command::new("readelf");
    readelf.args(["--wide", "--dynamic", "--program-headers", "--version-info"]).arg(file);
    let said = process::run(readelf.env("LC_ALL", "C"), false)?;
    ensure!(said.success, "{}", said.text);
    Ok(said.text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_needed_is_read() {
        let mut needs = Needs::default();
        needs.read(
            " 0x0000000000000001 (NEEDED)             Shared library: [libgcc_s.so.1]\n \
             0x0000000000000001 (NEEDED)             Shared library: [libc.so.6]\n  \
             0x0060:   Name: GLIBC_2.9  Flags: none  Version: 4\n  0x0070:   Name: GLIBC_2.34  Flags: none  Version: 3\n",
        );
        assert_eq!(needs.of_debian(), ["libc6 (>= 2.34)", "libgcc-s1"]);
        assert_eq!(
            needs.of_rpm(),
            ["libc.so.6()(64bit)", "libgcc_s.so.1()(64bit)", "libc.so.6(GLIBC_2.34)(64bit)"]
        );
    }

    #[test]
    fn this_program_is_not_static() {
        let own = std::env::current_exe().unwrap();
        assert!(must_be_static(&own).is_err());
        assert!(!Needs::of(&[&own]).unwrap().of_debian().is_empty());
    }
}
