//! What boards are put together from.

use super::bar::{Bar, BusWindow};
use super::board::{Board, Replaced};
use super::card::Card;
use super::own::Target;
use super::streams::Streams;
use super::{BoardError, BoardOptions, info, models};
use crate::axi::{
    AddressMap, AxiTarget, CardMemory, DdrStatus, LiteMaster, NoAnswer, Peripheral, PlainRegisters,
    RegisterTarget,
};
use crate::fault::Faults;
use crate::function::{BarDescription, Description, Host, InterruptKind, InterruptKinds, Msix};
use crate::xdma::{Interface, Xdma, XdmaConfig};
use jitney_designs::{self as designs, Design, Dma, DmaIp, Kind, MemoryKind};
use jitney_xdma_spec::irq::{MSIX_PENDING, MSIX_TABLE, MSIX_VECTORS};
use jitney_xdma_spec::{Alignments, DMA_BAR_SIZE};
use std::sync::Arc;

/// What is on a board that was put together.
pub(super) struct Assembly {
    pub(super) description: Description,
    pub(super) bars: [Option<Bar>; 6],
    pub(super) xdma: Option<Arc<Xdma>>,
    pub(super) user_interrupts: u8,
    /// The kinds of peripherals that models of the crate stand for.
    pub(super) modelled: Vec<Kind>,
}

impl Assembly {
    /// All of `card`, a card of `board`, with models of the user's own.
    pub(super) fn new(
        board: &Board,
        card: &Card,
        replaced: &Replaced,
        host: Arc<dyn Host>,
        faults: &Arc<Faults>,
    ) -> Result<Self, BoardError> {
        let design = &**board.design();
        let mut assembly = Self::without_content(design, card);
        let ddr = Arc::new(DdrStatus::default());
        let streams = design.dma.filter(Dma::has_streams).map(|_| Streams::new(design, card, board.own()));
        let mut bars = design.card_bars();
        if let Some(dma) = design.dma {
            let bar = bars[usize::from(dma.bar)].take();
            match dma.ip {
                DmaIp::Xdma => {
                    let interface = match &streams {
                        Some(streams) => streams.interface(),
                        None => assembly.memory_mapped(board, card, &ddr)?,
                    };
                    assembly.add_xdma(board, card, (dma.bar, interface), host, faults)?;
                }
                DmaIp::Qdma => {
                    let plain = PlainRegisters::new(bar.map_or(0, |bar| bar.size), &[])?;
                    assembly.put(dma.bar, Bar::Registers(Arc::new(plain)));
                }
            }
            if let Some(bypass) = dma.bypass {
                bars[usize::from(bypass.bar)] = None;
            }
        }
        let own = info::present(design, card).filter(|(number, _)| replaced.model(*number).is_none());
        assembly.modelled = own.map(|(_, own)| own.kind).filter(|kind| models::has_model(*kind)).collect();
        for (index, bar) in (0..).zip(bars) {
            let Some(bar) = bar else { continue };
            let options = board.options();
            let models =
                Models { design, card, replaced, options, ddr: &ddr, streams: streams.as_ref(), faults };
            assembly.put(index, models.bar(index, bar)?);
        }
        Ok(assembly)
    }

    /// A function with the BARs of the design, in which nothing is yet.
    fn without_content(design: &Design, card: &Card) -> Self {
        let [_, base, sub, interface] = design.class.to_be_bytes();
        let describe = |bar: designs::Bar| BarDescription {
            size: bar.size,
            is_64bit: bar.is_64bit,
            prefetchable: bar.prefetchable,
        };
        let description = Description {
            ids: card.ids,
            revision: card.revision,
            class: [base, sub, interface],
            bars: design.card_bars().map(|bar| bar.map(describe)),
            interrupts: InterruptKinds::default(),
            link: card.link,
            slot_lanes: card.slot_lanes,
            serial: design.serial,
        };
        let user_interrupts = design.dma.map_or(0, |dma| dma.user_interrupts());
        Self { description, bars: Default::default(), xdma: None, user_interrupts, modelled: Vec::new() }
    }

    fn put(&mut self, index: u8, bar: Bar) {
        self.bars[usize::from(index)] = Some(bar);
    }

