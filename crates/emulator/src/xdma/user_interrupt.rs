//! User interrupts as the card's own logic drives them: by a model, or by a clock.

use super::irq::IrqBlock;
use jitney_xdma_spec::irq::USER_INTERRUPTS;
use std::fmt;
use std::str::FromStr;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// The wires of one user interrupt (PG195, "usr_irq_req" and "usr_irq_ack"), for a model of the logic that drives them.
#[derive(Clone)]
pub struct UserInterrupt {
    pub(super) irq: Arc<IrqBlock>,
    pub(super) number: u8,
}

impl fmt::Debug for UserInterrupt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "UserInterrupt({})", self.number)
    }
}

impl UserInterrupt {
    /// Sets the level of the request. PG195 has the logic hold it until the interrupt was served, which only the logic can
    /// know: by a register of its own that software writes.
    pub fn set(&self, level: bool) {
        self.irq.set_user_line(self.number, level);
    }

    /// Raises the request, as logic does that has no register for software to say that it was served: it falls by itself
    /// `hold` after software was told, which is when its message has been sent or, with INTx, when the request was read in the
    /// IRQ block; and as soon as software has masked it then.
    pub fn pulse(&self, hold: Duration) {
        self.irq.pulse_user_line(self.number, hold);
    }
}

/// A user interrupt that comes again and again, by [`pulse`](UserInterrupt::pulse): held for half of its period, 10 ms at most,
/// in which an interrupt handler finds it raised.
///
/// As text: `NUMBER@PERIOD`, for example `0@100ms`. Numbers are 0 to 15, periods have the unit `us`, `ms` or `s`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PeriodicInterrupt {
    /// Which one, 0 to 15.
    pub number: u8,
    /// The time from one to the next, not zero. One that was not acknowledged in that time swallows the next.
    pub period: Duration,
}

impl PeriodicInterrupt {
    fn hold(&self) -> Duration {
        (self.period / 2).min(Duration::from_millis(10))
    }
}

/// What the thread behind them can keep, with all sixteen, and leave a processor for others.
const SHORTEST_PERIOD: Duration = Duration::from_micros(100);

/// Why a text is no [`PeriodicInterrupt`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "'{given}' is no user interrupt: give its number, 0 to 15, and a period of 100 us or more, as in '0@100ms' (units: us, ms, s)"
)]
pub struct PeriodicInterruptError {
    /// What was given.
    pub given: String,
}

impl FromStr for PeriodicInterrupt {
    type Err = PeriodicInterruptError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let parse = || {
            let (number, period) = text.split_once('@')?;
            let number = number.parse().ok().filter(|number| *number < USER_INTERRUPTS)?;
            let digits = period.trim_end_matches(|c: char| c.is_ascii_alphabetic());
            let count: u64 = digits.parse().ok().filter(|count| *count > 0)?;
            let unit = match &period[digits.len()..] {
                "us" => 1,
                "ms" => 1_000,
                "s" => 1_000_000,
                _ => return None,
            };
            let period = Duration::from_micros(count.checked_mul(unit)?);
            (period >= SHORTEST_PERIOD).then_some(Self { number, period })
        };
        parse().ok_or_else(|| PeriodicInterruptError { given: text.to_owned() })
    }
}

impl fmt::Display for PeriodicInterrupt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let micros = self.period.as_micros();
        match (micros % 1_000_000, micros % 1_000) {
            (0, _) => write!(f, "{}@{}s", self.number, micros / 1_000_000),
            (_, 0) => write!(f, "{}@{}ms", self.number, micros / 1_000),
            _ => write!(f, "{}@{micros}us", self.number),
        }
    }
}

/// The thread behind periodic interrupts; it ends when this is dropped.
#[derive(Debug)]
pub(super) struct Clock {
    stop: Arc<(Mutex<bool>, Condvar)>,
    thread: Option<JoinHandle<()>>,
}

impl Clock {
    pub(super) fn start(irq: Arc<IrqBlock>, interrupts: Vec<PeriodicInterrupt>) -> std::io::Result<Self> {
        let stop = Arc::new((Mutex::new(false), Condvar::new()));
        let told = Arc::clone(&stop);
        let run = move || {
            let start = Instant::now();
            let mut due: Vec<_> =
                interrupts.into_iter().map(|of| (start.checked_add(of.period), of)).collect();
            let (stopped, changed) = &*told;
            let mut stop = stopped.lock().unwrap_or_else(PoisonError::into_inner);
            // A period beyond the end of all time never comes.
            while let Some(next) = due.iter().filter_map(|(at, _)| *at).min().filter(|_| !*stop) {
                let now = Instant::now();
                if now < next {
                    let wait = changed.wait_timeout(stop, next - now);
                    (stop, _) = wait.unwrap_or_else(PoisonError::into_inner);
                    continue;
                }
                // Whoever ends this thread is not to wait for a time in which nothing is due.
                drop(stop);
                for (at, interrupt) in &mut due {
                    if at.is_some_and(|at| at <= now) {
                        irq.pulse_user_line(interrupt.number, interrupt.hold());
                        // What was slept through is not made up for.
                        let missed =
                            at.map_or(0, |at| (now - at).as_nanos() / interrupt.period.as_nanos().max(1));
                        let periods = u32::try_from(missed).unwrap_or(u32::MAX).saturating_add(1);
                        *at = at.and_then(|at| at.checked_add(interrupt.period.saturating_mul(periods)));
                    }
                }
                stop = stopped.lock().unwrap_or_else(PoisonError::into_inner);
            }
        };
        let thread = thread::Builder::new().name("user-interrupts".into()).spawn(run)?;
        Ok(Self { stop, thread: Some(thread) })
    }
}

impl Drop for Clock {
    fn drop(&mut self) {
        let (stopped, changed) = &*self.stop;
        *stopped.lock().unwrap_or_else(PoisonError::into_inner) = true;
        changed.notify_one();
        if self.thread.take().is_some_and(|thread| thread.join().is_err()) {
            tracing::error!("the thread of the user interrupts had panicked");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_number_and_a_period_are_read_from_text() {
        let read = |text: &str| text.parse::<PeriodicInterrupt>();
        let of = |number, period| Ok(PeriodicInterrupt { number, period });
        assert_eq!(read("0@100ms"), of(0, Duration::from_millis(100)));
        assert_eq!(read("15@1s"), of(15, Duration::from_secs(1)));
        assert_eq!(read("3@250us"), of(3, Duration::from_micros(250)));
        for bad in [
            "",
            "3",
            "16@1s",
            "-1@1s",
            "3@0ms",
            "3@1",
            "3@ms",
            "3@1h",
            "@1s",
            "3@99999999999999999999s",
            "3@1.5s",
        ] {
            assert!(read(bad).unwrap_err().to_string().contains("as in '0@100ms'"), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn text_and_value_agree(number in 0u8..16, micros in 1u64..1 << 50) {
            let interrupt = PeriodicInterrupt { number, period: Duration::from_micros(micros) };
            prop_assert_eq!(interrupt.to_string().parse(), Ok(interrupt));
        }

        #[test]
        fn no_text_is_a_panic(text in "\\PC*") {
            let _ = text.parse::<PeriodicInterrupt>();
        }
    }
}
