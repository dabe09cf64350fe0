//! What must be true of memory that clients share.

use super::account::{Known, Memory, Offer, State};
use super::world::World;
use crate::machine::{ClientId, TaskId};
use crate::protocol::{Offered, Request, TOKEN_SIZE};
use jitney_vfio::{Error, ErrorKind, Part};
use std::collections::BTreeSet;

impl World {
    /// The descriptors that the server has to keep.
    pub(super) fn kept_descriptors(&self) -> BTreeSet<TaskId> {
        self.offers.iter().map(|offer| offer.id).chain(self.event.kept).collect()
    }

    fn shared_memory(&mut self, iova: u64) -> &mut Memory {
        let shared = |memory: &&mut Memory| memory.range.start == iova && !memory.stray;
        self.memory.iter_mut().find(shared).expect("there is no such memory")
    }

    /// A descriptor is kept.
    pub(super) fn keeps(&mut self, id: TaskId) {
        assert_eq!(self.event.finished, Some(id), "the descriptor is that of the work that ended");
        assert_eq!(self.event.kept.replace(id), None);
    }

    /// Somebody offers memory from now on.
    pub(super) fn is_shared(
        &mut self,
        maker: ClientId,
        iova: u64,
        (name, writable, token): (Option<String>, bool, [u8; TOKEN_SIZE]),
    ) {
        let id = self.event.kept.take().expect("nothing to attach to is kept");
        let clashes = |offer: &Offer| offer.iova == iova || (name.is_some() && offer.name == name);
        assert!(!self.offers.iter().any(clashes), "it is offered, or the name is taken");
        let memory = self.shared_memory(iova);
        assert!(memory.state == State::Live(true) && memory.holders.contains(&maker));
        assert!(!memory.readers.contains(&maker));
        let uid = self.clients.get(&maker).map(|known| known.uid);
        self.offers.push(Offer { id, iova, maker, uid, name, writable, token });
    }

    fn found(&self, offered: &Offered) -> Option<&Offer> {
        self.offers.iter().find(|offer| match offered {
            Offered::Token(token) => offer.token == *token,
            Offered::Name(name) => offer.name.as_ref() == Some(name),
        })
    }

    /// Whether `client` may have it: by name, only what its own user offers.
    fn may_have(&self, client: ClientId, offer: &Offer, offered: &Offered) -> bool {
        let uid = |client| self.clients.get(&client).map(|known| known.uid);
        matches!(offered, Offered::Token(_)) || uid(client) == uid(offer.maker)
    }

    pub(super) fn has_attached(
        &mut self,
        client: ClientId,
        offered: &Offered,
        (iova, size, writable, id): (u64, u64, bool, u64),
    ) {
        let offer = self.found(offered).expect("nothing is offered by that");
        assert!(self.may_have(client, offer, offered), "a name is for the same user");
        assert_eq!((iova, writable, id), (offer.iova, offer.writable, offer.id.0));
        let uid = self.clients.get(&client).map(|known| known.uid);
        let memory = self.shared_memory(iova);
        assert_eq!((memory.state, memory.range.end - iova), (State::Live(true), size));
        assert!(memory.holders.insert(client), "it has it already");
        if !writable {
            memory.readers.insert(client);
        }
        memory.uid = memory.uid.filter(|_| memory.uid == uid);
    }

    /// Who is refused has asked for what is not there, is not for it, it has, or that is too much.
    pub(super) fn check_not_attached(&self, client: ClientId, offered: &Offered, error: &Error) {
        let found = self.found(offered);
        let holds = |offer: &Offer| {
            self.memory.iter().any(|memory| {
                memory.range.start == offer.iova && !memory.stray && memory.holders.contains(&client)
            })
        };
        match error.kind() {
            ErrorKind::NotFound => assert!(found.is_none(), "{error}"),
            ErrorKind::Denied => {
                assert!(found.is_some_and(|offer| !self.may_have(client, offer, offered)), "{error}");
            }
            ErrorKind::Invalid => {
                let misnamed = matches!(offered, Offered::Name(name) if name.parse::<Part>().is_err());
                assert!(misnamed || found.is_some_and(holds), "{error}");
            }
            kind => assert_eq!(kind, ErrorKind::Exhausted, "{error}"),
        }
    }

