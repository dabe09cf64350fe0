//! A package, whatever form it is then given.

/// What is installed together.
#[derive(Debug, Clone)]
pub(super) struct Package {
    pub(super) name: &'static str,
    pub(super) version: String,
    pub(super) summary: &'static str,
    pub(super) description: &'static str,
    pub(super) files: Vec<File>,
    /// What is run before and after, by what the forms call it.
    pub(super) deb_scripts: &'static [(&'static str, &'static str)],
    pub(super) rpm_scripts: RpmScripts,
    /// The libraries of the system that its programs need.
    pub(super) needs: super::libraries::Needs,
    /// The time of all of its files, in seconds since 1970.
    pub(super) time: u32,
}

#[derive(Debug, Clone, Copy)]
pub(super) struct RpmScripts {
    pub(super) after_install: &'static str,
    pub(super) before_removal: &'static str,
    pub(super) after_removal: &'static str,
}

#[derive(Debug, Clone)]
pub(super) struct File {
    /// As `usr/bin/jitney`; `{zsh}` is replaced by the folder that zsh looks into.
    pub(super) path: String,
    pub(super) mode: u32,
    pub(super) bytes: Vec<u8>,
    /// Whether it is an administrator's to change.
    pub(super) is_config: bool,
}

impl File {
    pub(super) fn new(path: impl Into<String>, bytes: impl Into<Vec<u8>>) -> Self {
        Self { path: path.into(), mode: 0o644, bytes: bytes.into(), is_config: false }
    }

    pub(super) fn program(path: impl Into<String>, bytes: Vec<u8>) -> Self {
        Self { mode: 0o755, ..Self::new(path, bytes) }
    }

    pub(super) fn config(path: &str, bytes: &str) -> Self {
        Self { is_config: true, ..Self::new(path, bytes) }
    }
}

impl Package {
    /// Its files in order, with the folder of zsh put in.
    pub(super) fn files_for(&self, zsh: &str) -> Vec<File> {
        let mut files = self.files.clone();
        for file in &mut files {
            file.path = file.path.replace("{zsh}", zsh);
        }
        files.sort_by(|one, other| one.path.cmp(&other.path));
        files
    }
}

/// Every folder that the files are in, each after the one that it is in.
pub(super) fn folders(files: &[File]) -> Vec<String> {
    let mut folders = std::collections::BTreeSet::new();
    for file in files {
        let parts: Vec<&str> = file.path.split('/').collect();
        folders.extend((1..parts.len()).map(|count| parts[..count].join("/")));
    }
    folders.into_iter().collect()
}

#[cfg(test)]
pub(super) fn example(version: &str) -> Package {
    Package {
        name: "example",
        version: version.to_owned(),
        summary: "For tests",
        description: "Nothing.",
        files: vec![
            File::program("usr/bin/example", b"#!/bin/sh\n".to_vec()),
            File::config("etc/example/config.toml", "# nothing\n"),
            File::new("usr/share/{zsh}/_example", "#compdef example\n"),
        ],
        deb_scripts: &[("postinst", "#!/bin/sh\nexit 0\n")],
        rpm_scripts: RpmScripts {
            after_install: "exit 0\n",
            before_removal: "exit 0\n",
            after_removal: "exit 0\n",
        },
        needs: super::libraries::Needs::default(),
        time: 1_700_000_000,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folders_come_before_what_is_in_them() {
        let files = example("1").files_for("zsh");
        let all = folders(&files);
        assert_eq!(all, ["etc", "etc/example", "usr", "usr/bin", "usr/share", "usr/share/zsh"]);
    }
}
