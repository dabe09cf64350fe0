//! A service manager for one broker, where there is no other: it keeps descriptors, and starts the broker anew.

use super::store::PREFIX;
use crate::server::LEDGER;
use command_fds::{CommandFdExt, FdMapping};
use jitney_memory::descriptors::{self, Wait};
use jitney_vfio::{Error, ErrorKind, Result};
use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::fs::{Mode, fchmod};
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, socket_with};
use rustix::process::{Pid, PidfdFlags, Signal, kill_process, pidfd_open};
use std::collections::BTreeMap;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixDatagram;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// The exit status with which a broker says that it leaves its clients to the next one: `EX_TEMPFAIL` of sysexits.h.
pub const LEFT_TO_ANOTHER: u8 = 75;

/// The first descriptor that is handed over.
const FIRST: i32 = 3;
/// The most that is kept: their names have to fit into one variable of the next broker's environment, which the kernel limits to 128 KiB.
/// A broker of a thousand clients has four thousand.
const MOST: usize = 10_000;
/// How often a broker may crash before it is ready, one time after the other.
const MOST_TRIES: u32 = 5;
/// How long the program's file may be away or half written, as while another version is installed.
const INSTALLING: Duration = Duration::from_secs(10);
/// How often it is tried meanwhile.
const PACE: Duration = Duration::from_millis(100);
/// After how long without a sign of life the broker is ended, and started anew, as the unit for systemd has it.
const WATCHDOG: Duration = Duration::from_secs(30);
/// The exit status of a Rust program that has panicked.
const PANICKED: i32 = 101;
/// The most descriptors that one message may have.
const MOST_AT_ONCE: usize = 8;

/// Keeps the descriptors of a broker and starts it anew when it was killed, has crashed, or leaves its place to another.
///
/// It speaks the protocol of systemd's descriptor store (sd_notify(3), `FDSTORE`), as far as a broker needs it.
#[derive(Debug)]
pub struct SmallManager {
    socket: UnixDatagram,
    path: PathBuf,
    kept: BTreeMap<String, OwnedFd>,
    /// The broker has said that it serves.
    ready: bool,
    /// How long it may be silent, and since when it is.
    watchdog: Duration,
    alive: Instant,
    state: Arc<Mutex<State>>,
}

#[derive(Debug, Default)]
struct State {
    broker: Option<Pid>,
    /// The signal by which it is to end.
    ends: Option<Signal>,
}

/// Passes signals on to the broker, from any thread.
#[derive(Debug, Clone)]
pub struct Forward(Arc<Mutex<State>>);

impl Forward {
    /// Passes a signal on that ends the broker. It is not started again, but for taking back what its clients have.
    pub fn end(&self, signal: Signal) {
        let mut state = lock(&self.0);
        state.ends = Some(signal);
        pass(&state, signal);
    }

    /// Passes another signal on.
    pub fn pass(&self, signal: Signal) {
        pass(&lock(&self.0), signal);
    }
}

fn pass(state: &State, signal: Signal) {
    if let Some(broker) = state.broker
        && let Err(errno) = kill_process(broker, signal)
    {
        tracing::debug!(%errno, "the broker is gone already");
    }
}

impl SmallManager {
    /// One that a broker reaches by a socket in `folder`, which has to be this user's alone.
    ///
    /// # Errors
    /// What the system says.
    pub fn new(folder: &Path) -> Result<Self> {
        let path = folder.join(format!("keep-{}.sock", std::process::id()));
        let failed = |error: std::io::Error| super::io(&error, &format!("the socket {}", path.display()));
        match std::fs::remove_file(&path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(failed(error)),
            // Of a process that had this number before.
            _ => {}
        }
        // The file gets the mode that the socket has when it is bound: nobody else finds it open for a moment.
        let bind = || {
            let socket = socket_with(AddressFamily::UNIX, SocketType::DGRAM, SocketFlags::CLOEXEC, None)?;
            fchmod(&socket, Mode::RUSR | Mode::WUSR)?;
            rustix::net::bind(&socket, &SocketAddrUnix::new(&path)?)?;
            Ok(UnixDatagram::from(socket))
        };
        let socket = bind().map_err(|errno: rustix::io::Errno| failed(errno.into()))?;
        let (kept, alive) = (BTreeMap::new(), Instant::now());
        Ok(Self { socket, path, kept, ready: false, watchdog: WATCHDOG, alive, state: Arc::default() })
    }

