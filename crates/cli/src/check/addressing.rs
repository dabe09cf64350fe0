//! `jitney test addressing`: whether each place of a memory is a place of its own.

use super::verdict::Found;
use crate::args::{Dma, Selection};
use crate::cards::Session;
use crate::channels;
use crate::report::Report;
use crate::size::human;
use crate::status::Status;
use crate::targets::{self, nothing_tested};
use clap::Args;
use jitney_boards::{Board, Memory};
use jitney_xdma::{C2h, H2c};
use schemars::JsonSchema;
use serde::Serialize;

const HELP: &str = "\
Examples:
  jitney test addressing --emulate nitefury
  jitney test addressing --only 10ee:9038

Writes its own address to the first bytes, to those at each power of two, and to the last ones, of each memory, and reads all of \
them: an address line that is missing or joined to another shows in milliseconds. What was there before is put back.";

#[derive(Debug, Args)]
#[command(after_help = HELP)]
pub(crate) struct Addressing {
    #[command(flatten)]
    selection: Selection,
    #[command(flatten)]
    dma: Dma,
}

/// How it went on one board.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct Outcome {
    memories: Vec<Tested>,
}

/// How it went with one memory.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct Tested {
    base: u64,
    size: u64,
    /// How many addresses were tried.
    places: usize,
    /// What is wrong, in words.
    failures: Vec<String>,
}

pub(crate) fn addressing(args: &Addressing, json: bool) -> anyhow::Result<Status> {
    let mut report = Report::new(json);
    let session = Session::open(&args.selection)?;
    let targets = targets::find(&session, &args.selection, &report, targets::has_memory)?;
    if targets.boards.is_empty() {
        return nothing_tested("board with memory that DMA reaches", json);
    }
    let outcomes = targets.each(&mut report, |board, report| {
        let outcome = test(board, args.dma)?;
        for tested in &outcome.memories {
            let Tested { base, size, places, failures } = tested;
            let (name, identity) = (board.name(), board.card().identity());
            let memory = format!("{} at {base:#x} of {name} at {identity}", human(*size));
            match failures.is_empty() {
                true => report.line(format!("{memory}: {places} addresses, each a place of its own")),
                false => failures.iter().for_each(|failure| report.line(format!("{memory}: {failure}"))),
            }
        }
        Ok(outcome)
    });
    report.finish(&outcomes)?;
    let failed = |one: &targets::OnBoard<Outcome>| {
        one.failed(|outcome| outcome.memories.iter().any(|tested| !tested.failures.is_empty()))
    };
    Ok(targets.status(outcomes.iter().any(failed)))
}

/// As one check of several.
pub(crate) fn check(board: &Board, dma: Dma) -> anyhow::Result<Found> {
    let outcome = test(board, dma)?;
    let failures: Vec<&str> =
        outcome.memories.iter().flat_map(|tested| &tested.failures).map(String::as_str).collect();
    let places: usize = outcome.memories.iter().map(|tested| tested.places).sum();
    Ok(match failures.is_empty() {
        true => Found::Good(format!("{places} addresses, each a place of its own")),
        false => Found::Bad(failures.join("; ")),
    })
}

fn test(board: &Board, dma: Dma) -> anyhow::Result<Outcome> {
    let (h2c, c2h) = channels::open(&board.xdma()?, dma)?;
    let memories = board.memories().iter().map(|memory| test_memory(&h2c, &c2h, *memory));
    Ok(Outcome { memories: memories.collect::<anyhow::Result<_>>()? })
}

/// Bytes at each place: as many as the widest data path has.
const WORD: usize = 64;

fn test_memory(h2c: &H2c, c2h: &C2h, memory: Memory) -> anyhow::Result<Tested> {
    let places: Vec<u64> = places(memory.size).map(|offset| memory.base + offset).collect();
    let read = |place: u64| {
        let mut word = [0; WORD];
        c2h.read_bytes(&mut word, place).map(|()| word)
    };
    let before = places.iter().map(|place| read(*place)).collect::<Result<Vec<_>, _>>()?;
    let write = |place: u64, word: &[u8]| h2c.write_bytes(word, place);
    let tried = try_places(write, read, &places);
    // Whatever was found, and in the opposite order, so that a place that is another one too gets its own last.
    for (place, word) in places.iter().zip(&before).rev() {
        h2c.write_bytes(word, *place)?;
    }
    Ok(Tested { base: memory.base, size: memory.size, places: places.len(), failures: tried? })
}

