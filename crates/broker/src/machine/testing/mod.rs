//! The machine's enemy: random histories of clients, cards and workers, and beside the machine a [`World`] that keeps account
//! of what must be true, from events and effects alone.
//!
//! For the tests of this crate and for its fuzz target; nothing that is shipped has it.
//!
//! What the account says is what was *carried out*. Work may begin as soon as it is ordered and ends when the world says so: at
//! a card in order, except that wills may go on while what was ordered behind them is done; in address spaces in any order.

mod account;
mod carried;
mod offers;
mod ordered;
mod replies;
mod steps;
mod world;

use super::{CardDescription, Limits, Machine, Sighting};
use crate::protocol::CardId;
#[cfg(test)]
pub(crate) use account::Known;
use jitney_iova::Allocator;
use jitney_vfio::{BarInfo, Identity};
#[cfg(test)]
pub(crate) use steps::will;
pub use steps::{Guess, How, Step, Steps};
pub use world::World;

/// How many cards there are at the beginning.
pub(crate) const CARDS: u32 = 2;

/// What kind of broker.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Setting {
    /// The first card sees memory where it lies.
    pub physical: bool,
    /// All cards are in one address space.
    pub one_space: bool,
    /// Everything is limited to two or three.
    pub narrow: bool,
    /// The smallest page of the IOMMU has 64 KiB.
    pub coarse: bool,
    /// Cards are taken when somebody asks for them.
    pub on_demand: bool,
}

impl Setting {
    pub(crate) const fn limits(self) -> Limits {
        let mut limits = Limits {
            connections_of_user: 256,
            requests_of_client: 64,
            buffers_of_client: 4096,
            buffers_of_user: 16384,
            bytes_of_user: u64::MAX,
            offers_of_client: 64,
            offers_of_user: 1024,
            leases_of_client: 256,
            leases_of_user: 4096,
            waiting_of_client: 8,
            waiting_of_user: 100,
        };
        if self.narrow {
            limits = Limits {
                connections_of_user: 2,
                requests_of_client: 3,
                buffers_of_client: 2,
                buffers_of_user: 3,
                bytes_of_user: 0x60_0000,
                offers_of_client: 1,
                offers_of_user: 2,
                leases_of_client: 2,
                leases_of_user: 3,
                waiting_of_client: 1,
                waiting_of_user: 2,
            };
        }
        limits
    }

    pub(crate) fn card(self, number: u32) -> CardDescription {
        CardDescription {
            id: CardId(number),
            identity: Identity {
                address: format!("vfio-user:/card{number}"),
                vendor: 0x10ee,
                device: 0x7011,
                subsystem_vendor: 0,
                subsystem_device: 0,
                revision: 0,
                class: 0x05_0000,
            },
            bars: [BarInfo { size: 0x1_0000, mappable: false }; 6],
            space: if self.one_space { 0 } else { number as usize },
            physical: self.is_physical() && (number == 0 || self.one_space),
        }
    }

    /// The same as it is seen before it is open.
    pub(crate) fn sighting(self, number: u32) -> Sighting {
        let unit = if self.one_space { 0 } else { number };
        Sighting { identity: self.card(number).identity, unit: format!("unit {unit}"), is_new: false }
    }

    /// Nothing is taken on demand that sees memory where it lies.
    const fn is_physical(self) -> bool {
        self.physical && !self.on_demand
    }

    pub(crate) const fn granule(self) -> u64 {
        if self.coarse { 0x1_0000 } else { 4096 }
    }

    pub(crate) fn machine(self, iovas: Allocator) -> Machine {
        if self.on_demand {
            let mut machine = Machine::new(1, Vec::new(), iovas, self.limits()).on_demand();
            let seen: Vec<_> = (0..CARDS).map(|number| self.sighting(number)).collect();
            machine.sees_cards(&seen, &mut Vec::new());
            return machine;
        }
        Machine::new(1, (0..CARDS).map(|number| self.card(number)).collect(), iovas, self.limits())
    }
}
