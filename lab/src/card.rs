//! The cards that a machine can have, and how QEMU is told of them.

use std::path::PathBuf;

/// A PCI function of the machine.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Card {
    /// QEMU's teaching device, 1234:11e8: DMA to and from a 4 KiB buffer at 0x40000 with 28-bit addresses (32 in a machine without an
    /// IOMMU, where memory is where it is), INTx and MSI.
    Edu,
    /// QEMU's NVMe, 1b36:0010, with 64 MiB that are zeros when the machine starts. What is written to it is forgotten with the machine.
    Nvme,
    /// QEMU's edu on a bus of its own that belongs to the second NUMA node, of a machine that has two.
    EduOnSecondNode,
    /// QEMU's device for tests of accesses, 1b36:0005: BAR 0 is memory, BAR 1 are I/O ports.
    Ports,
    /// Both as functions of one device, and so in one IOMMU group: the NVMe is function 0, edu function 1.
    NvmeWithEdu,
    /// A device that another process serves. It sits behind a root port of its own: directly on the root bus QEMU would make
    /// it an integrated endpoint, without a link and without bus reset.
    VfioUser {
        /// The socket that the process listens on; at most 107 bytes.
        socket: PathBuf,
    },
}

const NVME_BYTES: u64 = 64 << 20;

/// The first bus below the second node.
const SECOND_NODE_BUS: usize = 0x40;

/// Cards that name their slots are behind those that QEMU gives slots to.
const FIRST_SHARED_SLOT: usize = 16;

/// QEMU's options for an NVMe with further `properties`.
fn nvme(number: usize, properties: &str) -> [String; 4] {
    // What is written goes to a file that QEMU makes and removes.
    let zeros = format!("file.driver=null-co,file.size={NVME_BYTES},file.read-zeroes=on,format=raw");
    [
        "-drive".into(),
        format!("if=none,id=disk{number},snapshot=on,{zeros}"),
        "-device".into(),
        format!("nvme,serial=lab{number},drive=disk{number}{properties}"),
    ]
}

impl Card {
    /// QEMU's options; `number` tells the machine's cards apart.
    pub(crate) fn options(&self, number: usize) -> Vec<String> {
        match self {
            Self::Edu => vec!["-device".into(), "edu".into()],
            Self::Nvme => nvme(number, "").to_vec(),
            Self::EduOnSecondNode => {
                let bridge = format!("pxb-pcie,id=far{number},bus_nr={SECOND_NODE_BUS},numa_node=1");
                // Nothing but a port can be plugged into that.
                let chassis = SECOND_NODE_BUS + number;
                let port = format!("pcie-root-port,id=far{number}port,bus=far{number},chassis={chassis}");
                let edu = format!("edu,bus=far{number}port");
                [bridge, port, edu].into_iter().flat_map(|device| ["-device".into(), device]).collect()
            }
            Self::Ports => vec!["-device".into(), "pci-testdev,bus=pcie.0".into()],
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
            Self::Edu | Self::Nvme | Self::NvmeWithEdu | Self::EduOnSecondNode | Self::Ports => None,
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