/// What is wrong with the places, in words.
fn try_places<E>(
    mut write: impl FnMut(u64, &[u8]) -> Result<(), E>,
    read: impl Fn(u64) -> Result<[u8; WORD], E>,
    places: &[u64],
) -> Result<Vec<String>, E> {
    // Both ways round: what was written last wins where two are one.
    let mut failures = Vec::new();
    let order: [Vec<u64>; 2] = [places.to_vec(), places.iter().rev().copied().collect()];
    for (round, order) in (0..).zip(order) {
        for place in &order {
            write(*place, &marker(*place, round))?;
        }
        for place in places {
            let word = read(*place)?;
            if word == marker(*place, round) {
                continue;
            }
            let other = places.iter().find(|other| word == marker(**other, round));
            failures.push(match other {
                Some(other) => format!(
                    "{place:#x} and {other:#x} are one place: they differ in address bit {}",
                    (place ^ other).trailing_zeros()
                ),
                None => format!("{place:#x} does not keep what is written to it: {:02x?}", &word[..16]),
            });
        }
        if !failures.is_empty() {
            break;
        }
    }
    Ok(failures)
}

/// The first word, that at each power of two, and the last.
fn places(size: u64) -> impl Iterator<Item = u64> {
    let word = WORD as u64;
    let powers = (6..63).map(|bit| 1 << bit).filter(move |offset| *offset + word <= size);
    let last = size.saturating_sub(word);
    std::iter::once(0).chain(powers).chain((!last.is_power_of_two() && last > word).then_some(last))
}

/// What is written to a place and to no other: its address, and what makes all bits differ in the next round.
fn marker(place: u64, round: u64) -> [u8; WORD] {
    let mut word = [0; WORD];
    for (index, part) in (0_u64..).zip(word.chunks_exact_mut(8)) {
        let value = place.wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(11) ^ place ^ index << 56;
        let value = if round == 0 { value } else { !value };
        part.copy_from_slice(&value.to_le_bytes());
    }
    word
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_address_line_is_tried_and_the_end() {
        let offsets: Vec<u64> = places(0x128000).collect();
        assert_eq!((offsets[0], offsets[1], *offsets.last().unwrap()), (0, 64, 0x128000 - 64));
        assert!(offsets.contains(&0x10_0000) && offsets.iter().all(|offset| offset + 64 <= 0x128000));
        assert_eq!(places(64).collect::<Vec<_>>(), [0]);
        assert_eq!(places(1 << 36).count(), 1 + 30 + 1);
    }

    #[test]
    fn a_missing_address_line_and_a_stuck_bit_are_named() {
        use std::cell::RefCell;
        let try_with = |line: u64, stuck: Option<usize>| {
            let memory = RefCell::new(vec![0; 1 << 16]);
            let all: Vec<u64> = places(1 << 16).collect();
            let at = |place: u64| usize::try_from(place & !line).unwrap();
            let write = |place: u64, word: &[u8]| -> Result<(), ()> {
                memory.borrow_mut()[at(place)..at(place) + WORD].copy_from_slice(word);
                if let Some(byte) = stuck {
                    memory.borrow_mut()[byte] = 0;
                }
                Ok(())
            };
            let read = |place: u64| Ok(memory.borrow()[at(place)..at(place) + WORD].try_into().unwrap());
            try_places(write, read, &all).unwrap()
        };
        assert_eq!(try_with(0, None), Vec::<String>::new());
        let failures = try_with(1 << 12, None);
        assert!(failures.iter().any(|one| one.contains("0x1000") && one.ends_with("bit 12")), "{failures:?}");
        let failures = try_with(0, Some(0x805));
        assert!(failures.iter().all(|one| one.starts_with("0x800 does not keep")), "{failures:?}");
    }

    #[test]
    fn no_two_markers_are_alike() {
        let mut all: Vec<_> =
            places(1 << 40).flat_map(|place| [marker(place, 0), marker(place, 1)]).collect();
        let count = all.len();
        all.sort_unstable();
        all.dedup();
        assert_eq!(all.len(), count);
    }
}
