//! One captures and many read along: what one reader that is stopped costs the writer and the others.

use super::Wish;
use crate::figure::{Bar, Figure, Unit};
use crate::processes::{beside, jitney};
use crate::rounds::Rounds;
use anyhow::{Context, ensure};
use std::process::Stdio;
use std::time::Duration;

/// The program that is an example of how to do it, with its readers in processes of their own.
const PROGRAM: &str = "examples/one_captures_many_analyse";
const BOARD: &str = "NiteFury_dma_stream_loopback";
/// Those that read on, beside the one that is stopped.
const READERS: usize = 7;
/// 62.5 MiB: more than is captured while all others are given the few processors of a small machine.
const RING: &str = "1000";

pub(super) fn measure(wish: Wish) -> anyhow::Result<Vec<Figure>> {
    let blocks = wish.rounds(20_000);
    let mut lost = 0;
    let mut with_one_stopped = || {
        let said = run(READERS + 1, blocks, &["stop-one"])?;
        // The first is the one that was stopped.
        lost += said.lost.iter().skip(1).sum::<u64>();
        ensure!(said.lost.first().is_some_and(|lost| *lost > 0), "the reader that was stopped lost nothing");
        Ok(said.time)
    };
    let mut without = || run(READERS, blocks, &[]).map(|said| said.time);
    let rounds = Rounds::measure("readers of a ring", wish.rounds(5), [&mut with_one_stopped, &mut without])?;
    #[expect(clippy::cast_precision_loss, reason = "far below 2^53")]
    let (lost, rates) = (lost as f64, [0, 1].map(|side| blocks as f64 / rounds.seconds(side)));
    Ok(vec![
        Figure {
            what: "a writer beside 7 readers and one that is stopped ÷ beside the 7, blocks per second"
                .into(),
            measured: 1.0 / rounds.ratio(0, 1),
            unit: Unit::Ratio,
            bar: Bar::AtLeast(0.95),
            detail: format!("{:.0} and {:.0} blocks of 64 KiB per second", rates[0], rates[1]),
        },
        Figure {
            what: "KiB that the 7 lose meanwhile".into(),
            measured: lost * 64.0,
            unit: Unit::Kibibytes,
            bar: Bar::AtMost(0.0),
            detail: format!("of {blocks} blocks a round"),
        },
    ])
}

/// What the program said.
struct Said {
    time: Duration,
    /// Blocks that each reader lost.
    lost: Vec<u64>,
}

fn run(readers: usize, blocks: usize, more: &[&str]) -> anyhow::Result<Said> {
    let mut command = jitney()?;
    command.args(["run", "--emulate", BOARD, "--"]).arg(beside(PROGRAM)?);
    command.args([readers.to_string(), blocks.to_string(), RING.into()]).args(more);
    let output = command.stdin(Stdio::null()).output().context("jitney run")?;
    let said = String::from_utf8_lossy(&output.stdout);
    ensure!(output.status.success(), "{PROGRAM}: {said}{}", String::from_utf8_lossy(&output.stderr));
    // Each line begins with whose it is.
    let captured = said.lines().find_map(|line| line.rsplit_once(" bytes, in "));
    let time = captured.and_then(|(_, time)| time_of(time)).with_context(|| format!("no time in {said}"))?;
    let lost = |line: &str| line.split_once(" blocks right, ")?.1.split(' ').next()?.parse().ok();
    let lost: Vec<u64> = said.lines().filter_map(lost).collect();
    ensure!(lost.len() == readers, "{} of {readers} readers said what they lost: {said}", lost.len());
    Ok(Said { time, lost })
}

/// A time as `Debug` writes it.
fn time_of(text: &str) -> Option<Duration> {
    let text = text.trim();
    let number = text.trim_end_matches(|last: char| !last.is_ascii_digit());
    let seconds = match &text[number.len()..] {
        "s" => 1.0,
        "ms" => 1e-3,
        "µs" => 1e-6,
        _ => return None,
    };
    Some(Duration::from_secs_f64(number.parse::<f64>().ok()? * seconds))
}

#[cfg(test)]
mod tests {
    use super::time_of;
    use std::time::Duration;

    #[test]
    fn times_are_read_as_they_are_written() {
        for time in [Duration::from_millis(1250), Duration::from_micros(2500), Duration::from_secs(3)] {
            assert_eq!(time_of(&format!("{time:?}")), Some(time));
        }
        assert_eq!(time_of("soon"), None);
    }
}
