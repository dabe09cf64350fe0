//! Tests of the machine, most of them in a [`World`](super::testing::World), which checks what must always be true.

mod access;
mod buffers;
mod cards;
mod departures;
mod exploration;
mod histories;
mod leases;
mod leaving;
mod limits;
mod many;
mod on_demand;
mod quarantine;
mod sharing;
mod waiting;

use super::testing::{How, Setting, World, will};
use super::{ClientId, Event, Work};
use crate::protocol::{CardId, Reply, Request};
use jitney_vfio::{Error, ErrorKind, LeaseId, Mode};

const CARD: CardId = CardId(0);

fn world() -> World {
    World::new(Setting::default())
}

fn physical() -> World {
    World::new(Setting { physical: true, ..Setting::default() })
}

/// Somebody who has the first card open.
fn user(world: &mut World, seat: usize) -> ClientId {
    let client = world.join(seat);
    world.ask(client, Request::Open { card: CARD });
    world.finish_all();
    client
}

/// A request for an exclusive lease with a will: 0 none, 1 that writes, 2 that waits.
fn lease(part: &str, which: usize) -> Request {
    Request::Lease { card: CARD, part: part.into(), mode: Mode::Exclusive, will: will(which), wait: 0 }
}

fn allocate(card: Option<CardId>) -> Request {
    Request::Allocate { card, size: 8192, align: 4096, top: 0xffff_ffff, page_shift: 12 }
}

const WIRE: Request = Request::Wire { card: CARD, vector: 0 };
const SILENCE: Request = Request::Silence { card: CARD, vector: 0 };

fn killed(world: &mut World, client: ClientId) {
    world.feed(Event::Left { client });
}

/// Asks, and expects that it is granted at once.
#[track_caller]
fn granted(world: &mut World, client: ClientId, request: Request) -> Reply {
    let reply = world.ask(client, request.clone());
    reply.unwrap_or_else(|| panic!("no answer to {request:?}")).unwrap_or_else(|error| panic!("{error}"))
}

/// Asks, and expects that it is refused at once.
#[track_caller]
fn refused(world: &mut World, client: ClientId, request: Request, kind: ErrorKind) -> Error {
    let reply = world.ask(client, request.clone());
    let error = reply.unwrap_or_else(|| panic!("no answer to {request:?}")).expect_err("it was granted");
    assert_eq!(error.kind(), kind, "{error}");
    error
}

/// Asks for a lease that is granted.
#[track_caller]
fn leased(world: &mut World, client: ClientId, part: &str, which: usize) -> LeaseId {
    match granted(world, client, lease(part, which)) {
        Reply::Leased(id) => id,
        other => panic!("{other:?}"),
    }
}

/// A buffer that is mapped, and where.
#[track_caller]
fn buffer(world: &mut World, client: ClientId, card: Option<CardId>) -> u64 {
    assert_eq!(world.ask(client, allocate(card)), None);
    match ends(world, |work| matches!(work, Work::Map { .. } | Work::Place { .. }), How::Done) {
        Some(Ok(Reply::Allocated { iova, .. })) => iova,
        other => panic!("{other:?}"),
    }
}

/// What is at work, in the order in which it was ordered.
fn works(world: &World) -> Vec<&Work> {
    world.at_work.iter().map(|at_work| &at_work.task.work).collect()
}

/// The first piece of work of a kind ends.
#[track_caller]
fn ends(world: &mut World, kind: impl Fn(&Work) -> bool, how: How) -> Option<Result<Reply, Error>> {
    let endable = world.endable();
    let place = endable.iter().position(|&index| kind(&world.at_work[index].task.work));
    let place = place.unwrap_or_else(|| panic!("it cannot end now: {:?}", works(world)));
    // What is made lies where nothing else is.
    let which = (0..3).map(|round| place + round * endable.len()).find(|which| which % 3 != 0);
    world.finish(which.unwrap_or(place), how)
}

fn is_will(work: &Work) -> bool {
    matches!(work, Work::CarryOut { .. })
}

fn is_unmap(work: &Work) -> bool {
    matches!(work, Work::Unmap { .. })
}

fn is_reset(work: &Work) -> bool {
    matches!(work, Work::Reset { .. })
}

fn any(_: &Work) -> bool {
    true
}
