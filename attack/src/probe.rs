//! What the machine itself costs: a message there and back between two threads that do nothing else.

use anyhow::Context;
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, recv, send, socketpair};
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// As often as the good client.
const REST: Duration = Duration::from_millis(2);

/// Measures until it is dropped.
#[derive(Debug)]
pub(crate) struct Probe {
    times: Arc<Mutex<Vec<Duration>>>,
    end: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl Probe {
    pub(crate) fn start() -> anyhow::Result<Self> {
        let (near, far) = socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)
            .context("a socket pair")?;
        let times = Arc::new(Mutex::new(Vec::new()));
        let end = Arc::new(AtomicBool::new(false));
        let echo = std::thread::spawn(move || while answer(&far) {});
        let (measured, ended) = (Arc::clone(&times), Arc::clone(&end));
        let asker = std::thread::spawn(move || {
            while !ended.load(Ordering::Relaxed) {
                let start = Instant::now();
                if send(&near, b"?", SendFlags::NOSIGNAL).is_err()
                    || recv(&near, &mut [0; 1], RecvFlags::empty()).is_err()
                {
                    return;
                }
                measured.lock().unwrap_or_else(PoisonError::into_inner).push(start.elapsed());
                std::thread::sleep(REST);
            }
        });
        Ok(Self { times, end, threads: vec![echo, asker] })
    }

    /// The times since the last call.
    pub(crate) fn take(&self) -> Vec<Duration> {
        std::mem::take(&mut *self.times.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Sends one message back; says whether there was one.
fn answer(far: &OwnedFd) -> bool {
    matches!(recv(far, &mut [0; 1], RecvFlags::empty()), Ok((1, _)))
        && send(far, b"!", SendFlags::NOSIGNAL).is_ok()
}

impl Drop for Probe {
    fn drop(&mut self) {
        self.end.store(true, Ordering::Relaxed);
        // The asker ends and with it its socket, and so the echo.
        for thread in self.threads.drain(..).rev() {
            let _ = thread.join();
        }
    }
}
