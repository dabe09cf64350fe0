//! What sharing a card costs on a real kernel, which runs in the lab's guest: this program measures there and hands its figures
//! on.

pub(crate) mod guest;
mod large_pages;
pub(crate) mod work;

use super::Wish;
use crate::figure::Figure;
use crate::processes::Board;
use crate::report::Skipped;
use anyhow::Context;
use jitney_lab::{Card, Script, Target};
use std::time::Duration;

/// They end with a line of JSON, the figures.
const ON_EDU: &str = include_str!("kernel/edu.sh");
const ON_BOARDS: &str = include_str!("kernel/boards.sh");

/// The guest's processor is emulated.
const LIMIT: Duration = Duration::from_secs(600);

/// A buffer of 1 GiB of huge pages, one of pages that are not, and as much again: of what is free, enough has to be in pieces of 2 MiB.
const MEMORY_MIB: u32 = 4096;

const PROGRAMS: [Target; 3] = [
    Target { package: "jitney-cli", kind: "--bin", name: "jitney" },
    Target { package: "jitney-bench", kind: "--bin", name: "jitney-bench" },
    Target { package: "jitney-bench", kind: "--bin", name: work::YARDSTICK },
];

pub(super) fn measure(wish: Wish) -> anyhow::Result<Vec<Figure>> {
    if wish.no_lab {
        return Err(Skipped::new("it needs the lab, and --no-lab was given").into());
    }
    // Two of a kind: one for the broker, and one for whoever does without.
    let mut figures = in_guest(ON_EDU, wish, &[Card::Edu, Card::Edu])?;
    let folder = tempfile::tempdir().context("a folder for sockets")?;
    let boards = work::BOARDS
        .iter()
        .map(|name| Board::start(name, folder.path()))
        .collect::<anyhow::Result<Vec<_>>>()?;
    let cards: Vec<_> =
        boards.iter().map(|board| Card::VfioUser { socket: board.socket().to_owned() }).collect();
    figures.extend(in_guest(ON_BOARDS, wish, &cards)?);
    Ok(figures)
}

/// What a script says, in a guest with these programs and cards.
fn in_guest(script: &str, wish: Wish, cards: &[Card]) -> anyhow::Result<Vec<Figure>> {
    let text = script.replace("QUICK", if wish.quick { "--quick" } else { "" });
    let script = Script { text: &text, limit: LIMIT, programs: &PROGRAMS, cards, memory_mib: MEMORY_MIB };
    let said = jitney_lab::script(&script).map_err(|error| match error.lacking() {
        Some(reason) => Skipped::new(reason).into(),
        None => anyhow::Error::from(error),
    })?;
    let figures = said.lines().last().unwrap_or_default();
    serde_json::from_str(figures).with_context(|| format!("no figures in what the guest said: {said}"))
}
