//! Random steps: each is made of one number, so that a fuzzer, a property and a plain loop have the same.

use super::World;
use super::account::{Known, Memory};
use crate::machine::{ClientId, Event, Failure, Outcome, Reminder, Work};
use crate::protocol::{CardId, Offered, Request, TOKEN_SIZE};
use jitney_vfio::{DmaPlace, Error, ErrorKind, Mode, Notice, Will, WillStep};

/// One thing that happens. Clients are named by their seats.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Somebody sits down and says hello.
    Join(usize),
    /// Somebody connects and says something else than hello.
    Rude(usize),
    /// Somebody is killed.
    Leave(usize),
    /// Somebody says goodbye.
    Goodbye(usize),
    /// Somebody sends what is no message.
    Nonsense(usize),
    /// Somebody sends a request that cannot be read.
    Unreadable(usize),
    /// Somebody sends a descriptor with a request that needs none, or none with one that does.
    Descriptor(usize, bool),
    /// A request for a card.
    Open(usize, u32),
    /// A request for a card.
    Close(usize, u32),
    /// A request for memory.
    Allocate(usize, Option<u32>, Wanted),
    /// The owner frees one of its buffers, or somebody else tries to.
    Free(usize, Option<usize>),
    /// Somebody who has a buffer offers it, or somebody else tries to; by a name or none; to writers or readers.
    Share(usize, Option<usize>, Option<&'static str>, bool),
    /// Somebody attaches to what is offered: by token, by a name, or by a token that there is not.
    Attach(usize, Guess),
    /// Somebody ends an offer, or somebody else tries to.
    Unshare(usize, Option<usize>),
    /// A request for a lease: card, part, mode, will, and how long to wait for it.
    Lease(usize, u32, &'static str, Mode, usize, u32),
    /// Who stands in line gives up, or somebody else tries that; or its time is over.
    Withdraw(usize, Option<usize>),
    /// Somebody's time is over, who may be served already.
    Overdue(usize, bool),
    /// The holder ends one of its leases, or somebody else tries to; with its will, or without.
    Release(usize, Option<usize>, bool),
    /// A request for an interrupt.
    Wire(usize, u32, u16),
    /// A request for an interrupt.
    Silence(usize, u32, u16),
    /// A request for a card.
    Reset(usize, u32),
    /// Who uses what.
    Usage(usize),
    /// A page to count in, or what the first client has counted.
    Figures(usize),
    /// A card has something to say.
    Noticed(u32, Notice),
    /// A card comes.
    Came,
    /// The broker is to end.
    Stop,
    /// A piece of work ends.
    Finish(usize, How),
}

/// By what somebody asks for shared memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Guess {
    /// One of the tokens that there are.
    Token(usize),
    /// A name.
    Name(&'static str),
    /// What is no token.
    Wrong,
}

/// What is wanted of memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Wanted {
    size: u64,
    align: u64,
    top: u64,
    page_shift: u8,
}

/// How a piece of work ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum How {
    /// Well.
    Done,
    /// It fails.
    Fails,
    /// It fails, and what was there is lost.
    Loses,
    /// Something else is mapped there.
    Meets,
    /// All of the card's addresses are another owner's.
    Foreign,
    /// It says that it is done, and not what was needed.
    Forgets,
}

/// What work says that fails here.
pub(crate) const SAYS_NO: &str = "the test says no";

impl How {
    pub(crate) fn outcome(self, work: &Work, place: Option<DmaPlace>) -> Result<Outcome, Failure> {
        let error = |kind| Error::new(kind, SAYS_NO);
        match (self, work) {
            (Self::Done, Work::Grant { .. }) => Ok(Outcome::Grant { kind: 1 }),
            (Self::Done, _) => Ok(place.map_or(Outcome::Done, Outcome::Placed)),
            (Self::Forgets, Work::Grant { .. } | Work::Place { .. } | Work::Share { .. }) => {
                Ok(Outcome::Done)
            }
            (Self::Fails | Self::Forgets, _) => Err(error(ErrorKind::System).into()),
            (Self::Loses, _) => Err(Failure { error: error(ErrorKind::System), lost: true }),
            (Self::Foreign, _) => {
                let error = error(ErrorKind::Held).with_errno(rustix::io::Errno::PERM);
                Err(Failure { error, lost: true })
            }
            (Self::Meets, _) => Err(Failure { error: error(ErrorKind::Held), lost: true }),
        }
    }
}

