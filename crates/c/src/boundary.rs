//! Where C calls in: no panic gets past here, and what went wrong is kept for the thread that has called.

use crate::error;
use jitney_faces::{Failure, Kind};
use std::any::Any;
use std::ffi::c_int;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// Carries out what a function of the library's is to do; says what it returns: 0 or more, or a negative errno.
#[inline]
pub(crate) fn run(body: impl FnOnce() -> Result<c_int, Failure>) -> c_int {
    // What a panic leaves half done is behind locks that everybody takes as they are, as in a thread that has panicked.
    match catch_unwind(AssertUnwindSafe(body)) {
        Ok(Ok(value)) => value,
        Ok(Err(failure)) => error::keep(&failure),
        Err(panic) => error::keep_panic(&said(&*panic)),
    }
}

/// What the panic has said.
fn said(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_else(|| "a panic without words".into())
}

/// That a pointer is NULL which must not be.
pub(crate) fn null(what: &str) -> Failure {
    Failure::new(Kind::Invalid, format!("{what} is NULL"))
}

/// A result without a value.
pub(crate) const DONE: Result<c_int, Failure> = Ok(0);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_is_a_failure_of_its_own_kind() {
        assert_eq!(run(|| panic!("on purpose")), -libc::ENOTRECOVERABLE);
        assert_eq!(run(|| Ok(7)), 7);
    }
}
