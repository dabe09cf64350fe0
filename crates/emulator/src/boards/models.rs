//! Which model stands for a peripheral of a design.

use super::card::Card;
use super::{BoardError, BoardOptions};
use crate::axi::{
    Cmac, Cms, Gpio, GpioChannel, Iic, Image, Peripheral as Model, PlainRegisters, QuadSpi, Sysmon, Xadc,
};
use crate::fault::Faults;
use crate::i2c::Bus;
use crate::spi::nor::NorFlash;
use crate::stream::Switch;
use jitney_designs::{IdWord, Kind, Peripheral, Pins};
use std::sync::Arc;

/// The time stamp of a design that does not say when it was built: 2000-01-01 00:00:00.
const NO_TIME: u32 = 1 << 27 | 1 << 23;
/// The DNA of an FPGA that has none of its own.
const NO_DNA: [u32; 3] = [0x4002_0000, 0x0000_0000, 0x0000_0001];

/// Whether there is a model of peripherals of this kind; the others are plain registers.
pub(super) const fn has_model(kind: Kind) -> bool {
    matches!(
        kind,
        Kind::AxiGpio
            | Kind::Xadc
            | Kind::Sysmon
            | Kind::QuadSpi
            | Kind::UserAccess
            | Kind::DdrStatus
            | Kind::Dna
            | Kind::StreamSwitch
            | Kind::Cmac
            | Kind::Cms
            | Kind::Iic
            | Kind::Ram
    )
}

/// The model of a peripheral; memory is none.
pub(super) fn model(
    peripheral: &Peripheral,
    card: &Card,
    id_word: Option<IdWord>,
    options: &BoardOptions,
    faults: &Arc<Faults>,
) -> Result<Arc<dyn Model>, BoardError> {
    let words = &peripheral.words;
    Ok(match peripheral.kind {
        Kind::AxiGpio => Arc::new(gpio(peripheral, card, id_word)),
        Kind::Xadc => {
            let rebuilt = card.version.unwrap_or(u32::MAX) >= peripheral.sequencer_from_version;
            Arc::new(Xadc::new(if rebuilt { Image::Sequenced } else { Image::Factory }))
        }
        Kind::Sysmon => Arc::new(Sysmon::new(peripheral.slaves)),
        Kind::QuadSpi => Arc::new(quad_spi(peripheral, options)?),
        Kind::Cmac => Arc::new(Cmac::default()),
        Kind::Cms => Arc::new(Cms::new(Arc::clone(faults))),
        Kind::Iic => Arc::new(Iic::new(Bus::of(&peripheral.i2c), Arc::clone(faults))),
        Kind::UserAccess => {
            let time = words.first().copied().unwrap_or(NO_TIME);
            Arc::new(Gpio::new("user-access", GpioChannel::inputs(time), None))
        }
        Kind::Dna => {
            let plain = PlainRegisters::new(peripheral.size, &[])?;
            let words = if words.is_empty() { &NO_DNA[..] } else { words };
            let words = words.iter().zip((0..).step_by(4));
            Arc::new(words.fold(plain, |plain, (word, offset)| plain.with_constant(offset, *word)))
        }
        // A switch that joins nothing: there are no streams, or it is not the only one.
        Kind::StreamSwitch => Arc::new(Switch::new(peripheral.ports.into(), peripheral.ports.into())),
        _ => {
            let plain = PlainRegisters::new(peripheral.size, words)?;
            let constants = id_words(card, id_word).filter_map(|(bar, offset, value)| {
                let inside = peripheral.contains(bar, offset).then(|| offset - peripheral.offset)?;
                Some((u32::try_from(inside).ok()?, value))
            });
            Arc::new(constants.fold(plain, |plain, (offset, value)| plain.with_constant(offset, value)))
        }
    })
}

/// With the flash that the design says, or nothing on its bus.
fn quad_spi(peripheral: &Peripheral, options: &BoardOptions) -> Result<QuadSpi, BoardError> {
    Ok(match (peripheral.flash, &options.flash) {
        (Some(part), Some(file)) => QuadSpi::with_flash(NorFlash::in_file(part, file)?),
        (Some(part), None) => QuadSpi::with_flash(NorFlash::new(part)),
        (None, _) => QuadSpi::default(),
    })
}

/// The id word and the version: BAR, offset in it and value.
pub(super) fn id_words(card: &Card, place: Option<IdWord>) -> impl Iterator<Item = (u8, u64, u32)> {
    let word = place.zip(card.word).map(|(place, word)| (place.bar, place.offset, word));
    let version = place
        .zip(card.version)
        .and_then(|(place, version)| Some((place.bar, place.version_offset?, version)));
    word.into_iter().chain(version)
}

fn gpio(peripheral: &Peripheral, card: &Card, id_word: Option<IdWord>) -> Gpio {
    let channel = |index: u8| {
        let at = peripheral.offset + 8 * u64::from(index);
        let identity =
            id_words(card, id_word).find(|(bar, offset, _)| (*bar, *offset) == (peripheral.bar, at));
        if let Some((_, _, value)) = identity {
            return GpioChannel::inputs(value);
        }
        let index = usize::from(index);
        let level = peripheral.words.get(index).copied().unwrap_or(0);
        match peripheral.pins.get(index) {
            Some(Pins::Inputs) => GpioChannel::inputs(level),
            Some(Pins::Outputs) => GpioChannel::outputs(),
            Some(Pins::Both) | None => GpioChannel::programmable(level),
        }
    };
    let name =
        peripheral.name.clone().unwrap_or_else(|| format!("{} {:#x}", peripheral.kind, peripheral.offset));
    // A design that says what its one channel's pins are has no second one.
    let second = (peripheral.pins.len() != 1).then(|| channel(1));
    Gpio::new(name, channel(0), second)
}
