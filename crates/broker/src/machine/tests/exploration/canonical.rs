//! A state by what matters: pieces of work by their order, moments by the work that was ordered before them.

use crate::machine::buffers::Buffer;
use crate::machine::quarantine::{Since, What};
use crate::machine::testing::World;
use crate::machine::{Client, Machine, TaskId};
use crate::protocol::CardId;
use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};

/// A number for each state; two states have the same by chance about once in 10^19.
pub(super) fn key(world: &World) -> u64 {
    let hasher = &mut DefaultHasher::new();
    hash_machine(&world.machine, hasher);
    hash_account(world, hasher);
    hasher.finish()
}

/// Work of which a moment knows: how much of what is not finished was ordered before it.
fn before<T: Ord + Copy>(ordered: impl Iterator<Item = T>, moment: T) -> usize {
    ordered.filter(|id| *id < moment).count()
}

fn hash_machine(machine: &Machine, hasher: &mut DefaultHasher) {
    let rank = |id: TaskId| before(machine.tasks.keys().copied(), id);
    let iovas = &machine.iovas;
    for ranges in [iovas.live().collect::<Vec<_>>(), iovas.resting().collect(), iovas.lost().collect()] {
        ranges.hash(hasher);
    }
    iovas.free_ranges().collect::<Vec<_>>().hash(hasher);
    iovas.quarantined().map(|(_, range)| range).collect::<Vec<_>>().hash(hasher);
    for (id, card) in &machine.cards {
        (id, &card.users, &card.wired, card.resetting, card.hung, card.presence).hash(hasher);
        (&card.leases, &card.deferred).hash(hasher);
    }
    for (id, client) in &machine.clients {
        let Client { program, buffers, bytes, leases, pending, reached, stuck, departure, counts, peer: _ } =
            client;
        (id, program.is_some(), buffers, bytes, leases, counts).hash(hasher);
        pending.iter().map(|id| rank(*id)).collect::<Vec<_>>().hash(hasher);
        let reached: Vec<_> =
            reached.iter().map(|(card, since)| (card, since.map(|Since(id)| rank(id)))).collect();
        reached.hash(hasher);
        hash_traces(stuck, rank, hasher);
        if let Some(departure) = departure {
            (departure.goodbye, departure.phase).hash(hasher);
            hash_traces(&departure.unquiet, rank, hasher);
        }
    }
    for (iova, buffer) in &machine.buffers {
        let Buffer { space, size, placed, state, holders, traces } = buffer;
        (iova, space, size, placed, state, holders).hash(hasher);
        hash_traces(traces, rank, hasher);
    }
    // By which number an offer goes is for those who are told it.
    for (iova, offer) in &machine.offers {
        (iova, offer.maker, &offer.name, offer.rights, offer.token.is_some()).hash(hasher);
    }
    for entry in &machine.quarantined {
        match entry.what {
            What::Address(id) => iovas.quarantined().position(|(other, _)| other == id).hash(hasher),
            What::Memory { iova, space, size } => (iova, space, size).hash(hasher),
        }
        hash_traces(&entry.waits_for, rank, hasher);
    }
    for (id, task) in &machine.tasks {
        (task, machine.strays.contains(id)).hash(hasher);
    }
    machine.stopping.hash(hasher);
}

fn hash_traces(traces: &BTreeMap<CardId, Since>, rank: impl Fn(TaskId) -> usize, hasher: &mut DefaultHasher) {
    for (card, Since(id)) in traces {
        (card, rank(*id)).hash(hasher);
    }
    traces.len().hash(hasher);
}

fn hash_account(world: &World, hasher: &mut DefaultHasher) {
    let ordered = || world.at_work.iter().map(|at_work| at_work.ordered);
    let moments = |traces: &BTreeMap<CardId, u64>| -> Vec<(CardId, usize)> {
        traces.iter().map(|(card, moment)| (*card, before(ordered(), *moment))).collect()
    };
    for (id, known) in &world.clients {
        (id, known.greeted, &known.asked, &known.leases, &known.opened).hash(hasher);
        let reached = known.reached.iter();
        let reached = reached.map(|(card, until)| (*card, until.map(|moment| before(ordered(), moment))));
        reached.collect::<Vec<_>>().hash(hasher);
        moments(&known.stuck).hash(hasher);
        known.gone.as_ref().map(|gone| (moments(&gone.unquiet), &gone.wills)).hash(hasher);
    }
    for (id, card) in &world.cards {
        (id, &card.wired, &card.unsilenced, card.bus_master, card.hung, card.reset_failed).hash(hasher);
    }
    for memory in &world.memory {
        (memory.space, &memory.range, &memory.holders, memory.state, moments(&memory.waits_for)).hash(hasher);
    }
    for (range, waits_for) in &world.kept {
        (range, moments(waits_for)).hash(hasher);
    }
    for memory in &world.memory {
        memory.readers.hash(hasher);
    }
    world.lost.hash(hasher);
    world.at_work.iter().map(|at_work| at_work.cancelled).collect::<Vec<_>>().hash(hasher);
}
