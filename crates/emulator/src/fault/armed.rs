//! Faults that are to happen, and those that last.

use super::{Event, Fault, FaultKind};
use jitney_xdma_spec::Direction;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// The faults that were asked for and have not happened yet, and whether the link is down.
#[derive(Debug, Default)]
pub struct Faults {
    armed: Mutex<Vec<Armed>>,
    /// Whether `armed` holds any, so that a board without faults pays one load for each descriptor.
    any: AtomicBool,
    link_down: AtomicBool,
    adjacent_bug: AtomicBool,
}

#[derive(Debug)]
struct Armed {
    fault: Fault,
    /// Events to come, the one that it happens at included.
    remaining: u64,
}

impl Faults {
    /// Asks for a fault.
    pub fn inject(&self, fault: Fault) {
        if fault.at.is_none() && self.begins(fault.kind) {
            return;
        }
        let mut armed = self.armed();
        armed.push(Armed { fault, remaining: fault.at.unwrap_or(1) });
        self.any.store(true, Ordering::Release);
    }

    /// Counts a descriptor that a channel is about to fetch; says what goes wrong with it.
    pub(crate) fn at_descriptor(
        &self,
        direction: Direction,
        channel: u8,
        is_stream: bool,
    ) -> Option<FaultKind> {
        let kind = self.count(|fault| {
            fault.kind.event() == Event::Descriptor
                && fault.kind.of_streams().is_none_or(|of| is_stream && of == direction)
                && fault.channel.is_none_or(|of| of == (direction, channel))
        })?;
        (!self.begins(kind)).then_some(kind)
    }

    /// Lets a fault of those begin that stay; whether it is one.
    fn begins(&self, kind: FaultKind) -> bool {
        let state = match kind {
            FaultKind::LinkDown => &self.link_down,
            FaultKind::AdjacentBug => &self.adjacent_bug,
            _ => return false,
        };
        tracing::info!(fault = kind.name(), "a fault begins and stays");
        state.store(true, Ordering::Release);
        true
    }

    /// Counts an interrupt that is about to be signalled; whether it is lost.
    pub(crate) fn loses_interrupt(&self) -> bool {
        self.count(|fault| fault.kind == FaultKind::LostInterrupt).is_some()
    }

    /// Counts a message to the card management; whether its firmware hangs.
    pub(crate) fn hangs_firmware(&self) -> bool {
        self.count(|fault| fault.kind.event() == Event::Message).is_some()
    }

    /// Counts a START on an I2C bus; says what goes wrong with the transfer.
    pub(crate) fn at_i2c_start(&self) -> Option<FaultKind> {
        self.count(|fault| fault.kind.event() == Event::I2c)
    }

    pub(crate) fn link_down(&self) -> bool {
        self.link_down.load(Ordering::Acquire)
    }

    /// Whether blocks of more than 16 descriptors come in wrong.
    pub(crate) fn adjacent_bug(&self) -> bool {
        self.adjacent_bug.load(Ordering::Acquire)
    }

    /// Counts an event for every fault that `concerns` it; the first whose time has come happens.
    fn count(&self, concerns: impl Fn(&Fault) -> bool) -> Option<FaultKind> {
        if !self.any.load(Ordering::Acquire) {
            return None;
        }
        let mut armed = self.armed();
        let mut happens = None;
        armed.retain_mut(|entry| {
            if !concerns(&entry.fault) {
                return true;
            }
            entry.remaining = entry.remaining.saturating_sub(1);
            // Two at one event: the second waits for the next.
            if entry.remaining > 0 || happens.is_some() {
                return true;
            }
            tracing::info!(fault = %entry.fault, "fault happens");
            happens = Some(entry.fault.kind);
            false
        });
        self.any.store(!armed.is_empty(), Ordering::Release);
        happens
    }

    fn armed(&self) -> MutexGuard<'_, Vec<Armed>> {
        self.armed.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use Direction::{CardToHost, HostToCard};

    fn fault(text: &str) -> Fault {
        text.parse().unwrap()
    }

    #[test]
    fn a_fault_happens_once_at_its_event_on_its_channel() {
        let faults = Faults::default();
        faults.inject(fault("data-fault:c2h0@2"));
        assert_eq!(faults.at_descriptor(HostToCard, 0, false), None);
        assert_eq!(faults.at_descriptor(CardToHost, 0, false), None);
        assert_eq!(faults.at_descriptor(CardToHost, 1, false), None);
        assert_eq!(faults.at_descriptor(CardToHost, 0, false), Some(FaultKind::Data));
        assert_eq!(faults.at_descriptor(CardToHost, 0, false), None);
        assert!(!faults.any.load(Ordering::Relaxed));
    }

    #[test]
    fn faults_of_streams_count_the_descriptors_of_streams() {
        let faults = Faults::default();
        faults.inject(fault("lost-eop@2"));
        for _ in 0..3 {
            assert_eq!(faults.at_descriptor(CardToHost, 0, false), None);
            assert_eq!(faults.at_descriptor(HostToCard, 0, true), None);
        }
        assert_eq!(faults.at_descriptor(CardToHost, 1, true), None);
        assert_eq!(faults.at_descriptor(CardToHost, 0, true), Some(FaultKind::LostEop));
    }

    #[test]
    fn interrupts_and_descriptors_are_counted_apart() {
        let faults = Faults::default();
        faults.inject(fault("lost-interrupt@2"));
        faults.inject(fault("link-down@2"));
        assert_eq!(faults.at_descriptor(HostToCard, 0, false), None);
        assert!(!faults.loses_interrupt() && !faults.link_down());
        assert!(faults.loses_interrupt());
        assert!(!faults.loses_interrupt());
        assert_eq!(faults.at_descriptor(HostToCard, 1, false), None, "the link itself says it");
        assert!(faults.link_down());
        assert!(!faults.adjacent_bug());
        faults.inject(fault("adjacent-bug"));
        assert!(faults.adjacent_bug());
    }

    #[test]
    fn two_faults_at_one_event_happen_one_after_the_other() {
        let faults = Faults::default();
        faults.inject(fault("data-fault"));
        faults.inject(fault("descriptor-fetch"));
        assert_eq!(faults.at_descriptor(HostToCard, 0, false), Some(FaultKind::Data));
        assert_eq!(faults.at_descriptor(HostToCard, 0, false), Some(FaultKind::DescriptorFetch));
    }
}
