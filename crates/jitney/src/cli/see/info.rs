//! `jitney info CARD`: its BARs, IP, channels, peripherals and memory.

use crate::cli::args::Selection;
use crate::cli::boards::catalogue;
use crate::cli::cards::{Session, known_board};
use crate::cli::report::{print_line, print_result};
use crate::cli::size::human;
use crate::cli::status::Status;
use crate::cli::targets::nothing_tested;
use clap::Args;
use jitney_boards::{Board, Catalogue, Summary};
use jitney_vfio::{BarInfo, Card};
use jitney_xdma::{ChannelInfo, Direction, Xdma};
use serde_json::{Value, json};
use std::sync::Arc;

#[derive(Debug, Args)]
pub(crate) struct Info {
    #[command(flatten)]
    pub(crate) selection: Selection,
    /// Which card: its address, or VENDOR:DEVICE.
    #[arg(value_name = "CARD", conflicts_with = "only")]
    pub(crate) named: Option<String>,
}

pub(crate) fn info(args: &Info, json: bool) -> anyhow::Result<Status> {
    let only = args.named.clone().or_else(|| args.selection.only.clone());
    let selection = Selection { only, ..args.selection.clone() };
    let session = Session::open(&selection)?;
    let cards = session.cards(selection.only.as_deref())?;
    for error in &cards.gone {
        eprintln!("jitney: passed over: {error}");
    }
    if cards.there.is_empty() && cards.gone.is_empty() {
        return nothing_tested("card", json);
    }
    let catalogue = catalogue(&args.selection.source.emulate)?;
    let mut values = Vec::new();
    for card in &cards.there {
        let facts = Facts::of(&catalogue, card)?;
        if json {
            values.push(facts.value());
        } else {
            facts.print();
        }
    }
    if json {
        print_result(&values)?;
    }
    Ok(if cards.gone.is_empty() { Status::Passed } else { Status::Failed })
}

/// What is to be told about a card.
struct Facts<'a> {
    card: &'a Arc<dyn Card>,
    board: Option<Board>,
    xdma: Option<Xdma>,
}

impl<'a> Facts<'a> {
    fn of(catalogue: &Catalogue, card: &'a Arc<dyn Card>) -> anyhow::Result<Self> {
        Ok(Self { card, board: known_board(catalogue, card)?, xdma: jitney_boards::probe(card)? })
    }

    fn bars(&self) -> impl Iterator<Item = (usize, &BarInfo)> {
        self.card.bars().iter().enumerate().filter(|(_, bar)| bar.size > 0)
    }

    fn channels(&self) -> impl Iterator<Item = &ChannelInfo> {
        self.xdma.iter().flat_map(|xdma| Direction::ALL.into_iter().flat_map(|way| xdma.channels(way)))
    }

    fn value(&self) -> Value {
        let bars = self
            .bars()
            .map(|(index, bar)| json!({ "index": index, "size": bar.size, "mappable": bar.mappable }));
        let channels = self.channels().map(|channel| {
            json!({
                "name": channel.to_string(),
                "stream": channel.stream,
                "address_alignment": channel.alignments.address_alignment(),
                "length_granularity": channel.alignments.length_granularity(),
                "address_bits": channel.alignments.address_bits(),
            })
        });
        json!({
            "card": self.card.identity(),
            "board": self.board.as_ref().map(Board::summary),
            "bars": bars.collect::<Vec<_>>(),
            "xdma": self.xdma.as_ref().map(|xdma| json!({ "bar": xdma.bar(), "channels": channels.collect::<Vec<_>>() })),
        })
    }

    fn print(&self) {
        let card = self.card.identity();
        print_line(&format!(
            "{card}, subsystem {:04x}:{:04x}, revision {:02x}, class {:06x}",
            card.subsystem_vendor, card.subsystem_device, card.revision, card.class
        ));
        for (index, bar) in self.bars() {
            let how = if bar.mappable { "mapped" } else { "by request" };
            print_line(&format!("  BAR {index}: {} ({:#x}), {how}", human(bar.size), bar.size));
        }
        match &self.board {
            Some(board) => print_board(&board.summary()),
            None => print_line("  board: unknown; a file in ~/.config/jitney/boards/ can describe it"),
        }
        if let Some(xdma) = &self.xdma {
            print_line(&format!("  XDMA in BAR {}:", xdma.bar()));
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
