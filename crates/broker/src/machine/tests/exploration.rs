//! Every order of everything, for two clients, one card with one channel and one vector, and a buffer for each, which they share: all states of
//! the machine to some depth, breadth first, each once. [`World`] checks every step, and for each new state it is asked
//! whether everybody is answered and nothing is left.
//!
//! An own search and not the crate `stateright`: that keeps whole states in its queue, of which ten million do not fit into a
//! machine; here a state is the number of the one before and of what happened, five bytes, and is made again from them.
//! `JITNEY_STATES=10000000` asks for so many.

mod canonical;

use crate::machine::testing::{How, Setting, World, will};
use crate::machine::{ClientId, Event, Limits, Machine, Work};
use crate::protocol::{CardId, Offered, Request};
use canonical::key;
use jitney_iova::Allocator;
use jitney_vfio::{LeaseId, Mode, Notice};
use std::collections::HashSet;
use std::fmt::Display;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

const USUAL: usize = 50_000;
const CARD: CardId = CardId(0);

/// Something that can happen.
#[derive(Debug, Clone, Copy)]
enum Action {
    Join,
    Leave,
    Goodbye,
    Open,
    Close,
    Allocate,
    Free,
    Share,
    Attach,
    Unshare,
    Lease(&'static str),
    /// The same, in line.
    Await(&'static str),
    Withdraw,
    Release(&'static str, bool),
    Wire,
    Silence,
    Reset,
}

const ACTIONS: [Action; 20] = [
    Action::Join,
    Action::Leave,
    Action::Goodbye,
    Action::Open,
    Action::Close,
    Action::Allocate,
    Action::Free,
    Action::Share,
    Action::Attach,
    Action::Unshare,
    Action::Lease("h2c0"),
    Action::Lease("irq0"),
    Action::Await("h2c0"),
    Action::Withdraw,
    Action::Release("h2c0", true),
    Action::Release("h2c0", false),
    Action::Release("irq0", false),
    Action::Wire,
    Action::Silence,
    Action::Reset,
];
const CLIENTS: usize = 2;
const ENDINGS: [How; 2] = [How::Done, How::Fails];
const MOST_AT_WORK: usize = 8;
/// Everything that can happen, by number: clients' actions, endings of work, and that the card is wanted back.
const CHOICES: usize = CLIENTS * ACTIONS.len() + ENDINGS.len() * MOST_AT_WORK + 1;

fn start(setting: Setting) -> World {
    // Few addresses, so that they come again.
    let valid = if setting.physical { 0x10_0000..=0x1f_ffff } else { 0x1_0000..=0x1_3fff };
    let iovas = Allocator::new([valid], 4096).expect("a space of a few pages");
    let limits = Limits { requests_of_client: 2, ..Limits::default() };
    World::of(setting, Machine::new(1, vec![setting.card(0)], iovas, limits))
}

/// Lets something happen, if it can.
fn happen(world: &mut World, choice: usize) -> bool {
    reuse_leases(world);
    if let Some(action) = ACTIONS.get(choice / CLIENTS) {
        return act(world, ClientId((choice % CLIENTS) as u64), *action);
    }
    let choice = choice - CLIENTS * ACTIONS.len();
    if choice == ENDINGS.len() * MOST_AT_WORK {
        world.feed(Event::Noticed { card: CARD, notice: Notice::Leaving });
        return true;
    }
    let which = choice / ENDINGS.len();
    let can = which < world.endable().len();
    if can {
        world.finish(which, ENDINGS[choice % ENDINGS.len()]);
    }
    can
}

fn describe(choice: usize) -> String {
    match ACTIONS.get(choice / CLIENTS) {
        Some(action) => format!("client {}: {action:?}", choice % CLIENTS),
        None if choice == CHOICES - 1 => "the card is wanted back".into(),
        None => {
            let choice = choice - CLIENTS * ACTIONS.len();
            format!("work {} ends: {:?}", choice / ENDINGS.len(), ENDINGS[choice % ENDINGS.len()])
        }
    }
}

/// What is leased gets the lowest number that is free, so that states come again. One event may grant two.
fn reuse_leases(world: &mut World) {
    let taken = |id: u64| world.clients.values().any(|known| known.leases.contains_key(&LeaseId(id)));
    let lease = (0..).find(|id| !taken(*id) && !taken(id + 1)).expect("there are more numbers");
    world.machine.next_lease = lease;
}

fn act(world: &mut World, client: ClientId, action: Action) -> bool {
    reuse_leases(world);
    let Some(known) = world.clients.get(&client) else {
        if matches!(action, Action::Join) {
            world.connect(client, 1000);
            request(world, client, Request::Hello { program: String::new() });
        }
        return matches!(action, Action::Join);
    };
    if matches!(action, Action::Leave) {
        world.feed(Event::Left { client });
        return true;
    }
    let held = |part: &str| {
        let lease = known.leases.iter().find(|(_, lease)| lease.part.name() == part);
        lease.map(|(id, _)| *id)
    };
    let buffer = world.memory.iter().find(|memory| memory.holders.contains(&client));
    let making = known.asked.values().any(|request| matches!(request, Request::Allocate { .. }));
    let wanted = match action {
        Action::Join | Action::Leave => None,
        Action::Goodbye => Some(Request::Goodbye),
        Action::Open => Some(Request::Open { card: CARD }),
        Action::Close => Some(Request::Close { card: CARD }),
        Action::Allocate => (buffer.is_none() && !making).then_some(Request::Allocate {
            card: None,
            size: 4096,
            align: 1,
            top: u64::MAX,
            page_shift: 12,
        }),
        Action::Free => buffer.map(|memory| Request::Free { iova: memory.range.start }),
        Action::Share => buffer.map(|memory| Request::Share {
            iova: memory.range.start,
            name: Some("ring".into()),
            writable: false,
        }),
        Action::Attach => world
            .offers
            .first()
            .filter(|_| buffer.is_none() && !making)
            .map(|offer| Request::Attach { offered: Offered::Token(offer.token) }),
        Action::Unshare => world
            .offers
            .iter()
            .find(|offer| offer.maker == client)
            .map(|offer| Request::Unshare { iova: offer.iova }),
        Action::Lease(part) | Action::Await(part) => {
            let will = will(if part == "h2c0" { 2 } else { 0 });
            let wait = if matches!(action, Action::Await(_)) { u32::MAX } else { 0 };
            Some(Request::Lease { card: CARD, part: part.into(), mode: Mode::Exclusive, will, wait })
        }
        Action::Withdraw => {
            let mut asked = known.asked.iter();
            let waiting = asked.find(|(_, request)| matches!(request, Request::Lease { wait: 1.., .. }));
            waiting.map(|(number, _)| Request::Withdraw { number: *number })
        }
        Action::Release(part, will) => held(part).map(|lease| Request::Release { card: CARD, lease, will }),
        Action::Wire => Some(Request::Wire { card: CARD, vector: 0 }),
        Action::Silence => Some(Request::Silence { card: CARD, vector: 0 }),
        Action::Reset => Some(Request::Reset { card: CARD }),
    };
    let can = known.gone.is_none() && known.asked.len() < 2 && wanted.is_some();
    if let Some(wanted) = wanted.filter(|_| can) {
        request(world, client, wanted);
    }
    can
}

/// Asks with the lowest number that is free, so that states come again.
fn request(world: &mut World, client: ClientId, request: Request) {
    let asked = &world.clients[&client].asked;
    let number = (1..).find(|number| !asked.contains_key(number)).expect("there are more numbers");
    let descriptor = request.takes_descriptor();
    world.feed(Event::Request { client, number, request, descriptor });
}

/// How each state was reached: from which, and by what.
struct Found {
    origins: Vec<(u32, u8)>,
    setting: Setting,
    /// The last state that was made, since the next is often made from the same.
    last: (u32, World),
}

impl Found {
    fn make(&mut self, state: u32) -> World {
        if self.last.0 != state {
            let mut world = start(self.setting);
            for choice in self.path(state) {
                happen(&mut world, choice.into());
            }
            self.last = (state, world);
        }
        self.last.1.clone()
    }

    /// What happened until then.
    fn path(&self, state: u32) -> Vec<u8> {
        let mut path = Vec::new();
        let mut at = state;
        while at != 0 {
            let (from, choice) = self.origins[at as usize];
            path.push(choice);
            at = from;
        }
        path.reverse();
        path
    }

    /// Does something to a state, and says how it was reached if that panics.
    fn attempt<T>(&self, state: u32, what: impl Display, attempt: impl FnOnce() -> T) -> T {
        catch_unwind(AssertUnwindSafe(attempt)).unwrap_or_else(|panic| {
            for choice in self.path(state) {
                eprintln!("{}", describe(choice.into()));
            }
            eprintln!("{what}");
            resume_unwind(panic)
        })
    }
}

/// Goes through so many states; returns to which depth all of them were found, and how many there are.
fn explore(setting: Setting, most: usize) -> (usize, usize) {
    let mut seen = HashSet::from([key(&start(setting))]);
    let mut found = Found { origins: vec![(0, 0)], setting, last: (0, start(setting)) };
    let (mut depth, mut first, mut at) = (0, 0..1, 0);
    while at < found.origins.len() {
        if at == first.end {
            depth += 1;
            first = at..found.origins.len();
        }
        let state = u32::try_from(at).expect("fewer states than that");
        let (from, choice) = found.origins[at];
        let mut world = found.make(from);
        if state != 0 {
            happen(&mut world, choice.into());
        }
        found.attempt(state, "and then the end", || check(&world, state));
        for choice in 0..CHOICES {
            let mut next = world.clone();
            let happens = found.attempt(state, describe(choice), || happen(&mut next, choice));
            if happens && seen.insert(key(&next)) {
                found.origins.push((state, u8::try_from(choice).expect("few choices")));
            }
        }
        if found.origins.len() >= most {
            return (depth, found.origins.len());
        }
        at += 1;
    }
    (depth, found.origins.len())
}

/// Everybody is answered, and everything comes back.
fn check(world: &World, state: u32) {
    let mut answered = world.clone();
    answered.check_answers();
    if state.is_multiple_of(4) {
        answered.end(|| (0, How::Done));
        world.clone().end(|| (1, How::Done));
    }
}

fn asked_for() -> usize {
    let asked = std::env::var("JITNEY_STATES").ok().and_then(|number| number.parse().ok());
    asked.unwrap_or(USUAL)
}

#[test]
fn every_order_of_everything() {
    let (depth, states) = explore(Setting::default(), asked_for());
    eprintln!("{states} states, all to depth {depth}");
    assert!(states >= USUAL.min(asked_for()));
}

#[test]
fn every_order_of_everything_where_memory_lies_where_it_lies() {
    let (depth, states) = explore(Setting { physical: true, ..Setting::default() }, asked_for());
    eprintln!("{states} states, all to depth {depth}");
    assert!(states >= USUAL.min(asked_for()));
}

/// A state is recognised: it does not matter by which numbers of work it was reached.
#[test]
fn states_are_the_same_whatever_came_before() {
    let mut world = start(Setting::default());
    let fresh = key(&world);
    for (client, action) in [(0, Action::Join), (0, Action::Open), (0, Action::Lease("h2c0"))] {
        act(&mut world, ClientId(client), action);
        world.finish_all();
    }
    let once = key(&world);
    assert_ne!(fresh, once);
    world.feed(Event::Left { client: ClientId(0) });
    assert!(world.at_work.iter().any(|at_work| matches!(at_work.task.work, Work::CarryOut { .. })));
    world.finish_all();
    assert_eq!(key(&world), fresh);
    for (client, action) in [(0, Action::Join), (0, Action::Open), (0, Action::Lease("h2c0"))] {
        act(&mut world, ClientId(client), action);
        world.finish_all();
    }
    assert_eq!(key(&world), once);
}
