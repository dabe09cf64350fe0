//! What a boards file has to keep to, beyond its words and types.

mod distinct;
mod dma;
mod peripherals;
mod variants;

use crate::design::{Design, Link, Programmer};
use crate::place::KeyPath;
pub(crate) use distinct::check_distinct;

/// Where the largest peripheral may end: AXI-Lite decodes 32 bits of address.
const LARGEST_BAR: u64 = 1 << 32;
/// Speeds of a lane, in gigatransfers a second (PCI Express Base Specification, "Link Capabilities Register").
const SPEEDS: [f64; 6] = [2.5, 5.0, 8.0, 16.0, 32.0, 64.0];
/// Numbers of lanes that a link can have.
const LANES: [u8; 6] = [1, 2, 4, 8, 12, 16];

/// What is wrong, and at which key of the design (`Complaint::key` is below `design[n]`).
#[derive(Debug)]
pub(crate) struct Complaint {
    pub(crate) key: KeyPath,
    pub(crate) message: String,
}

/// What is said of a name that is none.
const NO_NAME: &str = "a name has 1 to 64 bytes, and none that is a control character, '/' or '#'";

type Check = Result<(), Complaint>;

/// Complains unless `right`.
pub(crate) fn ensure(right: bool, key: impl FnOnce() -> KeyPath, message: impl FnOnce() -> String) -> Check {
    if right { Ok(()) } else { Err(Complaint { key: key(), message: message() }) }
}

/// Checks a design that is at `at` in its file.
pub(crate) fn check(design: &Design, at: &KeyPath) -> Check {
    check_identity(design, at)?;
    dma::check(design, at)?;
    variants::check(design, at)?;
    peripherals::check(design, at)?;
    if let Some(link) = &design.link {
        check_link(link, &at.clone().key("link"))?;
    }
    if let Some(programmer) = &design.programmer {
        check_programmer(programmer, &at.clone().key("programmer"))?;
    }
    design.lay_out(at).map(|_| ())
}

fn check_identity(design: &Design, at: &KeyPath) -> Check {
    let key = |name: &'static str| move || at.clone().key(name);
    check_names(design, at)?;
    ensure(!design.board.trim().is_empty(), key("board"), || "a board has a name".into())?;
    check_fpga(&design.fpga, &at.clone().key("fpga"))?;
    ensure(!design.pci.is_empty(), key("pci"), || "name one pair of ids at least, as \"10ee:7011\"".into())?;
    if let Some(device) = design.usual_device {
        let possible = design.pci.iter().any(|ids| ids.device.is_none_or(|own| own == device));
        ensure(possible, key("usual_device"), || format!("{device:#06x} is none of the device ids in pci"))?;
    }
    if let Some(revision) = design.usual_revision {
        let possible = design.revisions.is_empty() || design.revisions.contains(&revision);
        ensure(possible, key("usual_revision"), || format!("{revision} is none of the revisions"))?;
    }
    ensure(design.class <= 0xff_ffff, key("class"), || {
        format!("{:#x} has more than three bytes; 0x05_0000 is a memory controller", design.class)
    })?;
    let interrupts = design.interrupts.as_deref().unwrap_or_default();
    let once = (1..interrupts.len()).all(|index| !interrupts[..index].contains(&interrupts[index]));
    ensure(once, key("interrupts"), || "one of them is there twice".into())?;
    ensure(interrupts.is_empty() || design.has_xdma(), key("interrupts"), || {
        "only an XDMA interrupts; the design has none".into()
    })
}

/// Parts without package and speed: that is what the ids in bitstreams tell.
fn check_fpga(parts: &[String], at: &KeyPath) -> Check {
    for (index, part) in parts.iter().enumerate() {
        let is_part = part.len() <= LONGEST_NAME
            && part.starts_with("XC")
            && part.bytes().all(|byte| byte.is_ascii_uppercase() || byte.is_ascii_digit());
        ensure(
            is_part,
            || at.clone().index(index),
            || format!("{part:?} is no part like \"XC7A200T\": without package and speed, in capitals"),
        )?;
    }
    Ok(())
}

fn check_names(design: &Design, at: &KeyPath) -> Check {
    let aliases = design.aliases.iter().enumerate();
    let aliases = aliases.map(|(index, name)| (at.clone().key("aliases").index(index), name));
    let variants = design.variants.iter().enumerate();
    let variants = variants.filter_map(|(index, variant)| {
        Some((at.clone().key("variants").index(index).key("name"), variant.name.as_ref()?))
    });
    let own = (at.clone().key("name"), &design.name);
    let mut earlier = Vec::new();
    for (key, name) in std::iter::once(own).chain(aliases).chain(variants) {
        ensure(is_name(name), || key.clone(), || NO_NAME.into())?;
        ensure(!earlier.contains(&name), || key, || format!("{name:?} is a name of this design already"))?;
        earlier.push(name);
    }
    Ok(())
}

/// Names become parts of those of files in memory and of sockets.
const LONGEST_NAME: usize = 64;

/// Whether it can stand on a command line, in a file's name, and after the `#` of `file#name`.
fn is_name(name: &str) -> bool {
    !name.trim().is_empty()
        && name.len() <= LONGEST_NAME
        && !name.chars().any(|c| c.is_control() || c == '/' || c == '#')
}

/// The words become arguments, each one.
fn check_programmer(programmer: &Programmer, at: &KeyPath) -> Check {
    let Programmer { cable, board } = programmer;
    ensure(cable.is_some() || board.is_some(), || at.clone(), || "name a cable or a board".into())?;
    for (key, word) in [("cable", cable), ("board", board)] {
        let is_word = word.as_ref().is_none_or(|word| is_name(word) && !word.starts_with('-'));
        ensure(
            is_word,
            || at.clone().key(key),
            || "a name does not start with '-', and has no '/' or '#'".into(),
        )?;
    }
    Ok(())
}

fn check_link(link: &Link, at: &KeyPath) -> Check {
    let speed = link.gt_per_s.is_none_or(|speed| SPEEDS.contains(&speed));
    ensure(speed, || at.clone().key("gt_per_s"), || "a lane has 2.5, 5, 8, 16, 32 or 64 GT/s".into())?;
    ensure(
        link.lanes.is_none_or(|lanes| LANES.contains(&lanes)),
        || at.clone().key("lanes"),
        || "a link has 1, 2, 4, 8, 12 or 16 lanes".into(),
    )
}
