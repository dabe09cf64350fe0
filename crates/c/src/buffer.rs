//! `jitney_buffer`: memory that a card and this process see.

use crate::boundary::{DONE, run};
use crate::handle::{self, object};
use crate::pointer::give;
use jitney::vfio::{DmaBuffer, DmaRequest};
use jitney_faces::{Failure, Kind, Reach, SharedCard, Slot};
use jitney_memory::PageSize;
use std::ffi::{c_int, c_void};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd};
use std::ptr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Pages of 4 KiB, for `pages` of jitney_buffer_options.
pub const JITNEY_PAGES_4K: u32 = 0;
/// Huge pages of 2 MiB, which have to be reserved on the machine.
pub const JITNEY_PAGES_2M: u32 = 1;
/// Huge pages of 1 GiB, likewise.
pub const JITNEY_PAGES_1G: u32 = 2;

/// Memory that a card and this process see.
#[derive(Debug)]
pub struct Buffer {
    slot: Slot<DmaBuffer>,
    reach: Reach,
    shared: AtomicBool,
    _card: Option<Arc<SharedCard>>,
}
object!(Buffer, 0x94, "the buffer");

/// What a buffer has to be. All zero is as usual.
#[repr(C)]
#[derive(Debug)]
pub struct BufferOptions {
    /// Its IOVA is a multiple of this, a power of two up to 1 GiB; 0 if it does not matter.
    pub align: u64,
    /// Its IOVAs are below this, as 0x100000000 for a card with addresses of 32 bits; 0 if it does not matter.
    pub below: u64,
    /// `JITNEY_PAGES_4K` and the others.
    pub pages: u32,
}

/// Where a buffer is.
#[repr(C)]
#[derive(Debug)]
pub struct BufferInfo {
    /// Its first byte in this process. A card may write to it at any time.
    pub pointer: *mut c_void,
    /// Its size in bytes, whole pages.
    pub size: u64,
    /// Where cards see its first byte.
    pub iova: u64,
}

pub(crate) fn request(size: u64, options: Option<&BufferOptions>) -> Result<DmaRequest, Failure> {
    let mut request = DmaRequest::new(size);
    if let Some(options) = options {
        if options.align > 0 {
            request = request.aligned(options.align);
        }
        if options.below > 0 {
            request = request.below(options.below - 1);
        }
        request = request.of(match options.pages {
            JITNEY_PAGES_4K => PageSize::Normal,
            JITNEY_PAGES_2M => PageSize::Huge2M,
            JITNEY_PAGES_1G => PageSize::Huge1G,
            other => {
                return Err(Failure::invalid(format!("there are no pages {other}: see JITNEY_PAGES_4K")));
            }
        });
    }
    Ok(request)
}

impl Buffer {
    pub(crate) fn new(memory: DmaBuffer, reach: Reach, card: Option<Arc<SharedCard>>) -> Self {
        let slot = Slot::new("the buffer", Arc::new(memory));
        Self { slot, reach, shared: AtomicBool::new(false), _card: card }
    }

    pub(crate) fn memory(&self) -> Result<Arc<DmaBuffer>, Failure> {
        self.slot.get()
    }

    /// The memory, if `card` sees it where it says.
    pub(crate) fn for_card(&self, card: &Arc<SharedCard>) -> Result<DmaBuffer, Failure> {
        self.reach.check(card)?;
        Ok(self.slot.get()?.as_ref().clone())
    }

    /// Others were given it, who may have it for longer.
    pub(crate) fn set_shared(&self) {
        self.shared.store(true, Ordering::Relaxed);
    }

    /// Gives it back; whether it was, which it is not while a transfer uses it.
    fn give_back(&self) -> Result<bool, Failure> {
        match jitney_faces::free(&self.slot, self.shared.load(Ordering::Relaxed)) {
            // Of one that others were given, the memory goes when the last of its users has let go.
            Err(failure) if failure.kind() == Kind::Held && self.slot.is_closed() => Ok(true),
            freed => freed,
        }
    }
}

/// Frees a buffer, and waits until no card reaches it any more; NULL is none. `-EBUSY` while a transfer uses it: then the handle
/// stays, to be freed after the transfer was waited for or cancelled.
#[unsafe(no_mangle)]
pub extern "C" fn jitney_buffer_free(buffer: *mut Buffer) -> c_int {
    run(|| {
        if buffer.is_null() {
            return DONE;
        }
        let own = handle::get(buffer)?;
        own.slot.check()?;
        let outcome = own.give_back();
        if let Ok(false) = outcome {
            let iova = own.slot.get()?.iova();
            let what =
                format!("the buffer at IOVA {iova:#x} is held by a transfer, or used by another thread");
            return Err(Failure::new(Kind::Held, what).with_remedy("wait for the transfer, or cancel it"));
        }
        drop(own);
        handle::free(buffer)?;
        outcome?;
        DONE
    })
}

/// Where a buffer is.
#[unsafe(no_mangle)]
pub extern "C" fn jitney_buffer_describe(
    buffer: *mut Buffer,
    info: Option<&mut MaybeUninit<BufferInfo>>,
) -> c_int {
    run(|| {
        let memory = handle::get(buffer)?.memory()?;
        let found = BufferInfo { pointer: address(&memory), size: memory.size(), iova: memory.iova() };
        give(info, found);
        DONE
    })
}

fn address(memory: &DmaBuffer) -> *mut c_void {
    usize::try_from(memory.view().address()).map_or(ptr::null_mut(), ptr::with_exposed_provenance_mut)
}

/// The first byte of a buffer in this process; NULL if it is none.
#[unsafe(no_mangle)]
pub extern "C" fn jitney_buffer_pointer(buffer: *mut Buffer) -> *mut c_void {
    let mut found = ptr::null_mut();
    run(|| {
        found = handle::with(buffer, |own| Ok(address(&*own.memory()?)))?;
        DONE
    });
    found
}

/// The descriptor of a buffer's memory, to be mapped by somebody else. It is the library's: it is there until the buffer is freed;
/// whoever wants it for longer duplicates it.
#[unsafe(no_mangle)]
pub extern "C" fn jitney_buffer_fd(buffer: *mut Buffer) -> c_int {
    run(|| {
        handle::with(buffer, |own| {
            own.set_shared();
            Ok(own.memory()?.memory().as_fd().as_raw_fd())
        })
    })
}
