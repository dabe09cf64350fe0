//! Memory that clients share: who offers a buffer to others, who may have it, and until when it is offered.
//!
//! An offer is its maker's: it ends when the maker withdraws it, lets go of the buffer, or is gone. Who has the buffer by then
//! keeps it: it is unmapped when the last hold has ended, whoever began.
//!
//! Who may write to a buffer is as good as its maker. So an offer to writers does not end with its maker as long as another process of the
//! same user has the buffer to write: the offer is that one's from then on. What several processes keep in common is found by
//! newcomers whoever of them dies.

use super::buffers::Rights;
use super::requests::Answer;
use super::{ClientId, Effect, Failure, Machine, Outcome, Peer, TaskId, Work, invalid};
use crate::protocol::{Notice, Offered, Reply, TOKEN_SIZE};
use crate::seldom::Seldom;
use jitney_vfio::{Error, ErrorKind, Part};
use serde::{Deserialize, Serialize};

/// A buffer that its maker offers to others.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(super) struct Offer {
    pub(super) maker: ClientId,
    pub(super) name: Option<Part>,
    /// What who attaches to it may do.
    pub(super) rights: Rights,
    /// The secret by which anybody may have it; none as long as the offer is being made.
    pub(super) token: Option<[u8; TOKEN_SIZE]>,
    /// The work that made it, which names it: the memory's descriptor is kept under this number.
    pub(super) task: TaskId,
}

/// How somebody came to know of an offer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum By {
    Token,
    Name,
}

/// Whether `peer` may have what `maker` offers: the policy, all of it. Who knows the token was told it by somebody who had it; a
/// name can be guessed, so it is for the maker's own user.
const fn may_attach(peer: &Peer, maker: &Peer, by: By) -> bool {
    matches!(by, By::Token) || peer.uid == maker.uid
}

impl Machine {
    pub(super) fn share(
        &mut self,
        client: ClientId,
        number: u64,
        (iova, name, writable): (u64, Option<String>, bool),
        effects: &mut Vec<Effect>,
    ) -> Answer {
        let buffer = self.held(client, iova)?;
        let (space, rights) = (buffer.space, buffer.holders.get(&client).copied());
        if rights != Some(Rights::Write) {
            let what = format!("this client may only read the DMA buffer at IOVA {iova:#x}");
            return Err(Error::new(ErrorKind::Denied, what).with_remedy("have who made it offer it"));
        }
        if let Some(offer) = self.offers.get(&iova) {
            let what = format!(
                "the DMA buffer at IOVA {iova:#x} is offered already, by {}",
                self.name_of(offer.maker)
            );
            return Err(
                Error::new(ErrorKind::Held, what).with_remedy("use that offer, or have it withdrawn first")
            );
        }
        let name = name.map(|name| offer_name(&name)).transpose()?;
        if let Some(name) = &name
            && let Some(offer) = self.offers.values().find(|offer| offer.name.as_ref() == Some(name))
        {
            let what = format!("the name {name} of a shared buffer is held by {}", self.name_of(offer.maker));
            return Err(Error::new(ErrorKind::Held, what)
                .with_errno(rustix::io::Errno::EXIST)
                .with_remedy("use another name"));
        }
        self.check_offers(client)?;
        let task = self.start(Work::Share { space, iova, writable }, client, Some(number), effects);
        let rights = if writable { Rights::Write } else { Rights::Read };
        self.offers.insert(iova, Offer { maker: client, name, rights, token: None, task });
        Ok(None)
    }

    /// Takes in that memory is ready to be handed to others, or cannot be.
    pub(super) fn shared(
        &mut self,
        (client, number): (ClientId, u64),
        iova: u64,
        id: TaskId,
        outcome: Result<Outcome, Failure>,
        effects: &mut Vec<Effect>,
    ) {
        let failure = match (outcome, self.offers.get_mut(&iova).filter(|offer| offer.task == id)) {
            (Ok(Outcome::Shared { token }), Some(offer)) => {
                offer.token = Some(token);
                effects.push(Effect::Keep { id });
                return self.reply(client, number, Ok(Reply::Shared { token }), None, effects);
            }
            (Ok(_), None) => invalid(format!("the DMA buffer at IOVA {iova:#x} was freed meanwhile")),
            (Ok(_), Some(_)) => Error::new(ErrorKind::System, "a buffer was shared, and nobody said how"),
            (Err(failure), _) => failure.error,
        };
        if self.offers.get(&iova).is_some_and(|offer| offer.task == id) {
            self.offers.remove(&iova);
        }
        self.reply(client, number, Err(failure), None, effects);
    }

    pub(super) fn unshare(&mut self, client: ClientId, iova: u64, effects: &mut Vec<Effect>) -> Answer {
        let made = self.offers.get(&iova).is_some_and(|offer| offer.maker == client && offer.token.is_some());
        if !made {
            return Err(invalid(format!("this client does not offer the DMA buffer at IOVA {iova:#x}")));
        }
        self.withdraw(iova, effects);
        Ok(Some(Reply::Done))
    }