    /// The card's side of a core that reaches memory; adds the window onto that.
    fn memory_mapped(
        &mut self,
        board: &Board,
        card: &Card,
        ddr: &DdrStatus,
    ) -> Result<Interface, BoardError> {
        let target = memory_bus(board, card, ddr)?;
        if let Some((bar, base, size)) = board.design().bypass_window() {
            self.put(bar, Bar::Bus(BusWindow { bus: Arc::clone(&target), base, size }));
        }
        let [h2c, c2h] = card.channels;
        Ok(Interface::MemoryMapped { h2c, c2h, target })
    }

    /// Adds an XDMA in a BAR, and the interrupts that come with it.
    fn add_xdma(
        &mut self,
        board: &Board,
        card: &Card,
        (index, interface): (u8, Interface),
        host: Arc<dyn Host>,
        faults: &Arc<Faults>,
    ) -> Result<(), BoardError> {
        let config = XdmaConfig {
            interface,
            data_width: card.data_width,
            alignments: Alignments::ANY,
            link: board.options().link,
            strict_adjacency: board.options().strict_adjacency,
            user_interrupts: board.options().user_interrupts.clone(),
            clock_hz: clock_hz(card.link, card.data_width),
            user_lines: self.user_interrupts,
        };
        let xdma = Arc::new(Xdma::new(config, host, Arc::clone(faults))?);
        self.put(index, Bar::Registers(Arc::clone(&xdma) as Arc<dyn Peripheral>));
        self.xdma = Some(xdma);
        self.description.interrupts = xdma_interrupts(index, &card.interrupts);
        Ok(())
    }
}

/// The clock of a core's data path: it carries just what the link carries, within what such cores have.
fn clock_hz((generation, lanes): (u8, u8), data_width: u32) -> u64 {
    // 250 MB/s for each lane at 2.5 GT/s, twice as much for each generation.
    let link = (250_000_000_u64 << generation.clamp(1, 6).saturating_sub(1)) * u64::from(lanes);
    (link / u64::from(data_width).max(1)).clamp(62_500_000, 250_000_000)
}

/// The interrupts of a core whose DMA BAR is `bar`.
fn xdma_interrupts(bar: u8, kinds: &[InterruptKind]) -> InterruptKinds {
    const { assert!(MSIX_TABLE < DMA_BAR_SIZE && MSIX_PENDING < DMA_BAR_SIZE) };
    #[expect(clippy::cast_possible_truncation, reason = "asserted to be in the BAR")]
    let (table, pending) = (MSIX_TABLE as u32, MSIX_PENDING as u32);
    let msix = Msix { vectors: MSIX_VECTORS, bar, table, pending };
    InterruptKinds {
        line: kinds.contains(&InterruptKind::Intx),
        msi: if kinds.contains(&InterruptKind::Msi) { MSIX_VECTORS } else { 0 },
        msix: kinds.contains(&InterruptKind::MsiX).then_some(msix),
    }
}

/// What is behind the DMA: the card's memories. A design without any leaves its DMA without an answer.
fn memory_bus(board: &Board, card: &Card, ddr: &DdrStatus) -> Result<Arc<dyn AxiTarget>, BoardError> {
    let targets = &board.own().targets;
    if card.memory.is_empty() && targets.is_empty() {
        return Ok(Arc::new(NoAnswer));
    }
    let controllers =
        info::present(board.design(), card).filter(|(_, own)| own.kind == Kind::DdrStatus).count();
    let shown = board.design().bypass_window().is_some();
    let mut bus = AddressMap::new();
    for memory in &card.memory {
        let kind = memory.kind.map_or_else(|| "memory".to_owned(), |kind| kind.to_string());
        let target = if shown {
            CardMemory::mappable(&format!("{} {kind}", board.design().name), memory.size)?
        } else {
            CardMemory::new(memory.size)?
        };
        let mut target: Arc<dyn AxiTarget> = Arc::new(target);
        if controllers == 1 && memory.kind == Some(MemoryKind::Ddr) {
            target = ddr.control(target);
        }
        bus.add(memory.base, memory.size, kind, target)?;
    }
    for Target { name, base, size, target } in targets {
        bus.add(*base, *size, Arc::clone(name), Arc::clone(target))?;
    }
    Ok(Arc::new(bus))
}

