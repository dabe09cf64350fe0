//! What a service manager hands to a broker, and what it hears of it: sd_listen_fds(3), sd_notify(3), sd_watchdog_enabled(3).
//!
//! Written here and not taken from a crate because the thread that serves tells the manager, and that may wait for nobody:
//! not for a manager that reads nothing either.

mod inherited;
mod listening;
mod small;
mod store;

pub use inherited::{Inherited, Kept};
use jitney_vfio::{Error, ErrorKind, Result};
pub use listening::ListeningSocket;
pub use small::{Forward, LEFT_TO_ANOTHER, SmallManager};
use std::ffi::OsString;
use std::io::ErrorKind as IoErrorKind;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::Duration;
pub(crate) use store::Store;

/// What is said in the environment to this process alone, and not to what it starts.
pub const MANAGER_VARIABLES: [&str; 7] = [
    "LISTEN_FDS",
    "LISTEN_PID",
    "LISTEN_FDNAMES",
    "NOTIFY_SOCKET",
    "WATCHDOG_USEC",
    "WATCHDOG_PID",
    "FDSTORE",
];

/// How long it may take to tell the manager that the service is ready.
const READY_LIMIT: Duration = Duration::from_secs(5);

/// Who started this process and wants to hear how it does; perhaps nobody.
#[derive(Debug, Default)]
pub struct ServiceManager {
    socket: Option<UnixDatagram>,
    watchdog: Option<Duration>,
    /// It keeps descriptors for the broker that comes next.
    keeps: bool,
}

impl ServiceManager {
    /// The one that this process's environment names.
    ///
    /// # Errors
    /// What is wrong with `NOTIFY_SOCKET` or `WATCHDOG_USEC`, or with the socket that is named.
    pub fn of_this_process() -> Result<Self> {
        let variable = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty());
        let socket = variable("NOTIFY_SOCKET").map(notify_socket).transpose()?;
        let is_ours = is_this_process(variable("WATCHDOG_PID"));
        let time = variable("WATCHDOG_USEC").filter(|_| is_ours);
        let watchdog = time.map(|text| {
            let time = text.to_str().and_then(|text| text.parse().ok()).filter(|time| *time > 0);
            time.map(Duration::from_micros).ok_or_else(|| {
                let what = format!("WATCHDOG_USEC={}: this is no number of microseconds", text.display());
                Error::new(ErrorKind::Invalid, what)
                    .with_remedy("unset it, or start the broker by its service manager")
            })
        });
        // systemd before 254 does not say it by itself: there the unit does.
        let keeps = variable("FDSTORE").is_some_and(|count| count != "0");
        Ok(Self { socket, watchdog: watchdog.transpose()?, keeps })
    }

    /// How often it wants to hear that this process is alive, if it does: twice in the time after which it would end it.
    pub(crate) fn ping_period(&self) -> Option<Duration> {
        self.watchdog.filter(|_| self.socket.is_some()).map(|time| time / 2)
    }

    /// What keeps descriptors for the broker that comes next, if it does.
    pub(crate) fn store(&self) -> Result<Option<Store>> {
        self.socket.as_ref().filter(|_| self.keeps).map(store::of).transpose()
    }

    /// Whether anybody listens.
    pub(crate) const fn is_there(&self) -> bool {
        self.socket.is_some()
    }

    /// Says that the service can be used. It is waited for that this is heard: without it the manager ends the service.
    pub(crate) fn ready(&self, status: &str) -> Result<()> {
        let Some(socket) = &self.socket else { return Ok(()) };
        let send = || {
            socket.set_nonblocking(false)?;
            socket.set_write_timeout(Some(READY_LIMIT))?;
            socket.send(format!("READY=1\nSTATUS={status}").as_bytes())?;
            socket.set_nonblocking(true)
        };
        send().map_err(|error| {
            io(&error, "telling the service manager (NOTIFY_SOCKET) that the broker is ready")
        })
    }

    /// Says something, and does not wait until there is room for it.
    pub(crate) fn tell(&self, what: &str) {
        let Some(socket) = &self.socket else { return };
        match socket.send(what.as_bytes()) {
            Ok(_) => {}
            // It reads nothing for now. A ping comes again, and the rest is for people.
            Err(error) if error.kind() == IoErrorKind::WouldBlock => {}
            Err(error) => tracing::warn!(%error, what, "the service manager could not be told"),
        }
    }
}

