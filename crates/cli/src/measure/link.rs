//! What a card's PCIe link can carry.

use crate::card_link;
use jitney_pci::express::Link;
use jitney_vfio::Card;
use jitney_xdma::Direction;

/// A link as it is now.
#[derive(Debug, Clone, Copy)]
pub(crate) struct LinkNow {
    pub(crate) link: Link,
    /// Bytes of data that a packet has at most.
    payload: u64,
    /// Bytes that a read request asks for at most.
    request: u64,
}

/// Bytes of a packet beside its data: header, sequence number, checksum and framing; of a write and of a read request with
/// 64-bit addresses, and of what comes back (PCIe Base, "Transaction Layer").
const WRITE: u64 = 16 + 8;
const COMPLETION: u64 = 12 + 8;

impl LinkNow {
    /// That of `card`; nothing if its configuration space says none, as that of a card on a bus without one.
    pub(crate) fn of(card: &dyn Card) -> anyhow::Result<Option<Self>> {
        let end = card_link::end(card)?;
        Ok(end.filter(|end| end.now.width > 0).map(|end| Self {
            link: end.now,
            payload: end.payload.into(),
            request: end.read_request.into(),
        }))
    }

    /// Bytes of data a second that it can carry at most in this direction, in packets of the size that is set.
    pub(crate) fn limit(&self, direction: Direction) -> Option<u64> {
        let raw = u128::from(self.link.bytes_per_second()?);
        // Who answers a read may cut the data finer; so this is a limit and no promise.
        let (payload, beside) = match direction {
            Direction::CardToHost => (self.payload, WRITE),
            Direction::HostToCard => (self.payload.min(self.request), COMPLETION),
        };
        u64::try_from(raw * u128::from(payload) / u128::from(payload + beside)).ok()
    }
}
