//! A card with its devices.

use crate::channel::{Lease, Slot};
use crate::failure::{Failure, Outcome};
use crate::node::{Kind, Node};
use crate::stream::Receivers;
use jitney_vfio::Region;
use jitney_xdma::{C2h, ChannelInfo, Direction, H2c, Xdma};
use rustix::io::Errno;
use std::sync::{Arc, OnceLock};

/// A card that this process has opened.
#[derive(Debug)]
pub(crate) struct Card {
    pub(crate) xdma: Xdma,
    bars: Bars,
    /// The registers of its devices, by [`Card::region`], once they were used.
    regions: [OnceLock<Region>; 3],
    h2c: Vec<Slot<H2c>>,
    c2h: Vec<Slot<C2h>>,
    /// Its streams that are open for reading.
    pub(crate) receivers: Receivers,
}

/// Which BAR is what, as the driver decides: what lies before the XDMA's registers is the design's own, what lies behind them goes
/// past the DMA.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Bars {
    user: Option<usize>,
    control: usize,
    bypass: Option<usize>,
}

impl Bars {
    /// Of the BARs that are there, in order, and the XDMA's.
    fn new(there: &[usize], control: usize) -> Self {
        let user = there.first().copied().filter(|bar| *bar < control);
        let bypass = there.last().copied().filter(|bar| *bar > control);
        Self { user, control, bypass }
    }
}

impl Card {
    /// # Errors
    /// ENODEV if it has no XDMA, or what looking says.
    pub(crate) fn open(card: Arc<dyn jitney_vfio::Card>) -> Outcome<Self> {
        let Some(bar) = Xdma::find(&*card)? else {
            let why = format!("card {} has no XDMA", card.identity());
            return Err(Failure::new(Errno::NODEV, why));
        };
        let there: Vec<usize> =
            card.bars().iter().enumerate().filter(|(_, bar)| bar.size > 0).map(|(index, _)| index).collect();
        let xdma = Xdma::identify(card, bar)?;
        let slots = |direction| xdma.channels(direction).len();
        Ok(Self {
            bars: Bars::new(&there, bar),
            regions: Default::default(),
            h2c: (0..slots(Direction::HostToCard)).map(|_| Slot::default()).collect(),
            c2h: (0..slots(Direction::CardToHost)).map(|_| Slot::default()).collect(),
            receivers: Receivers::default(),
            xdma,
        })
    }

    /// Whether it has such a device.
    pub(crate) fn has(&self, kind: Kind) -> bool {
        match kind {
            Kind::User | Kind::Control | Kind::Bypass => self.bar_of(kind).is_some(),
            Kind::H2c(_) | Kind::C2h(_) => self.channel(kind).is_some(),
            // An XDMA has 16 lines whether or not the design raises any.
            Kind::Events(_) => true,
        }
    }

    fn bar_of(&self, kind: Kind) -> Option<usize> {
        match kind {
            Kind::User => self.bars.user,
            Kind::Control => Some(self.bars.control),
            Kind::Bypass => self.bars.bypass,
            _ => None,
        }
    }

    /// The registers behind a device.
    ///
    /// # Errors
    /// ENODEV if it has none.
    pub(crate) fn region(&self, node: Node) -> Outcome<Region> {
        let none = || Failure::new(Errno::NODEV, format!("{node} has no registers"));
        let place = match node.kind {
            Kind::User => 0,
            Kind::Control => 1,
            _ => 2,
        };
        let bar = self.bar_of(node.kind).ok_or_else(none)?;
        let known = self.regions.get(place).ok_or_else(none)?;
        match known.get() {
            Some(region) => Ok(region.clone()),
            None => {
                let region = self.xdma.card().bar(bar)?;
                Ok(known.get_or_init(|| region).clone())
            }
        }
    }

    /// What there is to know of a channel's device.
    pub(crate) fn channel(&self, kind: Kind) -> Option<&ChannelInfo> {
        let (direction, index) = match kind {
            Kind::H2c(index) => (Direction::HostToCard, index),
            Kind::C2h(index) => (Direction::CardToHost, index),
            _ => return None,
        };
        self.xdma.channels(direction).get(usize::from(index))
    }

    /// Whether a device is a stream that is read.
    pub(crate) fn is_received_from(&self, kind: Kind) -> bool {
        matches!(kind, Kind::C2h(_)) && self.channel(kind).is_some_and(|info| info.stream)
    }

    /// A channel to the card, for one transfer.
    ///
    /// # Errors
    /// EBUSY if somebody else has it for too long, who is named.
    pub(crate) fn h2c(&self, index: u8) -> Outcome<Lease<'_, H2c>> {
        let slot = self.h2c.get(usize::from(index)).ok_or_else(|| Failure::silent(Errno::NOENT))?;
        slot.lease(|| self.xdma.h2c(index))
    }

    /// A channel from the card, likewise.
    ///
    /// # Errors
    /// As [`h2c`](Self::h2c).
    pub(crate) fn c2h(&self, index: u8) -> Outcome<Lease<'_, C2h>> {
        let slot = self.c2h.get(usize::from(index)).ok_or_else(|| Failure::silent(Errno::NOENT))?;
        slot.lease(|| self.xdma.c2h(index))
    }

    /// Whether all data of a channel goes to one address; set if `one` says so.
    pub(crate) fn one_address(&self, kind: Kind, one: Option<bool>) -> bool {
        match kind {
            Kind::H2c(index) => self.h2c.get(usize::from(index)).is_some_and(|slot| slot.one_address(one)),
            Kind::C2h(index) => self.c2h.get(usize::from(index)).is_some_and(|slot| slot.one_address(one)),
            _ => false,
        }
    }

    /// Gives channels back that nobody here uses. Returns whether some are kept, because they were in use a moment ago.
    pub(crate) fn let_go(&self) -> bool {
        let h2c = self.h2c.iter().map(|slot| slot.let_go(false));
        let c2h = self.c2h.iter().map(|slot| slot.let_go(false));
        h2c.chain(c2h).fold(false, |kept, one| kept | one)
    }

    /// The same of those that were in use a moment ago, and of streams.
    pub(crate) fn let_go_at_once(&self) {
        self.let_go_of_idle();
        self.receivers.let_go_at_once();
    }

    /// Gives the channels back that no transfer of this process is using: somebody may be waiting for them who has what this
    /// process waits for.
    pub(crate) fn let_go_of_idle(&self) {
        for slot in &self.h2c {
            slot.let_go(true);
        }
        for slot in &self.c2h {
            slot.let_go(true);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bars_are_told_by_where_the_xdma_is() {
        let bars = |there: &[usize], control| {
            let bars = Bars::new(there, control);
            (bars.user, bars.bypass)
        };
        assert_eq!(bars(&[0], 0), (None, None));
        assert_eq!(bars(&[0, 2], 2), (Some(0), None));
        assert_eq!(bars(&[0, 2], 0), (None, Some(2)));
        assert_eq!(bars(&[0, 1, 2], 1), (Some(0), Some(2)));
        assert_eq!(bars(&[0, 2, 4], 2), (Some(0), Some(4)));
    }
}
