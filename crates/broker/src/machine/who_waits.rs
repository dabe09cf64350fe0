//! Who waits for whom. A whole line asks that at once, so it is found out once for all, and again only after a change.

use super::{ClientId, Machine};
use jitney_vfio::{Granted, LeaseRequest, Mode, Part};
use std::collections::{BTreeMap, BTreeSet};

/// Who waits for whom as long as no lease, and nothing in a line, begins or ends. It is found out when it is asked for.
#[derive(Debug, Default)]
pub(super) struct WhoWaits {
    /// Who waits for a client at first hand.
    direct: Option<BTreeMap<ClientId, BTreeSet<ClientId>>>,
    /// Who does so by way of others as well, of the clients that were asked for.
    found: BTreeMap<ClientId, BTreeSet<ClientId>>,
}

impl WhoWaits {
    /// Who waits for `client`, or for somebody who does.
    pub(super) fn behind(&mut self, client: ClientId, machine: &Machine) -> &BTreeSet<ClientId> {
        let direct = self.direct.get_or_insert_with(|| machine.who_waits_at_first_hand());
        self.found.entry(client).or_insert_with(|| {
            let mut found = BTreeSet::new();
            let mut open = vec![client];
            while let Some(blocker) = open.pop() {
                let new =
                    direct.get(&blocker).into_iter().flatten().filter(|waiting| found.insert(**waiting));
                open.extend(new);
            }
            found
        })
    }
}

impl Machine {
    fn who_waits_at_first_hand(&self) -> BTreeMap<ClientId, BTreeSet<ClientId>> {
        let mut direct: BTreeMap<_, BTreeSet<_>> = BTreeMap::new();
        for card in self.cards.values() {
            let mut line = Line::default();
            for Granted { holder, request, .. } in card.leases.iter() {
                line.add(*holder, request);
            }
            for waiting in &card.deferred {
                let Some(wanted) = &waiting.wanted else { continue };
                for before in line.in_the_way(waiting.client, &wanted.lease) {
                    direct.entry(before).or_default().insert(waiting.client);
                }
                line.add(waiting.client, &wanted.lease);
            }
        }
        direct
    }
}

/// Who has or wants which part of a card, and whether alone: each of them once, however long the line.
#[derive(Debug, Default)]
struct Line<'a> {
    parts: BTreeMap<&'a Part, BTreeSet<(ClientId, bool)>>,
    all: BTreeSet<(ClientId, bool)>,
}

impl<'a> Line<'a> {
    fn add(&mut self, client: ClientId, lease: &'a LeaseRequest) {
        let entry = (client, lease.mode == Mode::Exclusive);
        self.parts.entry(&lease.part).or_default().insert(entry);
        self.all.insert(entry);
    }

    /// The others so far who exclude `lease`, as [`excludes`](super::leases::excludes) has it.
    fn in_the_way(&self, client: ClientId, lease: &LeaseRequest) -> impl Iterator<Item = ClientId> {
        let whole = Part::whole();
        let sets = match lease.part == whole {
            true => [Some(&self.all), None],
            false => [self.parts.get(&lease.part), self.parts.get(&whole)],
        };
        let alone = lease.mode == Mode::Exclusive;
        let others = sets.into_iter().flatten().flatten().filter(move |(other, _)| *other != client);
        others.filter(move |(_, other_alone)| alone || *other_alone).map(|(other, _)| *other)
    }
}