/// What models of peripherals are made from.
struct Models<'a> {
    design: &'a Design,
    card: &'a Card,
    replaced: &'a Replaced,
    options: &'a BoardOptions,
    /// The memory controller.
    ddr: &'a Arc<DdrStatus>,
    streams: Option<&'a Streams>,
    faults: &'a Arc<Faults>,
}

impl Models<'_> {
    /// What is in a BAR of peripherals: memory alone, in accesses of any width, or registers.
    fn bar(&self, index: u8, bar: designs::Bar) -> Result<Bar, BoardError> {
        let mut bus = AddressMap::new();
        let mut memory_alone = true;
        for (number, peripheral) in info::present(self.design, self.card).filter(|(_, own)| own.bar == index)
        {
            let name = peripheral.name.clone().unwrap_or_else(|| peripheral.kind.to_string());
            let target = match self.registers(number, peripheral)? {
                Some(registers) => {
                    memory_alone = false;
                    Arc::new(RegisterTarget(registers)) as Arc<dyn AxiTarget>
                }
                None => ram(&self.design.name, index, peripheral)?,
            };
            bus.add(peripheral.offset, peripheral.size, name, target)?;
        }
        for (bar, offset, value) in models::id_words(self.card, self.design.id_word) {
            let elsewhere = info::present(self.design, self.card).any(|(_, own)| own.contains(bar, offset));
            if bar == index && !elsewhere {
                let word = PlainRegisters::new(4, &[])?.with_constant(0, value);
                bus.add(offset, 4, "id word", Arc::new(RegisterTarget(Arc::new(word))))?;
                memory_alone = false;
            }
        }
        let bus: Arc<dyn AxiTarget> = Arc::new(bus);
        Ok(if memory_alone {
            Bar::Bus(BusWindow { bus, base: 0, size: bar.size })
        } else {
            Bar::Registers(Arc::new(LiteMaster { bus, base: 0 }))
        })
    }

    /// The registers of peripheral `number`; memory has none.
    fn registers(
        &self,
        number: usize,
        peripheral: &designs::Peripheral,
    ) -> Result<Option<Arc<dyn Peripheral>>, BoardError> {
        let switch = || self.streams.and_then(|streams| streams.switch(number));
        if let Some(model) = self.replaced.model(number).or_else(switch) {
            return Ok(Some(Arc::clone(model)));
        }
        match peripheral.kind {
            Kind::Ram => return Ok(None),
            Kind::DdrStatus => return Ok(Some(Arc::clone(self.ddr) as Arc<dyn Peripheral>)),
            _ => {}
        }
        Ok(Some(models::model(peripheral, self.card, self.design.id_word, self.options, self.faults)?))
    }
}

/// Memory in a BAR. Pages that are only begun are whole, as a file in memory has to be.
fn ram(
    design: &str,
    bar: u8,
    peripheral: &designs::Peripheral,
) -> Result<Arc<dyn AxiTarget>, jitney_memory::Error> {
    let name = format!("{design}-bar{bar}");
    let memory = CardMemory::mappable(&name, peripheral.size.next_multiple_of(4096))?;
    for (word, offset) in peripheral.words.iter().zip((0..peripheral.size).step_by(4)) {
        // Checked with the boards file: no more words than memory.
        let _ = memory.mapping().store32(offset, *word);
    }
    Ok(Arc::new(memory))
}

#[cfg(test)]
mod tests {
    use super::clock_hz;

    #[test]
    fn a_data_path_has_the_clock_that_its_link_needs() {
        for (link, width, mhz) in
            [((2, 4), 16, 125), ((2, 4), 8, 250), ((3, 8), 32, 250), ((3, 16), 64, 250), ((2, 8), 32, 125)]
        {
            assert_eq!(clock_hz(link, width), mhz * 1_000_000, "{link:?} {width}");
        }
        assert_eq!((clock_hz((1, 1), 8), clock_hz((0, 0), 0)), (62_500_000, 62_500_000));
        assert_eq!(clock_hz((6, 16), 8), 250_000_000);
    }
}
