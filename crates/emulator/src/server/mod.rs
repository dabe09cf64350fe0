//! A vfio-user server for one board.
//!
//! Several clients may be connected at a time, with the semantics of opening a VFIO device again: interrupts are wired once
//! for all, and the last one that closes the board resets it. Each connection has a thread that waits in `recv` and
//! answers with one `send`.
//!
//! **One of them maps memory**: the one that agreed on a version first. It owns the board, as who holds a VFIO container
//! does, until its connection ends. All others are guests, for as long as they last: what they map or unmap is refused
//! with EPERM, also after the mapper has gone, and a connection that was made while there was one is a guest whenever
//! it begins to speak. So a broker that connects first is safe from the clients that it hands further connections to; and
//! if it dies, the next one that connects owns the board, and not a guest of the first. A second program that wants the
//! board for itself finds it held.
//!
//! Follows the "vfio-user Protocol Specification" (QEMU, docs/interop/vfio-user.rst). Left out: live migration, dirty
//! page tracking, ioeventfds for regions, coalesced writes and the second socket; a client that asks is told ENOTSUP.

mod board;
mod connection;
mod endpoint;
#[cfg(fuzzing)]
pub(crate) mod fuzzed;
mod in_process;
mod mapper;
mod msix;
mod session;

use std::io;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Weak};
use std::time::Duration;

use jitney_memory::EventFd;
use rustix::event::{PollFd, PollFlags};
use rustix::io::Errno;

use crate::function::{Function, Host};
use crate::host::{BoardHost, Kindness, Link};
use crate::limited::warn_limited;
use board::Board;
use endpoint::Endpoint;
pub use in_process::serve_in_process;

/// Stack of a connection's thread in bytes. Only what is touched takes memory.
const STACK: usize = 256 << 10;

/// Why a board cannot be served.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ServerError {
    /// The path does not fit into a socket address.
    #[error(
        "the socket path {path} has {length} bytes, a socket's path at most {limit}; choose a shorter one"
    )]
    PathTooLong {
        /// The path.
        path: PathBuf,
        /// Its length in bytes.
        length: usize,
        /// The longest possible, in bytes.
        limit: usize,
    },
    /// Another server listens there.
    #[error("another server listens at {path}; stop it, or choose another path")]
    Taken {
        /// The path.
        path: PathBuf,
    },
    /// Other servers listen at all the paths that would do.
    #[error("other servers listen at all {tried} paths that would do; stop one, or choose another path")]
    AllTaken {
        /// How many were tried.
        tried: usize,
    },
    /// Something is there that no server has left.
    #[error("{path} exists and is not a socket; choose another path")]
    NotASocket {
        /// The path.
        path: PathBuf,
    },
    /// The socket cannot be made.
    #[error("cannot listen at {path}: {source}")]
    Bind {
        /// The path.
        path: PathBuf,
        /// What the kernel says.
        source: io::Error,
    },
    /// No PCI function can be like that.
    #[error("the board describes a PCI function that cannot be: {0}")]
    Description(&'static str),
    /// The event that stops the server does not work.
    #[error(transparent)]
    Event(#[from] jitney_memory::Error),
    /// A board cannot be served within this process.
    #[error("cannot serve a board within this process: {0}")]
    InProcess(io::Error),
    /// Clients can no longer be accepted.
    #[error("cannot accept connections at {path}: {source}")]
    Accept {
        /// The path.
        path: PathBuf,
        /// What the kernel says.
        source: io::Error,
    },
}

/// How a board is served.
#[derive(Debug, Clone, Copy)]
pub struct Options {
    /// How long a client may take to answer when the board asks for memory that only the client can reach, and to take
    /// the answers to its own questions, before the one fails and the other ends its connection; and to say which version
    /// it speaks.
    pub patience: Duration,
    /// A posted write that the host refuses (not mapped, read-only, a file that was shortened) is an error that the
    /// function sees. On PCIe, and here unless this is asked for, it is dropped: the function goes on and reports success,
    /// and the log has a line. For tests of drivers, which shall hear of it.
    pub strict_writes: bool,
    /// DMA and message signalled interrupts do not need Bus Master Enable. A card does need it: without, what it reads
    /// fails, what it writes is dropped, and its messages wait.
    pub ignore_bus_master: bool,
    /// Most connections at one time; more are hung up on. Each takes a thread.
    pub connections: usize,
}

impl Default for Options {
    /// Five seconds, which is what QEMU grants its servers; as hardware is; 512 connections.
    fn default() -> Self {
        Self {
            patience: Duration::from_secs(5),
            strict_writes: false,
            ignore_bus_master: false,
            connections: 512,
        }
    }
}

/// Stops a server. Clones stop the same one.
#[derive(Debug, Clone)]
pub struct StopHandle(Arc<EventFd>);

impl StopHandle {
    /// Has [`Server::serve`] end all connections and return. May be called at any time and more than once.
    ///
    /// # Errors
    /// What `write` to the event answers.
    pub fn stop(&self) -> Result<(), ServerError> {
        Ok(self.0.signal()?)
    }
}

/// A board that listens for clients.
pub struct Server {
    endpoint: Endpoint,
    board: Board,
    options: Options,
    stop: StopHandle,
}

impl std::fmt::Debug for Server {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Server").field("path", &self.path()).finish_non_exhaustive()
    }
}

