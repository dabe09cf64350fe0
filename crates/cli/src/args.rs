//! The arguments that several commands have.

use super::boards::Choice;
use clap::{Args, ValueEnum};
use jitney_vfio::{CardAddress, IommuInterface};
use std::num::NonZeroU64;
use std::path::PathBuf;
use std::time::Duration;

/// Where cards come from.
#[derive(Debug, Args, Clone, Default)]
pub(crate) struct Source {
    /// Own this card: a board's socket as vfio-user:/path, or a PCI address. Can be repeated.
    #[arg(long, value_name = "ADDRESS")]
    pub(crate) card: Vec<CardAddress>,
    /// Start an emulated board for as long as this runs, and own it. Can be repeated; see `jitney emulate --help`.
    #[arg(long, value_name = "BOARD")]
    pub(crate) emulate: Vec<Choice>,
    /// How to open PCI cards: group, iommufd or auto, which prefers iommufd where it can be used. Where there is no IOMMU,
    /// noiommu: UNSAFE, cards and programs can then overwrite all of this machine's memory.
    #[arg(long, value_name = "INTERFACE")]
    pub(crate) iommu: Option<IommuInterface>,
    /// Give each card (or IOMMU group) that this process opens an address space of its own: it then reaches the memory of
    /// the programs that use it, and no other. Under a broker its owner has decided.
    #[arg(long)]
    pub(crate) isolate: bool,
}

/// Which broker has the cards.
#[derive(Debug, Args, Clone, Default)]
pub(crate) struct Client {
    /// Be the client of the broker at this socket.
    #[arg(long = "broker", value_name = "SOCKET", conflicts_with_all = ["card", "emulate", "iommu", "isolate"])]
    pub(crate) socket: Option<PathBuf>,
    /// Under a broker: stand in line for what another program holds, for this long (30s, 10m, forever), instead of failing.
    #[arg(long, value_name = "TIME", value_parser = jitney_broker::parse_wait)]
    pub(crate) wait: Option<Duration>,
}

/// The broker of a command that is a broker's client in any case.
#[derive(Debug, Args, Clone, Default)]
pub(crate) struct ItsBroker {
    /// Ask the broker at this socket, instead of the one that is found.
    #[arg(long = "broker", value_name = "SOCKET")]
    pub(crate) socket: Option<PathBuf>,
}

/// The one card that a command is about, and where it comes from.
#[derive(Debug, Args, Clone)]
pub(crate) struct OneCard {
    /// Which card: its address, VENDOR:DEVICE, the name of its board, serial:NUMBER or dna:NUMBER.
    #[arg(value_name = "CARD")]
    pub(crate) named: String,
    #[command(flatten)]
    pub(crate) source: Source,
    #[command(flatten)]
    pub(crate) broker: Client,
}

/// Which cards a program uses.
#[derive(Debug, Args, Clone, Default)]
pub(crate) struct Selection {
    #[command(flatten)]
    pub(crate) source: Source,
    #[command(flatten)]
    pub(crate) broker: Client,
    /// Use only this one of the cards: its address, VENDOR:DEVICE, the name of its board, serial:NUMBER or dna:NUMBER.
    #[arg(long, value_name = "CARD")]
    pub(crate) only: Option<String>,
}

/// How to transfer.
#[derive(Debug, Args, Clone, Copy)]
pub(crate) struct Dma {
    /// Which DMA channel of each direction to use.
    #[arg(long, default_value_t = 0)]
    pub(crate) channel: u8,
    /// Give a transfer up when nothing of it was done for this many seconds.
    #[arg(long, value_name = "SECONDS", default_value = "10", value_parser = seconds)]
    pub(crate) timeout: Duration,
    /// How to learn of a transfer's end.
    #[arg(long, value_enum, default_value = "poll")]
    pub(crate) completion: Completion,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Completion {
    /// By looking at a word that the card writes to memory.
    Poll,
    /// By the card's interrupts, one vector for each channel.
    Interrupt,
    /// By looking, for as long as short transfers take, and then by interrupt.
    Adaptive,
}

/// How often to do something.
pub(crate) fn count(text: &str) -> Result<NonZeroU64, String> {
    match text.parse::<u64>() {
        Ok(count) => NonZeroU64::new(count).ok_or_else(|| "nothing would be tested; give at least 1".into()),
        Err(error) => Err(error.to_string()),
    }
}

/// A time that is not zero and ends some day.
pub(crate) fn seconds(text: &str) -> Result<Duration, String> {
    let seconds: f64 = text.parse().map_err(|_| "give a number of seconds, as 10 or 0.5".to_owned())?;
    match Duration::try_from_secs_f64(seconds) {
        Ok(time) if time >= Duration::from_millis(1) && time <= Duration::from_secs(86_400) => Ok(time),
        _ => Err("give something from 0.001 to 86400".into()),
    }
}

/// How long something goes on: `500ms`, `10s`, `5m`, `1h`, or a number of seconds.
pub(crate) fn limit(text: &str) -> Result<Duration, String> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let unit = match &text[digits.len()..] {
        "ms" => 0.001,
        "" | "s" => 1.0,
        "m" | "min" => 60.0,
        "h" => 3600.0,
        "d" => 86_400.0,
        _ => return Err("write a time as 500ms, 10s, 5m or 1h".into()),
    };
    let number: f64 = digits.parse().map_err(|_| "write a time as 500ms, 10s, 5m or 1h".to_owned())?;
    match Duration::try_from_secs_f64(number * unit) {
        Ok(time) if time >= Duration::from_millis(1) && time <= Duration::from_secs(365 * 86_400) => Ok(time),
        _ => Err("give something from 1ms to 365d".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_and_nonsense_are_no_counts_and_no_times() {
        assert_eq!(count("16").unwrap().get(), 16);
        for text in ["0", "-1", "18446744073709551616", "x", ""] {
            assert!(count(text).is_err(), "{text}");
        }
        for (text, millis) in
            [("500ms", 500), ("10s", 10_000), ("2", 2000), ("1.5m", 90_000), ("1h", 3_600_000)]
        {
            assert_eq!(limit(text), Ok(Duration::from_millis(millis)), "{text}");
        }
        for text in ["", "s", "-1s", "1y", "nan", "inf", "0", "1e99d", "1 s"] {
            assert!(limit(text).is_err(), "{text}");
        }
        assert_eq!(seconds("0.5"), Ok(Duration::from_millis(500)));
        for text in ["0", "-1", "nan", "inf", "1e99", "soon", ""] {
            assert!(seconds(text).is_err(), "{text}");
        }
    }
}
