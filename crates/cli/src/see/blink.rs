//! `jitney blink`: which of the boards is this?

use crate::args::OneCard;
use crate::boards::catalogue;
use crate::cards::Session;
use crate::contract::CardName;
use crate::report::Report;
use crate::signals::on_stop;
use crate::status::{Misuse, Status};
use clap::Args;
use jitney_boards::identify_in;
use schemars::JsonSchema;
use serde::Serialize;
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::{Duration, Instant};

const HELP: &str = "\
Examples:
  jitney blink 10ee:7011 --emulate nitefury --for 1s
  jitney blink 10ee:7011 --for 1m

Where an LED is, the design's boards file says (its key `leds`). Nobody else can use the GPIO that it is on meanwhile. At the \
end, at Ctrl-C, and under a broker also when it is killed, the pins are put back as they were; outputs, whose level no AXI GPIO \
tells, go to 0.";

/// How long it is on, and off.
const HALF: Duration = Duration::from_millis(200);

#[derive(Debug, Args)]
#[command(after_help = HELP)]
pub(crate) struct Blink {
    #[command(flatten)]
    card: OneCard,
    /// How long, in ms, s or m.
    #[arg(long = "for", value_name = "TIME", default_value = "5s", value_parser = time)]
    time: Duration,
    /// Which LED, of several, from 0.
    #[arg(long, value_name = "N", default_value_t = 0)]
    led: usize,
}

/// What was done.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct Blinked {
    #[serde(flatten)]
    card: CardName,
    board: String,
    led: usize,
    note: Option<String>,
    /// How often it was switched on.
    times: u32,
}

pub(crate) fn blink(args: &Blink, json: bool) -> anyhow::Result<Status> {
    let report = Report::new(json);
    let (_session, card) = Session::open_card(&args.card)?;
    let board = identify_in(&catalogue(&args.card.source.emulate)?, &card)?;
    let count = board.leds()?.len();
    if count > 0 && args.led >= count {
        let (name, last) = (board.name(), count - 1);
        return Err(Misuse(format!("{name} has no LED {}; it has 0 to {last}", args.led)).into());
    }
    // Of none at all, the library says what to do.
    let led = board.led(args.led)?;
    let (told, stop) = channel();
    on_stop(move |_| {
        // Nobody listens any more when it has ended already.
        let _ = told.send(());
    })?;
    let note = led.note().map(str::to_owned);
    let named = note.as_deref().unwrap_or("LED");
    report.line(format!("{} at {}: its {named} blinks", board.name(), card.identity().address));
    let leased = led.lease()?;
    let end = Instant::now() + args.time;
    let (mut is_on, mut times) = (false, 0);
    loop {
        is_on = !is_on;
        leased.set(is_on)?;
        times += u32::from(is_on);
        let left = end.saturating_duration_since(Instant::now());
        match stop.recv_timeout(HALF.min(left)) {
            Err(RecvTimeoutError::Timeout) if Instant::now() < end => {}
            _ => break,
        }
    }
    leased.restore()?;
    let (card, board) = (CardName::of(&*card), board.name().to_owned());
    report.finish(&Blinked { card, board, led: args.led, note, times })?;
    Ok(Status::Passed)
}

/// `500ms`, `5s`, `1m`; a number alone is seconds.
fn time(text: &str) -> Result<Duration, String> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let milliseconds = match &text[digits.len()..] {
        "ms" => Some(1),
        "s" | "" => Some(1000),
        "m" => Some(60_000),
        _ => None,
    };
    let time = milliseconds.and_then(|unit| digits.parse::<u64>().ok()?.checked_mul(unit));
    let longest = 24 * 3_600_000;
    time.filter(|time| (1..=longest).contains(time))
        .map(Duration::from_millis)
        .ok_or_else(|| format!("{text:?} is no time; write it as 500ms, 5s or 1m, up to a day"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_units() {
        for (text, milliseconds) in [("500ms", 500), ("5s", 5000), ("5", 5000), ("2m", 120_000)] {
            assert_eq!(time(text), Ok(Duration::from_millis(milliseconds)), "{text}");
        }
        for text in ["", "0", "s", "-1s", "1h", "1.5s", "99999999999999999999s", "2000m"] {
            assert!(time(text).is_err(), "{text}");
        }
    }
}
