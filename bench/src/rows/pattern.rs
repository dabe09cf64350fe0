//! The test pattern, filled and compared, beside the plain loop of one word at a time over the same memory.
//!
//! Memory that a card writes to is never a slice, so the plain loop stores and loads words. Over a slice it would not be
//! the plain loop any more: LLVM makes several words at a time of it by itself.

use super::Wish;
use crate::figure::{Bar, Figure, Unit};
use crate::rounds::{Rounds, timed};
use anyhow::ensure;
use jitney_memory::{Access, AccessError, Mapping, Memfd, PageSize};
use jitney_pattern::Pattern;
use std::time::Duration;

/// The memory of a NiteFury, and that of a TEF1001 with block RAM.
const SIZES: [(usize, &str); 2] = [(1 << 30, "1 GiB"), (0x12_8000, "0x128000 bytes")];

/// Bytes that a measurement handles at least, so that it is long enough for the clock.
const AT_LEAST: usize = 256 << 20;

pub(super) fn measure(wish: Wish) -> anyhow::Result<Vec<Figure>> {
    let mut figures = Vec::new();
    for (size, name) in SIZES {
        figures.extend(measure_size(size, name, wish)?);
    }
    Ok(figures)
}

fn measure_size(size: usize, name: &str, wish: Wish) -> anyhow::Result<[Figure; 2]> {
    // What a DMA buffer is made of.
    let file = Memfd::create("jitney-bench", size as u64, PageSize::Normal)?;
    let memory = Mapping::shared(&file, 0, size, Access::ReadWrite)?;
    let times = (AT_LEAST / size).max(1);
    let rounds = Rounds::measure(
        &format!("test pattern in {name}"),
        wish.rounds(9),
        [
            &mut || repeat(times, || Ok(Pattern::starting_at(0).fill(&memory, 0, size as u64)?)),
            &mut || repeat(times, || Ok(plain_fill(&memory)?)),
            &mut || {
                repeat(times, || {
                    let mismatch = Pattern::starting_at(0).compare(&memory, 0, size as u64)?;
                    ensure!(mismatch.is_none(), "the pattern does not match itself");
                    Ok(())
                })
            },
            &mut || {
                repeat(times, || {
                    ensure!(plain_compare(&memory)? == 0, "the pattern does not match itself");
                    Ok(())
                })
            },
        ],
    )?;
    let rate = |side| (size * times) as f64 / 1e9 / rounds.seconds(side);
    let figure = |what, side| Figure {
        what: format!("{what} the test pattern in {name} ÷ the plain loop"),
        measured: 1.0 / rounds.ratio(side, side + 1),
        unit: Unit::Ratio,
        bar: Bar::AtLeast(3.0),
        detail: format!("{:.2} and {:.2} GB/s", rate(side), rate(side + 1)),
    };
    Ok([figure("filling", 0), figure("comparing", 2)])
}

fn repeat(times: usize, mut work: impl FnMut() -> anyhow::Result<()>) -> anyhow::Result<Duration> {
    timed(|| (0..times).try_for_each(|_| work()))
}

fn plain_fill(memory: &Mapping) -> Result<(), AccessError> {
    let mut pattern = Pattern::starting_at(0);
    for offset in (0..memory.len() as u64).step_by(4) {
        memory.store32(offset, pattern.next_word())?;
    }
    Ok(())
}

/// How many words are wrong.
fn plain_compare(memory: &Mapping) -> Result<u64, AccessError> {
    let mut pattern = Pattern::starting_at(0);
    let mut wrong = 0;
    for offset in (0..memory.len() as u64).step_by(4) {
        if memory.load32(offset)? != pattern.next_word() {
            wrong += 1;
        }
    }
    Ok(wrong)
}