/// Takes numbers apart, digit by digit.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> usize {
        let rolled = self.0 % sides;
        self.0 /= sides;
        usize::try_from(rolled).unwrap_or(0)
    }

    fn of<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[self.roll(choices.len() as u64)]
    }
}

const PARTS: [&str; 5] = ["h2c0", "c2h0", "irq0", "irq1", "whole"];
/// Names of shared buffers: none, two that can be, and one that cannot.
const NAMES: [Option<&str>; 5] = [None, None, Some("a"), Some("b"), Some("A")];
const SIZES: [u64; 8] = [1, 4096, 8192, 0x1f_f000, 0x20_0000, 0x40_0000, 0, u64::MAX];

impl Step {
    /// The step that a number stands for. Zero is the plainest.
    #[must_use]
    pub fn of(number: u64) -> Self {
        let mut dice = Dice(number);
        let kind = dice.roll(72);
        let who = dice.roll(4);
        // Mostly the first, so that clients meet.
        let card = dice.of(&[0, 0, 0, 0, 1, 1, 2, 9]);
        match kind {
            0..4 => Self::Join(who),
            4..9 => Self::Open(who, card),
            9..15 => {
                let wanted = Wanted {
                    size: dice.of(&SIZES),
                    align: dice.of(&[1, 1, 0x1_0000, 3]),
                    top: dice.of(&[u64::MAX, u64::MAX, 0xffff_ffff, 0x7f_ffff_ffff]),
                    page_shift: dice.of(&[12, 12, 12, 21, 13]),
                };
                Self::Allocate(who, dice.of(&[Some(card), None]), wanted)
            }
            15..22 => Self::Lease(
                who,
                card,
                dice.of(&PARTS),
                mode(&mut dice),
                dice.roll(4),
                dice.of(&[0, 0, 100, u32::MAX]),
            ),
            22..25 => Self::Wire(who, card, dice.of(&[0, 1])),
            25 => Self::Silence(who, card, dice.of(&[0, 1])),
            26..28 => Self::Free(dice.roll(16), None),
            28 => Self::Free(dice.roll(16), Some(who)),
            29..32 => Self::Release(dice.roll(8), None, dice.of(&[true, false])),
            32 => Self::Release(dice.roll(8), Some(who), dice.of(&[true, false])),
            33 => Self::Close(who, card),
            34 => Self::Reset(who, card),
            35 | 36 => Self::Leave(who),
            37 => Self::Goodbye(who),
            38 => dice.of(&[
                Self::Nonsense(who),
                Self::Unreadable(who),
                Self::Rude(who),
                Self::Descriptor(who, true),
                Self::Descriptor(who, false),
                Self::Usage(who),
                Self::Figures(who),
                Self::Came,
            ]),
            39 => match dice.roll(8) {
                0..5 => Self::Noticed(card, Notice::Leaving),
                5 => Self::Stop,
                _ => Self::Noticed(card, Notice::Failed),
            },
            62 => Self::Withdraw(dice.roll(8), dice.of(&[None, None, None, Some(who)])),
            63 => Self::Overdue(dice.roll(8), dice.of(&[true, true, true, false])),
            64..67 => Self::Share(dice.roll(16), None, dice.of(&NAMES), dice.of(&[false, true])),
            67..71 => {
                let guesses =
                    [Guess::Token(0), Guess::Token(1), Guess::Token(2), Guess::Name("a"), Guess::Wrong];
                Self::Attach(who, dice.of(&guesses))
            }
            71 => match dice.roll(3) {
                0 => Self::Unshare(dice.roll(8), Some(who)),
                1 => Self::Share(dice.roll(16), Some(who), dice.of(&NAMES), true),
                _ => Self::Unshare(dice.roll(8), None),
            },
            _ => Self::Finish(dice.roll(16), how(&mut dice)),
        }
    }
}

fn mode(dice: &mut Dice) -> Mode {
    dice.of(&[Mode::Exclusive, Mode::Exclusive, Mode::Shared])
}

