//! The peripherals: where they are, and what only some kinds have.

use super::{Check, Complaint, LARGEST_BAR, NO_NAME, ensure, is_name};
use crate::bars::no_such_bar;
use crate::design::{Design, SYSMON_DIE};
use crate::peripheral::{I2cDevice, Kind, Peripheral, Pins};
use crate::place::KeyPath;

/// What an output of an LTM4676A can give (data sheet, "Output voltage range").
const MOST_MILLIVOLTS: u16 = 5500;

pub(super) fn check(design: &Design, at: &KeyPath) -> Check {
    for (index, peripheral) in design.peripherals.iter().enumerate() {
        let place = at.clone().key("peripherals").index(index);
        check_place(peripheral, &place)?;
        check_details(peripheral, &place)?;
        check_i2c(peripheral, &place)?;
        check_leds(peripheral, &place)?;
        if let Some(name) = &peripheral.name {
            let key = || place.clone().key("name");
            ensure(is_name(name), key, || NO_NAME.into())?;
            let again = design.peripherals[..index].iter().any(|other| other.name.as_ref() == Some(name));
            ensure(!again, key, || format!("there is a peripheral {name:?} already"))?;
        }
        let versioned = design.id_word.is_some_and(|word| word.version_offset.is_some());
        let key = || place.clone().key("sequencer_from_version");
        ensure(peripheral.sequencer_from_version == 0 || versioned, key, || {
            "the design has no id_word with a version_offset".into()
        })?;
        ensure(
            design.dma.is_none_or(|dma| !dma.uses(peripheral.bar)),
            || place.clone().key("bar"),
            || format!("BAR {} is the DMA engine's", peripheral.bar),
        )?;
        let overlapping = design.peripherals[..index].iter().find(|other| overlap(other, peripheral));
        if let Some(other) = overlapping {
            let message = format!(
                "the {} at {:#x} overlaps the {} at {:#x}, which has {:#x} bytes",
                peripheral.kind, peripheral.offset, other.kind, other.offset, other.size
            );
            return Err(Complaint { key: place.key("offset"), message });
        }
    }
    Ok(())
}

fn check_place(peripheral: &Peripheral, place: &KeyPath) -> Check {
    let key = |name: &'static str| move || place.clone().key(name);
    let Peripheral { bar, offset, size, .. } = *peripheral;
    ensure(bar < 6, key("bar"), || no_such_bar(bar))?;
    ensure(offset.is_multiple_of(4), key("offset"), || format!("{offset:#x} is no multiple of 4"))?;
    ensure(size > 0 && size.is_multiple_of(4), key("size"), || {
        format!("{size:#x} is no multiple of 4 above 0")
    })?;
    let end = offset.checked_add(size);
    ensure(end.is_some_and(|end| end <= LARGEST_BAR), key("offset"), || {
        format!("{size:#x} bytes at {offset:#x} end beyond 4 GiB, where no BAR of registers does")
    })
}

fn check_details(peripheral: &Peripheral, place: &KeyPath) -> Check {
    let key = |name: &'static str| move || place.clone().key(name);
    let Peripheral { kind, size, ports, slaves, .. } = *peripheral;
    ensure(ports == 0 || (kind == Kind::StreamSwitch && ports <= 16), key("ports"), || {
        "only a stream-switch has ports, 16 at most".into()
    })?;
    ensure(kind != Kind::StreamSwitch || ports > 0, key("ports"), || "say how many it has".into())?;
    ensure(slaves == 0 || kind == Kind::Sysmon, key("slaves"), || "only a sysmon has slaves".into())?;
    let dies = u64::from(slaves) + 1;
    ensure(slaves == 0 || size >= dies * SYSMON_DIE, key("size"), || {
        format!("the registers of {dies} dies need {:#x} bytes", dies * SYSMON_DIE)
    })?;
    let most = kind.words(size);
    ensure(peripheral.words.len() as u64 <= most, key("words"), || {
        format!("a {kind} of {size:#x} bytes has {most} words that a boards file can say")
    })?;
    ensure(peripheral.pins.is_empty() || kind == Kind::AxiGpio, key("pins"), || {
        "only an axi-gpio has pins".into()
    })?;
    ensure(peripheral.pins.len() <= 2, key("pins"), || "an axi-gpio has two channels at most".into())?;
    ensure(peripheral.flash.is_none() || kind == Kind::QuadSpi, key("flash"), || {
        "only a quad-spi has a flash on its bus".into()
    })?;
    ensure(
        peripheral.sequencer_from_version == 0 || kind == Kind::Xadc,
        key("sequencer_from_version"),
        || "only an xadc has a sequencer".into(),
    )
}

fn check_i2c(peripheral: &Peripheral, place: &KeyPath) -> Check {
    let key = || place.clone().key("i2c");
    ensure(peripheral.i2c.is_empty() || peripheral.kind == Kind::Iic, key, || {
        "only an iic has devices on a bus".into()
    })?;
    for (index, device) in peripheral.i2c.iter().enumerate() {
        let outputs = device.device.outputs();
        ensure(
            device.millivolts.len() <= outputs,
            || key().index(index).key("millivolts"),
            || format!("a {} has {outputs} outputs", device.device),
        )?;
        ensure(
            device.millivolts.iter().all(|own| *own <= MOST_MILLIVOLTS),
            || key().index(index).key("millivolts"),
            || format!("a {} gives {MOST_MILLIVOLTS} mV at most", device.device),
        )?;
        let key = || key().index(index).key("address");
        let address = device.address;
        ensure(I2cDevice::is_address(address), key, || {
            format!(
                "{address:#04x} is no address of a device: they have 0x08 to 0x77, without the bit for reading"
            )
        })?;
        let again = peripheral.i2c[..index].iter().any(|other| other.address == address);
        ensure(!again, key, || format!("there is a device at {address:#04x} already"))?;
    }
    Ok(())
}

fn check_leds(peripheral: &Peripheral, place: &KeyPath) -> Check {
    let key = || place.clone().key("leds");
    ensure(peripheral.leds.is_empty() || peripheral.kind == Kind::AxiGpio, key, || {
        "only an axi-gpio drives LEDs".into()
    })?;
    for (index, led) in peripheral.leds.iter().enumerate() {
        let key = |name: &'static str| move || key().index(index).key(name);
        ensure([1, 2].contains(&led.channel), key("channel"), || "an axi-gpio has channels 1 and 2".into())?;
        ensure(led.bit < 32, key("bit"), || "a channel has pins 0 to 31".into())?;
        let pins = peripheral.pins.get(usize::from(led.channel) - 1);
        ensure(pins != Some(&Pins::Inputs), key("channel"), || "the pins of that channel are inputs".into())?;
        let there = peripheral.pins.len() != 1 || led.channel == 1;
        ensure(there, key("channel"), || "pins says that there is no second channel".into())?;
        let again =
            peripheral.leds[..index].iter().any(|other| (other.channel, other.bit) == (led.channel, led.bit));
        ensure(!again, key("bit"), || "that LED is there already".into())?;
    }
    Ok(())
}

fn overlap(a: &Peripheral, b: &Peripheral) -> bool {
    a.bar == b.bar && a.offset < b.offset + b.size && b.offset < a.offset + a.size
}
