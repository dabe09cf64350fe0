//! `jitney info CARD`: its BARs, link, interrupts, IP, channels, peripherals and memory, and what they say.

mod capabilities;
mod config;
mod contents;
mod machine;

use crate::args::Selection;
use crate::boards::catalogue;
use crate::cards::{Session, known_board};
use crate::contract::CardName;
use crate::report::{Report, print_line};
use crate::say::say;
use crate::size::human;
use crate::status::Status;
use crate::targets::nothing_tested;
use clap::Args;
use config::{ConfigFacts, Essentials};
use contents::Contents;
use jitney_boards::{Board, Catalogue, Summary};
use jitney_vfio::{BarInfo, Card, SerialNumber};
use jitney_xdma::{ChannelInfo, Direction, Xdma};
use jitney_xdma_spec::Identifier;
use machine::Machine;
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::{Value, json};
use std::sync::Arc;

const HELP: &str = "\
Examples:
  jitney info 10ee:7011 --emulate nitefury
  jitney info --emulate nitefury --config
  jitney info --json

Registers are only read, with one exception: an Alveo's card management is started if it is not, and asked for its serial number \
and modules, unless another program has it.";

#[derive(Debug, Args)]
#[command(after_help = HELP)]
pub(crate) struct Info {
    #[command(flatten)]
    pub(crate) selection: Selection,
    /// Which card: its address, VENDOR:DEVICE, the name of its board, serial:NUMBER or dna:NUMBER.
    #[arg(value_name = "CARD", conflicts_with = "only")]
    pub(crate) named: Option<String>,
    /// Print its configuration space, too: header, BARs, capabilities, and all of it in hexadecimal.
    #[arg(long)]
    pub(crate) config: bool,
}

pub(crate) fn info(args: &Info, json: bool) -> anyhow::Result<Status> {
    let only = args.named.clone().or_else(|| args.selection.only.clone());
    let selection = Selection { only, ..args.selection.clone() };
    let session = Session::open(&selection)?;
    let cards = session.cards(selection.only.as_deref())?;
    for error in &cards.gone {
        say!("jitney: passed over: {error}");
    }
    if cards.there.is_empty() && cards.gone.is_empty() {
        return nothing_tested("card", json);
    }
    let report = Report::new(json);
    let catalogue = catalogue(&args.selection.source.emulate)?;
    let mut facts = Vec::new();
    for card in &cards.there {
        let own = Facts::of(&session, &catalogue, card)?;
        if !json {
            own.print(args.config);
        }
        facts.push(own.told(args.config));
    }
    for error in facts.iter().flat_map(|own| own.contents.iter().flat_map(|own| &own.errors)) {
        say!("jitney: {error}");
    }
    let failed = facts.iter().any(|own| own.contents.as_ref().is_some_and(|own| !own.errors.is_empty()));
    report.finish(&facts)?;
    Ok(if cards.gone.is_empty() && !failed { Status::Passed } else { Status::Failed })
}

/// What is told of a card.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct CardFacts {
    #[serde(flatten)]
    card: CardName,
    /// Subsystem vendor and device, as `10ee:0007`.
    subsystem: String,
    revision: u8,
    /// Base class, sub-class and programming interface, as `058000`.
    class: String,
    /// Its device serial number, as `00-00-00-01-01-00-0a-35`, if it has one.
    serial_number: Option<String>,
    /// What the boards file says of it.
    board: Option<Value>,
    bars: Vec<BarFacts>,
    xdma: Option<XdmaFacts>,
    /// Its PCIe link, as it is written in its capability.
    link: Option<LinkFacts>,
    interrupts: Interrupts,
    machine: Machine,
    /// What its parts say, of a board that is known.
    contents: Option<Contents>,
    /// With `--config`.
    config: Option<ConfigFacts>,
}

#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct BarFacts {
    index: usize,
    size: u64,
    mappable: bool,
}

#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct XdmaFacts {
    bar: usize,
    /// Of the IP, as its identifier registers have it.
    version: u8,
    channels: Vec<ChannelFacts>,
}

#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct ChannelFacts {
    name: String,
    stream: bool,
    address_alignment: u8,
    length_granularity: u8,
    address_bits: u8,
}