#[cfg(test)]
impl ServiceManager {
    /// One that reads what is sent to `socket`, and keeps descriptors.
    pub(crate) const fn behind(socket: UnixDatagram) -> Self {
        Self { socket: Some(socket), watchdog: None, keeps: true }
    }
}

/// Whether a variable that is for one process, if it says so, is for this one: it may have come through another.
fn is_this_process(pid: Option<OsString>) -> bool {
    pid.is_none_or(|pid| pid.to_str() == Some(&std::process::id().to_string()))
}

fn notify_socket(name: OsString) -> Result<UnixDatagram> {
    let what = || format!("the service manager's socket, NOTIFY_SOCKET={}", name.display());
    let address = match name.as_bytes() {
        [b'@', name @ ..] => SocketAddr::from_abstract_name(name),
        [b'/', ..] => SocketAddr::from_pathname(&name),
        _ => {
            return Err(Error::new(ErrorKind::Invalid, format!("{}: this is no path and no @name", what()))
                .with_remedy("unset it, or start the broker by its service manager"));
        }
    };
    let connect = || {
        let socket = UnixDatagram::unbound()?;
        socket.connect_addr(&address?)?;
        socket.set_nonblocking(true)?;
        Ok(socket)
    };
    connect().map_err(|error| io(&error, &what()))
}

fn io(error: &std::io::Error, what: &str) -> Error {
    match rustix::io::Errno::from_io_error(error) {
        Some(errno) => Error::from_errno(errno, what),
        None => Error::new(ErrorKind::System, format!("{what}: {error}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_manager_that_reads_nothing_holds_up_nobody() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("notify");
        let manager = UnixDatagram::bind(&path).unwrap();
        let told = ServiceManager {
            socket: Some(notify_socket(path.into()).unwrap()),
            watchdog: None,
            keeps: false,
        };
        told.ready("1 card").unwrap();
        // Far more than any queue holds.
        for _ in 0..100_000 {
            told.tell("WATCHDOG=1");
        }
        let mut buffer = [0; 64];
        let len = manager.recv(&mut buffer).unwrap();
        assert_eq!(&buffer[..len], b"READY=1\nSTATUS=1 card");
        let len = manager.recv(&mut buffer).unwrap();
        assert_eq!(&buffer[..len], b"WATCHDOG=1");
    }

    #[test]
    fn a_socket_without_a_file_is_found() {
        let name = format!("jitney-test-{}", std::process::id());
        let manager = UnixDatagram::bind_addr(&SocketAddr::from_abstract_name(&name).unwrap()).unwrap();
        let told = ServiceManager {
            socket: Some(notify_socket(format!("@{name}").into()).unwrap()),
            watchdog: None,
            keeps: false,
        };
        told.tell("STOPPING=1");
        let mut buffer = [0; 64];
        assert_eq!(manager.recv(&mut buffer).unwrap(), 10);
        for name in ["relative", "", "vsock:2:1"] {
            let error = notify_socket(name.into()).unwrap_err();
            assert!(error.to_string().contains(&format!("NOTIFY_SOCKET={name}: ")), "{error}");
        }
    }

    #[test]
    fn what_is_said_to_another_process_is_not_for_this_one() {
        assert!(is_this_process(None));
        assert!(is_this_process(Some(std::process::id().to_string().into())));
        assert!(!is_this_process(Some("1".into())) && !is_this_process(Some("x".into())));
    }

    #[test]
    fn it_hears_twice_in_its_time_and_only_if_it_listens() {
        let (one, _other) = UnixDatagram::pair().unwrap();
        let watchdog = Some(Duration::from_secs(30));
        assert_eq!(ServiceManager { socket: None, watchdog, keeps: false }.ping_period(), None);
        assert_eq!(
            ServiceManager { socket: Some(one), watchdog, keeps: false }.ping_period(),
            Some(Duration::from_secs(15))
        );
    }
}
