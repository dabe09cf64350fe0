//! What runs in the guest, and on which kernels: two tables.

use std::time::Duration;

use crate::card::Card;
use crate::kernel::Source;

/// A kernel and a machine for it: every suite runs on every row, and a test that does not apply skips itself and says why.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Row {
    /// What `--kernel` names.
    pub(crate) name: &'static str,
    /// The kernel.
    pub(crate) kernel: Source,
    /// Whether the machine has an IOMMU.
    pub(crate) iommu: bool,
    /// Whether it is left out where there is little time: another row has the same kernel, and another one the same interfaces.
    pub(crate) spare: bool,
}

/// The rows of the matrix, in the order in which they are begun: what takes longest first, with what has to be built for it.
pub(crate) const ROWS: [Row; 5] = [
    Row { name: "small", kernel: Source::Small("6.12"), iommu: true, spare: true },
    Row { name: "small-7.3", kernel: Source::Small("7.3"), iommu: true, spare: false },
    Row { name: "debian-12", kernel: Source::Stock("bookworm"), iommu: true, spare: false },
    Row { name: "debian-13", kernel: Source::Stock("trixie"), iommu: true, spare: false },
    Row { name: "small-noiommu", kernel: Source::Small("6.12"), iommu: false, spare: false },
];

/// How the kernel is told to use an IOMMU, if there is one.
pub(crate) const IOMMU_ON: &str = "intel_iommu=on";

/// Tests that share a machine. They run in order, in one boot.
#[derive(Debug)]
pub(crate) struct Suite {
    /// QEMU's own cards that the machine has.
    pub(crate) cards: &'static [Card],
    /// The emulated boards it has, by the names that `jitney emulate` knows, with options after them.
    pub(crate) boards: &'static [&'static str],
    /// What the kernel's command line says of IOMMUs.
    pub(crate) boot: &'static str,
    /// How many NUMA nodes the machine has.
    pub(crate) nodes: u32,
    /// The tests.
    pub(crate) tests: &'static [Test],
}

/// A shell script that runs in the guest as root.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Test {
    /// Its name: no spaces.
    pub(crate) name: &'static str,
    /// The script, which ends with 0 (passed), 77 (skipped; its last line says why) or anything else (failed).
    pub(crate) script: &'static str,
    /// When it is killed.
    pub(crate) limit: Duration,
}

impl Test {
    /// In its long form, which has ten times as many rounds and as much time.
    pub(crate) fn long(self) -> Self {
        Self { limit: 10 * self.limit, ..self }
    }
}

/// A test from `lab/guest/tests`, killed after some seconds.
macro_rules! test {
    ($name:literal, $seconds:literal) => {
        Test {
            name: $name,
            script: include_str!(concat!("../guest/tests/", $name, ".sh")),
            limit: Duration::from_secs($seconds),
        }
    };
}

/// Everything that runs in the guest.
pub(crate) const SUITES: [Suite; 7] = [
    Suite {
        cards: &[Card::Edu, Card::Nvme],
        boards: &["nitefury", "tef1001-dma-blkram --interrupts msix"],
        boot: IOMMU_ON,
        nodes: 1,
        tests: &[
            test!("kernel-boots", 10),
            test!("cards-visible", 10),
            test!("boards-visible", 10),
            test!("jitney-starts", 10),
            test!("iommu-groups", 10),
            test!("vfio-nodes", 10),
            test!("iommufd-node", 10),
            test!("bind-edu", 20),
            test!("bind-nvme", 30),
            test!("bind-boards", 60),
            test!("vfio-group", 120),
            test!("vfio-iommufd", 120),
            test!("bind-noiommu", 20),
            test!("vfio-noiommu", 120),
            test!("command-noiommu", 60),
            test!("command-setup", 60),
            test!("command-alone", 120),
            test!("command-together", 120),
            test!("command-interrupts", 120),
            test!("f1-second-owner", 60),
            test!("f2-inherited", 60),
            test!("f3-bar-race", 120),
            test!("f4-addresses", 120),
            test!("f5-f6-killed-in-transfer", 120),
            test!("f5-f6-killed-client", 240),
            test!("waiting-clients-killed", 120),
            test!("broker-started-anew", 240),
            test!("f7-arbiter", 60),
            test!("rude-decode", 180),
            test!("resume", 120),
            test!("late-dma", 400),
            test!("nvme-queues", 400),
            test!("stray-dma", 60),
            test!("narrow-card", 60),
            test!("unprivileged", 120),
            test!("last-one-gone", 60),
            test!("doctor-healthy", 60),
            test!("doctor-cards", 60),
            test!("doctor-user", 60),
            test!("doctor-huge-pages", 20),
            test!("doctor-modules", 60),
            test!("doctor-no-iommu", 20),
        ],
    },
    // QEMU 11.1 aborts when a card with MSI-X is unplugged: the first board has MSI instead. The second is in a narrow slot.
    Suite {
        cards: &[],
        boards: &["nitefury --interrupts msi", "tef1001-dma-blkram --interrupts msix --lanes 1"],
        boot: IOMMU_ON,
        nodes: 1,
        tests: &[
            test!("doctor-link", 20),
            test!("command-link", 60),
            test!("command-program", 240),
            test!("unplug-alone", 120),
            test!("unplug-in-use", 180),
            test!("unbind-in-use", 120),
            test!("on-demand", 240),
        ],
    },
    Suite {
        cards: &[],
        boards: &[
            "nitefury --interrupts msix",
            "NiteFury_dma_stream_loopback --interrupts msix --user-interrupt 3@20ms",
        ],
        boot: IOMMU_ON,
        nodes: 1,
        tests: &[test!("streams", 180)],
    },
    Suite {
        cards: &[Card::NvmeWithEdu],
        boards: &[],
        boot: IOMMU_ON,
        nodes: 1,
        tests: &[test!("group-not-viable", 60)],
    },
    Suite {
        cards: &[Card::Edu],
        boards: &[],
        boot: "intel_iommu=off",
        nodes: 1,
        tests: &[test!("doctor-iommu-off", 20)],
    },
    Suite {
        cards: &[Card::Edu],
        boards: &[],
        boot: "intel_iommu=on intremap=off",
        nodes: 1,
        tests: &[test!("doctor-no-remapping", 20)],
    },
    Suite {
        cards: &[Card::EduOnSecondNode, Card::Ports],
        boards: &[],
        boot: IOMMU_ON,
        nodes: 2,
        tests: &[test!("near-card", 60), test!("io-ports", 60)],
    },
];
