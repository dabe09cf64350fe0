//! Where the library is that is loaded into programs.

use crate::status::Misuse;
use anyhow::Context;
use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

const NAME: &str = "libjitney_xdma_compat.so";

/// Where it is, beside where this program is installed or was built.
const BESIDE: [&str; 3] = [".", "../lib/jitney", "../lib"];
/// Where packages put it.
const INSTALLED: [&str; 2] = ["/usr/lib/jitney", "/usr/local/lib/jitney"];

/// The library that is named, else the first that is found.
pub(super) fn find(named: Option<&Path>) -> anyhow::Result<PathBuf> {
    if let Some(path) = named {
        return path.canonicalize().with_context(|| format!("--library {}", path.display()));
    }
    let own = std::env::current_exe().context("this program's own path")?;
    let own = own.canonicalize().unwrap_or(own);
    let folder = own.parent().unwrap_or(Path::new("/"));
    let beside = BESIDE.iter().map(|place| folder.join(place));
    let places = beside.chain(INSTALLED.iter().map(PathBuf::from));
    let candidates: Vec<PathBuf> = places.map(|place| place.join(NAME)).collect();
    let found = candidates.iter().find_map(|path| path.canonicalize().ok());
    found.with_context(|| {
        let tried: Vec<String> = candidates.iter().map(|path| path.display().to_string()).collect();
        format!(
            "{NAME}, which is loaded into programs, is not there (looked for {}); build it with cargo build --release \
             -p jitney-xdma-compat, and name it: --library FILE",
            tried.join(", ")
        )
    })
}

/// What the loader is told: the library, and behind it what was to be loaded anyway.
pub(super) fn preload(library: &Path) -> anyhow::Result<OsString> {
    if library.as_os_str().as_bytes().iter().any(|byte| matches!(byte, b':' | b' ')) {
        let path = library.display();
        return Err(Misuse(format!(
            "{path}: the loader cannot be told of a path with a space or a ':' in it"
        ))
        .into());
    }
    let mut all = library.as_os_str().to_owned();
    if let Some(others) = std::env::var_os("LD_PRELOAD").filter(|others| !others.is_empty()) {
        all.push(":");
        all.push(others);
    }
    Ok(all)
}
