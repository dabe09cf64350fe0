//! Cards that are taken when somebody asks for them, and given back when the last has gone.
//!
//! What is taken is a unit: the cards that the IOMMU cannot tell apart, in an address space of their own. A card that is not taken is
//! *away*: the broker knows it by its identity and has nothing of it open, so that others can have it and it can go. Whoever asks for
//! one waits until its unit is taken, and all units are taken side by side.
//!
//! Which cards there are is looked for each time somebody asks for the list: one that has come gets a number that none had before.

use super::cards::{Card, Deferred};
use super::leaving::Presence;
use super::{
    BarInfo, CardDescription, ClientId, Effect, Failure, Machine, Outcome, Place, Sighting, Space, Work,
};
use crate::protocol::{CardEntry, CardId, Notice};
use jitney_vfio::{Error, ErrorKind, Identity};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// What a broker knows that takes cards on demand.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
pub(super) struct OnDemand {
    next_card: u32,
    next_space: usize,
    /// By the index of their address space.
    units: BTreeMap<usize, Unit>,
}

/// Cards that can only be taken together.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
struct Unit {
    /// What tells it from others, as long as one of its cards is known.
    name: String,
    state: UnitState,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
enum UnitState {
    Away,
    /// It is being opened.
    Asked,
    Taken,
    /// It is being closed.
    Returning,
}

impl Machine {
    /// The same as a broker that takes cards on demand. It has none yet: [`sees_cards`](Self::sees_cards) tells it which there are.
    #[must_use]
    pub fn on_demand(mut self) -> Self {
        self.on_demand = Some(OnDemand::default());
        self
    }

    /// Whether it takes cards on demand.
    #[must_use]
    pub const fn is_on_demand(&self) -> bool {
        self.on_demand.is_some()
    }

    /// Whether the broker has this card open, or is about to close it.
    #[must_use]
    pub fn has_open(&self, id: CardId) -> bool {
        let closing = || self.tasks.values().any(|task| task.work == Work::Close { card: id });
        self.cards.get(&id).is_some_and(|card| card.presence != Presence::Away || closing())
    }

    /// Whether the broker has something of this address space open.
    #[must_use]
    pub fn has_space(&self, space: usize) -> bool {
        let Some(on_demand) = &self.on_demand else { return true };
        let state = on_demand.units.get(&space).map(|unit| unit.state);
        matches!(state, Some(UnitState::Taken | UnitState::Returning))
    }

    pub(super) fn is_away(&self, id: CardId) -> bool {
        self.cards.get(&id).is_some_and(|card| card.presence == Presence::Away)
    }

    /// Refuses a card that has come when others of its unit were taken already: it cannot be taken beside them.
    pub(super) fn check_together(&self, id: CardId) -> Result<(), Error> {
        let Some(card) = self.cards.get(&id).filter(|card| card.presence == Presence::Away) else {
            return Ok(());
        };
        let units = self.on_demand.as_ref().map(|on_demand| &on_demand.units);
        match units.and_then(|units| units.get(&card.description.space)) {
            Some(Unit { name, state: UnitState::Taken }) => {
                let what = format!(
                    "card {} can be taken only together with others of {name}, which were taken before it came",
                    card.description.identity
                );
                Err(Error::new(ErrorKind::Held, what)
                    .with_errno(rustix::io::Errno::BUSY)
                    .with_remedy("wait until nobody uses those"))
            }
            _ => Ok(()),
        }
    }

    /// Asks which cards there are, for somebody who wants the list; false if that is known.
    pub(super) fn look(&mut self, client: ClientId, number: u64, effects: &mut Vec<Effect>) -> bool {
        if self.on_demand.is_none() || self.stopping {
            return false;
        }
        let known = self.cards.values().map(|card| card.description.identity.clone()).collect();
        self.start(Work::Look { known }, client, Some(number), effects);
        true
    }

    /// Takes in which cards there are: those that have come, and those that are gone without having been open here.
    pub fn sees_cards(&mut self, seen: &[Sighting], effects: &mut Vec<Effect>) {
        let gone = self.cards.iter().filter(|(_, card)| {
            let identity = &card.description.identity;
            let taken = self.on_demand.as_ref().and_then(|it| it.units.get(&card.description.space));
            card.presence == Presence::Away
                && taken.is_none_or(|unit| unit.state == UnitState::Away)
                && !seen.iter().any(|sighting| sighting.identity == *identity && !sighting.is_new)
        });
        for id in gone.map(|(id, _)| *id).collect::<Vec<_>>() {
            self.is_gone(id, effects);
        }
        for Sighting { identity, unit, .. } in seen {
            if self.cards.values().any(|card| card.description.identity.address == identity.address) {
                continue;
            }
            let Some(on_demand) = &mut self.on_demand else { return };
            let known =
                on_demand.units.iter().find(|(_, known)| known.name == *unit).map(|(space, _)| *space);
            let space = known.unwrap_or_else(|| {
                let space = on_demand.next_space;
                on_demand.next_space += 1;
                let fresh = Unit { name: unit.clone(), state: UnitState::Away };
                on_demand.units.insert(space, fresh);
                space
            });
            let id = CardId(on_demand.next_card);
            on_demand.next_card += 1;
            let bars = [BarInfo::default(); 6];
            let description =
                CardDescription { id, identity: identity.clone(), bars, space, physical: false };
            let card = Card { presence: Presence::Away, ..Card::new(description) };
            self.tell_all(
                &card,
                &Notice::Came { card: CardEntry { id, identity: identity.clone() } },
                effects,
            );
            self.cards.insert(id, card);
        }
    }

