//! A broker, its cards and its programs at one moment, for those commands that show them.

use crate::contract::CardName;
use crate::size::human;
use jitney_broker::{Bus, Traffic, Usage};
use jitney_vfio::sysfs::Sysfs;
use schemars::JsonSchema;
use serde::Serialize;

/// What a broker has, and who has what of it.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct BrokerStatus {
    /// The broker's process id.
    pub(crate) broker: u32,
    pub(crate) cards: Vec<CardStatus>,
    pub(crate) programs: Vec<ProgramStatus>,
}

/// A card, and who has which part of it.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct CardStatus {
    #[serde(flatten)]
    pub(crate) card: CardName,
    /// The PCIe link now, as `8.0 GT/s PCIe x4`; an emulated card has none.
    pub(crate) link: Option<String>,
    pub(crate) leases: Vec<Held>,
    pub(crate) waits: Vec<Waiting>,
}

/// A lease.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct Held {
    pub(crate) part: String,
    /// Nothing if the process is of another pid namespace.
    pub(crate) pid: Option<u32>,
    pub(crate) program: String,
}

/// Somebody who stands in line for a lease.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct Waiting {
    pub(crate) part: String,
    /// 1 is next.
    pub(crate) place: u32,
    pub(crate) pid: Option<u32>,
    pub(crate) program: String,
}

/// A program, and what it has.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct ProgramStatus {
    pub(crate) pid: Option<u32>,
    pub(crate) uid: u32,
    pub(crate) program: String,
    pub(crate) cards: Vec<String>,
    pub(crate) buffers: u32,
    pub(crate) buffer_bytes: u64,
    /// What it has moved, as it says itself.
    pub(crate) channels: Vec<ChannelStatus>,
}

/// What a program has moved by a channel since it began.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub(crate) struct ChannelStatus {
    pub(crate) card: String,
    pub(crate) channel: String,
    pub(crate) bytes: u64,
    /// Those that ended well.
    pub(crate) transfers: u64,
    pub(crate) failures: u64,
}

impl BrokerStatus {
    /// Without this program itself.
    pub(crate) fn of(bus: &Bus) -> anyhow::Result<Self> {
        let own = Some(std::process::id());
        let usage: Vec<Usage> = bus.usage()?.into_iter().filter(|client| client.pid != own).collect();
        // A machine whose functions cannot be read has cards all the same.
        let functions = Sysfs::default().functions().unwrap_or_default();
        let link = |address: &str| {
            let function = functions.iter().find(|function| function.address.to_string() == address)?;
            function.link.as_ref().map(|link| format!("{} x{}", link.current.speed, link.current.width))
        };
        let cards = bus.cards();
        let cards = cards
            .iter()
            .map(|card| CardStatus::new((CardName::from(card), link(&card.address)), &card.address, &usage));
        let cards = cards.collect();
        let mut programs = Vec::new();
        for client in usage {
            let moved = bus.traffic(&client)?;
            programs.push(ProgramStatus::new(client, moved));
        }
        Ok(Self { broker: bus.broker().unwrap_or(0), cards, programs })
    }
}

impl CardStatus {
    fn new((card, link): (CardName, Option<String>), address: &str, usage: &[Usage]) -> Self {
        let mut own = Self { card, link, leases: Vec::new(), waits: Vec::new() };
        for client in usage {
            for (_, part) in client.leases.iter().filter(|(card, _)| card == address) {
                own.leases.push(Held {
                    part: part.clone(),
                    pid: client.pid,
                    program: client.program.clone(),
                });
            }
            for (_, part, place) in client.waits.iter().filter(|(card, ..)| card == address) {
                let (part, program) = (part.clone(), client.program.clone());
                own.waits.push(Waiting { part, place: *place, pid: client.pid, program });
            }
        }
        own.leases.sort_by(|one, other| one.part.cmp(&other.part));
        own.waits.sort_by_key(|waiting| waiting.place);
        own
    }
}

impl ProgramStatus {
    fn new(usage: Usage, moved: Vec<Traffic>) -> Self {
        let Usage { pid, uid, program, cards, buffers, buffer_bytes, .. } = usage;
        let channels = moved.into_iter().map(ChannelStatus::from).collect();
        Self { pid, uid, program, cards, buffers, buffer_bytes, channels }
    }

    /// All that it has moved, in words.
    pub(crate) fn moved(&self) -> String {
        let bytes: u64 = self.channels.iter().fold(0, |all, channel| all.saturating_add(channel.bytes));
        let failures: u64 = self.channels.iter().fold(0, |all, channel| all.saturating_add(channel.failures));
        match (bytes, failures) {
            (0, 0) => String::new(),
            (bytes, 0) => human(bytes),
            (bytes, failures) => format!("{}, {failures} failed", human(bytes)),
        }
    }
}

impl From<Traffic> for ChannelStatus {
    fn from(moved: Traffic) -> Self {
        let Traffic { card, part, bytes, transfers, failures } = moved;
        Self { card, channel: part, bytes, transfers, failures }
    }
}

pub(crate) fn pid(pid: Option<u32>) -> String {
    pid.map_or_else(|| "elsewhere".into(), |pid| pid.to_string())
}
