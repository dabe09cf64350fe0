//! What our programs count when they are built for coverage, on the host and in the guest, and how it gets out of there.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::Error;
use crate::cache::write;
use crate::command::output;

/// The compiler's options. With counters that can be relocated a program maps the file of its profile and counts in that: what
/// it counted is there however it ends, by SIGKILL or by becoming another program.
pub const FLAGS: &str = "-C instrument-coverage -C llvm-args=-runtime-counter-relocation";

/// The variable that names the file. One for each program (`%m`), which all of its processes map and count in (`%c`).
pub const VARIABLE: &str = "LLVM_PROFILE_FILE";

/// The name of that file.
pub const FILE: &str = "%c%m.profraw";

/// A folder for what was counted and for the programs that did.
#[derive(Debug)]
pub(crate) struct Coverage {
    folder: PathBuf,
}

impl Coverage {
    /// Clears the folder of what an earlier run left.
    pub(crate) fn at(folder: &Path) -> Result<Self, Error> {
        let coverage = Self { folder: folder.to_owned() };
        for old in [coverage.profiles(), coverage.programs()] {
            if old.exists() {
                fs::remove_dir_all(&old).map_err(Error::io("remove", &old))?;
            }
            fs::create_dir_all(&old).map_err(Error::io("make", &old))?;
        }
        Ok(coverage)
    }

    /// Where cargo builds: apart from what has other flags.
    pub(crate) fn build(&self) -> PathBuf {
        self.folder.join("build")
    }

    /// What is counted: a folder for the host and one for each boot.
    fn profiles(&self) -> PathBuf {
        self.folder.join("profiles")
    }

    /// The programs that count: reading a profile takes them.
    fn programs(&self) -> PathBuf {
        self.folder.join("programs")
    }

    /// The value of [`VARIABLE`] for processes on the host.
    pub(crate) fn on_host(&self) -> PathBuf {
        self.profiles().join("host").join(FILE)
    }

    /// Keeps a program of this run, called `name`, beside its profiles.
    pub(crate) fn keep(&self, name: &str, program: &Path) -> Result<(), Error> {
        let copy = self.programs().join(name);
        fs::copy(program, &copy).map(drop).map_err(Error::io("write", &copy))
    }

    /// Unpacks what a guest sent: a packed archive as base64, since it comes by a serial line.
    pub(crate) fn unpack(&self, text: &str, scratch: &Path) -> Result<(), Error> {
        let (lines, archive) = (scratch.join("profiles.base64"), scratch.join("profiles.tar.gz"));
        write(&lines, text)?;
        let decoded = File::create(&archive).map_err(Error::io("write", &archive))?;
        let what = "to read the guest's profiles";
        output(
            Command::new("base64").args(["--decode", "--ignore-garbage"]).arg(&lines).stdout(decoded),
            what,
        )?;
        // The file name is the same in each boot.
        let boot = tempfile::Builder::new()
            .prefix("boot-")
            .tempdir_in(self.profiles())
            .map_err(Error::io("make a folder in", &self.profiles()))?
            .keep();
        output(Command::new("tar").arg("-xzf").arg(&archive).arg("-C").arg(&boot), what).map(drop)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_guest_sends_stands_in_a_folder_for_its_boot_until_the_next_run() {
        let folder = tempfile::tempdir().unwrap();
        let coverage = Coverage::at(folder.path()).unwrap();
        let sent = Command::new("sh")
            .args(["-c", "cd $1; echo counted >a.profraw; tar -cz a.profraw | base64; rm a.profraw", "sh"])
            .arg(folder.path())
            .output()
            .unwrap();
        let text = String::from_utf8(sent.stdout).unwrap();
        for _ in 0..2 {
            coverage.unpack(&text, folder.path()).unwrap();
        }
        let boots: Vec<_> =
            fs::read_dir(coverage.profiles()).unwrap().map(|item| item.unwrap().path()).collect();
        assert_eq!(boots.len(), 2);
        assert!(boots.iter().all(|boot| fs::read(boot.join("a.profraw")).unwrap() == b"counted\n"));
        assert!(coverage.unpack("@@@", folder.path()).is_err());
        let next = Coverage::at(folder.path()).unwrap();
        assert_eq!(fs::read_dir(next.profiles()).unwrap().count(), 0);
    }
}
