//! Which processor a thread runs on, for figures whose two sides have to be the same in that.
//!
//! Two threads that wake each other are put on one processor by some schedulers and on two by others, and sometimes the one
//! side of a figure here and the other there; a wake-up across processors of a virtual machine takes tens of times as long.

use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

/// Does `work` on one processor, with what is started in it: what is measured then is what the two sides do, and a switch
/// from one to the other.
pub(crate) fn on_one<T>(work: impl FnOnce() -> T) -> T {
    let _back = Back::after_first();
    work()
}

/// Lets this thread run where it could before.
struct Back(Option<CpuSet>);

impl Back {
    /// This thread runs on the first processor that it may use; where that cannot be chosen it stays where it is.
    fn after_first() -> Self {
        let Ok(all) = sched_getaffinity(None) else { return Self(None) };
        let Some(one) = (0..CpuSet::MAX_CPU).find(|&processor| all.is_set(processor)) else {
            return Self(None);
        };
        let mut only = CpuSet::new();
        only.set(one);
        Self(sched_setaffinity(None, &only).is_ok().then_some(all))
    }
}

impl Drop for Back {
    fn drop(&mut self) {
        if let Some(all) = &self.0 {
            // It was allowed before.
            let _ = sched_setaffinity(None, all);
        }
    }
}