    pub(super) fn attach(
        &mut self,
        client: ClientId,
        number: u64,
        offered: Offered,
        effects: &mut Vec<Effect>,
    ) -> Answer {
        let (iova, rights, task) = self.find_offer(client, offered)?;
        let Some(buffer) = self.buffers.get(&iova) else { return Err(no_such_offer("it")) };
        let size = buffer.size;
        if buffer.holders.contains_key(&client) {
            return Err(invalid(format!("this client has that DMA buffer already, at IOVA {iova:#x}")));
        }
        self.check_buffers(client, size)?;
        self.hold(client, iova, rights);
        let writable = rights == Rights::Write;
        let reply = Reply::Attached { iova, size, writable, offer: task.0 };
        self.reply(client, number, Ok(reply), Some(task), effects);
        Ok(None)
    }

    /// What is offered there, if `client` may have it. Where a token is wrong nothing is said of what there is.
    fn find_offer(&self, client: ClientId, offered: Offered) -> Result<(u64, Rights, TaskId), Error> {
        let made = || self.offers.iter().filter(|(_, offer)| offer.token.is_some());
        let (by, found, what) = match offered {
            Offered::Token(token) => {
                let found = made().find(|(_, offer)| offer.token == Some(token));
                (By::Token, found, "this token".to_owned())
            }
            Offered::Name(name) => {
                let name = offer_name(&name)?;
                let found = made().find(|(_, offer)| offer.name.as_ref() == Some(&name));
                (By::Name, found, format!("the name {name}"))
            }
        };
        let Some((&iova, offer)) = found else {
            static SELDOM: Seldom = Seldom::new();
            if by == By::Token
                && let Some(before) = SELDOM.allows()
            {
                tracing::warn!(before, "{} has asked for a token that does not exist", self.name_of(client));
            }
            return Err(no_such_offer(&what));
        };
        let peers = self.clients.get(&client).zip(self.clients.get(&offer.maker));
        if !peers.is_some_and(|(own, maker)| may_attach(&own.peer, &maker.peer, by)) {
            let what = format!("what is offered by {what} is another user's");
            return Err(Error::new(ErrorKind::Denied, what).with_remedy("have its owner hand you its token"));
        }
        Ok((iova, offer.rights, offer.task))
    }

    /// Ends the offer of a buffer, if there is one: nobody attaches to it any more, and who has it is told.
    pub(super) fn withdraw(&mut self, iova: u64, effects: &mut Vec<Effect>) {
        let Some(offer) = self.offers.remove(&iova).filter(|offer| offer.token.is_some()) else { return };
        effects.push(Effect::Forget { id: offer.task });
        // When all go nobody is told of the others.
        if self.stopping {
            return;
        }
        let holders = self.buffers.get(&iova).into_iter().flat_map(|buffer| buffer.holders.keys());
        let others = holders.filter(|holder| **holder != offer.maker && self.is_present(**holder));
        let notice = Notice::OfferEnded { offer: offer.task.0 };
        effects.extend(others.map(|&client| Effect::Tell { client, notice: notice.clone() }));
    }

    /// `client` offers nothing any more.
    pub(super) fn pass_on_all(&mut self, client: ClientId, effects: &mut Vec<Effect>) {
        let own = self.offers.iter().filter(|(_, offer)| offer.maker == client);
        for iova in own.map(|(iova, _)| *iova).collect::<Vec<_>>() {
            self.pass_on(iova, effects);
        }
    }

    /// The maker of the offer of a buffer offers it no more: somebody else does, or the offer ends.
    pub(super) fn pass_on(&mut self, iova: u64, effects: &mut Vec<Effect>) {
        let heir = self.heir(iova);
        match (heir, self.offers.get_mut(&iova)) {
            (Some(heir), Some(offer)) => offer.maker = heir,
            _ => self.withdraw(iova, effects),
        }
    }

    /// Who goes on with an offer to writers: another process of its user that can write to the buffer. It is as many offers of that
    /// user as before.
    fn heir(&self, iova: u64) -> Option<ClientId> {
        let offer = self.offers.get(&iova).filter(|offer| offer.rights == Rights::Write)?;
        let uid = offer.token.and(self.clients.get(&offer.maker))?.peer.uid;
        let is_heir = |client: ClientId| {
            let offers = self.offers.values().filter(|offer| offer.maker == client).count();
            client != offer.maker
                && self.is_present(client)
                && self.clients.get(&client).is_some_and(|state| state.peer.uid == uid)
                && offers < self.limits.offers_of_client
        };
        let mut writers =
            self.buffers.get(&iova)?.holders.iter().filter(|(_, rights)| **rights == Rights::Write);
        writers.find(|(client, _)| is_heir(**client)).map(|(client, _)| *client)
    }
}

/// What names a part of a card can name a shared buffer.
fn offer_name(name: &str) -> Result<Part, Error> {
    name.parse().map_err(|_| {
        invalid(format!(
            "{name:?} cannot name a shared buffer; use 1 to {} lower-case letters, digits and '-'",
            Part::MAX_LENGTH
        ))
    })
}

fn no_such_offer(what: &str) -> Error {
    Error::new(ErrorKind::NotFound, format!("no buffer is offered by {what}"))
        .with_remedy("see whether the program that offers it still runs")
}