#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct LinkFacts {
    /// What it runs at: `5 GT/s x4`.
    now: String,
    /// The best that the card can.
    best: String,
    /// It runs at less than the card can.
    is_degraded: bool,
}

/// How it interrupts.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct Interrupts {
    /// Vectors that the card has.
    vectors: u32,
    msix_vectors: Option<u16>,
    msi_vectors: Option<u16>,
    line: bool,
    /// What is switched on: `msi-x`, `msi` or `line`.
    enabled: Option<&'static str>,
    /// Lines of the design's own logic.
    user: u8,
}

/// What is known of a card.
struct Facts<'a> {
    card: &'a Arc<dyn Card>,
    board: Option<Board>,
    xdma: Option<Xdma>,
    version: u8,
    config: Vec<u8>,
    essentials: Essentials,
    vectors: u32,
    machine: Machine,
    contents: Option<Contents>,
}

impl<'a> Facts<'a> {
    fn of(session: &Session, catalogue: &Catalogue, card: &'a Arc<dyn Card>) -> anyhow::Result<Self> {
        let board = known_board(catalogue, card)?;
        let xdma = jitney_boards::probe(card)?;
        let version = match &xdma {
            Some(xdma) => Identifier::from(card.bar(xdma.bar())?.read32(0)?).version(),
            None => 0,
        };
        let config = config::read(&card.config()?)?;
        Ok(Self {
            contents: board.as_ref().map(Contents::of),
            essentials: Essentials::decode(&config),
            vectors: card.vectors()?,
            machine: Machine::of(session, card.identity())?,
            card,
            board,
            xdma,
            version,
            config,
        })
    }

    fn bars(&self) -> impl Iterator<Item = (usize, &BarInfo)> {
        self.card.bars().iter().enumerate().filter(|(_, bar)| bar.size > 0)
    }

    fn channels(&self) -> impl Iterator<Item = &ChannelInfo> {
        self.xdma.iter().flat_map(|xdma| Direction::ALL.into_iter().flat_map(|way| xdma.channels(way)))
    }

    fn interrupts(&self) -> Interrupts {
        let user =
            self.board.as_ref().and_then(|board| board.design().dma).map_or(0, |dma| dma.user_interrupts());
        let Essentials { msix, msi, line, enabled, .. } = self.essentials;
        Interrupts { vectors: self.vectors, msix_vectors: msix, msi_vectors: msi, line, enabled, user }
    }

    fn serial_number(&self) -> Option<String> {
        // A list that is malformed is told where configuration space is asked for.
        let number = SerialNumber::read(&self.config[..]).ok().flatten();
        number.map(|number| number.to_string())
    }

    fn link(&self) -> Option<LinkFacts> {
        let [now, best] = self.essentials.link?;
        let is_degraded = now.speed < best.speed || now.width < best.width;
        Some(LinkFacts { now: now.to_string(), best: best.to_string(), is_degraded })
    }

    fn told(self, with_config: bool) -> CardFacts {
        let bars = self.bars().map(|(index, bar)| BarFacts { index, size: bar.size, mappable: bar.mappable });
        let channels = self.channels().map(|channel| ChannelFacts {
            name: channel.to_string(),
            stream: channel.stream,
            address_alignment: channel.alignments.address_alignment(),
            length_granularity: channel.alignments.length_granularity(),
            address_bits: channel.alignments.address_bits(),
        });
        let identity = self.card.identity();
        CardFacts {
            card: CardName::from(identity),
            subsystem: format!("{:04x}:{:04x}", identity.subsystem_vendor, identity.subsystem_device),
            revision: identity.revision,
            class: format!("{:06x}", identity.class),
            serial_number: self.serial_number(),
            board: self.board.as_ref().map(|board| json!(board.summary())),
            bars: bars.collect(),
            xdma: self.xdma.as_ref().map(|xdma| XdmaFacts {
                bar: xdma.bar(),
                version: self.version,
                channels: channels.collect(),
            }),
            link: self.link(),
            interrupts: self.interrupts(),
            machine: self.machine,
            contents: self.contents,
            config: with_config.then(|| ConfigFacts::decode(self.config)),
        }
    }

