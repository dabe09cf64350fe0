//! The one card of a design that is emulated: what its file and the options say, in numbers.

use super::{BoardError, BoardOptions};
use crate::function::InterruptKind;
use jitney_designs::{Design, Dma, Facts, Interrupt, Memory, Variant};

/// Device id where the file has none: Vivado's for a 7-series card with a 5 GT/s ×4 link.
const USUAL_DEVICE: u16 = 0x7024;
/// Subsystem ids where the file has none: Vivado's.
const USUAL_SUBSYSTEM: [u16; 2] = [0x10EE, 0x0007];
/// Speed and lanes of a link of which nothing is known.
const USUAL_SPEED: f64 = 5.0;
const USUAL_LANES: u8 = 4;
/// Channels of an XDMA in each direction.
const MOST_CHANNELS: u8 = 4;
/// Bits of data a clock of an engine of which nothing is known.
const USUAL_WIDTH: u16 = 128;
const PAGE: u64 = 4096;

/// What is on the card that is emulated.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Card {
    /// What it is, as people call it.
    pub(super) board: String,
    /// Vendor, device, subsystem vendor and subsystem device.
    pub(super) ids: [u16; 4],
    pub(super) revision: u8,
    /// What its id word reads, if there is one.
    pub(super) word: Option<u32>,
    /// What its version reads, if there is one.
    pub(super) version: Option<u32>,
    /// Channels of its DMA engine, H2C and C2H.
    pub(super) channels: [u8; 2],
    /// Width of the engine's data path in bytes.
    pub(super) data_width: u32,
    pub(super) memory: Vec<Memory>,
    /// The ways in which it can interrupt.
    pub(super) interrupts: Vec<InterruptKind>,
    /// Speed of the link as in its capability, and lanes.
    pub(super) link: (u8, u8),
    /// Lanes of the slot, if fewer.
    pub(super) slot_lanes: Option<u8>,
}

/// What a card is made from: a design, perhaps one of its variants by name, and options.
#[derive(Debug, Clone, Copy)]
pub(super) struct Wish<'a> {
    pub(super) design: &'a Design,
    pub(super) variant: Option<&'a Variant>,
    pub(super) options: &'a BoardOptions,
}