fn how(dice: &mut Dice) -> How {
    let rare = [How::Fails, How::Fails, How::Loses, How::Meets, How::Forgets];
    if dice.roll(6) == 0 { dice.of(&rare) } else { How::Done }
}

/// A will: none, one that writes, one that waits, and one that cannot be.
pub(crate) fn will(which: usize) -> Will {
    let wait = WillStep::WaitUntil { bar: 2, offset: 0x44, mask: 1, value: 0, within_ms: 50 };
    Will(match which {
        0 => Vec::new(),
        1 => vec![WillStep::write(2, 0x0c, 1)],
        2 => vec![WillStep::write(2, 0x0c, 1), wait],
        _ => vec![WillStep::write(6, 0, 1)],
    })
}

/// Numbers, and the steps that they stand for: splitmix64, which needs one number to begin with.
#[derive(Debug, Clone)]
pub struct Steps(pub u64);

impl Steps {
    /// The next number.
    pub fn number(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// How the next piece of work ends.
    pub fn ending(&mut self) -> (usize, How) {
        let mut dice = Dice(self.number());
        (dice.roll(16), how(&mut dice))
    }
}

impl Iterator for Steps {
    type Item = Step;

    fn next(&mut self) -> Option<Step> {
        Some(Step::of(self.number()))
    }
}

impl World {
    /// Lets it happen.
    pub fn take(&mut self, step: Step) {
        let nonsense = || Error::new(ErrorKind::Protocol, "nonsense");
        match step {
            Step::Join(seat) => drop(self.join(seat)),
            Step::Rude(seat) => {
                let client = self.sitting(seat);
                self.ask_with(client, Request::Usage { after: None }, true);
            }
            Step::Leave(seat) => drop(self.feed(Event::Left { client: self.sitting(seat) })),
            Step::Goodbye(seat) => self.asks(seat, Request::Goodbye),
            Step::Nonsense(seat) => {
                drop(self.feed(Event::Nonsense { client: self.sitting(seat), error: nonsense() }));
            }
            Step::Unreadable(seat) => {
                let client = self.sitting(seat);
                if self.is_present(client) {
                    self.feed(Event::Unreadable { client, number: u64::MAX, error: nonsense() });
                }
            }
            Step::Descriptor(seat, comes) => {
                let request = match comes {
                    true => Request::Cards { after: None },
                    false => Request::Wire { card: CardId(0), vector: 0 },
                };
                self.ask_with(self.sitting(seat), request, comes);
            }
            Step::Open(seat, card) => self.asks(seat, Request::Open { card: CardId(card) }),
            Step::Close(seat, card) => self.asks(seat, Request::Close { card: CardId(card) }),
            Step::Allocate(seat, card, Wanted { size, align, top, page_shift }) => {
                let card = card.map(CardId);
                self.asks(seat, Request::Allocate { card, size, align, top, page_shift });
            }
            Step::Free(which, by) => self.free_some(which, by),
            Step::Share(which, by, name, writable) => self.share_some(which, by, name, writable),
            Step::Attach(seat, guess) => {
                let offered = match guess {
                    Guess::Token(which) => {
                        let offer = self.offers.get(which % self.offers.len().max(1));
                        Offered::Token(offer.map_or([0; TOKEN_SIZE], |offer| offer.token))
                    }
                    Guess::Name(name) => Offered::Name(name.into()),
                    Guess::Wrong => Offered::Token([0xff; TOKEN_SIZE]),
                };
                self.asks(seat, Request::Attach { offered });
            }
            Step::Unshare(which, by) => self.unshare_some(which, by),
            Step::Lease(seat, card, part, mode, which, wait) => {
                let (card, will) = (CardId(card), will(which));
                let request = Request::Lease { card, part: part.into(), mode, will, wait };
                self.asks(seat, request);
            }
            Step::Withdraw(which, by) => {
                let Some((client, number)) = self.standing(which) else { return };
                let client = by.map_or(client, |seat| self.sitting(seat));
                self.ask(client, Request::Withdraw { number });
            }
            Step::Overdue(which, known) => {
                let Some((client, number)) = self.standing(which) else { return };
                let number = if known { number } else { u64::MAX };
                drop(self.feed(Event::Reminded { client, of: Reminder::InLine(number) }));
            }
            Step::Release(which, by, will) => self.release_some(which, by, will),
            Step::Wire(seat, card, vector) => self.asks(seat, Request::Wire { card: CardId(card), vector }),
            Step::Silence(seat, card, vector) => {
                self.asks(seat, Request::Silence { card: CardId(card), vector });
            }
            Step::Reset(seat, card) => self.asks(seat, Request::Reset { card: CardId(card) }),
            Step::Usage(seat) => {
                self.asks(seat, Request::Usage { after: None });
                self.asks(seat, Request::Cards { after: None });
            }
            Step::Figures(seat) => {
                self.asks(seat, Request::Tallies);
                self.asks(seat, Request::Traffic { client: 0 });
            }
            Step::Noticed(card, notice) => self.card_says(CardId(card), notice),
            Step::Came => self.card_comes(),
            Step::Stop => drop(self.feed(Event::Stop)),
            Step::Finish(which, how) => drop(self.finish(which, how)),
        }
    }

