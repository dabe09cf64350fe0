//! A board: a card and the design that is on it.

use crate::axi_gpio::AxiGpio;
use crate::cmac::Cmac;
use crate::cms::Cms;
use crate::ddr_status::DdrStatus;
use crate::dna::{Dna, DnaNumber};
use crate::error::{Error, Result};
use crate::frame::Frame;
use crate::iic::Iic;
use crate::quad_spi::QuadSpi;
use crate::stream_switch::StreamSwitch;
use crate::sysmon::Sysmon;
use crate::user_access::UserAccess;
use crate::xadc::Xadc;
use jitney_designs::{Design, Dma, DmaIp, Kind, Link, Memory, Peripheral};
use jitney_vfio::{Card, Identity};
use jitney_xdma::Xdma;
use serde::Serialize;
use std::sync::Arc;

/// A card whose design is known: what it is called, and what is on it.
#[derive(Debug, Clone)]
pub struct Board {
    pub(crate) card: Arc<dyn Card>,
    pub(crate) design: Arc<Design>,
    pub(crate) name: String,
    /// What its design calls cards like this one, if it has several.
    pub(crate) variant: Option<String>,
    pub(crate) version: Option<u32>,
    pub(crate) memories: Vec<Memory>,
    pub(crate) fpga: Vec<String>,
}

impl Board {
    /// The board's name: `NiteFury`.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Whether it is meant by `name`, in upper or lower case: the board's, its design's, an alias of that, or its variant's.
    #[must_use]
    pub fn is_called(&self, name: &str) -> bool {
        let design = [&self.name, &self.design.name].into_iter().chain(&self.design.aliases);
        design.chain(&self.variant).any(|own| own.eq_ignore_ascii_case(name))
    }

    /// The numbers of its FPGA, or of each part of it that has one of its own; none if its design does not show them.
    ///
    /// # Errors
    /// As [`Dna::number`].
    pub fn dna_numbers(&self) -> Result<Vec<DnaNumber>> {
        let count = self.present().filter(|peripheral| peripheral.kind == Kind::Dna).count();
        (0..count).map(|index| self.dna(index)?.number()).collect()
    }

    /// What the catalogue says about its design.
    #[must_use]
    pub fn design(&self) -> &Arc<Design> {
        &self.design
    }

    /// The board's version, if its design has one.
    #[must_use]
    pub fn version(&self) -> Option<u32> {
        self.version
    }

    /// The memories that its DMA engine reaches, in the order of the catalogue; none for streams and designs without memory.
    #[must_use]
    pub fn memories(&self) -> &[Memory] {
        &self.memories
    }

    /// The first of its [`memories`](Self::memories), which most designs have alone.
    #[must_use]
    pub fn memory(&self) -> Option<Memory> {
        self.memories.first().copied()
    }

    /// The card.
    #[must_use]
    pub fn card(&self) -> &Arc<dyn Card> {
        &self.card
    }

    /// Its XDMA, identified.
    ///
    /// # Errors
    /// [`Error::NoXdma`] if the design has none, [`Error::Xdma`] if the card does not have what the design has.
    pub fn xdma(&self) -> Result<Xdma> {
        let none = |what| Error::NoXdma { card: self.address(), design: self.design.name.clone(), what };
        let dma = self.design.dma.ok_or_else(|| none("it has no DMA engine that the host can use"))?;
        match dma.ip {
            DmaIp::Xdma => Ok(Xdma::identify(Arc::clone(&self.card), dma.bar.into())?),
            DmaIp::Qdma => Err(none("its DMA engine is a QDMA, which has no driver here")),
        }
    }

    /// Its XADC.
    ///
    /// # Errors
    /// [`Error::NoPeripheral`] if it has none, [`Error::OutsideBar`] if the card's BAR is too small for it; likewise
    /// for the other peripherals.
    pub fn xadc(&self) -> Result<Xadc> {
        self.peripheral(Kind::Xadc, 0).map(Xadc::new)
    }

    /// Its SYSMON.
    ///
    /// # Errors
    /// As [`xadc`](Self::xadc).
    pub fn sysmon(&self) -> Result<Sysmon> {
        self.peripheral(Kind::Sysmon, 0).map(Sysmon::new)
    }

    /// Its Alveo card management.
    ///
    /// # Errors
    /// As [`xadc`](Self::xadc).
    pub fn cms(&self) -> Result<Cms> {
        let frame = self.peripheral(Kind::Cms, 0)?;
        Ok(Cms::new(frame, Arc::clone(&self.card)))
    }

    /// Its port of 100G Ethernet number `index`, from 0 in the order of the catalogue.
    ///
    /// # Errors
    /// As [`xadc`](Self::xadc).
    pub fn cmac(&self, index: usize) -> Result<Cmac> {
        let frame = self.peripheral(Kind::Cmac, index)?;
        Ok(Cmac::new(frame, Arc::clone(&self.card), index))
    }

    /// Its I2C master number `index`, from 0 in the order of the catalogue.
    ///
    /// # Errors
    /// As [`xadc`](Self::xadc).
    pub fn iic(&self, index: usize) -> Result<Iic> {
        let frame = self.peripheral(Kind::Iic, index)?;
        Ok(Iic::new(frame, Arc::clone(&self.card), index))
    }

    /// Its AXI GPIO number `index`, from 0 in the order of the catalogue.
    ///
    /// # Errors
    /// As [`xadc`](Self::xadc).
    pub fn gpio(&self, index: usize) -> Result<AxiGpio> {
        self.peripheral(Kind::AxiGpio, index).map(AxiGpio::new)
    }

