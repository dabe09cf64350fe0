//! The virtual machine: QEMU's command line and its life.

use std::cell::{RefCell, RefMut};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::Instant;

use crate::Error;
use crate::cache::write;
use crate::card::Card;
use crate::hotplug::Slots;
use crate::kernel::Kernel;
use crate::lines;
use crate::logs;
use crate::qemu::Qemu;

/// What to boot.
pub(crate) struct Machine<'a> {
    pub(crate) qemu: &'a Qemu,
    pub(crate) kernel: &'a Kernel,
    pub(crate) initramfs: &'a Path,
    pub(crate) cards: &'a [Card],
    /// Whether the machine has an IOMMU.
    pub(crate) iommu: bool,
    /// What the kernel's command line says of IOMMUs.
    pub(crate) boot: &'a str,
    pub(crate) memory_mib: u32,
    /// How many NUMA nodes share memory and processors: one or two.
    pub(crate) nodes: u32,
}

impl Machine<'_> {
    /// QEMU's command line. The console goes to a file in `folder`, the monitor's socket is there, too; the second serial line is
    /// QEMU's input and output.
    fn command(&self, folder: &Path) -> Command {
        let mut command = self.qemu.command();
        let memory = self.memory_mib;
        // Other processes can serve cards only if they can map the guest's memory: hence the shared memfd.
        let backend = |id: &str, size: u32| format!("memory-backend-memfd,id={id},size={size}M,share=on");
        if self.nodes > 1 {
            command.args(["-machine", "q35,kernel-irqchip=off"]);
            for node in 0..self.nodes {
                let id = format!("memory{node}");
                command.arg("-object").arg(backend(&id, memory / self.nodes));
                command.arg("-numa").arg(format!("node,nodeid={node},cpus={node},memdev={id}"));
            }
        } else {
            command.args(["-machine", "q35,kernel-irqchip=off,memory-backend=memory", "-object"]);
            command.arg(backend("memory", memory));
        }
        command.args(["-m", &format!("{memory}M"), "-smp", "2", "-accel", "tcg,thread=multi"]);
        // Emulated `rep movsb` and `rep stosb` go byte by byte. Without the flags that promise that they are fast, the kernel and
        // the C library copy and zero by words and vectors.
        command.args(["-cpu", "max,-erms,-fsrm,-fsrs"]);
        command.args(["-nodefaults", "-display", "none", "-no-reboot"]);
        // The virtual machine does not outlive the lab, however the lab ends.
        command.args(["-run-with", "exit-with-parent=on"]);
        command.arg("-serial").arg(format!("file:{}", folder.join(CONSOLE).display()));
        command.args(["-chardev", "stdio,id=report,signal=off", "-serial", "chardev:report"]);
        command.arg("-qmp").arg(format!("unix:{},server=on,wait=off", folder.join(MONITOR).display()));
        if self.iommu {
            // Caching mode is what makes the guest's mappings reach a process that serves a card.
            command.args(["-device", "intel-iommu,caching-mode=on"]);
        } else {
            // Its 28 bits would be a matter of luck: which pages the kernel reserves is not for us to say, and where they are is
            // where the card has to reach.
            command.args(["-global", "edu.dma_mask=0xffffffff"]);
        }
        for (number, card) in self.cards.iter().enumerate() {
            command.args(card.options(number));
        }
        command.arg("-kernel").arg(self.kernel.image()).arg("-initrd").arg(self.initramfs);
        // Without the check: it takes a timer that is late, as on a busy host, for one that is dead, and panics.
        let boot = self.boot;
        let options = format!("console=ttyS0 {boot} hugepages={HUGE_PAGES} no_timer_check panic=-1 quiet");
        command.args(["-append", &options]);
        command
    }
}

/// In the folder of a boot: what the guest's kernel says, and the socket of QEMU's monitor.
const CONSOLE: &str = "console.log";
const MONITOR: &str = "monitor.sock";

/// How many huge pages of 2 MiB the guest sets aside. Without an IOMMU all DMA buffers are made of them.
const HUGE_PAGES: u32 = 32;

/// A machine that runs. It ends when this is dropped.
pub(crate) struct Guest {
    qemu: Child,
    lines: Receiver<String>,
    folder: PathBuf,
    slots: RefCell<Slots>,
}

impl Guest {
    /// Starts the machine. `folder` holds its logs.
    pub(crate) fn start(machine: &Machine<'_>, folder: &Path) -> Result<Self, Error> {
        let messages = folder.join("qemu.log");
        write(&folder.join(CONSOLE), "")?;
        let log = fs::File::create(&messages).map_err(Error::io("write", &messages))?;
        let mut command = machine.command(folder);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(log);
        let mut qemu = command.spawn().map_err(start_error)?;
        let lines = lines::of(qemu.stdout.take());
        let slots = RefCell::new(Slots::new(folder.join(MONITOR), machine.cards.to_vec()));
        Ok(Self { qemu, lines, folder: folder.to_owned(), slots })
    }

    /// Where its cards are plugged in.
    pub(crate) fn slots(&self) -> RefMut<'_, Slots> {
        self.slots.borrow_mut()
    }

    /// The next line of the second serial line; none when the time is over or the machine has ended.
    pub(crate) fn line(&self, until: Instant) -> Result<String, Silence> {
        self.lines.recv_timeout(until.saturating_duration_since(Instant::now())).map_err(
            |error| match error {
                RecvTimeoutError::Timeout => Silence::TimeOver,
                RecvTimeoutError::Disconnected => Silence::Ended,
            },
        )
    }

    /// An error with the end of every log: the guest's console, QEMU's messages, and those of the boards.
    pub(crate) fn error(&self, what: String) -> Error {
        Error::Guest { what, logs: logs::ends(&self.folder) }
    }
}

impl Drop for Guest {
    /// Kills QEMU: with a card whose process is gone it might never end by itself.
    fn drop(&mut self) {
        // It fails when QEMU has ended already, and then there is nothing to do.
        let _ = self.qemu.kill();
        let _ = self.qemu.wait();
    }
}

/// Why a guest says nothing more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Silence {
    TimeOver,
    Ended,
}

/// Runs a machine whose second serial line is the user's terminal, until the guest powers off.
pub(crate) fn run_on_terminal(machine: &Machine<'_>, folder: &Path) -> Result<(), Error> {
    let status = machine.command(folder).status().map_err(start_error)?;
    if status.success() {
        return Ok(());
    }
    Err(Error::Guest { what: format!("QEMU ended with {status}"), logs: logs::ends(folder) })
}

fn start_error(source: std::io::Error) -> Error {
    Error::Start { program: "QEMU".to_owned(), what: "to boot the guest".to_owned(), source }
}
