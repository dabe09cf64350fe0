//! How much a client, and a user with all clients together, may have. Each refusal names the limit.

use super::{Client, ClientId, Machine, Peer};
use jitney_vfio::{Error, ErrorKind};
use serde::{Deserialize, Serialize};

/// What one client, or all clients of one user together, may have at most.
///
/// The defaults are such that people who work do not meet them, and that what one user can take leaves something for others.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Limits {
    /// Connections of a user.
    pub connections_of_user: usize,
    /// Requests of a client that wait for an answer.
    pub requests_of_client: usize,
    /// DMA buffers of a client. A type1 container has 65535 maps for all.
    pub buffers_of_client: usize,
    /// DMA buffers of a user, with those of programs that are gone whose memory has to stay where there is no IOMMU.
    pub buffers_of_user: usize,
    /// Bytes of DMA buffers of a user.
    pub bytes_of_user: u64,
    /// Buffers that a client offers to others: of each the broker keeps a descriptor.
    pub offers_of_client: usize,
    /// Buffers that a user offers to others.
    pub offers_of_user: usize,
    /// Leases of a client.
    pub leases_of_client: usize,
    /// Leases of a user.
    pub leases_of_user: usize,
    /// Leases that a client stands in line for.
    pub waiting_of_client: usize,
    /// Leases that a user stands in line for.
    pub waiting_of_user: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections_of_user: 256,
            requests_of_client: 64,
            buffers_of_client: 4096,
            buffers_of_user: 16384,
            bytes_of_user: u64::MAX,
            offers_of_client: 64,
            offers_of_user: 1024,
            leases_of_client: 256,
            leases_of_user: 4096,
            waiting_of_client: 8,
            waiting_of_user: 100,
        }
    }
}

impl Machine {
    pub(super) fn check_connections(&self, peer: &Peer) -> Result<(), Error> {
        let (uid, most) = (peer.uid, self.limits_of(peer).connections_of_user);
        let count = self.of_user(uid).count();
        if count < most {
            return Ok(());
        }
        Err(self.by_quota(peer, user_has(uid, count, most, "connections")))
    }

    /// Whether `client` may have one more request under way.
    pub(super) fn check_requests(&self, client: ClientId) -> Result<(), Error> {
        let most = self.limits.requests_of_client;
        let Some(state) = self.clients.get(&client) else { return Ok(()) };
        let waiting = || self.cards.values().flat_map(|card| &card.deferred);
        let deferred = waiting().filter(|deferred| deferred.client == client).count();
        if state.pending.len() + deferred < most {
            return Ok(());
        }
        Err(client_has(most, "requests that are not answered yet"))
    }

    pub(super) fn check_leases(&self, client: ClientId) -> Result<(), Error> {
        let Some(state) = self.clients.get(&client) else { return Ok(()) };
        let limits = self.limits_of(&state.peer);
        if state.leases >= limits.leases_of_client {
            return Err(self.by_quota(&state.peer, client_has(limits.leases_of_client, "leases")));
        }
        let uid = state.peer.uid;
        let count = self.of_user(uid).map(|client| client.leases).sum();
        let most = limits.leases_of_user;
        if count < most {
            return Ok(());
        }
        Err(self.by_quota(&state.peer, user_has(uid, count, most, "leases")))
    }

    /// Whether `client` may stand in line for one more lease. Who only waits until something is cleared away does not.
    pub(super) fn check_waiting(&self, client: ClientId, wait: bool) -> Result<(), Error> {
        let Some(uid) = self.clients.get(&client).map(|state| state.peer.uid).filter(|_| wait) else {
            return Ok(());
        };
        let lines = self.cards.values().flat_map(|card| &card.deferred);
        let waiting = lines.filter(|waiting| waiting.wanted.as_ref().is_some_and(|wanted| wanted.wait));
        let (mut of_client, mut of_user) = (0, 0);
        for waiting in waiting {
            of_client += usize::from(waiting.client == client);
            let state = self.clients.get(&waiting.client);
            of_user += usize::from(state.is_some_and(|state| state.peer.uid == uid));
        }
        if of_client >= self.limits.waiting_of_client {
            return Err(client_has(self.limits.waiting_of_client, "leases that it waits for"));
        }
        let most = self.limits.waiting_of_user;
        if of_user < most { Ok(()) } else { Err(user_has(uid, of_user, most, "leases to wait for")) }
    }

    /// Whether `client` may offer one more buffer.
    pub(super) fn check_offers(&self, client: ClientId) -> Result<(), Error> {
        let most = self.limits.offers_of_client;
        if self.offers.values().filter(|offer| offer.maker == client).count() >= most {
            return Err(client_has(most, "buffers that it offers to others"));
        }
        let uid_of = |client| self.clients.get(client).map(|client| client.peer.uid);
        let Some(uid) = uid_of(&client) else { return Ok(()) };
        let count = self.offers.values().filter(|offer| uid_of(&offer.maker) == Some(uid)).count();
        let most = self.limits.offers_of_user;
        if count < most {
            return Ok(());
        }
        Err(user_has(uid, count, most, "buffers that are offered to others"))
    }

    /// Whether `client` may have one more buffer, of `size` bytes.
    pub(super) fn check_buffers(&self, client: ClientId, size: u64) -> Result<(), Error> {
        let Some(state) = self.clients.get(&client) else { return Ok(()) };
        let limits = self.limits_of(&state.peer);
        let count = |id, client: &Client| client.buffers.len() + self.placing(id).0;
        if count(client, state) >= limits.buffers_of_client {
            return Err(self.by_quota(&state.peer, client_has(limits.buffers_of_client, "DMA buffers")));
        }
        let uid = state.peer.uid;
        let all = || self.clients.iter().filter(|(_, client)| client.peer.uid == uid);
        let (kept, kept_bytes) = self.in_quarantine(uid);
        let count = all().map(|(id, client)| count(*id, client)).sum::<usize>() + kept;
        if count >= limits.buffers_of_user {
            let error = user_has(uid, count, limits.buffers_of_user, "DMA buffers");
            return Err(self.by_quota(&state.peer, error));
        }
        let bytes = all().map(|(id, client)| client.bytes.saturating_add(self.placing(*id).1));
        let taken = bytes.fold(kept_bytes, u64::saturating_add);
        let most = limits.bytes_of_user;
        if taken.saturating_add(size) <= most {
            return Ok(());
        }
        let what = format!(
            "a DMA buffer of {size:#x} bytes: user {uid} has {taken:#x} bytes in buffers already, and may have {most:#x}"
        );
        let error =
            Error::new(ErrorKind::Exhausted, what).with_remedy("free some, or end programs that have them");
        Err(self.by_quota(&state.peer, error))
    }

    fn of_user(&self, uid: u32) -> impl Iterator<Item = &Client> {
        self.clients.values().filter(move |client| client.peer.uid == uid)
    }
}

fn client_has(most: usize, what: &str) -> Error {
    Error::new(ErrorKind::Exhausted, format!("a client may have at most {most} {what}"))
}

fn user_has(uid: u32, count: usize, most: usize, what: &str) -> Error {
    Error::new(
        ErrorKind::Exhausted,
        format!("user {uid} has {count} {what}, and may have at most {most}, all programs together"),
    )
    .with_remedy("end programs that do not need them any more (jitney list --json says who has what)")
}
