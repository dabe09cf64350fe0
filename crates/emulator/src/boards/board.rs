//! A board to be emulated: a design, and what of it is chosen or replaced.

use super::assembly::Assembly;
use super::card::{Card, Wish};
use super::own::{Own, Target};
use super::{BoardError, BoardOptions, PluggedBoard};
use crate::axi::{AxiTarget, Peripheral};
use crate::fault::Faults;
use crate::function::Host;
use crate::nearest::nearest;
use crate::stream::{StreamSink, StreamSource};
use jitney_designs::{self as designs, Catalogue, Design};
use std::fmt;
use std::path::Path;
use std::sync::Arc;

/// A board to be emulated, of any design: from a catalogue by [`named`](Self::named), or from a [`Design`] of one's
/// own.
///
/// ```
/// use jitney_emulator::axi::Peripheral;
/// use jitney_emulator::boards::Board;
/// use jitney_emulator::designs::Catalogue;
///
/// struct Doubler(std::sync::atomic::AtomicU32);
///
/// impl Peripheral for Doubler {
///     fn read(&self, _offset: u32) -> u32 {
///         2 * self.0.load(std::sync::atomic::Ordering::Relaxed)
///     }
///     fn write(&self, _offset: u32, value: u32, _lanes: u32) {
///         self.0.store(value, std::sync::atomic::Ordering::Relaxed);
///     }
/// }
///
/// let design = Catalogue::built_in().design("i2c_probe").unwrap().clone();
/// let board = Board::from(design).peripheral("iic", Doubler(0.into()));
/// # let _ = board;
/// ```
#[derive(Clone)]
pub struct Board {
    design: Arc<Design>,
    /// Which of the design's variants it is, if that was chosen.
    variant: Option<usize>,
    options: BoardOptions,
    own: Own,
}

impl fmt::Debug for Board {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Board")
            .field("design", &self.design.name)
            .field("options", &self.options)
            .finish_non_exhaustive()
    }
}

impl From<Arc<Design>> for Board {
    fn from(design: Arc<Design>) -> Self {
        Self { design, variant: None, options: BoardOptions::default(), own: Own::default() }
    }
}

impl From<Design> for Board {
    fn from(design: Design) -> Self {
        Arc::new(design).into()
    }
}

impl Board {
    /// The board of this name: a design's name or alias, or the name of one of its variants.
    ///
    /// # Errors
    /// [`BoardError::Unknown`], which says what name is most like it; [`BoardError::File`] if a boards file names it
    /// and is wrong.
    pub fn named(catalogue: &Catalogue, name: &str) -> Result<Self, BoardError> {
        if let Some(bad) = catalogue.bad_file(name) {
            return Err(designs::Error::clone(bad.error()).into());
        }
        let design = catalogue.design(name).ok_or_else(|| {
            let names = || catalogue.designs().flat_map(|design| design.names());
            let short = catalogue.designs().flat_map(|design| design.names().skip(1));
            BoardError::Unknown {
                given: name.to_owned(),
                nearest: nearest(name, names()).to_owned(),
                short: short.map(str::to_owned).collect(),
                unusable: catalogue.bad_files().map(|bad| format!("; not used: {}", bad.error())).collect(),
            }
        })?;
        let variant = design.variants.iter().position(|variant| variant.name.as_deref() == Some(name));
        Ok(Self { variant, ..Arc::clone(design).into() })
    }

    /// A board of a boards file: the one of this name, or the only one in it.
    ///
    /// # Errors
    /// [`BoardError::File`] if the file cannot be used, [`BoardError::Choice`] if nobody said which of several
    /// designs it is, else as [`named`](Self::named).
    pub fn of_file(path: impl AsRef<Path>, name: Option<&str>) -> Result<Self, BoardError> {
        let path = path.as_ref();
        let catalogue = Catalogue::of_file(path)?;
        if let Some(name) = name {
            return Self::named(&catalogue, name);
        }
        let mut designs = catalogue.designs();
        match (designs.next(), designs.next()) {
            (Some(design), None) => Ok(Arc::clone(design).into()),
            _ => Err(BoardError::Choice {
                path: path.to_owned(),
                there: catalogue.designs().map(|design| design.name.clone()).collect(),
            }),
        }
    }

    /// The same with these options.
    #[must_use]
    pub fn with(mut self, options: BoardOptions) -> Self {
        self.options = options;
        self
    }

    /// The same with a model of one's own for a peripheral of the design, by its `name` in the boards file, or by its
    /// kind if it is the only one of that. Every card that is made of this board shares the model.
    #[must_use]
    pub fn peripheral(mut self, name: impl Into<Arc<str>>, model: impl Peripheral + 'static) -> Self {
        self.own.peripherals.push((name.into(), Arc::new(model)));
        self
    }

    /// The same with a target of one's own at `size` bytes from card address `base` on, which the DMA reaches beside
    /// the design's memories.
    #[must_use]
    pub fn target(
        mut self,
        name: impl Into<Arc<str>>,
        base: u64,
        size: u64,
        target: impl AxiTarget + 'static,
    ) -> Self {
        self.own.targets.push(Target { name: name.into(), base, size, target: Arc::new(target) });
        self
    }

    /// The same with a port of one's own behind an H2C channel, of a design with streams.
    #[must_use]
    pub fn sink(mut self, channel: u8, sink: impl StreamSink + 'static) -> Self {
        self.own.sinks.push((channel, Arc::new(sink)));
        self
    }

    /// The same with a port of one's own behind a C2H channel, of a design with streams.
    #[must_use]
    pub fn source(mut self, channel: u8, source: impl StreamSource + 'static) -> Self {
        self.own.sources.push((channel, Arc::new(source)));
        self
    }

