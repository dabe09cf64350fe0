//! Why a card was not handed over or given back.

use crate::bind::in_use::Use;
use crate::holders::Holder;
use crate::neighbours::describe;
use jitney_pci::Address;
use jitney_pci::express::{Link, LinkSpeed};
use jitney_vfio::sysfs::PciFunction;
use std::fmt::Display;
use std::path::PathBuf;

/// The result of handing a card over or giving it back.
pub type Result<T> = std::result::Result<T, Error>;

/// A failure. Each says what is in the way and what to do about it; nothing was changed, except where it says so.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Something of this machine depends on the function: a mounted disk, an interface that is up, the console.
    #[error(
        "{address} is in use: {}; stop using it first (--force takes it away all the same, and what uses it breaks)",
        listed(uses)
    )]
    InUse {
        /// Which function.
        address: Address,
        /// What uses it.
        uses: Vec<Use>,
    },
    /// Other functions of the IOMMU group have drivers of this machine.
    #[error(
        "IOMMU group {group} of {address} also has {}: a group is handed over as a whole or not at all; \
         --with-group hands these over too, or put the card in another slot",
        listed(&neighbours.iter().map(describe).collect::<Vec<_>>())
    )]
    SharedGroup {
        /// Which function was to be handed over.
        address: Address,
        /// Its group.
        group: u32,
        /// Those that are in the way.
        neighbours: Vec<PciFunction>,
    },
    /// The function has no IOMMU group.
    #[error(
        "{address} is in no IOMMU group, so the IOMMU is off; jitney doctor says how to switch it on; or, where the card may \
         overwrite all of this machine's memory: echo 1 | sudo tee /{}, and then --iommu noiommu",
        crate::nodes::NO_IOMMU_SWITCH
    )]
    NoGroup {
        /// Which function.
        address: Address,
    },
    /// The driver `vfio-pci` is not loaded.
    #[error("the driver vfio-pci is not there; sudo modprobe vfio-pci")]
    NoDriver,
    /// The kernel did not let `vfio-pci` have the function.
    #[error("vfio-pci did not take {address}; sudo dmesg | tail says why")]
    Refused {
        /// Which function.
        address: Address,
    },
    /// The function went to `vfio-pci`, but its node did not appear.
    #[error("{node} did not appear within {seconds} s; ls -l /dev/vfio, and see whether udev runs")]
    NoNode {
        /// The node.
        node: String,
        /// How long it was waited for.
        seconds: u64,
    },
    /// A process has the function open.
    #[error("{address} is held by {}; end it first", listed(holders))]
    Held {
        /// Which function.
        address: Address,
        /// The processes.
        holders: Vec<Holder>,
    },
    /// There is no such account on this machine.
    #[error(
        "there is no user {name:?} in /etc/passwd; give a name that is there, or the number (id -u NAME)"
    )]
    NoUser {
        /// The name as it was given.
        name: String,
    },
    /// A name that a rule of udev or a limit would read as something else.
    #[error(
        "the user {name:?} cannot be written into files of udev and pam_limits; give the number (id -u NAME)"
    )]
    OddUser {
        /// The name as it was given.
        name: String,
    },
    /// A file that was to be written or removed is not one that `bind` has written.
    #[error(
        "{} was not written by jitney bind --persist, and is left as it is; move it away first", file.display()
    )]
    NotOurs {
        /// The file.
        file: PathBuf,
    },
    /// The card has other functions, which would go and come with this one.
    #[error(
        "{} of the same card would be lost too when {address} is configured anew; only cards with one function are taken off \
         their bus and brought back here",
        listed(others)
    )]
    SeveralFunctions {
        /// Which function.
        address: Address,
        /// The others.
        others: Vec<Address>,
    },
    /// A function that was removed did not come back.
    #[error(
        "{address} did not come back within {seconds} s: what is in its FPGA now has no PCIe, or its BARs have no room below \
         their port; load another design, then: echo 1 | sudo tee /sys/bus/pci/rescan; or reboot without a power cycle"
    )]
    NotBack {
        /// Which function.
        address: Address,
        /// How long it was waited for.
        seconds: u64,
    },
    /// There is no port above the function that could train its link.
    #[error(
        "{address} has no port above it that trains its link: it is part of the root complex, or behind an old bridge"
    )]
    NoPort {
        /// Which function.
        address: Address,
    },
    /// An end of a link cannot have the speed that was asked for.
    #[error("{address} cannot have its link at {wanted}; it can {}", listed(speeds))]
    Speed {
        /// Which end: a card, or the port above it.
        address: Address,
        /// What was asked for.
        wanted: LinkSpeed,
        /// What it can.
        speeds: Vec<LinkSpeed>,
    },
    /// A link did not come up at the speed that was asked for.
    #[error(
        "the link of port {port} to {card} did not come up at {wanted}; the port was told {before} again, {}",
        match restored {
            Some(link) => format!("and it is up again at {link}"),
            None => "but it is still down; end the programs that use the card, then: echo 1 | sudo tee \
                     /sys/bus/pci/devices/CARD/remove, and echo 1 | sudo tee /sys/bus/pci/rescan; or reboot without a power cycle"
                .replace("CARD", &card.to_string()),
        }
    )]
    LinkDown {
        /// The port.
        port: Address,
        /// The card below it.
        card: Address,
        /// The speed that was asked for.
        wanted: LinkSpeed,
        /// The speed that the port was told before.
        before: LinkSpeed,
        /// The link that it has again; none if it has none.
        restored: Option<Link>,
    },
    /// Something failed, and what was before could not be restored either.
    #[error("{failure}; and {address} could not be put back as it was: {restoring}")]
    NotRestored {
        /// What failed first.
        failure: Box<Error>,
        /// Which function is not as it was.
        address: Address,
        /// What failed then.
        restoring: Box<Error>,
    },
    /// A file could not be read or written.
    #[error(transparent)]
    System(#[from] jitney_vfio::Error),
}

fn listed<T: Display>(items: &[T]) -> String {
    items.iter().map(T::to_string).collect::<Vec<_>>().join(", ")
}
