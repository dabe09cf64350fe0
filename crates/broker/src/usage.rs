//! Who uses what, as programs that ask see it.

use crate::protocol::{CardEntry, CardId, ClientUsage};
use jitney_vfio::Moved;

/// What one client of a broker uses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Usage {
    /// Its process id; `None` if it is of another pid namespace than the broker.
    pub pid: Option<u32>,
    /// Its user id.
    pub uid: u32,
    /// What it called itself.
    pub program: String,
    /// The addresses of the cards that it has opened.
    pub cards: Vec<String>,
    /// Its leases: address of the card, and part.
    pub leases: Vec<(String, String)>,
    /// Leases that it waits for: address of the card, part, and place in line, of which 1 is next.
    pub waits: Vec<(String, String, u32)>,
    /// How many DMA buffers it has.
    pub buffers: u32,
    /// Their size together, in bytes.
    pub buffer_bytes: u64,
    /// Its number at the broker, for [`Bus::traffic`](crate::Bus::traffic).
    pub client: u64,
}

/// What a program has moved by a channel, as it says itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Traffic {
    /// The address of the card.
    pub card: String,
    /// The channel.
    pub part: String,
    /// How many bytes.
    pub bytes: u64,
    /// In how many transfers that ended well.
    pub transfers: u64,
    /// How many failed.
    pub failures: u64,
}

impl Usage {
    /// What `client` uses of `cards`.
    pub(crate) fn new(client: ClientUsage, cards: &[CardEntry]) -> Self {
        let address = |id| address(cards, id);
        Self {
            pid: client.pid,
            uid: client.uid,
            program: client.program,
            cards: client.cards.into_iter().map(address).collect(),
            leases: client.leases.into_iter().map(|(card, part)| (address(card), part)).collect(),
            waits: client.waits.into_iter().map(|(card, part, place)| (address(card), part, place)).collect(),
            buffers: client.buffers,
            buffer_bytes: client.buffer_bytes,
            client: client.client,
        }
    }
}

impl Traffic {
    pub(crate) fn new(moved: Moved, cards: &[CardEntry]) -> Self {
        let Moved { card, part, bytes, transfers, failures } = moved;
        let (card, part) = (address(cards, CardId(card)), part.to_string());
        Self { card, part, bytes, transfers, failures }
    }
}

fn address(cards: &[CardEntry], id: CardId) -> String {
    let card = cards.iter().find(|card| card.id == id);
    card.map_or_else(|| format!("a card of id {}", id.0), |card| card.identity.address.clone())
}
