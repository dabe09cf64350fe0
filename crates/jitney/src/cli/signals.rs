//! Being told to stop.

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

/// Calls `told` with each SIGINT, SIGTERM and SIGHUP, on a thread of its own, for the life of the process.
pub(crate) fn on_stop(mut told: impl FnMut(i32) + Send + 'static) -> anyhow::Result<()> {
    let mut signals = Signals::new([SIGINT, SIGTERM, SIGHUP])?;
    std::thread::Builder::new().name("signals".into()).spawn(move || {
        for signal in signals.forever() {
            told(signal);
        }
    })?;
    Ok(())
}

/// `SIGKILL`, or the number of a signal that has no name here.
pub(crate) fn name(signal: i32) -> String {
    signal_hook::low_level::signal_name(signal).map_or_else(|| format!("signal {signal}"), str::to_owned)
}
