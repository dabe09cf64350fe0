//! A DMA buffer that nobody else has, and so a slice.

#![expect(unsafe_code, reason = "DMA memory as a slice, while only its owner can reach it")]

use crate::dma::DmaBuffer;
use std::fmt;
use std::ops::{Deref, DerefMut};

/// A [`DmaBuffer`] that is this program's alone: its bytes are a slice, without a copy. [`DmaBuffer::into_own`] makes one of a
/// buffer that has no other handle; a driver takes it apart for as long as a transfer lasts and gives it back afterwards.
///
/// Its address is not to be had from it. A program that has taken down the address of a buffer before, or starts an engine with
/// addresses of its own making, can have a card write to it all the same, as it can to any memory that it has mapped for
/// a card: that is the program's to keep from, as everywhere where a device is told addresses.
///
/// ```
/// # use jitney_vfio::{Card, FakeCard, FakeHost};
/// # let card = FakeCard::builder(&FakeHost::new(), 0x10ee, 0x7011).build()?;
/// let buffer = card.dma_buffer(4096.into())?;
/// let mut own = buffer.into_own().expect("nobody else has it");
/// own[..5].copy_from_slice(b"hello");
/// let buffer = own.into_shared(); // for a transfer, or other threads
/// # let mut bytes = [0; 5];
/// # buffer.read(0, &mut bytes)?;
/// # assert_eq!(&bytes, b"hello");
/// # Ok::<(), jitney_vfio::Error>(())
/// ```
pub struct OwnBuffer {
    /// The only handle.
    buffer: DmaBuffer,
}

impl OwnBuffer {
    /// Of a buffer whose only handle this is, and whose memory nobody was given.
    pub(crate) fn new(buffer: DmaBuffer) -> Self {
        Self { buffer }
    }

    /// The buffer as one that can be shared, with engines too.
    #[must_use]
    pub fn into_shared(self) -> DmaBuffer {
        self.buffer
    }
}

impl Deref for OwnBuffer {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        // SAFETY: This is the only handle of the buffer and its memory was never handed out, so there is no other view of it in
        // this process or another; its address is not given out either, so no engine was told it since.
        unsafe { self.buffer.view().bytes() }
    }
}

impl DerefMut for OwnBuffer {
    fn deref_mut(&mut self) -> &mut [u8] {
        // The only handle, so this is never empty.
        self.buffer.view_mut().map_or(&mut [], |view| {
            // SAFETY: As above, and this is borrowed for as long as the slice lives.
            unsafe { view.bytes_mut() }
        })
    }
}

impl fmt::Debug for OwnBuffer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "OwnBuffer({:#x} bytes)", self.buffer.size())
    }
}

#[cfg(test)]
mod tests {
    use crate::{Card, FakeCard, FakeHost};

    #[test]
    fn only_the_last_handle_of_memory_that_was_not_handed_out_is_a_slice() {
        let host = FakeHost::new();
        let card = FakeCard::builder(&host, 0x10ee, 0x7011).build().unwrap();
        let buffer = card.dma_buffer(8192.into()).unwrap();
        let clone = buffer.clone();
        let buffer = buffer.into_own().unwrap_err();
        drop(clone);
        let mut own = buffer.into_own().unwrap();
        assert_eq!(own.len(), 8192);
        own[8191] = 7;
        let shared = own.into_shared();
        let mut last = [0];
        shared.read(8191, &mut last).unwrap();
        assert_eq!(last, [7]);
        host.write(shared.iova() + 1, &[9]).unwrap();
        let own = shared.into_own().unwrap();
        assert_eq!((own[1], own[8191]), (9, 7));
        drop(own);
        assert!(host.mapped().is_empty());

        let buffer = card.dma_buffer(4096.into()).unwrap();
        let _memory = buffer.memory();
        assert!(buffer.into_own().is_err(), "there may be another view of it");
    }

    #[test]
    fn an_address_of_32_bits_is_one_or_an_error() {
        let card = FakeCard::builder(&FakeHost::new(), 0x10ee, 0x7011).build().unwrap();
        let low = card.dma_buffer(crate::DmaRequest::new(4096).below(0xffff_ffff)).unwrap();
        assert_eq!(u64::from(low.iova32().unwrap()), low.iova());
        let high = card.dma_buffer(4096.into()).unwrap();
        if high.iova() > u64::from(u32::MAX) {
            assert!(high.iova32().unwrap_err().to_string().contains("below 0xffff_ffff"));
        }
    }
}