    /// Its AXI4-Stream switch.
    ///
    /// # Errors
    /// As [`xadc`](Self::xadc).
    pub fn stream_switch(&self) -> Result<StreamSwitch> {
        let frame = self.peripheral(Kind::StreamSwitch, 0)?;
        Ok(StreamSwitch::new(frame, Arc::clone(&self.card)))
    }

    /// The bus that its configuration flash is on.
    ///
    /// # Errors
    /// As [`xadc`](Self::xadc).
    pub fn quad_spi(&self) -> Result<QuadSpi> {
        let frame = self.peripheral(Kind::QuadSpi, 0)?;
        Ok(QuadSpi::new(frame, Arc::clone(&self.card)))
    }

    /// The FPGAs that it may have; none if the catalogue does not say.
    #[must_use]
    pub fn fpga(&self) -> &[String] {
        &self.fpga
    }

    /// The time of its build.
    ///
    /// # Errors
    /// As [`xadc`](Self::xadc).
    pub fn user_access(&self) -> Result<UserAccess> {
        self.peripheral(Kind::UserAccess, 0).map(UserAccess::new)
    }

    /// Its FPGA's unique number; of several, that of number `index`, from 0 in the order of the catalogue.
    ///
    /// # Errors
    /// As [`xadc`](Self::xadc).
    pub fn dna(&self, index: usize) -> Result<Dna> {
        self.peripheral(Kind::Dna, index).map(Dna::new)
    }

    /// The state of its DDR controller.
    ///
    /// # Errors
    /// As [`xadc`](Self::xadc).
    pub fn ddr_status(&self) -> Result<DdrStatus> {
        self.peripheral(Kind::DdrStatus, 0).map(DdrStatus::new)
    }

    /// Its peripheral number `index` of `kind`, from 0 in the order of the catalogue.
    ///
    /// # Errors
    /// As [`xadc`](Self::xadc).
    pub fn peripheral(&self, kind: Kind, index: usize) -> Result<Frame> {
        let mut same = self.present().filter(|peripheral| peripheral.kind == kind);
        let peripheral = same.nth(index).ok_or_else(|| {
            let kinds: Vec<String> = self.present().map(|peripheral| peripheral.kind.to_string()).collect();
            let there = if kinds.is_empty() { "no peripherals".to_owned() } else { kinds.join(", ") };
            Error::NoPeripheral { card: self.address(), design: self.design.name.clone(), kind, index, there }
        })?;
        self.frame(peripheral)
    }

    /// Its peripheral that is called `name` in the boards file.
    ///
    /// # Errors
    /// [`Error::NoPeripheralNamed`] if it has none, [`Error::OutsideBar`] if the card's BAR is too small for it.
    pub fn peripheral_named(&self, name: &str) -> Result<Frame> {
        let peripheral = self.present().find(|peripheral| peripheral.name.as_deref() == Some(name));
        let peripheral = peripheral.ok_or_else(|| {
            let names: Vec<&str> = self.present().filter_map(|own| own.name.as_deref()).collect();
            let there = if names.is_empty() { "none with a name".to_owned() } else { names.join(", ") };
            let (card, design) = (self.address(), self.design.name.clone());
            Error::NoPeripheralNamed { card, design, name: name.to_owned(), there }
        })?;
        self.frame(peripheral)
    }

    /// All peripherals that a card of this revision has, in the order of the catalogue. One that does not lie within
    /// its BAR is an [`Error::OutsideBar`] in its place.
    pub fn peripherals(&self) -> impl Iterator<Item = Result<Frame>> + '_ {
        self.present().map(|peripheral| self.frame(peripheral))
    }

    /// What there is to tell about it without asking the card.
    #[must_use]
    pub fn summary(&self) -> Summary<'_> {
        Summary {
            card: self.card.identity(),
            board: &self.name,
            design: &self.design.name,
            version: self.version,
            memory: self.memory(),
            memories: &self.memories,
            dma: self.design.dma,
            peripherals: self.present().collect(),
            link: self.design.link,
            note: self.design.note.as_deref(),
        }
    }

    fn present(&self) -> impl Iterator<Item = &Peripheral> {
        let revision = self.card.identity().revision;
        self.design.peripherals.iter().filter(move |peripheral| revision >= peripheral.from_revision)
    }

    fn frame(&self, peripheral: &Peripheral) -> Result<Frame> {
        let Peripheral { kind, bar, offset, size: length, .. } = *peripheral;
        let size = self.card.bars().get(usize::from(bar)).map_or(0, |bar| bar.size);
        let end = offset.saturating_add(length);
        if end > size {
            let (card, design) = (self.address(), self.design.name.clone());
            return Err(Error::OutsideBar { card, design, kind, bar, offset, end, size });
        }
        Ok(Frame::new(peripheral.clone(), self.card.bar(bar.into())?))
    }

    fn address(&self) -> String {
        self.card.identity().address.clone()
    }
}

/// What there is to tell about a board, for a program to read.
#[derive(Debug, Clone, Serialize)]
pub struct Summary<'a> {
    /// Who the card is.
    pub card: &'a Identity,
    /// The board's name.
    pub board: &'a str,
    /// The design's name.
    pub design: &'a str,
    /// The board's version.
    pub version: Option<u32>,
    /// The card's first memory.
    pub memory: Option<Memory>,
    /// All of the card's memories.
    pub memories: &'a [Memory],
    /// The DMA engine as the catalogue has it.
    pub dma: Option<Dma>,
    /// The peripherals that a card of this revision has.
    pub peripherals: Vec<&'a Peripheral>,
    /// The PCIe link at its best.
    pub link: Option<Link>,
    /// What a user should know besides.
    pub note: Option<&'a str>,
}
