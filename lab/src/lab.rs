//! What every boot needs, and the folder that it has.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, PoisonError};

use crate::Error;
use crate::boards::Board;
use crate::cache::Cache;
use crate::card::Card;
use crate::coverage::{self, Coverage};
use crate::debian::Debian;
use crate::initramfs::{self, Task};
use crate::kernel::Kernel;
use crate::machine::Machine;
use crate::programs::{self, Built, Purpose, Target};
use crate::qemu::Qemu;
use crate::suites::{Row, Suite};

/// Guest memory. Pages that the guest does not touch cost the host nothing.
const MEMORY_MIB: u32 = 1024;

/// What every boot needs.
pub(crate) struct Lab {
    cache: Cache,
    /// One row after the other: what is built takes all processors.
    debian: Mutex<Debian>,
    qemu: Qemu,
    busybox: PathBuf,
    built: Built,
    coverage: Option<Coverage>,
    long: bool,
}

impl Lab {
    /// With the tests' programs; with `coverage`, a folder, these count what they run. Tests are told whether they are `long`.
    pub(crate) fn open(coverage: Option<&Path>, long: bool) -> Result<Self, Error> {
        let coverage = coverage.map(Coverage::at).transpose()?;
        let built = programs::build(&programs::TARGETS, Purpose::Tests(coverage.as_ref()))?;
        Self::fetch(built, coverage, long)
    }

    /// With programs for a measurement.
    pub(crate) fn for_measurements(targets: &[Target]) -> Result<Self, Error> {
        Self::fetch(programs::build(targets, Purpose::Measurements)?, None, false)
    }

    fn fetch(built: Built, coverage: Option<Coverage>, long: bool) -> Result<Self, Error> {
        let (cache, debian) = (Cache::open()?, Debian::default());
        let qemu = Qemu::fetch(&cache, &debian)?;
        let busybox = initramfs::fetch_busybox(&cache, &debian)?;
        Ok(Self { cache, debian: Mutex::new(debian), qemu, busybox, built, coverage, long })
    }

    pub(crate) fn kernel(&self, row: &Row) -> Result<Kernel, Error> {
        let debian = self.debian.lock().unwrap_or_else(PoisonError::into_inner);
        Kernel::prepare(row.kernel, &self.cache, &debian)
    }

    /// Where the counters go, if the programs count.
    pub(crate) fn coverage(&self) -> Option<&Coverage> {
        self.coverage.as_ref()
    }

    /// Packs the guest's file system into `target`.
    pub(crate) fn pack(&self, target: &Path, kernel: &Kernel, task: Task<'_>) -> Result<(), Error> {
        let coverage = self.coverage.is_some().then_some(("coverage", coverage::FILE));
        let says: Vec<_> = coverage.into_iter().chain(self.long.then_some(("long", ""))).collect();
        initramfs::pack(target, &self.busybox, kernel, &self.built, task, &says)
    }

    /// Starts a suite's boards and lists all cards of the machine. It ends before the boards do: keep them for longer.
    pub(crate) fn cards(
        &self,
        suite: &Suite,
        more: &[Card],
        folder: &Path,
    ) -> Result<(Vec<Board>, Vec<Card>), Error> {
        let jitney = self.built.programs.iter().find(|program| program.name == programs::JITNEY);
        let jitney = jitney.map_or(Path::new(programs::JITNEY), |program| &program.path);
        let command = || {
            let mut command = Command::new(jitney);
            command.envs(self.coverage.as_ref().map(|coverage| (coverage::VARIABLE, coverage.on_host())));
            command
        };
        let start = |(number, name): (usize, &&str)| Board::start(command(), name, number, folder);
        let boards = suite.boards.iter().enumerate().map(start).collect::<Result<Vec<_>, _>>()?;
        let served: Vec<Card> = boards.iter().map(Board::card).collect();
        Ok((boards, [suite.cards, &served, more].concat()))
    }

    /// A machine of a row; its cards are those of [`Lab::cards`].
    pub(crate) fn machine<'a>(
        &'a self,
        (row, boot): (&Row, &'a str),
        nodes: u32,
        kernel: &'a Kernel,
        initramfs: &'a Path,
        cards: &'a [Card],
    ) -> Machine<'a> {
        let (qemu, iommu, memory_mib) = (&self.qemu, row.iommu, MEMORY_MIB);
        Machine { qemu, kernel, initramfs, cards, iommu, boot, memory_mib, nodes }
    }
}

/// What these folders are called, followed by the process that made them.
const RUN_FOLDER: &str = "jitney-lab-";

/// A folder for files of this run, as those of a boot, with a path short enough for sockets. Folders of runs that were killed are removed here.
pub(crate) fn run_folder() -> Result<tempfile::TempDir, Error> {
    let parent = std::env::temp_dir();
    for item in std::fs::read_dir(&parent).map_err(Error::io("read", &parent))?.flatten() {
        let name = item.file_name().to_string_lossy().into_owned();
        if maker(&name).is_some_and(|process| !Path::new("/proc").join(process).exists()) {
            // It may be another user's, or another run may be removing it, too.
            let _ = std::fs::remove_dir_all(item.path());
        }
    }
    let prefix = format!("{RUN_FOLDER}{}-", std::process::id());
    tempfile::Builder::new()
        .prefix(&prefix)
        .tempdir_in(&parent)
        .map_err(Error::io("make a folder in", &parent))
}

/// The process that made a boot folder of this name.
fn maker(name: &str) -> Option<&str> {
    let (process, _) = name.strip_prefix(RUN_FOLDER)?.split_once('-')?;
    Some(process).filter(|process| !process.is_empty() && process.bytes().all(|byte| byte.is_ascii_digit()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_folders_of_ours_have_a_maker() {
        assert_eq!(maker("jitney-lab-4711-abc"), Some("4711"));
        for name in [
            "jitney-lab-",
            "jitney-lab-x-y",
            "jitney-lab-..-y",
            "jitney-lab--y",
            "jitney-lab-12",
            "other-12-x",
        ] {
            assert_eq!(maker(name), None, "{name}");
        }
    }
}
