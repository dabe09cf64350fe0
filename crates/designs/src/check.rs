//! What a boards file has to keep to, beyond its words and types.

use crate::design::{Design, DmaIp, Kind, Peripheral, SYSMON_DIE};
use crate::place::KeyPath;

/// Where the largest peripheral may end: AXI-Lite decodes 32 bits of address.
const LARGEST_BAR: u64 = 1 << 32;

/// What is wrong, and at which key of the design (`Complaint::key` is below `design[n]`).
#[derive(Debug)]
pub(crate) struct Complaint {
    pub(crate) key: KeyPath,
    pub(crate) message: String,
}

type Check = Result<(), Complaint>;

/// Complains unless `right`.
fn ensure(right: bool, key: impl FnOnce() -> KeyPath, message: impl FnOnce() -> String) -> Check {
    if right { Ok(()) } else { Err(Complaint { key: key(), message: message() }) }
}

/// Checks a design that is at `at` in its file.
pub(crate) fn check(design: &Design, at: &KeyPath) -> Check {
    let key = |name: &'static str| move || at.clone().key(name);
    ensure(design.names().all(|name| !name.trim().is_empty()), key("name"), || "a name is empty".into())?;
    ensure(!design.pci.is_empty(), key("pci"), || "name one pair of ids at least, as \"10ee:7011\"".into())?;
    if let Some(dma) = design.dma {
        ensure(dma.bar < 6, key("dma"), || format!("there is no BAR {}; a card has BARs 0 to 5", dma.bar))?;
        let most = dma.h2c.max(dma.c2h);
        ensure(dma.ip != DmaIp::Xdma || most <= Some(4), key("dma"), || {
            "an XDMA has 4 channels in each direction at most".into()
        })?;
    }
    if let Some(word) = design.id_word {
        let offsets = [Some(word.offset), word.version_offset];
        let fits = |offset: u64| offset.is_multiple_of(4) && offset < LARGEST_BAR;
        ensure(word.bar < 6 && offsets.into_iter().flatten().all(fits), key("id_word"), || {
            "it has to be in BAR 0 to 5, at a multiple of 4 bytes".into()
        })?;
        let expected =
            !design.variants.is_empty() && design.variants.iter().all(|variant| variant.word.is_some());
        ensure(expected, key("id_word"), || {
            "it needs variants, each of which says which word it expects".into()
        })?;
    }
    check_memory(design, at)?;
    check_variants(design, at)?;
    check_peripherals(design, at)
}

fn check_memory(design: &Design, at: &KeyPath) -> Check {
    let own = design.memory.map(|memory| (memory, at.clone()));
    let of_variants = design.variants.iter().enumerate();
    let of_variants = of_variants.filter_map(|(index, variant)| {
        variant.memory.map(|memory| (memory, at.clone().key("variants").index(index)))
    });
    for (memory, place) in own.into_iter().chain(of_variants) {
        let fits = memory.size > 0 && memory.base.checked_add(memory.size - 1).is_some();
        ensure(fits, || place.key("memory"), || "it has no bytes, or ends beyond 2^64".into())?;
    }
    Ok(())
}

fn check_variants(design: &Design, at: &KeyPath) -> Check {
    let driven = design.dma.is_some_and(|dma| dma.ip == DmaIp::Xdma);
    for (index, variant) in design.variants.iter().enumerate() {
        let place = at.clone().key("variants").index(index);
        let by_channels = variant.h2c.is_some() || variant.c2h.is_some();
        let conditional = variant.word.is_some() || !variant.revisions.is_empty() || by_channels;
        ensure(conditional, || place.clone(), || "it needs a condition: word, revisions, h2c or c2h".into())?;
        if let Some(word) = &variant.word {
            let readable =
                word.len() == 4 && word.bytes().all(|byte| byte.is_ascii_graphic() || byte == b' ');
            ensure(
                readable,
                || place.clone().key("word"),
                || format!("{word:?} is not four ASCII characters"),
            )?;
            ensure(
                design.id_word.is_some(),
                || place.clone().key("word"),
                || "the design has no id_word that says where to read it".into(),
            )?;
        }
        let field = if variant.h2c.is_some() { "h2c" } else { "c2h" };
        ensure(!by_channels || driven, || place.key(field), || "the design has no XDMA".into())?;
    }
    Ok(())
}

fn check_peripherals(design: &Design, at: &KeyPath) -> Check {
    for (index, peripheral) in design.peripherals.iter().enumerate() {
        let place = at.clone().key("peripherals").index(index);
        check_peripheral(peripheral, &place)?;
        ensure(
            design.dma.is_none_or(|dma| dma.bar != peripheral.bar),
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

fn check_peripheral(peripheral: &Peripheral, place: &KeyPath) -> Check {
    let key = |name: &'static str| move || place.clone().key(name);
    let Peripheral { kind, bar, offset, size, ports, slaves, .. } = *peripheral;
    ensure(bar < 6, key("bar"), || format!("there is no BAR {bar}; a card has BARs 0 to 5"))?;
    ensure(offset.is_multiple_of(4), key("offset"), || format!("{offset:#x} is no multiple of 4"))?;
    ensure(size > 0 && size.is_multiple_of(4), key("size"), || {
        format!("{size:#x} is no multiple of 4 above 0")
    })?;
    let end = offset.checked_add(size);
    ensure(end.is_some_and(|end| end <= LARGEST_BAR), key("offset"), || {
        format!("{size:#x} bytes at {offset:#x} end beyond 4 GiB, where no BAR of registers does")
    })?;
    ensure(ports == 0 || (kind == Kind::StreamSwitch && ports <= 16), key("ports"), || {
        "only a stream-switch has ports, 16 at most".into()
    })?;
    ensure(kind != Kind::StreamSwitch || ports > 0, key("ports"), || "say how many it has".into())?;
    ensure(slaves == 0 || kind == Kind::Sysmon, key("slaves"), || "only a sysmon has slaves".into())?;
    let dies = u64::from(slaves) + 1;
    ensure(slaves == 0 || size >= dies * SYSMON_DIE, key("size"), || {
        format!("the registers of {dies} dies need {:#x} bytes", dies * SYSMON_DIE)
    })
}

fn overlap(a: &Peripheral, b: &Peripheral) -> bool {
    a.bar == b.bar && a.offset < b.offset + b.size && b.offset < a.offset + a.size
}

/// Checks that no card can be both `design`, which is at `at`, and `earlier`, and that they have no name in common.
pub(crate) fn check_distinct(design: &Design, at: &KeyPath, earlier: &Design) -> Check {
    if let Some(name) = design.names().find(|name| earlier.is_named(name)) {
        let message = format!("there is a design {name:?} already");
        return Err(Complaint { key: at.clone().key("name"), message });
    }
    ensure(
        !same_card(design, earlier),
        || at.clone().key("pci"),
        || {
            format!(
                "a card with these ids could be {:?} too; tell them apart by subsystem or revisions",
                earlier.name
            )
        },
    )
}

fn same_card(a: &Design, b: &Design) -> bool {
    let ids = a.pci.iter().any(|one| b.pci.iter().any(|other| one.overlaps(*other)));
    let subsystem = match (a.subsystem, b.subsystem) {
        (Some(one), Some(other)) => one.overlaps(other),
        _ => true,
    };
    let revision = a.revisions.is_empty()
        || b.revisions.is_empty()
        || a.revisions.iter().any(|revision| b.revisions.contains(revision));
    ids && subsystem && revision
}