    /// The same that ends a broker of which nothing was heard for `limit`, instead of for 30 seconds.
    #[must_use]
    pub const fn with_watchdog(mut self, limit: Duration) -> Self {
        self.watchdog = limit;
        self
    }

    /// What passes signals on.
    #[must_use]
    pub fn forward(&self) -> Forward {
        Forward(Arc::clone(&self.state))
    }

    /// Starts the broker that `command` is made for, and starts it again as long as that makes sense. Returns how it ended.
    ///
    /// # Errors
    /// What starting it says; [`ErrorKind::System`] if it ends again and again as soon as it is started.
    pub fn run(&mut self, mut command: impl FnMut() -> Command) -> Result<ExitStatus> {
        let mut in_vain = 0;
        let mut since = Instant::now();
        loop {
            let child = match self.start(command()) {
                Ok(child) => child,
                Err(error) if self.has_ledger() && since.elapsed() < INSTALLING => {
                    tracing::debug!(%error, "it is tried again");
                    std::thread::sleep(PACE);
                    continue;
                }
                Err(error) => return Err(error),
            };
            let status = self.accompany(child)?;
            since = Instant::now();
            let crashed = status.signal().is_some() || status.code() == Some(PANICKED);
            let left = status.code() == Some(LEFT_TO_ANOTHER.into());
            // Who was told to end when it was not listening yet, or any more, has left to another what its clients have.
            if !(crashed || left) || (lock(&self.state).ends.is_some() && !self.has_ledger()) {
                return Ok(status);
            }
            in_vain = if crashed && !self.ready { in_vain + 1 } else { 0 };
            if in_vain == MOST_TRIES {
                let what = format!("the broker has ended {MOST_TRIES} times before it was ready ({status})");
                // It may be what the one before has left. Without its books the next one begins anew.
                if self.kept.remove(LEDGER).is_none() {
                    return Err(
                        Error::new(ErrorKind::System, what).with_remedy("see what it says in the log")
                    );
                }
                tracing::error!("{what}: it begins anew, and programs that had cards hear that it is gone");
                in_vain = 0;
            }
            match crashed {
                true => tracing::warn!(%status, "the broker has ended, and is started again"),
                false => tracing::info!("the broker is started anew"),
            }
        }
    }

    /// Whether another broker can go on where the last one has stopped.
    fn has_ledger(&self) -> bool {
        self.kept.contains_key(LEDGER)
    }

    fn start(&mut self, mut command: Command) -> Result<Child> {
        self.ready = false;
        let system = |error: std::io::Error| super::io(&error, "starting the broker");
        let (names, descriptors): (Vec<_>, Vec<_>) = self.kept.iter().unzip();
        let mappings = (FIRST..).zip(descriptors).map(|(child_fd, descriptor)| {
            Ok(FdMapping { parent_fd: descriptor.try_clone().map_err(system)?, child_fd })
        });
        let mappings = mappings.collect::<Result<Vec<_>>>()?;
        command.env("LISTEN_FDS", mappings.len().to_string());
        command.env(
            "LISTEN_FDNAMES",
            names.iter().map(|name| format!("{PREFIX}{name}")).collect::<Vec<_>>().join(":"),
        );
        // Its number is known to nobody before it is there.
        command.env_remove("LISTEN_PID").env("NOTIFY_SOCKET", &self.path).env("FDSTORE", MOST.to_string());
        command.env_remove("WATCHDOG_PID").env("WATCHDOG_USEC", self.watchdog.as_micros().to_string());
        command
            .fd_mappings(mappings)
            .map_err(|error| Error::new(ErrorKind::System, format!("starting the broker: {error}")))?;
        // The copies that were handed over go with the command.
        let mut state = lock(&self.state);
        let child = command.spawn().map_err(system)?;
        state.broker = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
        Ok(child)
    }

