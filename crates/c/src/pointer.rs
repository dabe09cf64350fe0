//! What a C program gives as an address: texts, bytes, arrays, and where results go. All of the crate's unsafe code that is not
//! about names.
//!
//! Each type is nothing but the pointer and has no constructor: it comes from a C program, which vouches, by the header, that the
//! pointer is NULL or that what it points to is there, as large as is said, for as long as the call lasts.

use crate::boundary::null;
use jitney_faces::Failure;
use std::ffi::{CStr, c_char, c_void};
use std::mem::MaybeUninit;

/// A text that ends with a NUL.
#[repr(transparent)]
#[derive(Debug, Clone, Copy)]
pub struct Text(*const c_char);

impl Text {
    /// The text, if it is not NULL.
    pub(crate) fn get(&self, what: &str) -> Result<Option<&str>, Failure> {
        if self.0.is_null() {
            return Ok(None);
        }
        // SAFETY: As the module says, and it is not NULL.
        let text = unsafe { CStr::from_ptr(self.0) };
        text.to_str().map(Some).map_err(|_| Failure::invalid(format!("{what} is no UTF-8")))
    }

    /// The text, which must not be NULL.
    pub(crate) fn needed(&self, what: &str) -> Result<&str, Failure> {
        self.get(what)?.ok_or_else(|| null(what))
    }
}

/// Bytes that are read.
#[repr(transparent)]
#[derive(Debug, Clone, Copy)]
pub struct Bytes(*const c_void);

impl Bytes {
    /// `size` bytes.
    pub(crate) fn get(&self, size: usize) -> Result<&[u8], Failure> {
        fits(size, 1)?;
        match (self.0.is_null(), size) {
            (_, 0) => Ok(&[]),
            (true, _) => Err(null("the data")),
            // SAFETY: As the module says, and it is not NULL; any bytes are bytes.
            (false, _) => Ok(unsafe { std::slice::from_raw_parts(self.0.cast(), size) }),
        }
    }
}

/// Room for bytes, which need not have a value yet.
#[repr(transparent)]
#[derive(Debug)]
pub struct BytesOut(*mut c_void);

impl BytesOut {
    /// Room for `size` bytes, all of which have a value from now on.
    pub(crate) fn get(&mut self, size: usize) -> Result<&mut [u8], Failure> {
        fits(size, 1)?;
        if size == 0 {
            return Ok(&mut []);
        }
        self.needed()?;
        // SAFETY: As the module says: the room is there, and the program's own for as long as the call lasts.
        unsafe { self.0.cast::<u8>().write_bytes(0, size) };
        // SAFETY: As above, and each byte has a value.
        Ok(unsafe { std::slice::from_raw_parts_mut(self.0.cast(), size) })
    }

    /// That there is room: for who asks before something is taken that would be lost.
    pub(crate) fn needed(&self) -> Result<(), Failure> {
        if self.0.is_null() { Err(null("the room for the data")) } else { Ok(()) }
    }

    /// Copies bytes to its start, of which it has room for `capacity`.
    pub(crate) fn fill(&mut self, bytes: &[u8], capacity: usize) -> Result<(), Failure> {
        if bytes.len() > capacity {
            return Err(Failure::invalid(format!(
                "there is room for {capacity} bytes, not for {}",
                bytes.len()
            )));
        }
        if bytes.is_empty() {
            return Ok(());
        }
        self.needed()?;
        // SAFETY: As the module says: room for `capacity` bytes, which are enough, and the program's own.
        unsafe { std::ptr::copy_nonoverlapping(bytes.as_ptr(), self.0.cast(), bytes.len()) };
        Ok(())
    }
}

/// Values of one type in a row, which are read.
#[repr(transparent)]
#[derive(Debug)]
pub struct Array<T>(*const T);

impl<T: Copy> Array<T> {
    /// `count` of them.
    pub(crate) fn get(&self, count: usize) -> Result<&[T], Failure> {
        fits(count, size_of::<T>())?;
        match (self.0.is_null(), count) {
            (_, 0) => Ok(&[]),
            (true, _) => Err(null("the array")),
            _ if !self.0.is_aligned() => Err(Failure::invalid("the array is not where one can be")),
            // SAFETY: As the module says, and it is not NULL.
            (false, _) => Ok(unsafe { std::slice::from_raw_parts(self.0, count) }),
        }
    }
}

/// Room for values of one type in a row.
#[repr(transparent)]
#[derive(Debug)]
pub struct Room<T>(*mut T);

impl<T> Room<T> {
    /// Writes as many of `values` as there is room for, which is for `capacity`.
    pub(crate) fn fill(&mut self, values: Vec<T>, capacity: usize) -> Result<(), Failure> {
        fits(capacity, size_of::<T>())?;
        if capacity > 0 && self.0.is_null() {
            return Err(null("the room for the array"));
        }
        for (index, value) in values.into_iter().enumerate().take(capacity) {
            // SAFETY: As the module says: there is room for `capacity` of them.
            let place = unsafe { self.0.add(index) };
            // SAFETY: As above; what is there has no value that would have to be dropped.
            unsafe { place.write(value) };
        }
        Ok(())
    }
}

/// Where a result goes.
pub(crate) fn give<T>(to: Option<&mut MaybeUninit<T>>, value: T) {
    if let Some(to) = to {
        to.write(value);
    }
}

/// Refuses what no array can have, as its end would be before its start.
fn fits(count: usize, size: usize) -> Result<(), Failure> {
    let bytes = count.checked_mul(size).and_then(|bytes| isize::try_from(bytes).ok());
    bytes.map(drop).ok_or_else(|| Failure::invalid(format!("no memory has {count} times {size} bytes")))
}

/// A text in a field of `N` bytes, cut where it does not fit, always with a NUL.
#[expect(
    clippy::cast_possible_wrap,
    reason = "C's char is signed on some machines, and the bytes are the same"
)]
pub(crate) fn field<const N: usize>(text: &str) -> [c_char; N] {
    let mut field = [0; N];
    let mut end = text.len().min(N - 1);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    field.iter_mut().zip(&text.as_bytes()[..end]).for_each(|(to, from)| *to = *from as c_char);
    field
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn null_and_sizes_that_cannot_be_are_refused() {
        let mut room = BytesOut(std::ptr::null_mut());
        assert!(room.get(1).is_err() && room.get(usize::MAX).is_err() && room.get(0).is_ok());
        assert!(Bytes(std::ptr::null()).get(1).is_err());
        assert!(Array::<u64>(std::ptr::null()).get(usize::MAX / 4).is_err());
        assert!(Text(std::ptr::null()).needed("it").is_err());
    }

    #[test]
    fn a_text_is_cut_between_letters() {
        assert_eq!(field::<4>("abcdef"), [97, 98, 99, 0]);
        assert_eq!(field::<3>("aé"), [97, 0, 0]);
    }
}
