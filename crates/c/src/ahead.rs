//! A wait that has no descriptor of its own gets one: a thread of the library's waits, puts what it finds into a box for one, and
//! signals an eventfd.

use jitney_faces::{Failure, Kind};
use jitney_memory::EventFd;
use std::os::fd::{AsFd, AsRawFd, RawFd};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// How long a look lasts at most, and so how long the thread goes on after the end.
const SLICE: Duration = Duration::from_millis(50);

/// Somebody who waits, until this is dropped.
#[derive(Debug)]
pub(crate) struct Ahead<T>(Arc<Shared<T>>);

#[derive(Debug)]
struct Shared<T> {
    found: Mutex<Found<T>>,
    turned: Condvar,
    event: EventFd,
}

#[derive(Debug)]
struct Found<T> {
    item: Option<T>,
    /// With what the waiting has ended; said after `item`, and each time.
    failed: Option<Failure>,
    /// Whether nobody wants to know any more.
    left: bool,
}

impl<T> Shared<T> {
    fn lock(&self) -> MutexGuard<'_, Found<T>> {
        self.found.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts it into the box when that is empty; whether somebody wants more.
    fn put(&self, found: Result<T, Failure>) -> bool {
        let mut state = self.lock();
        let goes_on = found.is_ok();
        match found {
            Ok(item) => state.item = Some(item),
            Err(failure) => state.failed = Some(failure),
        }
        // Whoever waits without the descriptor is told in any case.
        let _ = self.event.signal();
        self.turned.notify_all();
        while goes_on && state.item.is_some() && !state.left {
            state = self.turned.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        goes_on && !state.left
    }
}

impl<T: Send + 'static> Ahead<T> {
    /// Has a thread wait by `look`, again and again, each time for as long as it is told, until `look` fails.
    pub(crate) fn start(
        mut look: impl FnMut(Duration) -> Result<Option<T>, Failure> + Send + 'static,
    ) -> Result<Self, Failure> {
        let found = Mutex::new(Found { item: None, failed: None, left: false });
        let shared = Arc::new(Shared { found, turned: Condvar::new(), event: EventFd::new()? });
        let own = Arc::clone(&shared);
        let waits = move || {
            while !own.lock().left {
                let found = look(SLICE).transpose();
                if found.is_some_and(|found| !own.put(found)) {
                    return;
                }
            }
        };
        let thread = std::thread::Builder::new().name("jitney".into()).spawn(waits);
        thread.map_err(|error| Failure::new(Kind::Exhausted, format!("cannot start a thread: {error}")))?;
        Ok(Self(shared))
    }

    /// What is readable when there is something to take.
    pub(crate) fn descriptor(&self) -> RawFd {
        self.0.event.as_fd().as_raw_fd()
    }

    /// Takes what was found; waits for it for `timeout` at most.
    pub(crate) fn take(&self, timeout: Duration) -> Result<Option<T>, Failure> {
        let end = Instant::now().checked_add(timeout);
        let mut state = self.0.lock();
        loop {
            if let Some(item) = state.item.take() {
                self.0.turned.notify_all();
                // It stays readable if the next thing that is said is the end.
                if state.failed.is_none() {
                    self.0.event.take()?;
                }
                return Ok(Some(item));
            }
            if let Some(failure) = &state.failed {
                return Err(failure.clone());
            }
            let left = end.map_or(SLICE, |end| end.saturating_duration_since(Instant::now()));
            if left.is_zero() {
                return Ok(None);
            }
            state = self.0.turned.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

impl<T> Drop for Ahead<T> {
    fn drop(&mut self) {
        self.0.lock().left = true;
        self.0.turned.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_comes_in_order_and_the_end_is_said_each_time() {
        let mut next = 0;
        let ahead = Ahead::start(move |_| {
            next += 1;
            if next < 4 { Ok(Some(next)) } else { Err(Failure::closed("it")) }
        });
        let ahead = ahead.unwrap();
        let long = Duration::from_secs(10);
        assert_eq!((1..4).map(|_| ahead.take(long).unwrap().unwrap()).collect::<Vec<_>>(), [1, 2, 3]);
        assert!(ahead.take(long).is_err() && ahead.take(Duration::ZERO).is_err());
        assert!(ahead.0.event.wait(Some(Duration::ZERO)).unwrap(), "the end is heard");
    }
}
