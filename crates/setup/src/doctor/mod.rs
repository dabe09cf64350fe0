//! What a machine lacks for VFIO, and the command that mends it.
//!
//! Only files are read, each for itself: one that cannot be seen makes one check [`Verdict::Unknown`], no more. The order of
//! the checks is that in which things are mended: from the firmware up to the card.

mod boot_line;
mod cards;
mod express;
mod holders;
mod interface;
mod iommu;
mod kernel_config;
mod large_pages;
mod link;
mod machine;
mod memory;
mod modules;
mod numa;
mod permissions;
mod remapping;
mod report;

#[cfg(test)]
mod tests;

pub use report::{Check, Report, Verdict};

use crate::root::Root;
use jitney_pci::Address;
use machine::Machine;

/// Examines a machine.
#[derive(Debug, Clone)]
pub struct Doctor {
    root: Root,
}

impl Doctor {
    /// For the machine at `root`.
    #[must_use]
    pub const fn new(root: Root) -> Self {
        Self { root }
    }

    /// Looks at everything that VFIO needs, for `card`, or else for each card that is bound to `vfio-pci`.
    #[must_use]
    pub fn examine(&self, card: Option<Address>) -> Report {
        let machine = Machine::read(&self.root);
        let mut checks = vec![
            iommu::check(&machine),
            remapping::check(&machine),
            kernel_config::check(&machine),
            modules::check(&machine),
            memory::locked(&machine),
            memory::huge_pages(&machine),
            large_pages::check(&machine),
        ];
        match cards::find(&machine, card) {
            Ok(cards) => {
                for card in &cards {
                    checks.extend([
                        cards::driver(&machine, card),
                        cards::group(&machine, card),
                        permissions::check(&machine, card),
                        link::check(card),
                    ]);
                    checks.extend(express::check(&machine, card.address));
                    checks.extend([numa::check(&machine, card), holders::check(&machine, card)]);
                }
                checks.push(interface::check(&machine, &cards));
            }
            Err(check) => checks.push(check),
        }
        Report { checks }
    }
}