    fn print(&self, with_config: bool) {
        let card = self.card.identity();
        print_line(&format!(
            "{card}, subsystem {:04x}:{:04x}, revision {:02x}, class {:06x}",
            card.subsystem_vendor, card.subsystem_device, card.revision, card.class
        ));
        self.print_machine();
        for (index, bar) in self.bars() {
            let how = if bar.mappable { "mapped" } else { "by request" };
            print_line(&format!("  BAR {index}: {} ({:#x}), {how}", human(bar.size), bar.size));
        }
        self.print_pcie();
        if let Some(number) = self.serial_number() {
            print_line(&format!("  serial number: {number}"));
        }
        match &self.board {
            Some(board) => print_board(&board.summary()),
            None => print_line("  board: unknown; a file in ~/.config/jitney/boards/ can describe it"),
        }
        if let Some(xdma) = &self.xdma {
            print_line(&format!("  XDMA in BAR {}, version {:#04x}:", xdma.bar(), self.version));
        }
        for channel in self.channels() {
            let kind = if channel.stream { "stream" } else { "memory mapped" };
            let aligned = channel.alignments;
            print_line(&format!(
                "    {channel}: {kind}, addresses of {} bits at multiples of {}, lengths at multiples of {}",
                aligned.address_bits(),
                aligned.address_alignment(),
                aligned.length_granularity()
            ));
        }
        for line in self.contents.iter().flat_map(Contents::lines) {
            print_line(&format!("  {line}"));
        }
        if with_config {
            for line in ConfigFacts::decode(self.config.clone()).lines() {
                print_line(&format!("  {line}"));
            }
        }
    }

    fn print_machine(&self) {
        let machine = &self.machine;
        let driver = machine.driver.as_ref().map(|driver| format!("driver {driver}"));
        let group = machine.iommu_group.map(|group| format!("IOMMU group {group}"));
        let node = machine.numa_node.map(|node| format!("NUMA node {node}"));
        let place: Vec<String> = driver.into_iter().chain(group).chain(node).collect();
        if !place.is_empty() {
            print_line(&format!("  {}", place.join(", ")));
        }
        for user in &machine.users {
            print_line(&format!("  used by {user}"));
        }
    }

    fn print_pcie(&self) {
        if let Some(link) = self.link() {
            let less = if link.is_degraded { ", less than the card can" } else { "" };
            print_line(&format!("  link: {} of {}{less}", link.now, link.best));
        }
        let own = self.interrupts();
        let kinds = [
            own.msix_vectors.map(|vectors| format!("MSI-X with {vectors} vectors")),
            own.msi_vectors.map(|vectors| format!("MSI with {vectors}")),
            own.line.then(|| "a line".to_owned()),
        ];
        let kinds: Vec<String> = kinds.into_iter().flatten().collect();
        let kinds = if kinds.is_empty() { "none".to_owned() } else { kinds.join(", ") };
        let user = if own.user == 0 { String::new() } else { format!("; {} user interrupts", own.user) };
        print_line(&format!("  interrupts: {kinds}{user}"));
    }
}

fn print_board(board: &Summary<'_>) {
    let version = board.version.map(|version| format!(", version {version:#x}")).unwrap_or_default();
    print_line(&format!("  board: {} (design {}{version})", board.board, board.design));
    for memory in board.memories {
        let kind = memory.kind.map(|kind| format!(" ({kind})")).unwrap_or_default();
        print_line(&format!("  memory: {} at card address {:#x}{kind}", human(memory.size), memory.base));
    }
    for peripheral in &board.peripherals {
        let words = [peripheral.name.as_deref(), peripheral.note.as_deref()];
        let words: Vec<&str> = words.into_iter().flatten().collect();
        let note = if words.is_empty() { String::new() } else { format!(" ({})", words.join(": ")) };
        print_line(&format!(
            "  {:13} in BAR {} at {:#07x}{note}",
            peripheral.kind, peripheral.bar, peripheral.offset
        ));
    }
    if let Some(note) = board.note {
        print_line(&format!("  {note}"));
    }
}
