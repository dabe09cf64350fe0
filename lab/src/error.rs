//! What can go wrong before and while a guest runs.

use std::path::Path;
use std::process::ExitStatus;

/// Why the lab could not fetch, build, boot or find what it was asked for.
///
/// A test that fails in the guest is no `Error`: it is counted in the [`Summary`](crate::Summary).
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A file operation failed.
    #[error("cannot {what}: {source}")]
    Io {
        /// What was being done, with the path.
        what: String,
        /// What the system said.
        source: std::io::Error,
    },
    /// A program that the lab needs could not be started.
    #[error("cannot start {program}, which is needed {what}: {source}")]
    Start {
        /// The program.
        program: String,
        /// What for, as "to …".
        what: String,
        /// What the system said.
        source: std::io::Error,
    },
    /// A program that the lab started failed.
    #[error("{program} failed ({status}), which was started {what}; its last lines:\n{tail}")]
    Failed {
        /// The program.
        program: String,
        /// What for, as "to …".
        what: String,
        /// How it ended.
        status: ExitStatus,
        /// The end of what it printed.
        tail: String,
    },
    /// The machine's package sources name no Debian mirror.
    #[error(
        "no Debian mirror among this machine's package sources; name one with JITNEY_LAB_MIRROR=URI (the folder that holds dists/ and pool/)"
    )]
    NoMirror,
    /// Something that a package or a program was expected to hold or say is not there.
    #[error("{what} not found in {place}")]
    Missing {
        /// What was looked for.
        what: String,
        /// Where.
        place: String,
    },
    /// Kconfig dropped lines of the configuration, because of a dependency or a new name.
    #[error("the kernel's build dropped these lines of lab/kernel/small.config: {lines}")]
    KernelConfig {
        /// The lines, separated by commas.
        lines: String,
    },
    /// The guest or one of its boards did not come up, or did not get to its end.
    #[error("{what}\n{logs}")]
    Guest {
        /// What was missed, and after how long.
        what: String,
        /// The ends of the guest's console, of QEMU's messages, and of the boards' messages.
        logs: String,
    },
    /// A script that measures in the guest failed, took too long, or took its guest down.
    #[error("the script in the guest failed:\n{what}")]
    Script {
        /// What it wrote, and how it ended.
        what: String,
    },
    /// There is no kernel row of that name.
    #[error("no kernel row is called {name:?}; there are: {known}")]
    UnknownRow {
        /// What was asked for.
        name: String,
        /// The names that exist.
        known: String,
    },
    /// No test has a name that contains the filter.
    #[error("no test has {filter:?} in its name; there are: {known}")]
    NoSuchTest {
        /// What was asked for.
        filter: String,
        /// The names that exist.
        known: String,
    },
}

impl Error {
    /// What this machine lacks for the lab, if that is what went wrong: then it is no defect of anything.
    pub fn lacking(&self) -> Option<String> {
        match self {
            Self::NoMirror => {
                Some("the lab needs a Debian machine: no Debian mirror in its package sources".to_owned())
            }
            Self::Start { program, source, .. } if source.kind() == std::io::ErrorKind::NotFound => {
                Some(format!("the lab needs {program}"))
            }
            _ => None,
        }
    }

    /// For `map_err`: an I/O error with what was being done to which path.
    pub(crate) fn io(verb: &str, path: &Path) -> impl FnOnce(std::io::Error) -> Self {
        let what = format!("{verb} {}", path.display());
        move |source| Self::Io { what, source }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::ErrorKind;

    #[test]
    fn a_machine_without_debian_s_programs_lacks_something_and_other_trouble_is_trouble() {
        let start = |kind: ErrorKind| Error::Start {
            program: "apt-get".into(),
            what: "to fetch".into(),
            source: kind.into(),
        };
        assert_eq!(start(ErrorKind::NotFound).lacking().as_deref(), Some("the lab needs apt-get"));
        assert_eq!(start(ErrorKind::PermissionDenied).lacking(), None);
    }
}
