//! What a program has of the library's, until it is closed, or the process is another one.
//!
//! A child that was forked has copies of all that its parent had, and none of its threads. Whatever it did with them would
//! reach the card or the broker in its parent's name: so it is refused, and nothing is given back by the child when its
//! copies go.

use crate::failure::Failure;
use std::fmt;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

/// How often this process was forked, counted in the child.
static GENERATION: AtomicU32 = AtomicU32::new(0);

/// Called in each child, before anything else runs there.
pub fn forked() {
    GENERATION.fetch_add(1, Ordering::Relaxed);
}

/// Whether this process was forked from one that used the library.
pub fn is_forked() -> bool {
    GENERATION.load(Ordering::Relaxed) != 0
}

/// Something that its program can give back at any time.
pub struct Slot<T: ?Sized + Send + Sync> {
    born: u32,
    /// What it is, for errors: `the card`, `the buffer`.
    what: &'static str,
    value: RwLock<Option<Arc<T>>>,
}

impl<T: ?Sized + Send + Sync> Slot<T> {
    /// A slot with `value`, which errors call `what`.
    pub fn new(what: &'static str, value: Arc<T>) -> Self {
        Self { born: GENERATION.load(Ordering::Relaxed), what, value: RwLock::new(Some(value)) }
    }

    /// Refuses what was made before a fork. First, as a lock may be held by a thread that is not there any more.
    ///
    /// # Errors
    /// [`Kind::Forked`](crate::Kind::Forked).
    pub fn check(&self) -> Result<(), Failure> {
        if self.is_mine() { Ok(()) } else { Err(Failure::forked(self.what)) }
    }

    fn is_mine(&self) -> bool {
        self.born == GENERATION.load(Ordering::Relaxed)
    }

    /// What is in it, for an operation that can last.
    ///
    /// # Errors
    /// [`Kind::Closed`](crate::Kind::Closed) if it was taken out; as [`check`](Self::check).
    pub fn get(&self) -> Result<Arc<T>, Failure> {
        self.with(Arc::clone)
    }

    /// Uses what is in it for an operation that is short.
    ///
    /// # Errors
    /// As [`get`](Self::get).
    #[inline]
    pub fn with<R>(&self, operation: impl FnOnce(&Arc<T>) -> R) -> Result<R, Failure> {
        self.check()?;
        let value = self.value.read().unwrap_or_else(PoisonError::into_inner);
        value.as_ref().map(operation).ok_or_else(|| Failure::closed(self.what))
    }

    /// Takes it out; nothing if it was, or in a child.
    pub fn take(&self) -> Option<Arc<T>> {
        if !self.is_mine() {
            return None;
        }
        self.value.write().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// Puts back what was taken out.
    pub fn put(&self, value: Arc<T>) {
        *self.value.write().unwrap_or_else(PoisonError::into_inner) = Some(value);
    }

    /// Whether it was taken out; never in a child.
    pub fn is_closed(&self) -> bool {
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
pub trait Child: Send + Sync {
    /// How many look at its memory, past this library.
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
