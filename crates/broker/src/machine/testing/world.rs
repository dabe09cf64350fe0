//! A world: the machine, the account, and how an event goes through both.

use super::account::{AtWork, CardAccount, Current, Gone, Known, Lease, Memory, Moment, Offer};
use super::steps::How;
use super::{CARDS, Setting};
use crate::machine::{
    CardDescription, ClientId, Effect, Event, Limits, Machine, Outcome, Peer, Place, Reminder, Sighting,
    Space, Way, Work,
};
use crate::protocol::{CardId, Reply, Request};
use jitney_iova::Allocator;
use jitney_vfio::{BarInfo, DmaPlace, Error, LeaseId, Mode};
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

/// A machine, and beside it what must be true of it.
#[derive(Debug, Clone)]
pub struct World {
    pub(crate) machine: Machine,
    pub(crate) limits: Limits,
    /// Who is connected, or is gone and not cleared away yet.
    pub(crate) clients: BTreeMap<ClientId, Known>,
    pub(crate) cards: BTreeMap<CardId, CardAccount>,
    pub(crate) memory: Vec<Memory>,
    /// Addresses at which nothing is mapped any more, and which nobody may be given yet.
    pub(crate) kept: Vec<(Range<u64>, BTreeMap<CardId, Moment>)>,
    pub(crate) lost: Vec<Range<u64>>,
    /// What is offered to others.
    pub(crate) offers: Vec<Offer>,
    pub(crate) at_work: Vec<AtWork>,
    /// The card that came last.
    pub(crate) last_card: u32,
    /// The client in each of a few seats.
    pub(crate) seats: [Option<ClientId>; 4],
    pub(crate) stopping: bool,
    /// The cards that are there to be seen, of a broker that takes them on demand.
    pub(crate) visible: Vec<Sighting>,
    pub(crate) event: Current,
    pub(crate) setting: Setting,
    next_client: u64,
    next_number: u64,
    ordered: Moment,
    /// Who is reminded of what, which has to be something that goes on.
    pub(super) reminders: BTreeSet<(ClientId, Reminder)>,
    /// When each request came that is not answered.
    pub(super) arrivals: BTreeMap<(ClientId, u64), u64>,
    arrived: u64,
    /// What has happened, if that is wanted.
    #[cfg(test)]
    pub(crate) events: Option<Vec<Event>>,
}

/// Whether somebody stands in line with that.
const fn waits(request: &Request) -> bool {
    matches!(request, Request::Lease { wait: 1.., .. })
}

impl World {
    /// A world with a broker of a kind.
    ///
    /// # Panics
    /// If the allocator does not take its ranges.
    #[must_use]
    pub fn new(setting: Setting) -> Self {
        let iovas = Allocator::new([0..=0xfedf_ffff, 0xfef0_0000..=0x7f_ffff_ffff], setting.granule());
        Self::of(setting, setting.machine(iovas.expect("these ranges are good")))
    }

    /// A world with this machine.
    pub(crate) fn of(setting: Setting, machine: Machine) -> Self {
        let cards = machine.cards.keys().filter(|card| machine.has_open(**card));
        let cards = cards.map(|card| (*card, CardAccount::default())).collect();
        Self {
            limits: machine.limits,
            machine,
            clients: BTreeMap::new(),
            cards,
            memory: Vec::new(),
            kept: Vec::new(),
            lost: Vec::new(),
            offers: Vec::new(),
            at_work: Vec::new(),
            last_card: CARDS - 1,
            seats: [None; 4],
            stopping: false,
            visible: (0..CARDS).map(|number| setting.sighting(number)).collect(),
            event: Current::default(),
            setting,
            next_client: 0,
            next_number: 1,
            ordered: 0,
            reminders: BTreeSet::new(),
            arrivals: BTreeMap::new(),
            arrived: 0,
            #[cfg(test)]
            events: None,
        }
    }

    /// Somebody connects, if the seat is free, and says hello.
    pub fn join(&mut self, seat: usize) -> ClientId {
        let seat = seat % self.seats.len();
        if let Some(client) = self.seats[seat].filter(|client| self.clients.contains_key(client)) {
            return client;
        }
        let client = ClientId(self.next_client);
        self.next_client += 1;
        self.seats[seat] = Some(client);
        self.connect(client, 1000 + u32::from(seat >= 2));
        if self.is_present(client) {
            self.ask(client, Request::Hello { program: "a test".into() });
        }
        client
    }

