//! Waiting, as C programs ask for it: milliseconds, as of `poll`.

use jitney_faces::Failure;
use std::ffi::c_int;
use std::time::{Duration, Instant};

/// How long a wait goes on after its object was freed by another thread.
const SLICE: Duration = Duration::from_millis(20);

/// Milliseconds; nothing for ever, which is any number below 0.
pub(crate) fn duration(milliseconds: c_int) -> Option<Duration> {
    u64::try_from(milliseconds).ok().map(Duration::from_millis)
}

/// Waits by `look`, which waits itself for the time that it is given, until it finds something or the time has passed. `look`
/// asks for the object's handle each time.
pub(crate) fn until<T>(
    milliseconds: c_int,
    mut look: impl FnMut(Duration) -> Result<Option<T>, Failure>,
) -> Result<Option<T>, Failure> {
    let end = duration(milliseconds).and_then(|timeout| Instant::now().checked_add(timeout));
    loop {
        let left = end.map_or(SLICE, |end| end.saturating_duration_since(Instant::now()));
        let found = look(left.min(SLICE))?;
        if found.is_some() || left.is_zero() {
            return Ok(found);
        }
    }
}
