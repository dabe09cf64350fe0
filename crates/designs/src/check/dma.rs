//! The DMA engine and the memory that it reaches.

use super::{Check, ensure};
use crate::bars::no_such_bar;
use crate::design::Design;
use crate::dma::{Bypass, Dma, DmaIp, Interface};
use crate::memory::Memory;
use crate::place::KeyPath;

/// Widths of an AXI data path that an XDMA can have, in bits (PG195, "AXI Data Width").
const WIDTHS: [u16; 4] = [64, 128, 256, 512];
/// Channels of an XDMA in each direction, at most (PG195).
const CHANNELS: u8 = 4;
/// User interrupts of an XDMA, at most (PG195, "Number of User Interrupt Request").
const USER_INTERRUPTS: u8 = 16;

/// Ranges of addresses on an AXI bus begin and end at multiples of this many bytes, so that no burst leaves one.
const PAGE: u64 = 4096;

/// What is said of memory where there can be none.
const STREAMS: &str = "its DMA engine moves streams, which have no addresses";

pub(super) fn check(design: &Design, at: &KeyPath) -> Check {
    if let Some(dma) = &design.dma {
        check_engine(dma, &at.clone().key("dma"))?;
        if let Some(bypass) = &dma.bypass {
            check_bypass(design, dma, bypass, &at.clone().key("dma"))?;
        }
    }
    check_memories(design, at)
}

fn check_engine(dma: &Dma, at: &KeyPath) -> Check {
    let key = |name: &'static str| move || at.clone().key(name);
    ensure(dma.bar < 6, key("bar"), || no_such_bar(dma.bar))?;
    let xdma = dma.ip == DmaIp::Xdma;
    for (name, count) in [("h2c", dma.h2c), ("c2h", dma.c2h)] {
        ensure(!xdma || count <= Some(CHANNELS), key(name), || {
            format!("an XDMA has {CHANNELS} channels in each direction at most")
        })?;
    }
    ensure(!xdma || (dma.h2c, dma.c2h) != (Some(0), Some(0)), key("h2c"), || {
        "a DMA engine has a channel at least".into()
    })?;
    ensure(dma.width.is_none_or(|width| WIDTHS.contains(&width)), key("width"), || {
        "a data path has 64, 128, 256 or 512 bits".into()
    })?;
    ensure(dma.stream.is_none() || dma.has_streams(), key("stream"), || {
        "only an XDMA whose interface is \"stream\" has streams to join".into()
    })?;
    ensure(dma.user_interrupts.is_none() || xdma, key("user_interrupts"), || {
        "only an XDMA has user interrupts".into()
    })?;
    ensure(dma.user_interrupts <= Some(USER_INTERRUPTS), key("user_interrupts"), || {
        format!("an XDMA has {USER_INTERRUPTS} user interrupts at most")
    })
}

fn check_bypass(design: &Design, dma: &Dma, bypass: &Bypass, at: &KeyPath) -> Check {
    let key = |name: &'static str| || at.clone().key("bypass").key(name);
    ensure(dma.ip == DmaIp::Xdma, || at.clone().key("bypass"), || "only an XDMA has a bypass BAR".into())?;
    ensure(!dma.has_streams(), || at.clone().key("bypass"), || STREAMS.into())?;
    ensure(bypass.bar < 6, key("bar"), || no_such_bar(bypass.bar))?;
    ensure(bypass.bar != dma.bar, key("bar"), || format!("BAR {} is the DMA engine's", dma.bar))?;
    ensure(bypass.size.is_some() || !design.memory.is_empty(), key("size"), || {
        "the design has no memory of its own; say how large the window is".into()
    })?;
    let whole = bypass.size.is_none_or(u64::is_power_of_two);
    ensure(whole, key("size"), || "it is no power of two".into())?;
    let window = design.bypass_window();
    let fits = window.is_some_and(|(_, base, size)| base.checked_add(size - 1).is_some());
    ensure(fits, key("base"), || "the window ends beyond 2^64".into())
}

fn check_memories(design: &Design, at: &KeyPath) -> Check {
    check_list(&design.memory, at)?;
    for (index, variant) in design.variants.iter().enumerate() {
        check_list(&variant.memory, &at.clone().key("variants").index(index))?;
    }
    let some = !design.memory.is_empty() || design.variants.iter().any(|variant| !variant.memory.is_empty());
    let streams = design.dma.is_some_and(|dma| dma.interface == Some(Interface::Stream));
    ensure(!some || !streams, || at.clone().key("memory"), || STREAMS.into())
}

/// What no card comes near, and a process can still have of addresses.
const LARGEST_MEMORY: u64 = 16 << 40;

/// Checks the memories of a table that is at `at`.
fn check_list(memory: &[Memory], at: &KeyPath) -> Check {
    for (index, own) in memory.iter().enumerate() {
        let key = || match memory {
            [_] => at.clone().key("memory"),
            _ => at.clone().key("memory").index(index),
        };
        ensure(own.last().is_some(), key, || "it has no bytes, or ends beyond 2^64".into())?;
        ensure(own.size <= LARGEST_MEMORY, key, || "no card has more than 16 TiB".into())?;
        let pages = own.base.is_multiple_of(PAGE) && own.size.is_multiple_of(PAGE);
        ensure(pages, key, || "it begins and ends at multiples of 4 KiB, as ranges of an AXI bus do".into())?;
        let apart = memory[..index].iter().all(|other| {
            other.last().is_some_and(|last| last < own.base)
                || own.last().is_some_and(|last| last < other.base)
        });
        ensure(apart, key, || format!("the memory at {:#x} overlaps an earlier one", own.base))?;
    }
    Ok(())
}
