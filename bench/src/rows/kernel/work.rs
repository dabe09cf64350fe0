//! The memory tests of `jitney`, beside a program that does the same for one card and one process: ioctls, memory of its own, plain
//! loops. Each from its start to its end.

use super::guest;
use crate::figure::{Bar, Figure, Unit};
use crate::processes::beside;
use crate::rounds::{Rounds, timed};
use crate::rows::Wish;
use anyhow::{Context, ensure};
use jitney_vfio::CardAddress;
use std::time::Duration;

/// The other program, one of the lab's for its guest.
pub(super) const YARDSTICK: &str = "yardstick";

/// The boards that are needed: one with DDR, one with block RAM.
pub(super) const BOARDS: [&str; 2] = ["nitefury", "tef1001-dma-blkram"];

/// The block RAM of the second, and how many transfers are made each way: fewer than the command makes where nobody says, for a
/// processor that is emulated.
const BLOCK_RAM: u64 = 0x12_8000;
const TRANSFERS: u64 = 200;
const DDR: u64 = 64 << 20;

/// Measures on these boards, and prints the figures as one line of JSON.
pub(crate) fn run(cards: &[CardAddress], quick: bool) -> anyhow::Result<()> {
    let [ddr, block_ram] = cards else { anyhow::bail!("two cards are needed, not {}", cards.len()) };
    let wish = Wish { quick, no_lab: true };
    let size = DDR.to_string();
    let ddr_test = ["test", "ddr", "--passes", "1", "--size", &size];
    let transfers = TRANSFERS.to_string();
    let block_ram_test = ["time", "blkram", "--transfers", &transfers];
    guest::hand_on(&[
        beside_plain("test ddr of 64 MiB", &ddr_test, ddr, (DDR, 1), 0.7, wish)?,
        beside_plain("time blkram", &block_ram_test, block_ram, (BLOCK_RAM, TRANSFERS), 0.9, wish)?,
    ])
}

/// A command on a card, beside the plain program that moves so many bytes each way, so many times.
fn beside_plain(
    what: &str,
    command: &[&str],
    card: &CardAddress,
    (bytes, times): (u64, u64),
    bar: f64,
    wish: Wish,
) -> anyhow::Result<Figure> {
    let (card, [bytes, times]) = (card.to_string(), [bytes, times].map(|number| number.to_string()));
    let ours = [command, &["--card", &card, "--iommu", "group"]].concat();
    let rounds = Rounds::measure(
        what,
        wish.rounds(5),
        [&mut || ends_well("jitney", &ours), &mut || ends_well(YARDSTICK, &[&card, &bytes, &times])],
    )?;
    Ok(Figure {
        what: format!("jitney {what} on a real kernel ÷ plain loops, memory of one's own and ioctls"),
        measured: rounds.ratio(0, 1),
        unit: Unit::Ratio,
        bar: Bar::AtMost(bar),
        detail: format!("{:.0} and {:.0} ms", rounds.seconds(0) * 1e3, rounds.seconds(1) * 1e3),
    })
}

/// How long a program takes that is beside this one.
fn ends_well(program: &str, arguments: &[&str]) -> anyhow::Result<Duration> {
    timed(|| {
        let output = std::process::Command::new(beside(program)?)
            .args(arguments)
            .output()
            .with_context(|| program.to_owned())?;
        let said = || format!("{}{}", text(&output.stdout), text(&output.stderr));
        ensure!(output.status.success(), "{program} {arguments:?} ended with {}: {}", output.status, said());
        Ok::<_, anyhow::Error>(())
    })
}

fn text(bytes: &[u8]) -> std::borrow::Cow<'_, str> {
    String::from_utf8_lossy(bytes)
}
