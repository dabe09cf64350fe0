//! The virtual machine: QEMU's command line and its life.

use std::cell::{RefCell, RefMut};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::Instant;

use crate::Error;
use crate::cache::write;
use crate::hotplug::Slots;
use crate::kernel::Kernel;
use crate::lines;
use crate::logs;
use crate::qemu::Qemu;

/// A PCI function of the machine.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Card {
    /// QEMU's teaching device, 1234:11e8: DMA to and from a 4 KiB buffer at 0x40000 with 28-bit addresses, INTx and MSI.
    Edu,
    /// QEMU's NVMe, 1b36:0010, with 64 MiB that read as zeros.
    Nvme,
    /// Both as functions of one device, and so in one IOMMU group: the NVMe is function 0, edu function 1.
    NvmeWithEdu,
    /// A device that another process serves. It sits behind a root port of its own: directly on the root bus QEMU would make
    /// it an integrated endpoint, without a link and without bus reset.
    VfioUser {
        /// The socket that the process listens on; at most 107 bytes.
        socket: PathBuf,
    },
}

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
}

impl Machine<'_> {
    /// QEMU's command line. The console goes to a file in `folder`, the monitor's socket is there, too; the second serial line is
    /// QEMU's input and output.
    fn command(&self, folder: &Path) -> Command {
        let mut command = self.qemu.command();
        let memory = self.memory_mib;
        // Other processes can serve cards only if they can map the guest's memory: hence the shared memfd.
        command.args(["-machine", "q35,kernel-irqchip=off,memory-backend=memory", "-object"]);
        command.arg(format!("memory-backend-memfd,id=memory,size={memory}M,share=on"));
        command.args(["-m", &format!("{memory}M"), "-smp", "2", "-accel", "tcg,thread=multi", "-cpu", "max"]);
        command.args(["-nodefaults", "-display", "none", "-no-reboot"]);
        // The virtual machine does not outlive the lab, however the lab ends.
        command.args(["-run-with", "exit-with-parent=on"]);
        command.arg("-serial").arg(format!("file:{}", folder.join(CONSOLE).display()));
        command.args(["-chardev", "stdio,id=report,signal=off", "-serial", "chardev:report"]);
        command.arg("-qmp").arg(format!("unix:{},server=on,wait=off", folder.join(MONITOR).display()));
        if self.iommu {
            // Caching mode is what makes the guest's mappings reach a process that serves a card.
            command.args(["-device", "intel-iommu,caching-mode=on"]);
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

const NVME_BYTES: u64 = 64 << 20;

/// Cards that name their slots are behind those that QEMU gives slots to.
const FIRST_SHARED_SLOT: usize = 16;

/// QEMU's options for an NVMe with further `properties`.
fn nvme(number: usize, properties: &str) -> [String; 4] {
    [
        "-blockdev".into(),
        format!("null-co,node-name=disk{number},size={NVME_BYTES},read-zeroes=on"),
        "-device".into(),
        format!("nvme,serial=lab{number},drive=disk{number}{properties}"),
    ]
}

impl Card {
    /// QEMU's options; `number` tells the machine's cards apart.
    fn options(&self, number: usize) -> Vec<String> {
        match self {
            Self::Edu => vec!["-device".into(), "edu".into()],
            Self::Nvme => nvme(number, "").to_vec(),
            Self::NvmeWithEdu => {
                let slot = FIRST_SHARED_SLOT + number;
                let nvme = nvme(number, &format!(",addr={slot:#x}.0,multifunction=on"));
                let edu = format!("edu,addr={slot:#x}.1,multifunction=on");
                nvme.into_iter().chain(["-device".into(), edu]).collect()
            }
            Self::VfioUser { .. } => {
                let port = number + 1;
                let root_port = format!("pcie-root-port,id=port{number},chassis={port},slot={port}");
                let device = self.device(number).map(|device| ["-device".into(), device.to_string()]);
                ["-device".into(), root_port].into_iter().chain(device.into_iter().flatten()).collect()
            }
        }
    }

    /// The device itself, for one that can be plugged in while the machine runs.
    pub(crate) fn device(&self, number: usize) -> Option<serde_json::Value> {
        match self {
            Self::Edu | Self::Nvme | Self::NvmeWithEdu => None,
            Self::VfioUser { socket } => Some(serde_json::json!({
                "driver": "vfio-user-pci",
                "id": Self::name(number),
                "bus": format!("port{number}"),
                "socket": { "type": "unix", "path": socket.to_string_lossy() },
            })),
        }
    }

    /// What QEMU calls a device that can be plugged in.
    pub(crate) fn name(number: usize) -> String {
        format!("card{number}")
    }
}

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_served_card_sits_behind_its_own_root_port() {
        let card = Card::VfioUser { socket: PathBuf::from("/tmp/a \"b\".sock") };
        let options = card.options(3);
        assert_eq!(options[1], "pcie-root-port,id=port3,chassis=4,slot=4");
        let device: serde_json::Value = serde_json::from_str(&options[3]).unwrap();
        assert_eq!(device["bus"], "port3");
        assert_eq!(device["socket"]["path"], "/tmp/a \"b\".sock");
    }
}