    pub(crate) fn connect(&mut self, client: ClientId, uid: u32) {
        let before = self.clients.values().filter(|known| known.uid == uid).count();
        let full = self.stopping || before >= self.limits.connections_of_user;
        self.clients.insert(client, Known { uid, ..Known::default() });
        let pid = u32::try_from(client.0).ok().map(|id| id + 100);
        let peer = Peer { pid, uid, gid: uid, groups: Vec::new(), way: Way::Listener };
        self.feed(Event::Joined { client, peer });
        assert_eq!(self.event.turned_away.is_some(), full, "user {uid} has {before} connections");
    }

    /// A client asks for something, if it is there; returns the last reply that the broker gives at once, to whomever.
    pub fn ask(&mut self, client: ClientId, request: Request) -> Option<Result<Reply, Error>> {
        let descriptor = request.takes_descriptor();
        self.ask_with(client, request, descriptor)
    }

    pub(crate) fn ask_with(
        &mut self,
        client: ClientId,
        request: Request,
        descriptor: bool,
    ) -> Option<Result<Reply, Error>> {
        if !self.is_present(client) {
            return None;
        }
        let number = self.next_number;
        self.next_number += 1;
        self.feed(Event::Request { client, number, request, descriptor })
    }

    pub(crate) fn is_present(&self, client: ClientId) -> bool {
        self.clients.get(&client).is_some_and(|known| known.gone.is_none())
    }

    /// Feeds one event and checks its effects; returns the last reply.
    pub(crate) fn feed(&mut self, event: Event) -> Option<Result<Reply, Error>> {
        self.event = Current { began: self.ordered, ..Current::default() };
        if let Event::Request { client, request, .. } = &event {
            self.event.request = Some((*client, request.clone()));
        }
        self.take_in(&event);
        #[cfg(test)]
        if let Some(events) = &mut self.events {
            events.push(event.clone());
        }
        for effect in self.machine.handle(event) {
            match effect {
                Effect::Reply { client, number, reply, attach } => {
                    self.replied(client, number, &reply, attach);
                    self.event.reply = Some(reply);
                }
                Effect::Tell { client, notice } => self.told(client, &notice),
                Effect::Work { id, task } => {
                    self.check_order(&task);
                    self.at_work.push(AtWork { id, task, ordered: self.ordered, cancelled: false });
                    self.ordered += 1;
                }
                Effect::Keep { id } => self.keeps(id),
                Effect::Forget { id } => self.forgets(id),
                Effect::Cancel { id } => self.cancelled(id),
                Effect::Tallies { client, number } => {
                    self.replied(client, number, &Ok(Reply::Tallies), None);
                    self.event.reply = Some(Ok(Reply::Tallies));
                }
                Effect::Traffic { client, number, .. } => {
                    self.replied(client, number, &Ok(Reply::Traffic(Vec::new())), None);
                }
                Effect::Unremind { client, of } => drop(self.reminders.remove(&(client, of))),
                Effect::Remind { of: Reminder::Lease(_), .. } => panic!("there is no policy"),
                Effect::Remind { client, of: Reminder::InLine(number), .. } => {
                    self.reminders.insert((client, Reminder::InLine(number)));
                    let request = self.clients.get(&client).and_then(|known| known.asked.get(&number));
                    assert!(matches!(request, Some(Request::Lease { wait: 1.., .. })), "{request:?}");
                }
                Effect::Disconnect { client } => self.disconnected(client),
            }
        }
        self.check_all();
        self.event.reply.take()
    }

    /// What an event means for who is there.
    fn take_in(&mut self, event: &Event) {
        match event {
            Event::Request { client, number, request, descriptor } => {
                let Some(known) = self.clients.get_mut(client) else { return };
                known.asked.insert(*number, request.clone());
                self.arrivals.insert((*client, *number), self.arrived);
                self.arrived += 1;
                if let Request::Withdraw { number } = request {
                    self.event.given_up = Some((*client, *number));
                }
                let greets = matches!(request, Request::Hello { .. });
                let strange = *descriptor && !request.takes_descriptor();
                if strange || !(known.greeted || greets) {
                    self.event.last_word = Some((*client, *number));
                    self.is_gone(*client, None);
                } else if *request == Request::Goodbye {
                    self.is_gone(*client, Some(*number));
                } else if greets {
                    known.greeted = true;
                }
            }
            Event::Unreadable { client, number, .. } => {
                if let Some(known) = self.clients.get_mut(client) {
                    known.asked.insert(*number, Request::Cards { after: None });
                }
            }
            Event::Nonsense { client, .. } => {
                self.event.last_word = self.is_present(*client).then_some((*client, 0));
                self.is_gone(*client, None);
            }
            Event::Left { client } => {
                self.is_gone(*client, None);
                if let Some(gone) = self.clients.get_mut(client).and_then(|known| known.gone.as_mut()) {
                    gone.goodbye = None;
                }
            }
            Event::Stop => {
                self.stopping = true;
                for client in self.clients.keys().copied().collect::<Vec<_>>() {
                    self.is_gone(client, None);
                }
            }
            Event::Reminded { client, of: Reminder::InLine(number) } => {
                self.event.given_up = Some((*client, *number))
            }
            Event::Finished { task, .. } => self.event.finished = Some(*task),
            Event::Came(CardDescription { id, .. }) => drop(self.cards.insert(*id, CardAccount::default())),
            Event::Joined { .. } | Event::Noticed { .. } | Event::Reminded { .. } => {}
        }
    }

