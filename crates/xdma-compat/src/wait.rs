//! Waiting that a signal ends, as it ends a driver's.

use crate::failure::{Failure, Outcome};
use jitney_xdma::{Completed, Pending};
use rustix::io::Errno;
use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create, timerfd_settime,
};
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

/// Most transfers are over by then, and nothing but their own looking was needed.
const AT_ONCE: Duration = Duration::from_micros(500);
/// Naps begin so long and grow.
const SHORTEST: Duration = Duration::from_micros(20);
const LONGEST: Duration = Duration::from_millis(1);

/// What became of a transfer that was waited for.
pub(crate) enum Waited {
    /// It is over.
    Over(Completed),
    /// Nothing came in time, and it was taken back.
    TimedOut,
    /// A signal came whose handler wants calls to end, and it was taken back.
    Interrupted,
}

/// Waits for a transfer, until `end` at most.
///
/// # Errors
/// What the transfer failed with.
pub(crate) fn wait(pending: Pending, end: Option<Instant>) -> Outcome<Waited> {
    if let Some(completed) = pending.wait_for(AT_ONCE)? {
        return Ok(Waited::Over(completed));
    }
    let clock = Clock::new()?;
    let mut nap = SHORTEST;
    loop {
        if let Some(completed) = pending.poll()? {
            return Ok(Waited::Over(completed));
        }
        let timed_out = end.is_some_and(|end| Instant::now() >= end);
        if timed_out || !clock.sleep(nap)? {
            return Ok(match pending.cancel()? {
                Some(completed) => Waited::Over(completed),
                None if timed_out => Waited::TimedOut,
                None => Waited::Interrupted,
            });
        }
        nap = (nap + nap / 8).min(LONGEST);
    }
}

/// Something to sleep on that is a `read`: the kernel goes on with it after a signal whose handler says so (`SA_RESTART`), and ends
/// it after any other, which is just what a read of a device does.
struct Clock(OwnedFd);

impl Clock {
    fn new() -> Outcome<Self> {
        let made = timerfd_create(TimerfdClockId::Monotonic, TimerfdFlags::CLOEXEC);
        Ok(Self(made.map_err(|errno| Failure::new(errno, "a timer could not be made"))?))
    }

    /// Sleeps; whether it was not interrupted.
    fn sleep(&self, time: Duration) -> Outcome<bool> {
        let value = Timespec::try_from(time).map_err(|_| Failure::silent(Errno::INVAL))?;
        let once = Itimerspec { it_interval: Timespec { tv_sec: 0, tv_nsec: 0 }, it_value: value };
        timerfd_settime(&self.0, TimerfdTimerFlags::empty(), &once)?;
        match rustix::io::read(&self.0, &mut [0_u8; 8]) {
            Ok(_) => Ok(true),
            Err(Errno::INTR) => Ok(false),
            Err(errno) => Err(errno.into()),
        }
    }
}
