//! Handles: what a C program has of the library's.
//!
//! To C a handle is a pointer to a type that it knows nothing of. It is no address: it is a number, the object's place in a table
//! with the count of how often that place was used, and the object's type in the top byte, which no address has. So one that was
//! freed, of another type, or that never was is refused, whatever the program does, and nothing is followed that may not be there.
//!
//! The tables are `sharded-slab`'s: looking up takes no lock, and what is freed while a thread uses it goes when that thread is
//! done.

use crate::boundary::DONE;
use jitney_faces::{Failure, Kind, Slot, forked};
use sharded_slab::{Config, Slab};
use std::ffi::c_int;
use std::mem::MaybeUninit;
use std::sync::{Arc, Once};

/// How the tables' keys are made up: the top byte is the type's.
pub(crate) struct Layout;

impl Config for Layout {
    const RESERVED_BITS: usize = 8;
    /// With 32 objects on the first page and twice as many on each, two millions by each thread; the other bits count.
    const MAX_PAGES: usize = 16;
}

/// The objects of one type.
pub(crate) type Table<T> = Slab<Slot<T>, Layout>;

/// What a handle can be of.
pub(crate) trait Object: Sized + Send + Sync + 'static {
    /// The handle's top byte: none of two types is equal, and none is 0.
    const TAG: u8;
    /// What errors call it.
    const WHAT: &'static str;

    /// All of them.
    fn table() -> &'static Table<Self>;
}

/// Makes the type one that handles can be of.
macro_rules! object {
    ($type:ty, $tag:literal, $what:literal) => {
        impl $crate::handle::Object for $type {
            const TAG: u8 = $tag;
            const WHAT: &'static str = $what;

            fn table() -> &'static $crate::handle::Table<Self> {
                static TABLE: std::sync::LazyLock<$crate::handle::Table<$type>> =
                    std::sync::LazyLock::new(|| sharded_slab::Slab::new_with_config());
                &TABLE
            }
        }
    };
}
pub(crate) use object;

const SHIFT: u32 = usize::BITS - 8;

/// A new handle of `object`.
pub(crate) fn make<T: Object>(object: T) -> Result<*mut T, Failure> {
    notice_forks();
    let key = T::table().insert(Slot::new(T::WHAT, Arc::new(object)));
    let key = key.ok_or_else(|| Failure::new(Kind::Exhausted, "there are too many handles; free some"))?;
    Ok(std::ptr::without_provenance_mut((usize::from(T::TAG) << SHIFT) | key))
}

/// Gives the program a new handle of `object`, or drops it where there is no place for one: nobody could free it.
pub(crate) fn hand_out<T: Object>(to: Option<&mut MaybeUninit<*mut T>>, object: T) -> Result<c_int, Failure> {
    let Some(to) = to else {
        return Err(Failure::invalid(format!("the place for {} is NULL", T::WHAT)));
    };
    to.write(make(object)?);
    DONE
}

/// The key of a handle, if it can be one of this type.
#[inline]
fn key<T: Object>(handle: *mut T) -> Result<usize, Failure> {
    let number = handle.addr();
    if number >> SHIFT == usize::from(T::TAG) {
        Ok(number & !(usize::MAX << SHIFT))
    } else {
        Err(wrong(handle))
    }
}

#[cold]
fn wrong<T: Object>(handle: *mut T) -> Failure {
    let what = T::WHAT;
    if handle.is_null() {
        return Failure::invalid(format!("{what} is NULL"));
    }
    Failure::new(Kind::Closed, format!("{what} was freed, or is none: there is no such handle"))
}

/// Uses the object of a handle for an operation that is short.
#[inline]
pub(crate) fn with<T: Object, R>(
    handle: *mut T,
    operation: impl FnOnce(&Arc<T>) -> Result<R, Failure>,
) -> Result<R, Failure> {
    let slot = T::table().get(key(handle)?).ok_or_else(|| wrong(handle))?;
    slot.with(operation)?
}

/// The object of a handle, for an operation that can last.
pub(crate) fn get<T: Object>(handle: *mut T) -> Result<Arc<T>, Failure> {
    with(handle, |object| Ok(Arc::clone(object)))
}

/// Frees a handle; NULL is none. What is under way with the object goes on with it.
pub(crate) fn free<T: Object>(handle: *mut T) -> Result<(), Failure> {
    if handle.is_null() {
        return Ok(());
    }
    let key = key(handle)?;
    let object = {
        let slot = T::table().get(key).ok_or_else(|| wrong(handle))?;
        slot.check()?;
        slot.take()
    };
    // One of several threads that free it.
    let object = object.ok_or_else(|| wrong(handle))?;
    T::table().remove(key);
    // Not in the table's hands: it can last.
    drop(object);
    Ok(())
}

/// Has children that this process forks know what they are.
pub(crate) fn notice_forks() {
    extern "C" fn in_the_child() {
        forked();
    }
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        // SAFETY: The function does nothing but count, which a child of a process with threads may. That it cannot be registered
        // is a lack of memory, and then a child is not refused.
        unsafe { libc::pthread_atfork(None, None, Some(in_the_child)) };
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    struct One(u32);
    object!(One, 0xf1, "the one");
    struct Other;
    object!(Other, 0xf2, "the other");

    #[test]
    fn a_wrong_handle_is_refused_whatever_it_is() {
        let handle = make(One(5)).unwrap();
        assert_eq!(get(handle).unwrap().0, 5);
        assert!(get::<Other>(handle.cast()).is_err());
        free(handle).unwrap();
        assert_eq!(free(handle).unwrap_err().kind(), Kind::Closed);
        assert_eq!(get(handle).map(|_| ()).unwrap_err().kind(), Kind::Closed);
        // In its place.
        let second = make(One(6)).unwrap();
        assert!(second != handle && get(handle).is_err());
        free(second).unwrap();
        for number in [1, 0x7fff_1234_5678, usize::MAX, 0xf1 << SHIFT, (0xf1 << SHIFT) | (usize::MAX >> 8)] {
            assert!(get(std::ptr::without_provenance_mut::<One>(number)).is_err(), "{number:#x}");
        }
        assert!(free(std::ptr::null_mut::<One>()).is_ok());
    }
}
