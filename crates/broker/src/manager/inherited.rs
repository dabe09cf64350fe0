//! What a service manager has handed to this process: sockets to listen at, and descriptors that it has kept for it.

use super::is_this_process;
use super::listening::ListeningSocket;
use super::store::PREFIX;
use jitney_memory::take_inherited;
use jitney_vfio::{Error, ErrorKind, Result};
use std::collections::BTreeMap;
use std::os::fd::OwnedFd;

/// The first descriptor that a service manager hands over.
const FIRST: i32 = 3;

/// What a service manager has handed to this process, and to no other.
#[derive(Debug, Default)]
pub struct Inherited {
    /// Sockets that it has bound.
    pub sockets: Vec<ListeningSocket>,
    /// What it has kept of a broker before this one.
    pub kept: Kept,
}

/// Descriptors that were kept, by their names.
#[derive(Debug, Default)]
pub struct Kept(pub(crate) BTreeMap<String, OwnedFd>);

impl Kept {
    /// Whether there is nothing.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Takes out the sockets at which the broker before listened, and their locks.
    pub(crate) fn take_entrances(&mut self) -> Self {
        let is_entrance = |name: &str| name.starts_with(['l', 'x']) && name != crate::server::LEDGER;
        let (entrances, others) =
            std::mem::take(&mut self.0).into_iter().partition(|(name, _)| is_entrance(name));
        self.0 = others;
        Self(entrances)
    }
}

impl Inherited {
    /// What there is; nothing if there is no manager.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`] if one is neither kept nor a listening `SOCK_SEQPACKET` socket with a path, or `LISTEN_FDS` no number.
    pub fn of_this_process() -> Result<Self> {
        let Some(count) = std::env::var_os("LISTEN_FDS") else { return Ok(Self::default()) };
        // Without a number it is for whoever is started: a manager that is no shell's parent cannot know it before.
        if !is_this_process(std::env::var_os("LISTEN_PID")) {
            return Ok(Self::default());
        }
        let number = count.to_str().and_then(|text| text.parse::<i32>().ok());
        let last = number.filter(|count| *count >= 0).and_then(|count| FIRST.checked_add(count));
        let last = last.ok_or_else(|| {
            Error::new(
                ErrorKind::Invalid,
                format!("LISTEN_FDS={}: this is no number of descriptors", count.display()),
            )
            .with_remedy("start the broker by its .socket unit, or unset LISTEN_FDS")
        })?;
        let names = std::env::var("LISTEN_FDNAMES").unwrap_or_default();
        let mut names = names.split(':');
        let mut inherited = Self::default();
        for number in FIRST..last {
            let name = names.next().filter(|name| !name.is_empty()).unwrap_or("without a name");
            match name.strip_prefix(PREFIX) {
                Some(name) => {
                    let descriptor = take_inherited(number)?;
                    inherited.kept.0.insert(name.to_owned(), descriptor);
                }
                None => inherited.sockets.push(ListeningSocket::take(number, name)?),
            }
        }
        Ok(inherited)
    }
}
