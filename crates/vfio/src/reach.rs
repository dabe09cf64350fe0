//! Reaching a card by what its owner handed over.

use crate::device::Device;
use crate::error::Result;
use crate::grant::Grant;
use crate::kernel::VfioDevice;
use crate::user;
use std::sync::Arc;

impl Grant {
    /// Reaches the card. `address` is where the owner found it.
    ///
    /// # Errors
    /// As [`user::negotiate`] and [`Device::new`];
    /// [`ErrorKind::Protocol`](crate::ErrorKind::Protocol) if the descriptor is not what it was called.
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
