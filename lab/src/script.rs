//! One script in a guest, for what it writes: measurements, where only a real kernel can be measured.

use std::time::Duration;

use crate::Error;
use crate::boot;
use crate::card::Card;
use crate::initramfs::Task;
use crate::lab::{Lab, run_folder};
use crate::machine::{Guest, Machine};
use crate::programs::Target;
use crate::progress::Step;
use crate::suites::{IOMMU_ON, ROWS};

/// What to run in a guest.
#[derive(Debug, Clone)]
pub struct Script<'a> {
    /// Busybox's shell runs it as root; `. /lab/lib.sh` has helpers.
    pub text: &'a str,
    /// When it is killed.
    pub limit: Duration,
    /// Programs that it needs, which are built for release and stand in the guest's `/usr/bin`.
    pub programs: &'a [Target],
    /// The cards of the machine.
    pub cards: &'a [Card],
    /// How much memory the machine has.
    pub memory_mib: u32,
}

/// Boots the small kernel in a machine with an IOMMU, runs a script in it and returns what it wrote.
///
/// # Errors
///
/// What cannot be fetched, built or booted, and [`Error::Script`] if the script fails or takes too long.
pub fn script(script: &Script<'_>) -> Result<String, Error> {
    let row = &ROWS[0];
    let lab = Lab::for_measurements(script.programs)?;
    let kernel = lab.kernel(row)?;
    let folder = run_folder()?;
    let initramfs = folder.path().join("initramfs");
    lab.pack(&initramfs, &kernel, Task::Script { text: script.text, limit: script.limit })?;
    let step = Step::start(format!("booting {}", row.name));
    let machine = lab.machine((row, IOMMU_ON), 1, &kernel, &initramfs, script.cards);
    let guest = Guest::start(&Machine { memory_mib: script.memory_mib, ..machine }, folder.path())?;
    boot::await_ready(&guest)?;
    drop(step);
    let _step = Step::start("measuring in the guest");
    boot::follow_script(&guest, script.limit)
}
