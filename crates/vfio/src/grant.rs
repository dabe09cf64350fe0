//! What an owner hands to another process so that it reaches a card.

use crate::device::Device;
use crate::error::{Error, ErrorKind, Result};
use crate::kernel::VfioDevice;
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
    /// The open device file of the kernel's VFIO: the same open file that the owner has.
    Kernel(OwnedFd),
}

impl Grant {
    /// The [`kind`](Self::kind) of [`Grant::VfioUser`].
    const VFIO_USER: u8 = 1;

    /// The [`kind`](Self::kind) of [`Grant::Kernel`].
    const KERNEL: u8 = 2;

    /// The number that stands for the variant on a wire. It never changes.
    #[must_use]
    pub const fn kind(&self) -> u8 {
        match self {
            Self::VfioUser(_) => Self::VFIO_USER,
            Self::Kernel(_) => Self::KERNEL,
        }
    }

    /// The grant that was sent as `kind` and `descriptor`.
    ///
    /// # Errors
    /// [`ErrorKind::Unsupported`] if this version does not know the kind.
    pub fn from_parts(kind: u8, descriptor: OwnedFd) -> Result<Self> {
        match kind {
            Self::VFIO_USER => Ok(Self::VfioUser(descriptor)),
            Self::KERNEL => Ok(Self::Kernel(descriptor)),
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
    /// As [`user::negotiate`] and [`Device::new`]; [`ErrorKind::Protocol`] if the descriptor is not what it was called.
    pub fn open(self, address: String) -> Result<Device> {
        match self {
            Self::VfioUser(socket) => {
                let connection = user::negotiate(socket, address.clone())?;
                Device::new(address, Arc::new(connection))
            }
            Self::Kernel(file) => {
                let device = VfioDevice::received(file, address.clone())?;
                Device::new(address, Arc::new(device))
            }
        }
    }
}

impl AsFd for Grant {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::VfioUser(descriptor) | Self::Kernel(descriptor) => descriptor.as_fd(),
        }
    }
}

impl From<Grant> for OwnedFd {
    fn from(grant: Grant) -> Self {
        match grant {
            Grant::VfioUser(descriptor) | Grant::Kernel(descriptor) => descriptor,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::File;

    #[test]
    fn a_descriptor_of_another_kind_is_refused() {
        let null = || OwnedFd::from(File::open("/dev/null").unwrap());
        let grant = Grant::from_parts(2, null()).unwrap();
        assert_eq!(grant.kind(), 2);
        let error = grant.open("0000:2e:00.0".into()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Protocol);
        assert!(
            error.to_string().contains("0000:2e:00.0") && error.to_string().contains("/dev/null"),
            "{error}"
        );
        assert_eq!(Grant::from_parts(3, null()).unwrap_err().kind(), ErrorKind::Unsupported);
    }
}
