//! Being told to stop.

use anyhow::Context;
use jitney_host::{Caller, Root};
use signal_hook::consts::{
    SIGALRM, SIGCONT, SIGHUP, SIGINT, SIGIO, SIGPROF, SIGQUIT, SIGTERM, SIGURG, SIGUSR1, SIGUSR2, SIGVTALRM,
    SIGWINCH,
};
use signal_hook::iterator::Signals;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// What comes within this time is one wish: timeout(1) tells a process and then its group.
const TOGETHER: Duration = Duration::from_millis(20);

/// Calls `told` with each SIGINT, SIGTERM and SIGHUP, on a thread of its own, for the life of the process.
///
/// SIGINT and SIGHUP are left alone if whoever started this process had them ignored: a script's shell, for what it
/// starts in the background, and `nohup`. Neither Ctrl-C nor the end of the session is meant for it then.
pub(crate) fn on_stop(mut told: impl FnMut(i32) + Send + 'static) -> anyhow::Result<()> {
    on_stop_at(move |signal, _| told(signal))
}

/// The same with when the signal came.
pub(crate) fn on_stop_at(told: impl FnMut(i32, Instant) + Send + 'static) -> anyhow::Result<()> {
    on_each_of(&[SIGINT, SIGTERM, SIGHUP], told)
}

/// What ends a process that does not expect it, or is for a program that does. Not those that say that it has a defect, and not the
/// real-time ones.
pub(crate) const FOR_PROGRAMS: [i32; 9] =
    [SIGQUIT, SIGUSR1, SIGUSR2, SIGALRM, SIGVTALRM, SIGPROF, SIGWINCH, SIGIO, SIGURG];

/// Calls `told` with each of [`FOR_PROGRAMS`], and when it came.
pub(crate) fn on_others_at(told: impl FnMut(i32, Instant) + Send + 'static) -> anyhow::Result<()> {
    on_each_of(&FOR_PROGRAMS, told)
}

fn on_each_of(wanted: &[i32], mut told: impl FnMut(i32, Instant) + Send + 'static) -> anyhow::Result<()> {
    let own = Caller::of(&Root::default()).context("which signals this process ignores")?;
    let is_heeded = |signal: &&i32| **signal == SIGTERM || !own.ignores(**signal);
    let mut signals = Signals::new(wanted.iter().filter(is_heeded))?;
    std::thread::Builder::new().name("signals".into()).spawn(move || {
        loop {
            let mut heard: BTreeSet<i32> = signals.wait().collect();
            let at = Instant::now();
            if heard.is_empty() {
                continue;
            }
            std::thread::sleep(TOGETHER);
            heard.extend(signals.pending());
            heard.into_iter().for_each(|signal| told(signal, at));
        }
    })?;
    Ok(())
}

/// Calls `told` each time that this process goes on after it was stopped.
pub(crate) fn on_continue(told: impl Fn() + Send + 'static) -> std::io::Result<()> {
    let mut signals = Signals::new([SIGCONT])?;
    std::thread::Builder::new().name("continued".into()).spawn(move || {
        for _ in signals.forever() {
            told();
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