    /// Keeps what the broker says, until it has ended.
    fn accompany(&mut self, mut child: Child) -> Result<ExitStatus> {
        let system = |error: std::io::Error| super::io(&error, "the broker's end");
        let outcome = self.heed(child.id());
        if outcome.is_err() {
            // Nobody would keep anything for it any more.
            let _ = child.kill();
        }
        let status = child.wait().map_err(system)?;
        lock(&self.state).broker = None;
        outcome?;
        self.take_all();
        Ok(status)
    }

    fn heed(&mut self, broker: u32) -> Result<()> {
        let system = |errno| Error::from_errno(errno, "waiting for the broker");
        let pid = i32::try_from(broker).ok().and_then(Pid::from_raw);
        let pid = pid.ok_or_else(|| Error::new(ErrorKind::System, "the broker has no process"))?;
        let process = pidfd_open(pid, PidfdFlags::empty()).map_err(system)?;
        loop {
            let mut waits = [PollFd::new(&self.socket, PollFlags::IN), PollFd::new(&process, PollFlags::IN)];
            // Until it serves it may take its time, as with systemd.
            let left = self.ready.then(|| self.watchdog.saturating_sub(self.alive.elapsed()));
            let left = left.and_then(|left| Timespec::try_from(left).ok());
            match rustix::event::poll(&mut waits, left.as_ref()) {
                Ok(_) | Err(rustix::io::Errno::INTR) => {}
                Err(errno) => return Err(system(errno)),
            }
            let ended = !waits[1].revents().is_empty();
            self.take_all();
            if ended {
                return Ok(());
            }
            // After all that it had said: this process may have been held up itself.
            if self.ready && self.alive.elapsed() >= self.watchdog {
                tracing::error!("the broker has given no sign of life for {:?}, and is ended", self.watchdog);
                self.alive = Instant::now();
                pass(&lock(&self.state), Signal::KILL);
            }
        }
    }

    /// Takes in all that was said.
    fn take_all(&mut self) {
        let mut buffer = [0; 4096];
        loop {
            match descriptors::receive(&self.socket, &mut buffer, MOST_AT_ONCE, Wait::Never) {
                Ok(received) => {
                    let said = buffer.get(..received.len).unwrap_or_default();
                    self.take(&String::from_utf8_lossy(said), received.descriptors);
                }
                Err(error) if error.would_block() => return,
                Err(error) => return tracing::error!(%error, "what the broker says is not heard"),
            }
        }
    }

    fn take(&mut self, said: &str, descriptors: Vec<OwnedFd>) {
        let says = |what: &str| said.lines().any(|line| line == what);
        if says("READY=1") || says("WATCHDOG=1") {
            self.alive = Instant::now();
        }
        if says("READY=1") {
            self.ready = true;
            let state = lock(&self.state);
            if let Some(signal) = state.ends {
                // It came when nobody listened.
                pass(&state, signal);
            }
        }
        // What comes with BARRIER=1 is closed, which is the answer.
        let name = said.lines().find_map(|line| line.strip_prefix("FDNAME=")?.strip_prefix(PREFIX));
        let Some(name) = name else { return };
        if says("FDSTOREREMOVE=1") {
            self.kept.remove(name);
        } else if says("FDSTORE=1") {
            match descriptors.into_iter().next() {
                Some(descriptor) if self.kept.len() < MOST => {
                    self.kept.insert(name.to_owned(), descriptor);
                }
                _ => tracing::error!(name, "a descriptor could not be kept"),
            }
        }
    }
}

impl Drop for SmallManager {
    fn drop(&mut self) {
        // If it is not there nobody misses it.
        let _ = std::fs::remove_file(&self.path);
    }
}

