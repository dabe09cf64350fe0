//! The commands of a queue that are under way, and how those have ended that nobody has asked for yet. Pure.

use crate::spec::entry::Completion;
use crate::spec::status::Status;
use std::collections::HashMap;

/// A command that was submitted, of the queue that it was submitted to. It is waited for once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[must_use = "whether a command went well says only its end"]
pub struct Token(u64);

/// What a queue has under way. `B` is what each command keeps until it has ended: its memory.
#[derive(Debug)]
pub(crate) struct Flight<B> {
    slots: Vec<Option<(Token, B)>>,
    ended: HashMap<Token, Ended<B>>,
    last: u64,
}

/// A command that has ended.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Ended<B> {
    pub(crate) kept: B,
    pub(crate) status: Status,
}

impl<B> Flight<B> {
    /// Of a queue that takes `commands` at a time.
    pub(crate) fn new(commands: u16) -> Self {
        Self { slots: (0..commands).map(|_| None).collect(), ended: HashMap::new(), last: 0 }
    }

    /// A number for one command more, if there is one.
    pub(crate) fn free(&self) -> Option<u16> {
        u16::try_from(self.slots.iter().position(Option::is_none)?).ok()
    }

    /// A command begins, of a number that is free.
    pub(crate) fn begin(&mut self, id: u16, kept: B) -> Token {
        self.last += 1;
        let token = Token(self.last);
        if let Some(slot) = self.slots.get_mut(usize::from(id)) {
            *slot = Some((token, kept));
        }
        token
    }

    /// It was not told to the controller.
    pub(crate) fn take_back(&mut self, id: u16) {
        if let Some(slot) = self.slots.get_mut(usize::from(id)) {
            *slot = None;
        }
    }

    /// Takes in a completion; `false` if no such command is under way.
    pub(crate) fn ends(&mut self, completion: &Completion) -> bool {
        let slot = self.slots.get_mut(usize::from(completion.id)).and_then(Option::take);
        let Some((token, kept)) = slot else { return false };
        self.ended.insert(token, Ended { kept, status: completion.status });
        true
    }

    /// How a command has ended, if it has.
    pub(crate) fn ended(&mut self, token: Token) -> Option<Ended<B>> {
        self.ended.remove(&token)
    }

    pub(crate) fn has_ended(&self, token: Token) -> bool {
        self.ended.contains_key(&token)
    }

    pub(crate) fn is_under_way(&self, token: Token) -> bool {
        self.slots.iter().flatten().any(|(other, _)| *other == token)
    }

    /// How many are under way.
    pub(crate) fn count(&self) -> usize {
        self.slots.iter().flatten().count()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// Whatever a controller says, no memory is let go of twice, and none before a completion of its number came.
        #[test]
        fn completions_of_every_kind(steps in prop::collection::vec((any::<bool>(), 0_u16..6, any::<u16>()), 0..200)) {
            let mut flight = Flight::new(4);
            let mut under_way: HashMap<u16, Token> = HashMap::new();
            for (begins, id, status) in steps {
                if begins {
                    let Some(free) = flight.free() else {
                        prop_assert_eq!(under_way.len(), 4);
                        continue;
                    };
                    let token = flight.begin(free, free);
                    prop_assert!(under_way.insert(free, token).is_none());
                } else {
                    let status = Status::from_bits(status);
                    let known = under_way.remove(&id);
                    prop_assert_eq!(flight.ends(&Completion { id, status, ..Completion::default() }), known.is_some());
                    if let Some(token) = known {
                        prop_assert!(flight.has_ended(token) && !flight.is_under_way(token));
                        prop_assert_eq!(flight.ended(token), Some(Ended { kept: id, status }));
                        prop_assert_eq!(flight.ended(token), None);
                    }
                }
                prop_assert_eq!(flight.count(), under_way.len());
            }
        }
    }
}
