//! Event descriptors.

use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

use jitney_memory::{Error, EventFd};
use rustix::event::EventfdFlags;
use rustix::io::FdFlags;

#[test]
fn signals_are_counted_and_taken_at_once() {
    let event = EventFd::new().unwrap();
    assert!(rustix::io::fcntl_getfd(&event).unwrap().contains(FdFlags::CLOEXEC));
    assert_eq!(event.take().unwrap(), 0);
    event.signal().unwrap();
    event.signal().unwrap();
    assert!(event.wait(Some(Duration::ZERO)).unwrap());
    assert_eq!(event.take().unwrap(), 2);
    assert!(!event.wait(Some(Duration::ZERO)).unwrap());
}

#[test]
fn waiting_ends_at_the_timeout_or_with_a_signal() {
    let event = EventFd::new().unwrap();
    let start = Instant::now();
    assert!(!event.wait(Some(Duration::from_millis(30))).unwrap());
    assert!(start.elapsed() >= Duration::from_millis(30));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            std::thread::sleep(Duration::from_millis(20));
            event.signal().unwrap();
        });
        assert!(event.wait(None).unwrap());
    });
    assert!(event.wait(Some(Duration::MAX)).unwrap());
}

#[test]
fn a_full_counter_is_still_signalled() {
    let event = EventFd::new().unwrap();
    rustix::io::write(&event, &(u64::MAX - 1).to_ne_bytes()).unwrap();
    event.signal().unwrap();
    assert_eq!(event.take().unwrap(), u64::MAX - 1);
}

#[test]
fn a_received_event_is_checked_and_never_blocks() {
    let blocking = rustix::event::eventfd(3, EventfdFlags::CLOEXEC).unwrap();
    let event = EventFd::try_from(blocking).unwrap();
    assert_eq!(event.take().unwrap(), 3);
    assert_eq!(event.take().unwrap(), 0);

    let copy = event.as_fd().try_clone_to_owned().unwrap();
    assert!(EventFd::try_from(copy).is_ok());
    for other in [OwnedFd::from(std::fs::File::open("/dev/null").unwrap()), rustix::pipe::pipe().unwrap().0] {
        let error = EventFd::try_from(other).unwrap_err();
        assert!(matches!(error, Error::Descriptor { .. }), "{error:?}");
        assert!(error.to_string().contains("expected an eventfd"), "{error}");
    }
}

/// Whoever sent an event has the same open file: its flags and its counter are theirs as well.
#[test]
fn a_shared_event_that_somebody_filled_keeps_nobody() {
    let theirs = EventFd::new().unwrap();
    let ours = EventFd::try_from(theirs.as_fd().try_clone_to_owned().unwrap()).unwrap();
    let flags = rustix::fs::fcntl_getfl(&theirs).unwrap();
    rustix::fs::fcntl_setfl(&theirs, flags - rustix::fs::OFlags::NONBLOCK).unwrap();
    rustix::io::write(&theirs, &(u64::MAX - 1).to_ne_bytes()).unwrap();
    ours.signal().unwrap();
    ours.signal().unwrap();
    assert!(theirs.take().unwrap() >= u64::MAX - 1);
    ours.signal().unwrap();
    assert_eq!(theirs.take().unwrap(), 1);
}

/// However quick somebody is who fills the counter and clears the flag.
#[test]
fn nobody_makes_a_signal_wait() {
    use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};
    use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
    use std::time::{Duration, Instant};
    let theirs = EventFd::new().unwrap();
    let ours = EventFd::try_from(theirs.as_fd().try_clone_to_owned().unwrap()).unwrap();
    let (signals, end) = (AtomicU64::new(0), AtomicBool::new(false));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !end.load(SeqCst) {
                ours.signal().unwrap();
                signals.fetch_add(1, SeqCst);
            }
        });
        let flags = fcntl_getfl(&theirs).unwrap();
        let mut waits = false;
        for _ in 0..1000 {
            fcntl_setfl(&theirs, flags | OFlags::NONBLOCK).unwrap();
            theirs.take().unwrap();
            let _ = rustix::io::write(&theirs, &(u64::MAX - 1).to_ne_bytes());
            fcntl_setfl(&theirs, flags - OFlags::NONBLOCK).unwrap();
            let (since, before) = (Instant::now(), signals.load(SeqCst));
            while signals.load(SeqCst) < before + 2 && !waits {
                waits = since.elapsed() > Duration::from_secs(5);
                std::thread::yield_now();
            }
        }
        end.store(true, SeqCst);
        // One that waits is let go, so that this ends in any case.
        fcntl_setfl(&theirs, flags | OFlags::NONBLOCK).unwrap();
        theirs.take().unwrap();
        assert!(!waits, "a signal waits");
    });
}