    fn is_gone(&mut self, client: ClientId, goodbye: Option<u64>) {
        let now = self.event.began;
        let Some(known) = self.clients.get_mut(&client).filter(|known| known.gone.is_none()) else { return };
        known.asked.retain(|number, _| Some(*number) == goodbye);
        let unquiet = match goodbye {
            Some(_) if known.leases.is_empty() => known.stuck.clone(),
            _ => known.reached.iter().map(|(card, until)| (*card, until.unwrap_or(now))).collect(),
        };
        let with_wills = known.leases.iter().filter(|(_, lease)| !lease.will.0.is_empty());
        let with_wills: Vec<(LeaseId, Lease)> = with_wills.map(|(id, lease)| (*id, lease.clone())).collect();
        let (others, last): (Vec<_>, Vec<_>) =
            with_wills.into_iter().partition(|(_, lease)| self.others_share(client, lease));
        let Some(known) = self.clients.get_mut(&client) else { return };
        known.stuck.extend(others.iter().map(|(_, lease)| (lease.card, now)));
        known.gone = Some(Gone { goodbye, unquiet, wills: last.into_iter().map(|(id, _)| id).collect() });
    }

    /// Whether somebody else who is there shares what `lease` of `client` is a right on.
    pub(super) fn others_share(&self, client: ClientId, lease: &Lease) -> bool {
        let same = |other: &Lease| (other.card, &other.part) == (lease.card, &lease.part);
        lease.mode == Mode::Shared
            && self.clients.iter().any(|(other, known)| {
                *other != client && known.gone.is_none() && known.leases.values().any(same)
            })
    }

    /// How much has been ordered so far.
    pub(super) const fn ordered(&self) -> Moment {
        self.ordered
    }

    /// Which pieces of work can end next.
    pub(crate) fn endable(&self) -> Vec<usize> {
        let can = |(index, work): (usize, &AtWork)| {
            let place = work.task.work.place();
            let blocks = |before: &AtWork| {
                before.task.work.place() == place && !matches!(before.task.work, Work::CarryOut { .. })
            };
            let waits = matches!(place, Place::Card(_)) && self.at_work[..index].iter().any(blocks);
            (!waits).then_some(index)
        };
        self.at_work.iter().enumerate().filter_map(can).collect()
    }

    /// A piece of work ends, the `which`th of those that can.
    pub fn finish(&mut self, which: usize, how: How) -> Option<Result<Reply, Error>> {
        let endable = self.endable();
        let index = *endable.get(which % endable.len().max(1))?;
        let AtWork { id, task, ordered, .. } = self.at_work.remove(index);
        let place = match (&task.work, how) {
            (Work::Place { space, size, .. }, How::Done) => Some(self.somewhere(*space, *size, which)),
            _ => None,
        };
        let outcome = match (&task.work, how) {
            (Work::Share { .. }, How::Done) => Ok(Outcome::Shared { token: u128::from(id.0).to_le_bytes() }),
            (Work::Look { .. }, How::Done) => Ok(Outcome::Seen(self.seen(which))),
            (Work::Take { cards, .. }, How::Done) => Ok(Outcome::Taken {
                bars: vec![[BarInfo { size: 0x1_0000, mappable: false }; 6]; cards.len()],
                ranges: vec![(0, 0xfedf_ffff), (0xfef0_0000, 0x7f_ffff_ffff)],
            }),
            (work, how) => how.outcome(work, place),
        };
        self.carried_out(&task, ordered, &outcome);
        self.feed(Event::Finished { task: id, outcome })
    }

