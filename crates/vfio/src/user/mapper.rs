//! A vfio-user server as a [`Mapper`].

use super::connection::Connection;
use crate::error::{Error, ErrorKind, Result};
use crate::transport::{MapError, Mapper};
use jitney_memory::Memfd;
use jitney_vfio_user::{DmaMap, DmaMapFlags, DmaUnmap, Request};
use rustix::io::Errno;
use std::ops::RangeInclusive;
use std::os::fd::AsFd;

/// What an x86 machine with 39 address bits reports: all but the window of its message-signalled interrupts. A server
/// reports nothing of the kind, so programs meet here what they will meet on hardware.
const RANGES: [RangeInclusive<u64>; 2] = [0..=0xfedf_ffff, 0xfef0_0000..=(1 << 39) - 1];

impl Mapper for Connection {
    fn ranges(&self) -> Vec<RangeInclusive<u64>> {
        RANGES.to_vec()
    }

    /// The smallest page size that the server has announced, 4 KiB unless it says otherwise.
    fn granule(&self) -> u64 {
        let smallest = self.limits.pgsizes & self.limits.pgsizes.wrapping_neg();
        smallest.clamp(4 << 10, 1 << 30)
    }

    fn map(&self, memory: &Memfd, offset: u64, iova: u64, size: u64) -> std::result::Result<(), MapError> {
        self.check(iova, size)?;
        let flags = DmaMapFlags::new().with_read(true).with_write(true);
        let map = DmaMap { flags, offset, address: iova, size };
        self.call(&Request::DmaMap(map), &[memory.as_fd()], 0, |_, _| Ok(())).map_err(|error| {
            let errno = error.errno();
            let error = error.context(format!("mapping {size:#x} bytes at IOVA {iova:#x}"));
            self.gone_or_failed(match errno {
                Some(Errno::EXIST) => error.with_remedy(
                    "another program maps memory for this card at the same addresses; have one owner for all of them: \
                     start them under one broker",
                ),
                // Our own boards take memory from whoever opened them first, and say so with this errno.
                Some(Errno::PERM) => error.of_kind(ErrorKind::Held).with_remedy(
                    "another program owns the board and maps its memory; have one owner for both: start them under one \
                     broker",
                ),
                _ => error,
            })
        })
    }

    fn unmap(&self, iova: u64, size: u64) -> std::result::Result<(), MapError> {
        let request = Request::DmaUnmap(DmaUnmap::range(iova, size));
        match self.call(&request, &[], 24, |body, _| DmaUnmap::decode(body)) {
            Ok(done) if (done.address, done.size) == (iova, size) => Ok(()),
            Ok(done) => {
                let DmaUnmap { address, size: unmapped, .. } = done;
                Err(MapError::Failed(self.nonsense(&format_args!(
                    "{unmapped:#x} bytes at IOVA {address:#x} were unmapped, not {size:#x} at {iova:#x}"
                ))))
            }
            Err(error) => {
                Err(self
                    .gone_or_failed(error.context(format!("unmapping {size:#x} bytes at IOVA {iova:#x}"))))
            }
        }
    }

    fn unmap_if_mapped(&self, iova: u64, size: u64) -> std::result::Result<(), MapError> {
        match self.unmap(iova, size) {
            Err(MapError::Failed(error)) if Self::is_not_mapped(&error) => Ok(()),
            outcome => outcome,
        }
    }
}

impl Connection {
    /// Whether a refusal says that there is no such map: servers use either of these.
    fn is_not_mapped(error: &Error) -> bool {
        matches!(error.errno(), Some(Errno::NOENT | Errno::INVAL))
    }

    /// The server is gone if the connection has failed, whether it hung up or did not answer: both ends have let go of
    /// it, and the server's maps with it. What it answered says nothing.
    fn gone_or_failed(&self, error: Error) -> MapError {
        if self.has_failed() { MapError::Gone(error) } else { MapError::Failed(error) }
    }

    /// Refuses what a real machine's IOMMU would refuse.
    fn check(&self, iova: u64, size: u64) -> Result<()> {
        let granule = self.granule();
        let last = size.checked_sub(1).and_then(|more| iova.checked_add(more));
        let inside = last
            .is_some_and(|last| RANGES.iter().any(|range| range.contains(&iova) && range.contains(&last)));
        if inside && iova.is_multiple_of(granule) && size.is_multiple_of(granule) {
            return Ok(());
        }
        let [low, high] = &RANGES;
        Err(Error::new(
            ErrorKind::Invalid,
            format!(
                "{}: {size:#x} bytes at IOVA {iova:#x} cannot be mapped; possible are whole pages of {granule:#x} bytes \
                 within [{:#x}, {:#x}] or [{:#x}, {:#x}]",
                self.address(),
                low.start(),
                low.end(),
                high.start(),
                high.end()
            ),
        ))
    }
}