    /// A card that is not open is not there any more.
    fn is_gone(&mut self, id: CardId, effects: &mut Vec<Effect>) {
        let Some(card) = self.cards.remove(&id) else { return };
        self.tell_all(&card, &Notice::Gone { card: id }, effects);
        for Deferred { client, number, request, .. } in card.deferred {
            self.request(client, number, request, false, effects);
        }
        self.forget_empty(card.description.space);
    }

    /// Forgets a unit of which no card is known.
    fn forget_empty(&mut self, space: usize) {
        let empty = self.cards_of(space).is_empty();
        if let Some(on_demand) = self.on_demand.as_mut().filter(|_| empty)
            && on_demand.units.get(&space).is_some_and(|unit| unit.state == UnitState::Away)
        {
            on_demand.units.remove(&space);
        }
    }

    fn cards_of(&self, space: usize) -> Vec<CardId> {
        let own = self.cards.iter().filter(|(_, card)| card.description.space == space);
        own.map(|(id, _)| *id).collect()
    }

    fn state_of(&mut self, space: usize) -> Option<&mut UnitState> {
        self.on_demand.as_mut()?.units.get_mut(&space).map(|unit| &mut unit.state)
    }

    /// Takes the unit of a card that somebody waits for, if it is not being taken, nor being closed.
    pub(super) fn take(&mut self, id: CardId, effects: &mut Vec<Effect>) {
        let Some(space) = self.cards.get(&id).map(|card| card.description.space) else { return };
        let Some(state) = self.state_of(space).filter(|state| **state == UnitState::Away) else { return };
        *state = UnitState::Asked;
        let cards = self.cards_of(space).into_iter();
        let cards = cards.filter_map(|id| Some((id, self.cards.get(&id)?.description.identity.clone())));
        let cards: Vec<(CardId, Identity)> = cards.collect();
        self.start(Work::Take { space, cards }, None, None, effects);
    }

    /// Takes in that a unit was opened, or could not be.
    pub(super) fn taken(
        &mut self,
        space: usize,
        cards: &[(CardId, Identity)],
        outcome: Result<Outcome, Failure>,
        effects: &mut Vec<Effect>,
    ) {
        let failure = match outcome {
            Ok(Outcome::Taken { bars, ranges }) => {
                return self.has_taken(space, (cards, &bars), &ranges, effects);
            }
            Ok(_) => Error::new(ErrorKind::System, "a card was opened, and nobody said what it is").into(),
            Err(failure) => failure,
        };
        if let Some(state) = self.state_of(space) {
            *state = UnitState::Away;
        }
        for (id, _) in cards {
            self.refuse_waiting(*id, &failure.error, effects);
            // It is another card that is there.
            if failure.lost {
                self.is_gone(*id, effects);
            }
        }
        // A card of the unit may have come meanwhile, for which somebody waits.
        self.take_wanted(space, effects);
    }

    fn has_taken(
        &mut self,
        space: usize,
        (cards, bars): (&[(CardId, Identity)], &[[BarInfo; 6]]),
        ranges: &[(u64, u64)],
        effects: &mut Vec<Effect>,
    ) {
        if let Some(state) = self.state_of(space) {
            *state = UnitState::Taken;
        }
        for ((id, _), bars) in cards.iter().zip(bars) {
            if let Some(card) = self.cards.get_mut(id) {
                card.presence = Presence::Here;
                card.description.bars = *bars;
                tracing::info!("card {} is taken", card.description.identity);
            }
        }
        if let Err(error) = self.iovas.restrict(ranges.iter().map(|(first, last)| *first..=*last)) {
            let error = Error::from(error).context("there is no address that this card and others can use");
            cards.iter().for_each(|(id, _)| self.refuse_waiting(*id, &error, effects));
        }
        for id in self.cards_of(space) {
            if let Err(error) = self.check_together(id) {
                self.refuse_waiting(id, &error, effects);
            }
        }
        for (id, _) in cards {
            // A broker that ends closes it like the others.
            self.let_go(*id, effects);
            self.retry_deferred(*id, effects);
        }
    }

    /// Says to all who wait for a card that is not taken why it cannot be.
    fn refuse_waiting(&mut self, id: CardId, error: &Error, effects: &mut Vec<Effect>) {
        while self.cards.get(&id).is_some_and(|card| !card.deferred.is_empty()) {
            if let Some(Deferred { client, number, .. }) = self.undefer(id, 0, effects) {
                self.reply(client, number, Err(error.clone()), None, effects);
            }
        }
    }

