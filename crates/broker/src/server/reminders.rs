//! What the machine wants to be reminded of, by time.

use crate::machine::{ClientId, Reminder};
use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

/// Who is to be reminded of what, and when.
#[derive(Debug, Default)]
pub(super) struct Reminders {
    by_time: BTreeSet<(Instant, ClientId, Reminder)>,
    times: BTreeMap<(ClientId, Reminder), Instant>,
}

impl Reminders {
    /// Adds one, instead of another of the same.
    pub(super) fn add(&mut self, client: ClientId, of: Reminder, after: Duration) {
        self.remove(client, of);
        let when = Instant::now() + after;
        self.by_time.insert((when, client, of));
        self.times.insert((client, of), when);
    }

    /// The same with the time at which it is due, in milliseconds, where it is `now`.
    pub(super) fn add_at(&mut self, client: ClientId, of: Reminder, at: u64, now: u64) {
        self.add(client, of, Duration::from_millis(at.saturating_sub(now)));
    }

    pub(super) fn remove(&mut self, client: ClientId, of: Reminder) {
        if let Some(when) = self.times.remove(&(client, of)) {
            self.by_time.remove(&(when, client, of));
        }
    }

    /// Removes all of a client.
    pub(super) fn remove_all(&mut self, client: ClientId) {
        let all = (client, Reminder::InLine(0))..=(client, Reminder::Lease(jitney_vfio::LeaseId(u64::MAX)));
        let own: Vec<Reminder> = self.times.range(all).map(|((_, of), _)| *of).collect();
        own.into_iter().for_each(|of| self.remove(client, of));
    }

    /// When there is the next.
    pub(super) fn next(&self) -> Option<Instant> {
        self.by_time.first().map(|(when, ..)| *when)
    }

    /// Takes one whose time is over.
    pub(super) fn due(&mut self, now: Instant) -> Option<(ClientId, Reminder)> {
        let (when, client, of) = *self.by_time.first()?;
        if when > now {
            return None;
        }
        self.remove(client, of);
        Some((client, of))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use jitney_vfio::LeaseId;

    #[test]
    fn each_is_due_once_in_the_order_of_time_and_what_is_forgotten_is_not() {
        let mut reminders = Reminders::default();
        let (one, other) = (ClientId(1), ClientId(2));
        let far = Duration::from_secs(3600);
        reminders.add(one, Reminder::InLine(7), far);
        reminders.add(one, Reminder::InLine(u64::MAX), far);
        reminders.add(one, Reminder::Lease(LeaseId(7)), 2 * far);
        reminders.add(other, Reminder::Lease(LeaseId(8)), far / 2);
        reminders.add(other, Reminder::Lease(LeaseId(9)), Duration::ZERO);
        // The same again, later.
        reminders.add(other, Reminder::Lease(LeaseId(9)), far);
        let now = Instant::now();
        assert_eq!(reminders.due(now), None);
        let later = now + 3 * far;
        assert_eq!(reminders.due(later), Some((other, Reminder::Lease(LeaseId(8)))));
        reminders.remove(other, Reminder::Lease(LeaseId(9)));
        reminders.remove(other, Reminder::Lease(LeaseId(10)));
        reminders.remove_all(one);
        assert_eq!(reminders.due(later), None);
        assert!(reminders.next().is_none() && reminders.times.is_empty());
    }
}