    /// The design.
    #[must_use]
    pub fn design(&self) -> &Arc<Design> {
        &self.design
    }

    /// Plugs a card into `host`.
    ///
    /// # Errors
    /// An option that the board cannot have, a model for a peripheral that the design does not have, memory or
    /// threads that the machine does not have.
    pub fn plug_into(&self, host: Arc<dyn Host>) -> Result<PluggedBoard, BoardError> {
        let card = self.card()?;
        let replaced = self.replaced()?;
        self.check_own(&card)?;
        self.check_flash(&card, &replaced)?;
        for line in super::info::approximations(&self.design, &card, &replaced) {
            tracing::warn!("{}: {line}", self.design.name);
        }
        let faults = Arc::new(Faults::default());
        let assembly = Assembly::new(self, &card, &replaced, host, &faults)?;
        let board = PluggedBoard::new(assembly, faults);
        for interrupt in &self.options.user_interrupts {
            if let Some(allowed) = board.refuses_user_interrupt(interrupt.number) {
                return Err(self.refuse("the user interrupt", interrupt.to_string(), allowed));
            }
        }
        for fault in &self.options.faults {
            if let Some(allowed) = board.refuses_fault(fault) {
                return Err(self.refuse("the fault", fault.to_string(), allowed));
            }
            board.inject(*fault);
        }
        Ok(board)
    }

    /// An option that cannot be had.
    fn refuse(&self, option: &'static str, given: String, allowed: String) -> BoardError {
        BoardError::Option { board: self.design.name.clone(), option, given, allowed }
    }

    /// What is on it, in a line.
    ///
    /// # Errors
    /// An option that the board cannot have.
    pub fn summary(&self) -> Result<String, BoardError> {
        Ok(super::info::summary(&self.design, &self.card()?))
    }

    /// What is on it and what of that is not quite as on a card, in a few lines.
    ///
    /// # Errors
    /// As [`summary`](Self::summary), and a model for a peripheral that the design does not have.
    pub fn info(&self) -> Result<String, BoardError> {
        Ok(super::info::info(&self.design, &self.card()?, &self.replaced()?))
    }

    pub(super) fn own(&self) -> &Own {
        &self.own
    }

    pub(super) fn options(&self) -> &BoardOptions {
        &self.options
    }

    fn card(&self) -> Result<Card, BoardError> {
        let variant = self.variant.and_then(|index| self.design.variants.get(index));
        Wish { design: &self.design, variant, options: &self.options }.card()
    }

    /// Complains of targets and ports for a DMA that the card does not have.
    fn check_own(&self, card: &Card) -> Result<(), BoardError> {
        let streams = self.design.dma.is_some_and(|dma| dma.has_streams());
        let part = |given: String| BoardError::Part { board: self.design.name.clone(), given };
        if let Some(target) = self.own.targets.first().filter(|_| streams || !self.design.has_xdma()) {
            return Err(part(format!("DMA that reaches addresses, as {} needs", target.name)));
        }
        let sinks = self.own.sinks.iter().map(|(channel, _)| ("H2C", *channel, card.channels[0]));
        let sources = self.own.sources.iter().map(|(channel, _)| ("C2H", *channel, card.channels[1]));
        match sinks.chain(sources).find(|(_, channel, count)| !streams || channel >= count) {
            Some((direction, channel, _)) => Err(part(format!("{direction} stream {channel}"))),
            None => Ok(()),
        }
    }

    /// Complains of a file for a flash unless there is one flash.
    fn check_flash(&self, card: &Card, replaced: &Replaced) -> Result<(), BoardError> {
        let Some(file) = &self.options.flash else { return Ok(()) };
        let present = super::info::present(&self.design, card);
        let flashes = present.filter(|(index, own)| own.flash.is_some() && replaced.model(*index).is_none());
        match flashes.count() {
            1 => Ok(()),
            count => {
                let there =
                    if count == 0 { "there is no flash that is modelled" } else { "there are several" };
                Err(self.refuse("the flash file", file.display().to_string(), there.into()))
            }
        }
    }

    /// Models of the user's own, by the number of the peripheral that each is for.
    fn replaced(&self) -> Result<Replaced, BoardError> {
        let place =
            |(name, model): &(Arc<str>, Arc<dyn Peripheral>)| Ok((self.find(name)?, Arc::clone(model)));
        self.own.peripherals.iter().map(place).collect::<Result<_, _>>().map(Replaced)
    }

    /// The number of the peripheral that is called `name`.
    fn find(&self, name: &str) -> Result<usize, BoardError> {
        let peripherals = &self.design.peripherals;
        if let Some(index) = peripherals.iter().position(|own| own.name.as_deref() == Some(name)) {
            return Ok(index);
        }
        let mut same = peripherals.iter().enumerate().filter(|(_, own)| own.kind.to_string() == name);
        match (same.next(), same.next()) {
            (Some((index, _)), None) => Ok(index),
            _ => {
                let there =
                    peripherals.iter().map(|own| own.name.clone().unwrap_or_else(|| own.kind.to_string()));
                Err(BoardError::Peripheral {
                    board: self.design.name.clone(),
                    given: name.to_owned(),
                    there: there.collect(),
                })
            }
        }
    }
}

/// Models of the user's own, by the number of the peripheral in its design.
pub(super) struct Replaced(Vec<(usize, Arc<dyn Peripheral>)>);

impl Replaced {
    /// The one for peripheral `index`; the last that was given.
    pub(super) fn model(&self, index: usize) -> Option<&Arc<dyn Peripheral>> {
        self.0.iter().rev().find(|(own, _)| *own == index).map(|(_, model)| model)
    }
}