impl Server {
    /// Listens at `path` for clients of the function that `plug` makes for the host it is given.
    ///
    /// A socket that a server which is gone has left there is replaced. Clients can connect from now on, and are served
    /// as soon as [`serve`](Self::serve) runs.
    ///
    /// # Errors
    /// What `plug` answers, a path that is too long or taken, or a function whose description cannot be; as an error of
    /// the caller's own, so that the two can be told apart or need not be.
    pub fn bind<E: From<ServerError>>(
        path: impl AsRef<Path>,
        options: Options,
        plug: impl FnOnce(Arc<dyn Host>) -> Result<Arc<dyn Function>, E>,
    ) -> Result<Self, E> {
        Self::plug(Endpoint::bind(path.as_ref())?, options, plug)
    }

    /// As [`bind`](Self::bind), at the first of `paths` at which no other server listens. Servers that are started at the
    /// same time do not get into each other's way.
    ///
    /// # Errors
    /// As `bind`, and [`ServerError::AllTaken`].
    pub fn bind_first<E: From<ServerError>>(
        paths: impl IntoIterator<Item = PathBuf>,
        options: Options,
        plug: impl FnOnce(Arc<dyn Host>) -> Result<Arc<dyn Function>, E>,
    ) -> Result<Self, E> {
        Self::plug(Endpoint::bind_first(paths)?, options, plug)
    }

    fn plug<E: From<ServerError>>(
        endpoint: Endpoint,
        options: Options,
        plug: impl FnOnce(Arc<dyn Host>) -> Result<Arc<dyn Function>, E>,
    ) -> Result<Self, E> {
        let Options { strict_writes, ignore_bus_master, .. } = options;
        let host = Arc::new(BoardHost::new(Kindness { strict_writes, ignore_bus_master }));
        let function = plug(Arc::clone(&host) as Arc<dyn Host>)?;
        let board = Board::new(function, host).map_err(ServerError::Description)?;
        let event = EventFd::new().map_err(ServerError::Event)?;
        Ok(Self { endpoint, board, options, stop: StopHandle(Arc::new(event)) })
    }

    /// Where clients connect.
    #[must_use]
    pub fn path(&self) -> &Path {
        self.endpoint.path()
    }

    /// What stops this server.
    #[must_use]
    pub fn stop_handle(&self) -> StopHandle {
        self.stop.clone()
    }

    /// Serves clients until told to stop; then all connections are ended and the socket removed.
    ///
    /// # Errors
    /// What `poll` or `accept` answer. That this process has no descriptors left for one more client is no error: the
    /// client waits until another has gone.
    pub fn serve(self) -> Result<(), ServerError> {
        let mut links: Vec<Weak<Link>> = Vec::new();
        std::thread::scope(|scope| {
            let outcome = self.accept(|link| {
                links.retain(|link| link.strong_count() > 0);
                if links.len() >= self.options.connections {
                    warn_limited!(
                        "a client is turned away: there are {} connections, as many as may be",
                        links.len()
                    );
                    return;
                }
                links.push(Arc::downgrade(&link));
                let board = &self.board;
                let arrival = board.arrival(&link);
                let id = arrival.id;
                let thread = std::thread::Builder::new().name("vfio-user".into()).stack_size(STACK);
                if let Err(error) =
                    thread.spawn_scoped(scope, move || connection::serve(board, &link, arrival))
                {
                    board.close(id);
                    warn_limited!("a client is turned away, no thread can be made for it: {error}");
                }
            });
            links.iter().filter_map(Weak::upgrade).for_each(|link| link.close());
            outcome
        })
    }

    /// Takes connections and hands them to `begin`, until told to stop.
    fn accept(&self, mut begin: impl FnMut(Arc<Link>)) -> Result<(), ServerError> {
        let failed = |source| ServerError::Accept { path: self.path().into(), source };
        let listener = self.endpoint.listener();
        loop {
            let mut poll = [
                PollFd::from_borrowed_fd(self.stop.0.as_fd(), PollFlags::IN),
                PollFd::from_borrowed_fd(listener.as_fd(), PollFlags::IN),
            ];
            match rustix::event::poll(&mut poll, None) {
                Ok(_) | Err(Errno::INTR) => {}
                Err(errno) => return Err(failed(errno.into())),
            }
            if !poll[0].revents().is_empty() {
                return Ok(());
            }
            match listener.accept().and_then(|(socket, _)| Link::new(socket, self.options.patience)) {
                Ok(link) => begin(Arc::new(link)),
                Err(error) => match Errno::from_io_error(&error) {
                    Some(Errno::AGAIN | Errno::INTR | Errno::CONNABORTED) => {}
                    Some(Errno::MFILE | Errno::NFILE | Errno::NOBUFS | Errno::NOMEM) => {
                        warn_limited!("a client has to wait: {error}");
                        self.stop.0.wait(Some(Duration::from_millis(100)))?;
                    }
                    _ => return Err(failed(error)),
                },
            }
        }
    }
}
