//! `cargo xtask install-c`: the library for C where a compiler finds it.

use super::{header, library};
use crate::process;
use anyhow::Context;
use clap::Args;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

pub(crate) const HELP: &str = "\
Examples:
  cargo xtask install-c --prefix ~/.local
  cargo xtask install-c --prefix /usr --libdir /usr/lib/x86_64-linux-gnu --destdir package

Installs lib/libjitney.so and .a, include/jitney.h and lib/pkgconfig/jitney.pc; docs/c.md says how to
build with them. With a prefix of its own: PKG_CONFIG_PATH=PREFIX/lib/pkgconfig, and at run time
LD_LIBRARY_PATH=PREFIX/lib or ldconfig.";

#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Below which folder it is to be used.
    #[arg(long, value_name = "DIR")]
    prefix: PathBuf,
    /// Where the libraries are to be used; PREFIX/lib without it.
    #[arg(long, value_name = "DIR")]
    libdir: Option<PathBuf>,
    /// Below which folder to put all of it now, for who makes a package.
    #[arg(long, value_name = "DIR")]
    destdir: Option<PathBuf>,
}

pub(crate) fn run(options: &Options) -> anyhow::Result<ExitCode> {
    let prefix = std::path::absolute(&options.prefix)?;
    let libdir = options.libdir.clone().unwrap_or_else(|| prefix.join("lib"));
    header::check()?;
    process::must(&mut library::build())?;
    install(true, &prefix, &std::path::absolute(libdir)?, options.destdir.as_deref())?;
    println!(
        "installed {} below {}",
        library::soname(),
        options.destdir.as_deref().unwrap_or(&prefix).display()
    );
    Ok(ExitCode::SUCCESS)
}

/// Installs what cargo has built.
pub(crate) fn install(
    release: bool,
    prefix: &Path,
    libdir: &Path,
    destdir: Option<&Path>,
) -> anyhow::Result<()> {
    let below = |path: &Path| match destdir {
        Some(folder) => folder.join(path.strip_prefix("/").unwrap_or(path)),
        None => path.to_owned(),
    };
    let (libraries, headers) = (below(libdir), below(&prefix.join("include")));
    let packages = libraries.join("pkgconfig");
    for folder in [&libraries, &headers, &packages] {
        fs::create_dir_all(folder).with_context(|| format!("making {}", folder.display()))?;
    }
    let archive = library::archive(release);
    library::link(&archive, &libraries)?;
    fs::copy(&archive, libraries.join("libjitney.a")).context("copying the archive")?;
    fs::copy(header::path(), headers.join("jitney.h")).context("copying the header")?;
    fs::write(packages.join("jitney.pc"), package(prefix, libdir)).context("writing jitney.pc")
}

/// What pkg-config is told.
fn package(prefix: &Path, libdir: &Path) -> String {
    format!(
        "prefix={}\nlibdir={}\nincludedir=${{prefix}}/include\n\n\
        Name: jitney\n\
        Description: PCIe cards from user space, several programs at once\n\
        Version: {}\n\
        Libs: -L${{libdir}} -ljitney\n\
        Libs.private: {}\n\
        Cflags: -I${{includedir}}\n",
        prefix.display(),
        libdir.display(),
        library::VERSION,
        library::NEEDS.join(" ")
    )
}