    /// What is seen now: sometimes another card is in the place of one.
    fn seen(&self, which: usize) -> Vec<Sighting> {
        let mut seen = self.visible.clone();
        if which.is_multiple_of(5)
            && let Some(replaced) = seen.get_mut(which / 5)
        {
            replaced.is_new = true;
        }
        seen
    }

    /// Where memory lies that decides that itself: more than was asked for, sometimes where another card has something.
    fn somewhere(&self, space: Space, size: u64, which: usize) -> DmaPlace {
        let elsewhere = self.memory.iter().find(
            |memory| matches!((memory.space, space), (Space::One(other), Space::One(own)) if other != own),
        );
        if let Some(memory) = elsewhere.filter(|_| which.is_multiple_of(3)) {
            return DmaPlace { iova: memory.range.start, size: size.max(4096) };
        }
        let size = size + 4096;
        let is_free = |iova: &u64| {
            // What could not be unmapped is still there, and what was there last is used again last.
            let kept = self.kept.iter().map(|(range, _)| range).chain(&self.lost);
            let mut there = self.memory.iter().map(|memory| &memory.range).chain(kept);
            there.all(|range| range.end <= *iova || iova + size <= range.start)
        };
        let iova = (0x10_0000u64..).step_by(4096).find(is_free).expect("there is more memory");
        DmaPlace { iova, size }
    }

    /// All work ends well.
    pub fn finish_all(&mut self) {
        while !self.at_work.is_empty() {
            self.finish(0, How::Done);
        }
    }

    /// A card comes.
    pub(crate) fn card_comes(&mut self) {
        self.last_card += 1;
        if self.setting.on_demand {
            return self.visible.push(self.setting.sighting(self.last_card));
        }
        self.feed(Event::Came(self.setting.card(self.last_card)));
    }

    /// A card has something to say; one that is not open goes without a word.
    pub(crate) fn card_says(&mut self, card: CardId, notice: jitney_vfio::Notice) {
        let identity = self.machine.cards.get(&card).map(|card| card.description.identity.clone());
        if notice == jitney_vfio::Notice::Leaving {
            self.visible.retain(|sighting| Some(&sighting.identity) != identity.as_ref());
        }
        self.feed(Event::Noticed { card, notice });
    }

    /// Everybody who is there has all answers once all work has ended.
    ///
    /// # Panics
    /// If not.
    pub fn check_answers(&mut self) {
        self.finish_all();
        for (client, known) in &self.clients {
            assert!(known.gone.is_none(), "{client:?} is gone, and still there");
            let mut others = known.asked.values().filter(|request| !waits(request));
            assert_eq!(others.next(), None, "{client:?} waits for it");
        }
        if self.clients.values().any(|known| !known.asked.is_empty()) {
            self.clone().check_lines();
        }
    }

    /// Everybody who stands in line is served when those who do not wait for anything have gone, one after the other.
    fn check_lines(&mut self) {
        while self.clients.values().any(|known| !known.asked.is_empty()) {
            let mut idle = self.clients.iter().filter(|(_, known)| known.asked.is_empty());
            let idle = idle.find(|(_, known)| !known.leases.is_empty()).map(|(client, _)| *client);
            let waiting = || self.clients.values().flat_map(|known| known.asked.values()).collect::<Vec<_>>();
            let idle = idle.unwrap_or_else(|| panic!("all wait for each other: {:?}", waiting()));
            self.feed(Event::Left { client: idle });
            self.finish_all();
        }
    }

    /// Everybody goes, the broker stops, and nothing is left. `how` says how what is still to be done goes.
    ///
    /// # Panics
    /// If something is left.
    pub fn end(&mut self, mut how: impl FnMut() -> (usize, How)) {
        for client in self.clients.keys().copied().collect::<Vec<_>>() {
            self.feed(Event::Left { client });
        }
        while !self.at_work.is_empty() {
            let (which, how) = how();
            self.finish(which, how);
        }
        self.check_empty();
        self.feed(Event::Stop);
        assert!(!self.machine.is_stopped() || self.cards.is_empty());
        while !self.at_work.is_empty() {
            let (which, how) = how();
            self.finish(which, how);
        }
        self.check_empty();
        assert!(self.machine.is_stopped() && self.cards.is_empty(), "it has not stopped");
    }

    /// The outcome of a piece of memory that was made.
    pub(super) fn placed(outcome: &Result<Outcome, crate::machine::Failure>) -> Option<DmaPlace> {
        match outcome {
            Ok(Outcome::Placed(place)) => Some(*place),
            _ => None,
        }
    }
}
