//! What the programs of one boot wrote, for the error that says why it failed.

use std::fs;
use std::path::{Path, PathBuf};

use crate::command::tail;

/// The ends of all logs in a folder, each with its name. An error is being told already: a log that cannot be read is left out.
pub(crate) fn ends(folder: &Path) -> String {
    let items = fs::read_dir(folder).into_iter().flatten().flatten();
    let mut logs: Vec<PathBuf> =
        items.map(|item| item.path()).filter(|path| path.extension().is_some_and(|e| e == "log")).collect();
    logs.sort_unstable();
    let show = |path: &PathBuf| {
        let text = fs::read(path).map(|bytes| tail(&String::from_utf8_lossy(&bytes))).unwrap_or_default();
        let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        if text.is_empty() {
            format!("{name}: nothing\n")
        } else {
            format!("{name}, the last lines:\n{text}\n")
        }
    };
    logs.iter().map(show).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_log_is_named() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("console.log"), "up\npanic\n").unwrap();
        fs::write(folder.path().join("qemu.log"), "").unwrap();
        fs::write(folder.path().join("initramfs"), "x").unwrap();
        assert_eq!(ends(folder.path()), "console, the last lines:\nup\npanic\nqemu: nothing\n");
    }
}
