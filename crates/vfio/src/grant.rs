//! What an owner hands to another process so that it reaches a card.

use crate::device::Device;
use crate::error::{Error, ErrorKind, Result};
use crate::user;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

/// A descriptor by which another process reaches a card: its registers and its interrupts, but not its address space.
///
/// Between processes it travels as [`kind`](Self::kind) and descriptor.
#[derive(Debug)]
#[non_exhaustive]
pub enum Grant {
    /// A connection to a vfio-user server on which nothing was said yet.
    VfioUser(OwnedFd),
}

impl Grant {
    /// The [`kind`](Self::kind) of [`Grant::VfioUser`].
    const VFIO_USER: u8 = 1;

    /// The number that stands for the variant on a wire. It never changes.
    #[must_use]
    pub const fn kind(&self) -> u8 {
        match self {
            Self::VfioUser(_) => Self::VFIO_USER,
        }
    }

    /// The grant that was sent as `kind` and `descriptor`.
    ///
    /// # Errors
    /// [`ErrorKind::Unsupported`] if this version does not know the kind.
    pub fn from_parts(kind: u8, descriptor: OwnedFd) -> Result<Self> {
        match kind {
            Self::VFIO_USER => Ok(Self::VfioUser(descriptor)),
            _ => Err(Error::new(
                ErrorKind::Unsupported,
                format!(
                    "the owner handed over a card in a way (kind {kind}) that this program does not know"
                ),
            )
            .with_remedy("use the same version of jitney on both sides")),
        }
    }

    /// Reaches the card. `address` is where the owner found it.
    ///
    /// # Errors
    /// As [`user::negotiate`] and [`Device::new`].
    pub fn open(self, address: String) -> Result<Device> {
        match self {
            Self::VfioUser(socket) => {
                let connection = user::negotiate(socket, address.clone())?;
                Device::new(address, Arc::new(connection))
            }
        }
    }
}

impl AsFd for Grant {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::VfioUser(socket) => socket.as_fd(),
        }
    }
}

impl From<Grant> for OwnedFd {
    fn from(grant: Grant) -> Self {
        match grant {
            Grant::VfioUser(socket) => socket,
        }
    }
}
