//! What the thread that serves says to the service manager, and when it has served nobody for long enough.

use crate::manager::ServiceManager;
use jitney_vfio::Result;
use std::time::{Duration, Instant};

/// How often people are told how many programs there are.
const STATUS_PACE: Duration = Duration::from_secs(1);

/// Tells a manager that the broker is alive, from the thread that serves: if that hangs, nothing is said.
pub(super) struct Supervision {
    manager: ServiceManager,
    ping: Option<(Duration, Instant)>,
    /// How many cards and clients there were when that was said, and when that was.
    said: Option<((usize, usize), Instant)>,
}

impl Supervision {
    pub(super) const fn new(manager: ServiceManager) -> Self {
        Self { manager, ping: None, said: None }
    }

    pub(super) fn began(&mut self, cards: usize, clients: usize) -> Result<()> {
        let now = Instant::now();
        self.ping = self.manager.ping_period().map(|period| (period, now));
        self.said = Some(((cards, clients), now));
        self.manager.ready(&status(cards, clients))
    }

    /// Says what is due. Returns when something is due again.
    pub(super) fn heed(&mut self, cards: usize, clients: usize) -> Option<Instant> {
        if !self.manager.is_there() {
            return None;
        }
        let now = Instant::now();
        if let Some((period, due)) = &mut self.ping
            && *due <= now
        {
            self.manager.tell("WATCHDOG=1");
            *due = now + *period;
        }
        let ping = self.ping.map(|(_, due)| due);
        let status = match self.said {
            Some((said, _)) if said == (cards, clients) => None,
            Some((_, when)) if now < when + STATUS_PACE => Some(when + STATUS_PACE),
            _ => {
                self.said = Some(((cards, clients), now));
                self.manager.tell(&format!("STATUS={}", status(cards, clients)));
                None
            }
        };
        ping.into_iter().chain(status).min()
    }

    pub(super) fn stopping(&self) {
        self.manager.tell("STOPPING=1\nSTATUS=takes back what its programs have");
    }
}

fn status(cards: usize, clients: usize) -> String {
    format!("{}, {}", counted(cards, "card"), counted(clients, "program"))
}

fn counted(count: usize, what: &str) -> String {
    format!("{count} {what}{}", if count == 1 { "" } else { "s" })
}

/// Since when there is nobody, and how long that may last.
pub(super) struct Idleness {
    limit: Duration,
    since: Option<Instant>,
}

impl Idleness {
    pub(super) const fn new(limit: Duration) -> Self {
        Self { limit, since: None }
    }

    /// When it will have lasted for too long, if nobody comes; never while there are clients.
    pub(super) fn ends(&mut self, clients: usize) -> Option<Instant> {
        if clients > 0 {
            self.since = None;
            return None;
        }
        let since = *self.since.get_or_insert_with(Instant::now);
        since.checked_add(self.limit)
    }
}
