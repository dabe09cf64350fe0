//! The test pattern, filled and compared, beside the plain loop of one word at a time.

use super::Wish;
use crate::figure::{Bar, Figure, Unit};
use crate::rounds::{Rounds, timed};
use anyhow::ensure;
use jitney_memory::{Access, Mapping, Memfd, PageSize};
use jitney_pattern::Pattern;
use std::hint::black_box;
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
    // What a DMA buffer is made of, and for the plain loop memory as a program has it.
    let file = Memfd::create("jitney-bench", size as u64, PageSize::Normal)?;
    let memory = Mapping::shared(&file, 0, size, Access::ReadWrite)?;
    let mut words = vec![0u32; size / 4];
    let times = (AT_LEAST / size).max(1);
    let mut plain_words = words.clone();
    plain_fill(&mut plain_words);
    let rounds = Rounds::measure(
        &format!("test pattern in {name}"),
        wish.rounds(9),
        [
            &mut || repeat(times, || Ok(Pattern::starting_at(0).fill(&memory, 0, size as u64)?)),
            &mut || {
                repeat(times, || {
                    plain_fill(&mut words);
                    Ok(())
                })
            },
            &mut || {
                repeat(times, || {
                    let mismatch = Pattern::starting_at(0).compare(&memory, 0, size as u64)?;
                    ensure!(mismatch.is_none(), "the pattern does not match itself");
                    Ok(())
                })
            },
            &mut || {
                repeat(times, || {
                    ensure!(plain_compare(&plain_words) == 0, "the pattern does not match itself");
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

#[inline(never)]
fn plain_fill(words: &mut [u32]) {
    let mut pattern = Pattern::starting_at(0);
    for word in black_box(words) {
        *word = pattern.next_word();
    }
}

/// How many words are wrong.
#[inline(never)]
fn plain_compare(words: &[u32]) -> u64 {
    let mut pattern = Pattern::starting_at(0);
    let mut wrong = 0;
    for &word in black_box(words) {
        if word != pattern.next_word() {
            wrong += 1;
        }
    }
    wrong
}
