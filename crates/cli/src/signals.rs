//! Being told to stop.

use anyhow::Context;
use jitney_host::{Caller, Root};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGUSR2};
use signal_hook::iterator::Signals;
use std::io::IsTerminal;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Calls `told` with each SIGINT, SIGTERM and SIGHUP, on a thread of its own, for the life of the process.
///
/// SIGINT and SIGHUP are left alone if whoever started this process had them ignored: a script's shell, for what it
/// starts in the background, and `nohup`. Neither Ctrl-C nor the end of the session is meant for it then.
pub(crate) fn on_stop(mut told: impl FnMut(i32) + Send + 'static) -> anyhow::Result<()> {
    let own = Caller::of(&Root::default()).context("which signals this process ignores")?;
    let is_heeded = |signal: &i32| *signal == SIGTERM || !own.ignores(*signal);
    let mut signals = Signals::new([SIGINT, SIGTERM, SIGHUP].into_iter().filter(is_heeded))?;
    std::thread::Builder::new().name("signals".into()).spawn(move || {
        for signal in signals.forever() {
            told(signal);
        }
    })?;
    Ok(())
}

/// Calls `told` with each SIGUSR2: that a broker is to leave its place to another.
pub(crate) fn on_replace(mut told: impl FnMut() + Send + 'static) -> anyhow::Result<()> {
    let mut signals = Signals::new([SIGUSR2])?;
    std::thread::Builder::new().name("replace".into()).spawn(move || {
        for _ in signals.forever() {
            told();
        }
    })?;
    Ok(())
}

/// Whether the program was told to end what it does. Told once more, it ends at once.
#[derive(Debug, Clone, Default)]
pub(crate) struct StopFlag(Arc<AtomicBool>);

impl StopFlag {
    /// Listens from now on.
    pub(crate) fn new() -> anyhow::Result<Self> {
        let own = Self::default();
        let flag = own.clone();
        on_stop(move |signal| {
            if flag.0.swap(true, Ordering::Relaxed) {
                // It fails for no signal that is heard here.
                let _ = signal_hook::low_level::emulate_default_handler(signal);
            }
        })?;
        Ok(own)
    }

    pub(crate) fn is_set(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// `SIGKILL`, or the number of a signal that has no name here.
pub(crate) fn name(signal: i32) -> String {
    signal_hook::low_level::signal_name(signal).map_or_else(|| format!("signal {signal}"), str::to_owned)
}

/// Whether a program that has this process's terminal has heard `signal`, too: a Ctrl-C reaches all who have it.
pub(crate) fn is_known_to_foreground(signal: i32) -> bool {
    signal != SIGTERM && std::io::stdin().is_terminal()
}
