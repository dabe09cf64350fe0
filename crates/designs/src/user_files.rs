//! Where users keep their boards files.

use crate::error::{Error, Result};
use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};

/// The user's boards files in the order in which they are read. `environment` looks up a variable.
pub(crate) fn usual(environment: impl Fn(&str) -> Option<OsString>) -> Result<Vec<PathBuf>> {
    let set = |name| environment(name).filter(|value| !value.is_empty());
    // The base directory specification has relative paths ignored.
    let config = set("XDG_CONFIG_HOME").map(PathBuf::from).filter(|path| path.is_absolute());
    let config = config.or_else(|| set("HOME").map(|home| Path::new(&home).join(".config")));

    let mut files = Vec::new();
    if let Some(folder) = config.map(|config| config.join("jitney/boards")) {
        match in_folder(&folder) {
            Err(Error::File { source, .. }) if source.kind() == io::ErrorKind::NotFound => {}
            found => files = found?,
        }
    }
    if let Some(named) = set("JITNEY_BOARDS") {
        for path in std::env::split_paths(&named).filter(|path| !path.as_os_str().is_empty()) {
            if path.is_dir() {
                files.extend(in_folder(&path)?);
            } else if path.exists() {
                files.push(path);
            } else {
                let source = io::ErrorKind::NotFound.into();
                return Err(Error::File { path, source, remedy: "; correct JITNEY_BOARDS, which names it" });
            }
        }
    }
    Ok(files)
}

/// The `*.toml` files in `folder`, by name.
fn in_folder(folder: &Path) -> Result<Vec<PathBuf>> {
    let list = || -> io::Result<Vec<PathBuf>> {
        std::fs::read_dir(folder)?.map(|entry| entry.map(|entry| entry.path())).collect()
    };
    let mut files = list().map_err(|source| Error::File { path: folder.to_owned(), source, remedy: "" })?;
    files.retain(|file| file.extension().is_some_and(|extension| extension == "toml"));
    files.sort();
    Ok(files)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    fn found(variables: &[(&str, &Path)]) -> Result<Vec<PathBuf>> {
        usual(|name| variables.iter().find(|(own, _)| *own == name).map(|(_, value)| (*value).into()))
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
        let files = found(&[("JITNEY_BOARDS", Path::new(&named))]).unwrap();
        assert!(files.iter().eq(expected), "a file that is named need not end in .toml: {files:?}");
    }

    #[test]
    fn a_file_that_is_named_has_to_be_there() {
        let error = found(&[("JITNEY_BOARDS", Path::new("/nowhere/boards.toml"))]).unwrap_err().to_string();
        assert!(error.contains("/nowhere/boards.toml") && error.contains("JITNEY_BOARDS"), "{error}");
    }
}
