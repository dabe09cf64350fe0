//! The Rust packages that the programs contain, and their licences, as those want to be told.

use crate::process;
use crate::workspace;
use anyhow::{Context, ensure};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::process::Command;

/// A list, and behind it each text once, with whose it is.
pub(super) fn list() -> anyhow::Result<String> {
    let inside = inside()?;
    let folders = folders()?;
    let mut texts: BTreeMap<String, BTreeSet<&str>> = BTreeMap::new();
    let mut list = String::from(
        "The programs contain these Rust packages, and the standard library of Rust (MIT OR Apache-2.0); the static \
                                 one contains the GNU C library (LGPL-2.1-or-later), too.\n\n",
    );
    for (name, licence) in &inside {
        list += &format!("{name}: {licence}\n");
        let Some(folder) = folders.get(name) else { continue };
        for text in licences(Path::new(folder))? {
            texts.entry(text).or_default().insert(name);
        }
    }
    for (text, whose) in texts {
        let whose: Vec<&str> = whose.into_iter().collect();
        list += &format!("\n{}\n{}\n\n{}\n", "-".repeat(78), whose.join(", "), text.trim_end());
    }
    Ok(list)
}

/// Name with version and licence of each, less our own.
fn inside() -> anyhow::Result<BTreeMap<String, String>> {
    let tree = [
        "tree",
        "--package=jitney-cli",
        "--package=jitney-xdma-compat",
        "--edges=normal",
        "--prefix=none",
        "--format={p}\t{l}",
    ];
    let text = says(workspace::cargo(tree))?;
    let lines = text.lines().filter_map(|line| line.split_once('\t'));
    // Those with a path are of this repository; (proc-macro) and (*) are no part of the name.
    let others = lines.filter(|(package, _)| !package.contains("(/"));
    let inside: BTreeMap<String, String> = others
        .filter_map(|(package, licence)| {
            let mut words = package.split_whitespace();
            let name = format!("{} {}", words.next()?, words.next()?.trim_start_matches('v'));
            Some((name, licence.trim_end_matches(" (*)").to_owned()))
        })
        .collect();
    ensure!(inside.len() > 10, "cargo tree tells of {} packages", inside.len());
    Ok(inside)
}

/// Where the sources of each package are.
fn folders() -> anyhow::Result<BTreeMap<String, String>> {
    let mut metadata = workspace::cargo(["metadata", "--format-version=1"]);
    metadata.stderr(std::process::Stdio::null());
    let output = metadata.output().context("cargo metadata")?;
    let metadata: Value = serde_json::from_slice(&output.stdout).context("cargo metadata")?;
    let packages = metadata["packages"].as_array().map(Vec::as_slice).unwrap_or_default();
    let folder = |package: &Value| {
        let name = format!("{} {}", package["name"].as_str()?, package["version"].as_str()?);
        Some((name, Path::new(package["manifest_path"].as_str()?).parent()?.display().to_string()))
    };
    Ok(packages.iter().filter_map(folder).collect())
}

/// The texts that lie beside a package's sources.
fn licences(folder: &Path) -> anyhow::Result<Vec<String>> {
    let mut texts = Vec::new();
    for entry in fs::read_dir(folder).with_context(|| folder.display().to_string())? {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().to_uppercase();
        let is_one = ["LICENSE", "LICENCE", "COPYING", "COPYRIGHT", "NOTICE"]
            .iter()
            .any(|start| name.starts_with(start));
        if is_one && path.is_file() {
            texts.push(String::from_utf8_lossy(&fs::read(&path)?).into_owned());
        }
    }
    Ok(texts)
}

fn says(mut command: Command) -> anyhow::Result<String> {
    let said = process::run(&mut command, false)?;
    ensure!(said.success, "{}", said.text);
    Ok(said.text)
}