    /// A descriptor is not kept any more: the offer has ended, since its maker wanted that or is gone.
    pub(super) fn forgets(&mut self, id: TaskId) {
        let index = self.offers.iter().position(|offer| offer.id == id).expect("nothing is kept by that");
        let offer = self.offers.remove(index);
        let asked = match &self.event.request {
            Some((client, Request::Unshare { iova } | Request::Free { iova })) => {
                (*client, *iova) == (offer.maker, offer.iova)
            }
            _ => false,
        };
        assert!(asked || !self.is_present(offer.maker), "{offer:?} ended, and nobody wanted that");
        let withdrawn = matches!(self.event.request, Some((_, Request::Unshare { .. })));
        let shares = |known: &Known| {
            known.asked.values().filter(|asked| matches!(asked, Request::Share { .. })).count()
        };
        let full = |client| self.offered_by(client) + self.clients.get(&client).map_or(0, shares) + 1;
        let heirs = self.heirs(&offer).into_iter().filter(|heir| full(*heir) <= self.limits.offers_of_client);
        assert!(withdrawn || heirs.count() == 0, "{offer:?} ended, and another could go on with it");
        let holders = self.shared_memory(offer.iova).holders.clone();
        let to_tell = holders.into_iter().filter(|holder| *holder != offer.maker && self.is_present(*holder));
        let to_tell = to_tell.collect();
        self.event.withdrawn.push((offer, to_tell));
    }

    fn offered_by(&self, client: ClientId) -> usize {
        self.offers.iter().filter(|offer| offer.maker == client).count()
    }

    /// Who can go on with an offer that its maker does not make any more, if it does not make too many.
    fn heirs(&self, offer: &Offer) -> Vec<ClientId> {
        let uid = |client| self.clients.get(&client).map(|known| known.uid);
        let memory = self.memory.iter().find(|memory| memory.range.start == offer.iova && !memory.stray);
        let holders = memory.filter(|_| offer.writable).into_iter().flat_map(|memory| {
            memory.holders.iter().filter(|holder| !memory.readers.contains(holder)).copied()
        });
        let may = |heir: &ClientId| *heir != offer.maker && self.is_present(*heir) && uid(*heir) == offer.uid;
        holders.filter(may).collect()
    }

    /// What a maker does not offer any more another one does.
    fn pass_on(&mut self) {
        for index in 0..self.offers.len() {
            let offer = &self.offers[index];
            let maker = self.machine.offers.get(&offer.iova).map(|offer| offer.maker);
            if let Some(heir) = maker.filter(|heir| *heir != offer.maker) {
                let memory = self.memory.iter().find(|memory| memory.range.start == offer.iova);
                let holds = memory.is_some_and(|memory| memory.holders.contains(&offer.maker));
                assert!(!holds || !self.is_present(offer.maker), "{offer:?} was taken from its maker");
                assert!(self.heirs(offer).contains(&heir), "{heir:?} cannot go on with {offer:?}");
                self.offers[index].maker = heir;
            }
        }
    }

    /// Everybody who has it was told, and what is offered is its maker's.
    pub(super) fn check_offers(&mut self) {
        self.pass_on();
        for (offer, to_tell) in &self.event.withdrawn {
            assert!(to_tell.is_empty(), "{to_tell:?} were not told that {offer:?} has ended");
        }
        assert_eq!(self.event.kept, None, "a descriptor is kept for nobody");
        for offer in &self.offers {
            let held = self.memory.iter().any(|memory| {
                memory.range.start == offer.iova
                    && memory.state == State::Live(true)
                    && memory.holders.contains(&offer.maker)
            });
            assert!(held && self.is_present(offer.maker), "{offer:?} is not its maker's to offer");
        }
        for (client, known) in &self.clients {
            let count =
                |of: &dyn Fn(ClientId) -> bool| self.offers.iter().filter(|offer| of(offer.maker)).count();
            assert!(count(&|maker| maker == *client) <= self.limits.offers_of_client, "too many offers");
            let same_user = |maker| self.clients.get(&maker).is_some_and(|other| other.uid == known.uid);
            assert!(count(&same_user) <= self.limits.offers_of_user, "too many offers of a user");
        }
    }
}