    /// Whether nobody has anything of a unit, so that it can be given back.
    pub(super) fn is_unused(&self, space: usize) -> bool {
        let unit = self.on_demand.as_ref().and_then(|on_demand| on_demand.units.get(&space));
        let cards = || self.cards.values().filter(|card| card.description.space == space);
        let idle = |card: &Card| {
            let here = matches!(card.presence, Presence::Here | Presence::Away);
            here && card.users.is_empty() && !card.resetting && card.deferred.is_empty()
        };
        let own = |place: Place| match place {
            Place::Space(one) => one == Space::One(space),
            Place::Card(id) => self.cards.get(&id).is_some_and(|card| card.description.space == space),
            Place::Lookout | Place::Unit(_) => false,
        };
        unit.is_some_and(|unit| unit.state == UnitState::Taken)
            && !self.stopping
            && cards().all(idle)
            && self.buffers.values().all(|buffer| buffer.space != Space::One(space))
            && !self.tasks.values().any(|task| own(task.work.place()))
    }

    /// Begins to give back the units that nobody uses.
    pub(super) fn give_back(&mut self, effects: &mut Vec<Effect>) {
        let Some(on_demand) = &self.on_demand else { return };
        if self.stopping {
            return;
        }
        // Quickly, since it is asked after everything that happens.
        let used = self.cards.values().filter(|card| !card.users.is_empty() || card.resetting);
        let used: BTreeSet<usize> = used.map(|card| card.description.space).collect();
        let unused = on_demand.units.iter().filter(|(space, unit)| {
            unit.state == UnitState::Taken && !used.contains(space) && self.is_unused(**space)
        });
        for space in unused.map(|(space, _)| *space).collect::<Vec<_>>() {
            if let Some(state) = self.state_of(space) {
                *state = UnitState::Returning;
            }
            for id in self.cards_of(space) {
                let Some(card) = self.cards.get_mut(&id) else { continue };
                // Nothing goes on any more on a card that is closed.
                card.hung = false;
                // One that came after its unit was taken was never opened.
                if std::mem::replace(&mut card.presence, Presence::Away) == Presence::Here {
                    self.start(Work::Close { card: id }, None, None, effects);
                }
            }
            self.return_if_closed(space, effects);
        }
    }

    /// Closes what a unit has besides its cards, when those are closed.
    pub(super) fn return_if_closed(&mut self, space: usize, effects: &mut Vec<Effect>) {
        if self.state_of(space).is_none_or(|state| *state != UnitState::Returning) {
            return;
        }
        let cards = self.cards_of(space);
        let closing = |work: &Work| matches!(work, Work::Close { card } if cards.contains(card));
        if !self.tasks.values().any(|task| closing(&task.work)) {
            self.start(Work::Return { space }, None, None, effects);
        }
    }

    /// Takes in that nothing of a unit is open any more.
    pub(super) fn returned(&mut self, space: usize, outcome: Result<(), Error>, effects: &mut Vec<Effect>) {
        if let Err(error) = outcome {
            tracing::error!(space, %error, "cards could not be given back");
        }
        if let Some(state) = self.state_of(space) {
            *state = UnitState::Away;
        }
        for id in self.cards_of(space) {
            if let Some(card) = self.cards.get(&id) {
                tracing::info!("card {} is given back", card.description.identity);
            }
        }
        self.forget_empty(space);
        self.take_wanted(space, effects);
    }

    /// Takes a unit again if somebody has asked for a card of it meanwhile.
    fn take_wanted(&mut self, space: usize, effects: &mut Vec<Effect>) {
        let waits = |id: &CardId| self.cards.get(id).is_some_and(|card| !card.deferred.is_empty());
        if let Some(id) = self.cards_of(space).into_iter().find(waits) {
            self.take(id, effects);
        }
    }

    /// The space that memory is mapped in which all cards of `client` are to reach: those that it has open.
    pub(super) fn all_open_spaces(&self, client: ClientId) -> Result<Space, Error> {
        let open = self.cards.values().filter(|card| card.is_opened_by(client));
        let mut spaces = open.map(|card| card.description.space);
        let Some(first) = spaces.next() else {
            let what = "memory for all cards: this program has none open, and this broker takes cards when they are asked for";
            return Err(Error::new(ErrorKind::NotFound, what).with_remedy("open the cards first"));
        };
        if spaces.all(|space| space == first) {
            return Ok(Space::One(first));
        }
        let mut taken = self.cards.values().filter(|card| card.presence != Presence::Away);
        match taken.all(|card| self.sees(client, card)) {
            true => Ok(Space::All),
            // Nobody's memory goes where others have cards and they have none.
            false => Err(Error::new(
                ErrorKind::Unsupported,
                "memory for several cards, where others use cards that are not for this user",
            )
            .with_remedy("name the card that has to reach it")),
        }
    }
}