fn lock(state: &Mutex<State>) -> std::sync::MutexGuard<'_, State> {
    // Every change of it is complete in itself.
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::manager::store::Store;
    use std::sync::atomic::{AtomicBool, Ordering};

    fn shell(script: &str) -> Command {
        let mut command = Command::new("/bin/sh");
        command.args(["-c", script]);
        command
    }

    /// What was kept comes back, to a process that was started because the one before was killed.
    #[test]
    fn what_is_kept_is_there_for_the_next() {
        let folder = tempfile::tempdir().unwrap();
        let mut manager = SmallManager::new(folder.path()).unwrap();
        let mut store = Store::new(UnixDatagram::unbound().unwrap());
        store.connect(&manager.path);
        let (file, mut other) = (tempfile::tempfile().unwrap(), tempfile::tempfile().unwrap());
        std::io::Write::write_all(&mut other, b"kept").unwrap();
        store.keep("a1", &file);
        store.keep("b2", &other);
        store.keep("c3", &file);
        store.forget("a1");
        let out = folder.path().join("out");
        let mut runs = 0;
        let status = manager.run(|| {
            runs += 1;
            shell(&match runs {
                1 => "kill -9 $$".to_owned(),
                2 => format!("echo $LISTEN_FDS $LISTEN_FDNAMES > {}; exit 75", out.display()),
                _ => "exit 7".to_owned(),
            })
        });
        assert_eq!(status.unwrap().code(), Some(7));
        assert_eq!(runs, 3);
        assert_eq!(std::fs::read_to_string(&out).unwrap(), "2 j.b2:j.c3\n");
    }

    /// Has a ledger kept.
    fn keep_ledger(manager: &SmallManager) {
        let mut store = Store::new(UnixDatagram::unbound().unwrap());
        store.connect(&manager.path);
        store.keep(LEDGER, tempfile::tempfile().unwrap());
    }

    /// Signals that come when no broker listens: what its clients have is taken back by one that does.
    #[test]
    fn who_is_told_to_end_in_a_pause_ends_what_was_left() {
        let folder = tempfile::tempdir().unwrap();
        let mut manager = SmallManager::new(folder.path()).unwrap();
        keep_ledger(&manager);
        let forward = manager.forward();
        let ready = UnixDatagram::unbound().unwrap();
        ready.connect(&manager.path).unwrap();
        let mut runs = 0;
        let status = manager.run(|| {
            runs += 1;
            match runs {
                1 => {
                    forward.end(Signal::TERM);
                    shell("kill -9 $$")
                }
                _ => {
                    ready.send(b"READY=1").unwrap();
                    shell("trap 'exit 7' TERM; while :; do sleep 0.01; done")
                }
            }
        });
        // A shell that was not quick enough is ended by the signal, and there is a third one.
        assert_eq!(status.unwrap().code(), Some(7), "after {runs}");
    }

    #[test]
    fn one_that_has_served_may_be_killed_as_often_as_one_likes() {
        let folder = tempfile::tempdir().unwrap();
        let mut manager = SmallManager::new(folder.path()).unwrap();
        let ready = UnixDatagram::unbound().unwrap();
        ready.connect(&manager.path).unwrap();
        let mut runs = 0;
        let status = manager.run(|| {
            runs += 1;
            ready.send(b"READY=1").unwrap();
            shell(match runs {
                1..=8 => "kill -9 $$",
                // As if it had panicked.
                9 => "exit 101",
                _ => "exit 0",
            })
        });
        assert!(status.unwrap().success());
        assert_eq!(runs, 10);
    }

    #[test]
    fn books_that_kill_every_broker_are_thrown_away() {
        let folder = tempfile::tempdir().unwrap();
        let mut manager = SmallManager::new(folder.path()).unwrap();
        keep_ledger(&manager);
        manager.take_all();
        let mut runs = 0;
        let status = manager.run(|| {
            runs += 1;
            shell("case $LISTEN_FDNAMES in *ledger*) kill -9 $$;; esac; exit 0")
        });
        assert!(status.unwrap().success());
        assert_eq!(runs, MOST_TRIES + 1);
    }

    /// One that hangs is ended as one that was killed, and the next goes on; one that gives signs of life is not.
    #[test]
    fn one_that_hangs_is_ended() {
        let folder = tempfile::tempdir().unwrap();
        let limit = Duration::from_millis(500);
        let mut manager = SmallManager::new(folder.path()).unwrap().with_watchdog(limit);
        keep_ledger(&manager);
        let says = UnixDatagram::unbound().unwrap();
        says.connect(&manager.path).unwrap();
        let mut runs = 0;
        let since = Instant::now();
        let status = manager.run(|| {
            runs += 1;
            says.send(b"READY=1").unwrap();
            match runs {
                1 => shell("[ $WATCHDOG_USEC = 500000 ] && exec sleep 100"),
                _ => {
                    let says = says.try_clone().unwrap();
                    std::thread::spawn(move || {
                        for _ in 0..12 {
                            std::thread::sleep(limit / 5);
                            says.send(b"WATCHDOG=1").unwrap();
                        }
                    });
                    shell("sleep 1; exit 7")
                }
            }
        });
        assert_eq!((status.unwrap().code(), runs), (Some(7), 2));
        assert!(since.elapsed() >= limit * 3);
    }

    /// While another version is installed there is no program for a moment.
    #[test]
    fn a_program_that_is_away_is_waited_for() {
        let folder = tempfile::tempdir().unwrap();
        let mut manager = SmallManager::new(folder.path()).unwrap();
        keep_ledger(&manager);
        manager.take_all();
        let program = folder.path().join("program");
        let mut tries = 0;
        let status = manager.run(|| {
            tries += 1;
            if tries == 3 {
                std::os::unix::fs::symlink("/bin/true", &program).unwrap();
            }
            Command::new(&program)
        });
        assert!(status.unwrap().success());
        assert_eq!(tries, 3);
        manager.kept.clear();
        let error = manager.run(|| Command::new("/nowhere/at/all")).unwrap_err();
        assert!(error.to_string().contains("ENOENT"), "{error}");
    }

    /// sd_notify_barrier(3): who waits for it knows that all before it was done.
    #[test]
    fn a_barrier_is_answered_and_nobody_is_waited_for_who_is_gone() {
        let folder = tempfile::tempdir().unwrap();
        let mut manager = SmallManager::new(folder.path()).unwrap();
        let mut store = Store::new(UnixDatagram::unbound().unwrap());
        store.connect(&manager.path);
        assert!(!store.barrier(), "nobody reads");
        store.keep("a1", tempfile::tempfile().unwrap());
        let ended = Arc::new(AtomicBool::new(false));
        let ends = Arc::clone(&ended);
        let hears = std::thread::spawn(move || {
            while !ends.load(Ordering::Relaxed) {
                manager.take_all();
            }
            manager.kept.len()
        });
        store.forget("a1");
        assert!(store.barrier());
        ended.store(true, Ordering::Relaxed);
        assert_eq!(hears.join().unwrap(), 0);
        assert!(!store.barrier(), "it is gone");
    }

    #[test]
    fn one_that_always_dies_is_given_up() {
        let folder = tempfile::tempdir().unwrap();
        let mut manager = SmallManager::new(folder.path()).unwrap();
        let error = manager.run(|| shell("kill -9 $$")).unwrap_err();
        assert!(error.to_string().contains("5 times"), "{error}");
        drop(manager);
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
    }

    #[test]
    fn who_is_told_to_end_is_not_started_again() {
        let folder = tempfile::tempdir().unwrap();
        let mut manager = SmallManager::new(folder.path()).unwrap();
        let forward = manager.forward();
        let ends = std::thread::spawn(move || {
            while lock(&forward.0).broker.is_none() {
                std::thread::yield_now();
            }
            forward.end(Signal::TERM);
        });
        let status = manager.run(|| shell("exec sleep 100")).unwrap();
        ends.join().unwrap();
        assert_eq!(status.signal(), Some(15));
    }
}
