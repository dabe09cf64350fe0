//! What a card's PCIe link can carry.

use jitney_pci::capability;
use jitney_pci::config::ConfigRead;
use jitney_pci::express::{self, DeviceControl, Link, LinkStatus};
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
        let region = card.config()?;
        let mut bytes = [0; 256];
        for (offset, word) in (0..).step_by(4).zip(bytes.chunks_exact_mut(4)) {
            word.copy_from_slice(&region.read32(offset)?.to_le_bytes());
        }
        let config = &bytes[..];
        let Ok(Some(at)) = capability::find(config, capability::EXPRESS) else { return Ok(None) };
        let Ok(status) = config.read16(at + express::LINK_STATUS);
        let Ok(control) = config.read16(at + express::DEVICE_CONTROL);
        let control = DeviceControl::from(control);
        let link = LinkStatus::from(status).link();
        let code = |code: u8| 128 << code.min(5);
        Ok((link.width > 0).then(|| Self {
            link,
            payload: code(control.max_payload()),
            request: code(control.max_read_request()),
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
