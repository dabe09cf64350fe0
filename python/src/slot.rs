//! What a Python object has of the library's, until it is closed, or the process is another one.
//!
//! A child that was forked has copies of all of its parent's objects, and none of its threads. Whatever it did with them would
//! reach the card or the broker in its parent's name: so it is refused, and nothing is given back by the child when its
//! copies go.

use crate::failure::Failure;
use std::fmt;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

/// How often this process was forked, counted in the child.
static GENERATION: AtomicU32 = AtomicU32::new(0);

/// Called in each child, before anything else runs there.
pub(crate) fn forked() {
    GENERATION.fetch_add(1, Ordering::Relaxed);
}

/// Whether this process was forked by a Python program with this library.
pub(crate) fn is_forked() -> bool {
    GENERATION.load(Ordering::Relaxed) != 0
}

/// Something that its Python object can give back before it goes itself.
pub(crate) struct Slot<T: ?Sized + Send + Sync> {
    born: u32,
    /// What it is, for errors: `the card`, `the buffer`.
    what: &'static str,
    value: RwLock<Option<Arc<T>>>,
}

impl<T: ?Sized + Send + Sync> Slot<T> {
    pub(crate) fn new(what: &'static str, value: Arc<T>) -> Self {
        Self { born: GENERATION.load(Ordering::Relaxed), what, value: RwLock::new(Some(value)) }
    }

    /// Refuses what was made before a fork. First, as a lock may be held by a thread that is not there any more.
    pub(crate) fn check(&self) -> Result<(), Failure> {
        if self.is_mine() { Ok(()) } else { Err(Failure::forked(self.what)) }
    }

    fn is_mine(&self) -> bool {
        self.born == GENERATION.load(Ordering::Relaxed)
    }

    /// What is in it, for an operation that can last.
    pub(crate) fn get(&self) -> Result<Arc<T>, Failure> {
        self.with(Arc::clone)
    }

    /// Uses what is in it for an operation that is short.
    #[inline]
    pub(crate) fn with<R>(&self, operation: impl FnOnce(&Arc<T>) -> R) -> Result<R, Failure> {
        self.check()?;
        let value = self.value.read().unwrap_or_else(PoisonError::into_inner);
        value.as_ref().map(operation).ok_or_else(|| Failure::closed(self.what))
    }

    /// Takes it out; nothing if it was, or in a child.
    pub(crate) fn take(&self) -> Option<Arc<T>> {
        if !self.is_mine() {
            return None;
        }
        self.value.write().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// Puts back what was taken out.
    pub(crate) fn put(&self, value: Arc<T>) {
        *self.value.write().unwrap_or_else(PoisonError::into_inner) = Some(value);
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.is_mine() && self.value.read().unwrap_or_else(PoisonError::into_inner).is_none()
    }
}

impl<T: ?Sized + Send + Sync> Drop for Slot<T> {
    fn drop(&mut self) {
        if !self.is_mine() {
            std::mem::forget(self.value.get_mut().unwrap_or_else(PoisonError::into_inner).take());
        }
    }
}

impl<T: ?Sized + Send + Sync> fmt::Debug for Slot<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Slot({})", self.what)
    }
}

/// What was made of a card, and ends with it.
pub(crate) trait Child: Send + Sync {
    /// How many arrays look at it.
    fn views(&self) -> usize {
        0
    }

    /// Gives it back.
    fn shut(&self);
}

impl<T: ?Sized + Send + Sync> Child for Slot<T> {
    fn shut(&self) {
        drop(self.take());
    }
}
