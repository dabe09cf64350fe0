//! The small kernels: `make tinyconfig` plus a fragment, everything built in. One fragment does for every version.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread::available_parallelism;

use super::IMAGE;
use crate::Error;
use crate::cache::{Cache, read, write};
use crate::command::output;
use crate::debian::Debian;
use crate::progress::Step;
use crate::tools::Tools;

const FRAGMENT: &str = include_str!("../../kernel/small.config");

/// Returns the entry that holds the image of a version of Linux that Debian's archive has the source of; the first run builds
/// it, which takes some minutes.
pub(super) fn build(version: &str, cache: &Cache, debian: &Debian) -> Result<PathBuf, Error> {
    let package = format!("linux-source-{version}");
    let ingredients = format!("{package}\n{FRAGMENT}");
    if let Some(there) = cache.existing("kernel-small", &ingredients) {
        return Ok(there);
    }
    let tools = Tools::fetch(cache, debian)?;
    cache.entry("kernel-small", &ingredients, |shop| {
        let archive = debian.archive(shop)?;
        let step = Step::start("fetching the kernel's source");
        archive.unpack(&[&package], shop.scratch)?;
        let tarball = shop.scratch.join(format!("usr/src/{package}.tar.xz"));
        let mut tar = tools.command("tar");
        tar.arg("-xf").arg(&tarball).arg("-C").arg(shop.scratch);
        output(&mut tar, "to unpack the kernel's source")?;
        drop(step);
        let source = shop.scratch.join(&package);
        let step = Step::start(format!("building the small kernel {version}, once per machine"));
        configure(&source, &tools)?;
        let jobs = available_parallelism().map_or(1, usize::from);
        let mut make = make(&source, &tools);
        make.arg(format!("-j{jobs}")).arg("bzImage");
        output(&mut make, "to build the kernel")?;
        drop(step);
        for (built, name) in [("arch/x86/boot/bzImage", IMAGE), (".config", "config")] {
            let built = source.join(built);
            fs::copy(&built, shop.entry.join(name)).map_err(Error::io("copy", &built))?;
        }
        Ok(())
    })
}

/// Others may be using the machine: the build takes what they leave.
fn make(source: &Path, tools: &Tools) -> Command {
    let mut command = tools.command("nice");
    command.args(["-n", "10", "make"]).args(tools.make_variables()).current_dir(source);
    command
}

fn configure(source: &Path, tools: &Tools) -> Result<(), Error> {
    output(make(source, tools).arg("tinyconfig"), "to configure the kernel")?;
    let fragment = source.join("small.config");
    write(&fragment, FRAGMENT)?;
    let mut merge = tools.command("scripts/kconfig/merge_config.sh");
    merge.args(["-m", ".config"]).arg(&fragment).current_dir(source);
    output(&mut merge, "to configure the kernel")?;
    output(make(source, tools).arg("olddefconfig"), "to configure the kernel")?;
    let dropped = dropped_lines(FRAGMENT, &read(&source.join(".config"))?);
    if dropped.is_empty() { Ok(()) } else { Err(Error::KernelConfig { lines: dropped.join(", ") }) }
}

/// Kconfig ignores a line whose dependency is missing, without a word.
fn dropped_lines<'a>(fragment: &'a str, config: &str) -> Vec<&'a str> {
    let wanted = fragment.lines().filter(|line| line.starts_with("CONFIG_") || line.starts_with("# CONFIG_"));
    wanted.filter(|line| !config.lines().any(|got| got == *line)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dropped_line_is_noticed() {
        let fragment = "# A comment.\nCONFIG_A=y\n# CONFIG_B is not set\nCONFIG_C=y\n";
        assert_eq!(
            dropped_lines(fragment, "CONFIG_A=y\n# CONFIG_B is not set\nCONFIG_C=m\n"),
            ["CONFIG_C=y"]
        );
        assert!(dropped_lines(fragment, fragment).is_empty());
    }
}
