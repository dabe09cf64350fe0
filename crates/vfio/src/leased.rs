//! A lease as a program holds it: it ends when it is dropped.

use crate::keeper::{Handed, Keeper};
use crate::lease::{LeaseId, Part};
use std::fmt;
use std::sync::Arc;

/// A right on a part of a card, until it is dropped.
pub struct Lease {
    part: Part,
    id: LeaseId,
    keeper: Arc<dyn Keeper>,
}

impl Lease {
    /// The lease that `keeper` granted.
    pub fn new(part: Part, id: LeaseId, keeper: Arc<dyn Keeper>) -> Self {
        Self { part, id, keeper }
    }

    /// The part that it is a right on.
    #[must_use]
    pub const fn part(&self) -> &Part {
        &self.part
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        if let Err(error) = self.keeper.take_back(Handed::Lease { id: self.id }) {
            tracing::warn!(part = %self.part, %error, "a lease could not be given back");
        }
    }
}

impl fmt::Debug for Lease {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Lease({})", self.part)
    }
}
