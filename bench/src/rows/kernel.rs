//! What sharing a card costs on a real kernel, which runs in the lab's guest: this program measures there and hands its figures
//! on.

pub(crate) mod guest;
mod large_pages;

use super::Wish;
use crate::figure::Figure;
use crate::report::Skipped;
use anyhow::Context;
use jitney_lab::{Card, Script, Target};
use std::time::Duration;

/// It ends with a line of JSON, the figures.
const SCRIPT: &str = include_str!("kernel/guest.sh");

/// The guest's processor is emulated.
const LIMIT: Duration = Duration::from_secs(600);

/// A buffer of 1 GiB of huge pages, one of pages that are not, and the rest.
const MEMORY_MIB: u32 = 3072;

const PROGRAMS: [Target; 2] = [
    Target { package: "jitney-cli", kind: "--bin", name: "jitney" },
    Target { package: "jitney-bench", kind: "--bin", name: "jitney-bench" },
];

pub(super) fn measure(wish: Wish) -> anyhow::Result<Vec<Figure>> {
    if wish.no_lab {
        return Err(Skipped::new("it needs the lab, and --no-lab was given").into());
    }
    let quick = if wish.quick { "--quick" } else { "" };
    let text = SCRIPT.replace("QUICK", quick);
    // Two of a kind: one for the broker, and one for whoever does without.
    let cards = [Card::Edu, Card::Edu];
    let script =
        Script { text: &text, limit: LIMIT, programs: &PROGRAMS, cards: &cards, memory_mib: MEMORY_MIB };
    let said = jitney_lab::script(&script).map_err(|error| match error.lacking() {
        Some(reason) => Skipped::new(reason).into(),
        None => anyhow::Error::from(error),
    })?;
    let figures = said.lines().last().unwrap_or_default();
    serde_json::from_str(figures).with_context(|| format!("no figures in what the guest said: {said}"))
}
