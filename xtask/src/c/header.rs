//! The header of the C library, made of its source.

use crate::workspace;
use anyhow::{Context, bail};
use std::fs;
use std::path::PathBuf;

/// Where it is committed.
pub(crate) fn path() -> PathBuf {
    workspace::c().join("include/jitney.h")
}

/// What it is by the source.
fn generated() -> anyhow::Result<String> {
    let folder = workspace::c();
    let read = |name: &str| {
        fs::read_to_string(folder.join(name)).with_context(|| format!("reading crates/c/{name}"))
    };
    let mut config = cbindgen::Config::from_root_or_default(&folder);
    config.header = Some(read("include/preface.txt")?.trim_end().to_owned());
    let builder = cbindgen::Builder::new().with_src(folder.join("src/lib.rs")).with_config(config);
    let bindings = builder.generate().context("reading the source of the C library")?;
    let mut text = Vec::new();
    bindings.write(&mut text);
    Ok(String::from_utf8(text)?)
}

/// Writes it anew.
pub(crate) fn renew() -> anyhow::Result<()> {
    fs::write(path(), generated()?).context("writing the header")
}

/// Refuses one that is not what the source makes.
pub(crate) fn check() -> anyhow::Result<()> {
    if fs::read_to_string(path()).unwrap_or_default() == generated()? {
        return Ok(());
    }
    bail!("crates/c/include/jitney.h is not what crates/c/src makes; renew it: cargo xtask header")
}
