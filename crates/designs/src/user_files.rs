//! Where boards files are kept.

use crate::error::{Error, Result};
use std::collections::HashSet;
use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Whose a boards file is. A later one wins over an earlier one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Layer {
    /// A package's.
    Package,
    /// The machine's.
    Machine,
    /// The user's.
    User,
    /// It was named.
    Named,
}

/// What is in the usual places.
#[derive(Debug, Default)]
pub(crate) struct Found {
    /// The boards files, in the order in which they are read.
    pub(crate) files: Vec<(Layer, PathBuf)>,
    /// Folders that cannot be looked into.
    pub(crate) closed: Vec<(Layer, PathBuf, Error)>,
}

/// The boards files in the usual places. `root` is where the file system begins, `environment` looks
/// up a variable.
pub(crate) fn usual(root: &Path, environment: impl Fn(&str) -> Option<OsString>) -> Result<Found> {
    let set = |name| environment(name).filter(|value| !value.is_empty());
    // The base directory specification has relative paths ignored.
    let config = set("XDG_CONFIG_HOME").map(PathBuf::from).filter(|path| path.is_absolute());
    let config = config.or_else(|| set("HOME").map(|home| Path::new(&home).join(".config")));

    let folders = [
        (Layer::Package, Some(root.join("usr/share"))),
        (Layer::Machine, Some(root.join("etc"))),
        (Layer::User, config),
    ];
    let Found { mut files, mut closed } = Found::default();
    for (layer, folder) in folders {
        let Some(folder) = folder.map(|folder| folder.join("jitney/boards")) else { continue };
        match in_folder(&folder) {
            Ok(found) => files.extend(found.into_iter().map(|file| (layer, file))),
            Err(Error::File { source, .. }) if source.kind() == io::ErrorKind::NotFound => {}
            Err(error) => closed.push((layer, folder, error)),
        }
    }
    if let Some(named) = set("JITNEY_BOARDS") {
        let before = files.len();
        for path in std::env::split_paths(&named).filter(|path| !path.as_os_str().is_empty()) {
            if path.is_dir() {
                files.extend(in_folder(&path)?.into_iter().map(|file| (Layer::Named, file)));
            } else if path.exists() {
                files.push((Layer::Named, path));
            } else {
                let source = Arc::new(io::ErrorKind::NotFound.into());
                return Err(Error::File { path, source, remedy: "; correct JITNEY_BOARDS, which names it" });
            }
        }
        // One that is named twice, or that is in a folder that is named too, is read once.
        let mut seen = HashSet::new();
        let mut named = files.split_off(before);
        named.retain(|(_, file)| seen.insert(file.canonicalize().unwrap_or_else(|_| file.clone())));
        files.append(&mut named);
    }
    Ok(Found { files, closed })
}

/// The `*.toml` files in `folder`, by name.
fn in_folder(folder: &Path) -> Result<Vec<PathBuf>> {
    let list = || -> io::Result<Vec<PathBuf>> {
        std::fs::read_dir(folder)?.map(|entry| entry.map(|entry| entry.path())).collect()
    };
    let mut files = list().map_err(|source| Error::File {
        path: folder.to_owned(),
        source: Arc::new(source),
        remedy: "",
    })?;
    files.retain(|file| file.extension().is_some_and(|extension| extension == "toml"));
    files.sort();
    Ok(files)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    fn found(variables: &[(&str, &Path)]) -> Result<Vec<PathBuf>> {
        let environment =
            |name: &str| variables.iter().find(|(own, _)| *own == name).map(|(_, value)| (*value).into());
        let found = usual(Path::new("/nowhere"), environment)?;
        Ok(found.files.into_iter().map(|(_, file)| file).collect())
    }

    #[test]
    fn a_package_s_files_come_before_the_machine_s_and_the_user_s() {
        let root = tempfile::tempdir().unwrap();
        let root = root.path();
        let file = |folder: &str, name: &str| {
            fs::create_dir_all(root.join(folder)).unwrap();
            let file = root.join(folder).join(name);
            fs::write(&file, "").unwrap();
            file
        };
        let user = file("home/.config/jitney/boards", "a.toml");
        let machine = file("etc/jitney/boards", "b.toml");
        let package = file("usr/share/jitney/boards", "c.toml");
        let home = root.join("home");
        let found = usual(root, |name| (name == "HOME").then(|| home.clone().into())).unwrap();
        let expected = [(Layer::Package, package), (Layer::Machine, machine), (Layer::User, user)];
        assert_eq!(found.files, expected);
        assert!(found.files.is_sorted() && found.closed.is_empty());
    }

    #[test]
    fn a_folder_that_cannot_be_looked_into_holds_up_no_other() {
        let root = tempfile::tempdir().unwrap();
        let root = root.path();
        fs::create_dir_all(root.join("etc/jitney")).unwrap();
        fs::write(root.join("etc/jitney/boards"), "no folder").unwrap();
        fs::create_dir_all(root.join("usr/share/jitney/boards")).unwrap();
        fs::write(root.join("usr/share/jitney/boards/a.toml"), "").unwrap();
        let found = usual(root, |_| None).unwrap();
        assert_eq!(found.files.len(), 1);
        let [(Layer::Machine, folder, error)] = &found.closed[..] else { panic!("{found:?}") };
        assert!(folder.ends_with("etc/jitney/boards") && error.to_string().contains("etc/jitney/boards"));
    }

    #[test]
    fn files_are_found_in_the_usual_places() {
        let home = tempfile::tempdir().unwrap();
        let home = home.path();
        assert_eq!(found(&[]).unwrap(), [] as [PathBuf; 0]);
        assert_eq!(found(&[("HOME", home)]).unwrap(), [] as [PathBuf; 0], "nothing is there yet");

        let folder = home.join(".config/jitney/boards");
        fs::create_dir_all(&folder).unwrap();
        for name in ["b.toml", "a.toml", "notes.txt"] {
            fs::write(folder.join(name), "").unwrap();
        }
        let both = [folder.join("a.toml"), folder.join("b.toml")];
        assert_eq!(found(&[("HOME", home)]).unwrap(), both);
        let config = home.join(".config");
        assert_eq!(found(&[("HOME", Path::new("/nowhere")), ("XDG_CONFIG_HOME", &config)]).unwrap(), both);
        assert_eq!(found(&[("HOME", home), ("XDG_CONFIG_HOME", Path::new("relative"))]).unwrap(), both);

        let text = folder.join("notes.txt");
        let named = std::env::join_paths([&text, &folder, Path::new("")]).unwrap();
        let expected = [&text, &both[0], &both[1]];
        let twice = std::env::join_paths([&text, &folder, &both[0], &text]).unwrap();
        let twice = found(&[("JITNEY_BOARDS", Path::new(&twice))]).unwrap();
        assert!(twice.iter().eq(expected), "each once: {twice:?}");
        let files = found(&[("JITNEY_BOARDS", Path::new(&named))]).unwrap();
        assert!(files.iter().eq(expected), "a file that is named need not end in .toml: {files:?}");
    }

    #[test]
    fn a_file_that_is_named_has_to_be_there() {
        let error = found(&[("JITNEY_BOARDS", Path::new("/nowhere/boards.toml"))]).unwrap_err().to_string();
        assert!(error.contains("/nowhere/boards.toml") && error.contains("JITNEY_BOARDS"), "{error}");
    }
}