impl Wish<'_> {
    /// The card.
    pub(super) fn card(&self) -> Result<Card, BoardError> {
        let design = self.design;
        // A design with an id word is found by one of those that its variants have.
        let asked = self.variant.or(design.id_word.and_then(|_| design.variants.first()));
        let word = asked.and_then(|variant| variant.word.as_deref()).and_then(word);
        let (revision, version) = self.revision(asked)?;
        let channels = self.channels(asked)?;
        let facts = Facts { word, channels: design.has_xdma().then_some(channels), revision };
        let variant = design.variant(&facts);
        if asked.is_some() && variant != asked {
            let name =
                self.variant.and_then(|variant| variant.name.as_deref()).unwrap_or("the first variant");
            return Err(self.refuse("the variant", name, "with these options it would be another one"));
        }
        Ok(Card {
            board: design.board_of(variant).to_owned(),
            ids: ids(design),
            revision,
            word,
            version,
            channels,
            data_width: u32::from(design.dma.and_then(|dma| dma.width).unwrap_or(USUAL_WIDTH)) / 8,
            memory: self.memory(design.memory_of(variant))?,
            interrupts: self.interrupts()?,
            link: self.link(),
            slot_lanes: self.slot_lanes()?,
        })
    }

    /// An option out of those that the board can have.
    fn refuse(&self, option: &'static str, given: impl ToString, allowed: impl Into<String>) -> BoardError {
        let board = self.variant.and_then(|variant| variant.name.as_ref()).unwrap_or(&self.design.name);
        BoardError::Option { board: board.clone(), option, given: given.to_string(), allowed: allowed.into() }
    }

    /// The PCI revision and the version. The option is the one that tells the design's builds apart.
    fn revision(&self, asked: Option<&Variant>) -> Result<(u8, Option<u32>), BoardError> {
        let design = self.design;
        let place = design.id_word.filter(|word| word.version_offset.is_some());
        let of_variant = asked.map(|variant| &variant.revisions[..]).filter(|own| !own.is_empty());
        let built = of_variant.unwrap_or(&design.revisions);
        let usual = design.usual_revision.filter(|usual| built.is_empty() || built.contains(usual));
        let usual = usual.or(built.first().copied()).unwrap_or(0);
        if let Some(place) = place {
            return Ok((usual, Some(self.options.revision.unwrap_or(place.usual_version))));
        }
        let Some(given) = self.options.revision else { return Ok((usual, None)) };
        let revision = u8::try_from(given)
            .map_err(|_| self.refuse("revision", given, "a PCI revision id is at most 255"))?;
        let by_variants: Vec<u8> = design.variants.iter().flat_map(|own| own.revisions.clone()).collect();
        let all_by_revision = design.variants.iter().all(|own| !own.revisions.is_empty());
        let built = if built.is_empty() && all_by_revision { &by_variants } else { built };
        if built.is_empty() || built.contains(&revision) {
            return Ok((revision, None));
        }
        let there: Vec<_> = built.iter().map(u8::to_string).collect();
        Err(self.refuse("revision", given, format!("there are {}", there.join(", "))))
    }

    /// Channels in each direction.
    fn channels(&self, asked: Option<&Variant>) -> Result<[u8; 2], BoardError> {
        let Some(dma) = self.design.dma.filter(|_| self.design.has_xdma()) else {
            return match self.options.channels {
                Some(given) => Err(self.refuse("a number of channels of", given, "the design has no XDMA")),
                None => Ok([0; 2]),
            };
        };
        let h2c = asked.and_then(|variant| variant.h2c).or(dma.h2c);
        let c2h = asked.and_then(|variant| variant.c2h).or(dma.c2h);
        let Some(given) = self.options.channels else { return Ok([h2c.unwrap_or(1), c2h.unwrap_or(1)]) };
        let built = self.counts(&dma, asked);
        if built.contains(&given) {
            return Ok([given; 2]);
        }
        let counts: Vec<_> = built.iter().map(u8::to_string).collect();
        let allowed = format!("the design was built with {} in each direction", counts.join(" or "));
        Err(self.refuse("a number of channels of", given, allowed))
    }

    /// The numbers of channels with which the design was built, where they are the same both ways.
    fn counts(&self, dma: &Dma, asked: Option<&Variant>) -> Vec<u8> {
        let same = |h2c: Option<u8>, c2h: Option<u8>| h2c.filter(|_| h2c == c2h);
        let variants = self.design.variants.iter().filter(|own| asked.is_none_or(|asked| *own == asked));
        let variants = variants.filter_map(|own| same(own.h2c, own.c2h));
        let design = asked.and_then(|asked| asked.h2c.or(asked.c2h)).is_none();
        let mut built: Vec<u8> = match (same(dma.h2c, dma.c2h), dma.h2c.or(dma.c2h)) {
            (Some(own), _) if design => variants.chain([own]).collect(),
            (None, None) if design => (1..=MOST_CHANNELS).collect(),
            _ => variants.collect(),
        };
        built.sort_unstable();
        built.dedup();
        built
    }

    /// The memories; the option is about the first.
    fn memory(&self, built: &[Memory]) -> Result<Vec<Memory>, BoardError> {
        let mut memory = built.to_vec();
        let Some(size) = self.options.memory else { return Ok(memory) };
        match memory.first_mut().filter(|_| self.design.has_xdma()) {
            None => {
                Err(self.refuse("a memory of", size, "DMA reaches none, and the sizes of its BARs are fixed"))
            }
            Some(_) if size == 0 || !size.is_multiple_of(PAGE) => {
                Err(self.refuse("a memory of", size, "give a multiple of 4096 bytes, not zero"))
            }
            Some(first) => {
                first.size = size;
                Ok(memory)
            }
        }
    }

    /// How it interrupts: in all ways that the design has, or the one that is asked for. A card that cannot interrupt
    /// does so if it is asked for.
    fn interrupts(&self) -> Result<Vec<InterruptKind>, BoardError> {
        match self.options.interrupts {
            Some(InterruptKind::None) => Ok(Vec::new()),
            Some(kind) if !self.design.has_xdma() => {
                Err(self.refuse("interrupts of kind", format!("{kind:?}"), "the design has none"))
            }
            Some(kind) => Ok(vec![kind]),
            None => Ok(self
                .design
                .interrupts()
                .iter()
                .map(|kind| match kind {
                    Interrupt::MsiX => InterruptKind::MsiX,
                    Interrupt::Msi => InterruptKind::Msi,
                    Interrupt::Intx => InterruptKind::Intx,
                })
                .collect()),
        }
    }

    fn link(&self) -> (u8, u8) {
        let link = self.design.link;
        let speed = link.and_then(|link| link.gt_per_s).unwrap_or(USUAL_SPEED);
        // 2.5 GT/s is 1, and each further one about twice as fast (PCI Express Base Specification, "Max Link Speed").
        let code = [5.0, 8.0, 16.0, 32.0, 64.0].iter().filter(|faster| speed >= **faster).count();
        let lanes = link.and_then(|link| link.lanes).unwrap_or(USUAL_LANES);
        (1 + u8::try_from(code).unwrap_or(0), lanes)
    }

    fn slot_lanes(&self) -> Result<Option<u8>, BoardError> {
        let (_, width) = self.link();
        match self.options.lanes {
            Some(lanes) if lanes > width || !lanes.is_power_of_two() => {
                let possible = [1, 2, 4, 8, 16].into_iter().filter(|own| *own <= width);
                let possible: Vec<_> = possible.map(|own| own.to_string()).collect();
                Err(self.refuse("lanes", lanes, format!("{}, and at most {width}", possible.join(", "))))
            }
            lanes => Ok(lanes),
        }
    }
}

fn ids(design: &Design) -> [u16; 4] {
    let pci = design.pci.iter().find(|ids| match design.usual_device {
        Some(usual) => ids.device.is_none_or(|own| own == usual),
        None => true,
    });
    let vendor = pci.map_or(USUAL_SUBSYSTEM[0], |ids| ids.vendor);
    let device = pci.and_then(|ids| ids.device).or(design.usual_device).unwrap_or(USUAL_DEVICE);
    let subsystem = design.subsystem.map_or(USUAL_SUBSYSTEM, |ids| [ids.vendor, ids.device.unwrap_or(0)]);
    [vendor, device, subsystem[0], subsystem[1]]
}

/// The four characters of an id word as the register holds them.
fn word(text: &str) -> Option<u32> {
    Some(u32::from_be_bytes(text.as_bytes().try_into().ok()?))
}
