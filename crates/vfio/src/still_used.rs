//! What engines that were not seen to stop may still use: memory, and the leases of their parts of the card. It goes back when
//! such an engine is seen idle, or when its card was reset.

use crate::dma::DmaBuffer;
use crate::lease::Part;
use crate::leased::Lease;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

/// What this process has of a card and must not give back, because an engine may still use it. One for each card; clones are the
/// same.
///
/// A driver that told an engine to stop and did not see it stop [keeps](Self::keep) here what the engine was given. If that went
/// back, its IOVA would soon be another buffer's. A reset ends every engine of the card, so whoever carries one out
/// [takes](Self::take) all of it and drops it afterwards.
#[derive(Clone, Default)]
pub struct StillUsed {
    parts: Arc<Mutex<Vec<UsedPart>>>,
}

/// Says whether an engine is seen idle. It only looks: the engine may be at work for somebody again.
pub type IsIdle = Box<dyn Fn() -> bool + Send>;

/// What one engine may still use.
pub struct UsedPart {
    part: Part,
    memory: Vec<DmaBuffer>,
    /// There once its driver has gone, which has it until then.
    lease: Option<Lease>,
    is_idle: IsIdle,
}

/// The cards of this process of which something was kept, for whoever wants memory back and knows no card.
static EVERYWHERE: Mutex<Vec<Weak<Mutex<Vec<UsedPart>>>>> = Mutex::new(Vec::new());

impl StillUsed {
    /// Keeps `memory` that the engine of `part` may still use, besides what is kept of it already, until `is_idle` says yes or the
    /// card was reset; and its `lease`, if nobody drives it any more.
    pub fn keep(&self, part: &Part, memory: Vec<DmaBuffer>, lease: Option<Lease>, is_idle: IsIdle) {
        {
            let mut everywhere = lock(&EVERYWHERE);
            everywhere.retain(|parts| parts.strong_count() > 0);
            let own = Arc::downgrade(&self.parts);
            if !everywhere.iter().any(|parts| parts.ptr_eq(&own)) {
                everywhere.push(own);
            }
        }
        let mut parts = lock(&self.parts);
        match parts.iter_mut().find(|used| used.part == *part) {
            Some(used) => {
                used.memory.extend(memory);
                used.lease = used.lease.take().or(lease);
                used.is_idle = is_idle;
            }
            None => parts.push(UsedPart { part: part.clone(), memory, lease, is_idle }),
        }
    }

    /// Gives back what is kept of `part`: its engine was seen idle, or cannot reach memory any more.
    pub fn give_back(&self, part: &Part) {
        let ended = extract(&mut lock(&self.parts), |used| used.part == *part);
        drop(ended);
    }

    /// Looks at the engines again, and gives back what those may have used that are idle by now.
    pub fn look_again(&self) {
        let ended = extract(&mut lock(&self.parts), |used| (used.is_idle)());
        for used in &ended {
            tracing::debug!(part = %used.part, "an engine that did not stop is idle by now");
        }
    }

    /// The same, of every card of this process: for whoever wants a buffer back.
    pub fn look_everywhere() {
        let everywhere: Vec<_> = lock(&EVERYWHERE).iter().filter_map(Weak::upgrade).collect();
        everywhere.into_iter().for_each(|parts| Self { parts }.look_again());
    }

    /// Takes all out: to be dropped when the card was reset, or [put back](Self::put_back) when that failed. What is kept later
    /// is not among it.
    #[must_use]
    pub fn take(&self) -> Vec<UsedPart> {
        std::mem::take(&mut lock(&self.parts))
    }

    /// Keeps again what was [taken](Self::take).
    pub fn put_back(&self, taken: Vec<UsedPart>) {
        for UsedPart { part, memory, lease, is_idle } in taken {
            self.keep(&part, memory, lease, is_idle);
        }
    }

    /// Whether something is kept of `part` and nobody drives it any more.
    #[must_use]
    pub fn is_left_behind(&self, part: &Part) -> bool {
        lock(&self.parts).iter().any(|used| used.part == *part && used.lease.is_some())
    }

    /// The parts of which something is kept.
    #[must_use]
    pub fn parts(&self) -> Vec<Part> {
        lock(&self.parts).iter().map(|used| used.part.clone()).collect()
    }
}

/// What goes is dropped by the caller, without the lock: to give a lease back can take long.
fn extract(parts: &mut Vec<UsedPart>, goes: impl Fn(&UsedPart) -> bool) -> Vec<UsedPart> {
    parts.extract_if(.., |used| goes(used)).collect()
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Every change is complete in itself.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl fmt::Debug for StillUsed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("StillUsed").field(&self.parts()).finish()
    }
}

impl fmt::Debug for UsedPart {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("UsedPart")
            .field("part", &self.part)
            .field("memory", &self.memory)
            .finish_non_exhaustive()
    }
}