    fn sitting(&self, seat: usize) -> ClientId {
        self.seats[seat % self.seats.len()].unwrap_or(ClientId(u64::MAX))
    }

    /// Somebody who stands in line, and the number of the request.
    fn standing(&self, which: usize) -> Option<(ClientId, u64)> {
        let asked = |(client, known): (&ClientId, &Known)| {
            let waits = |request: &Request| matches!(request, Request::Lease { wait: 1.., .. });
            let numbers = known.asked.iter().filter(|(_, request)| waits(request)).map(|(number, _)| *number);
            numbers.map(|number| (*client, number)).collect::<Vec<_>>()
        };
        let standing: Vec<_> = self.clients.iter().flat_map(asked).collect();
        standing.get(which % standing.len().max(1)).copied()
    }

    fn asks(&mut self, seat: usize, request: Request) {
        self.ask(self.sitting(seat), request);
    }

    fn free_some(&mut self, which: usize, by: Option<usize>) {
        let owned: Vec<(ClientId, u64)> = self.memory.iter().flat_map(Memory::holds).collect();
        let Some(&(owner, iova)) = owned.get(which % owned.len().max(1)) else { return };
        let client = by.map_or(owner, |seat| self.sitting(seat));
        let own = owned.contains(&(client, iova));
        let reply = self.ask(client, Request::Free { iova });
        assert!(own || reply.is_none_or(|reply| reply.is_err()), "somebody freed the memory of another");
    }

    fn share_some(&mut self, which: usize, by: Option<usize>, name: Option<&str>, writable: bool) {
        let held: Vec<(ClientId, u64)> = self.memory.iter().flat_map(Memory::holds).collect();
        let Some(&(holder, iova)) = held.get(which % held.len().max(1)) else { return };
        let client = by.map_or(holder, |seat| self.sitting(seat));
        let own = held.contains(&(client, iova));
        let name = name.map(str::to_owned);
        let reply = self.ask(client, Request::Share { iova, name, writable });
        assert!(own || reply.is_none_or(|reply| reply.is_err()), "somebody shared the memory of another");
    }

    fn unshare_some(&mut self, which: usize, by: Option<usize>) {
        let Some(offer) = self.offers.get(which % self.offers.len().max(1)).cloned() else { return };
        let client = by.map_or(offer.maker, |seat| self.sitting(seat));
        let reply = self.ask(client, Request::Unshare { iova: offer.iova });
        let refused = reply.is_none_or(|reply| reply.is_err());
        assert!(client == offer.maker || refused, "somebody ended another's offer");
    }

    fn release_some(&mut self, which: usize, by: Option<usize>, will: bool) {
        let held: Vec<_> = self
            .clients
            .iter()
            .flat_map(|(client, known)| known.leases.iter().map(|(id, lease)| (*client, lease.card, *id)))
            .collect();
        let Some(&(holder, card, lease)) = held.get(which % held.len().max(1)) else { return };
        let client = by.map_or(holder, |seat| self.sitting(seat));
        let reply = self.ask(client, Request::Release { card, lease, will });
        assert!(
            client == holder || reply.is_none_or(|reply| reply.is_err()),
            "somebody ended another's lease"
        );
    }
}
