//! What the machine is told, and what it answers with.

use crate::protocol::{CardId, Notice, Reply, Request, TOKEN_SIZE};
use jitney_vfio::{BarInfo, DmaPlace, Error, Identity, LeaseId, Will};
use serde::{Deserialize, Serialize};

/// A connection of a client, unique for as long as the broker lives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ClientId(pub u64);

/// A piece of work, unique for as long as the broker lives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct TaskId(pub u64);

/// Who is behind a connection, as the kernel says.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Peer {
    /// Process id; `None` if the process is of another pid namespace, so that it has none here.
    pub pid: Option<u32>,
    /// User id.
    pub uid: u32,
    /// Group id.
    pub gid: u32,
    /// The other groups that its user is in.
    pub groups: Vec<u32>,
    /// How it came in.
    pub way: Way,
}

/// How a client came in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Way {
    /// By a socket with a name.
    Listener,
    /// By the socket that child processes inherit.
    Door,
}

/// A card as the machine knows it.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct CardDescription {
    /// Its number, never used again.
    pub id: CardId,
    /// Who it is.
    pub identity: Identity,
    /// Its BARs, for checking wills.
    pub bars: [BarInfo; 6],
    /// The index of its address space.
    pub space: usize,
    /// Whether it sees memory where that lies in the machine: there is no IOMMU. No IOVA can be chosen then.
    pub physical: bool,
}

/// A card that was seen, of a broker that takes cards on demand.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Sighting {
    /// Who it is.
    pub identity: Identity,
    /// What it can only be taken together with: cards of which this is the same.
    pub unit: String,
    /// Whether it is another one than was seen there before: an emulated board that was started anew.
    pub is_new: bool,
}

/// What happened.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub enum Event {
    /// A client connected.
    Joined {
        /// The new connection.
        client: ClientId,
        /// Who it is.
        peer: Peer,
    },
    /// A client sent a request.
    Request {
        /// Which client.
        client: ClientId,
        /// The request's number.
        number: u64,
        /// What it asks for.
        request: Request,
        /// Whether a descriptor came with it.
        descriptor: bool,
    },
    /// A client sent a request of this number that cannot be read.
    Unreadable {
        /// Which client.
        client: ClientId,
        /// The request's number.
        number: u64,
        /// What is wrong with it.
        error: Error,
    },
    /// A client sent something that is no request.
    Nonsense {
        /// Which client.
        client: ClientId,
        /// What is wrong with it.
        error: Error,
    },
    /// A piece of work is done, or failed.
    Finished {
        /// Which one.
        task: TaskId,
        /// How it went.
        outcome: Result<Outcome, Failure>,
    },
    /// A card has come.
    Came(CardDescription),
    /// A card is wanted back, or has failed.
    Noticed {
        /// Which card.
        card: CardId,
        /// What it is.
        notice: jitney_vfio::Notice,
    },
    /// The time of an [`Effect::Remind`] is over.
    Reminded {
        /// Which client.
        client: ClientId,
        /// Of what.
        of: Reminder,
    },
    /// A client is gone without a goodbye: hang-up, exit, kill, or a queue that it does not read.
    Left {
        /// Which client.
        client: ClientId,
    },
    /// The broker is to end: nobody is let in any more, everything is taken back, and the cards are closed.
    Stop,
}

/// What happens when some time is over, unless it is forgotten before.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Reminder {
    /// The request of this number has stood in line for as long as its client wanted to.
    InLine(u64),
    /// This lease was held for as long as the policy allows while somebody waits.
    Lease(LeaseId),
}

/// What a finished piece of work has to say besides that it is done.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Outcome {
    /// Nothing.
    Done,
    /// Memory is mapped where it lies, and its descriptor is ready to be attached to the reply.
    Placed(DmaPlace),
    /// A descriptor of this kind is ready to be attached to the reply.
    Grant {
        /// See [`Reply::Opened`].
        kind: u8,
    },
    /// Memory can be handed to others, and the descriptor that they get is ready to be kept.
    Shared {
        /// The secret by which they ask for it.
        token: [u8; TOKEN_SIZE],
    },
    /// These are the cards that there are.
    Seen(Vec<Sighting>),
    /// Cards are open.
    Taken {
        /// The BARs of each, in the order of the work.
        bars: Vec<[BarInfo; 6]>,
        /// The IOVAs that all of them can use: first and last of each range.
        ranges: Vec<(u64, u64)>,
    },
}

/// Why a piece of work failed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// What went wrong.
    pub error: Error,
    /// Something may still be mapped at the addresses that it was about, ours or somebody else's: they are lost. Of cards that were to
    /// be taken: where they were there is something else.
    pub lost: bool,
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self { error, lost: false }
    }
}

/// What to do, in this order.
#[derive(Debug, Clone)]
pub enum Effect {
    /// Send a reply to a client.
    Reply {
        /// To whom.
        client: ClientId,
        /// The number of the request that it answers.
        number: u64,
        /// What to say.
        reply: Result<Reply, Error>,
        /// The task whose descriptor goes with it: the one that has ended now, or one whose descriptor is kept.
        attach: Option<TaskId>,
    },
    /// Keep the descriptor of the task that has ended now, to attach it to replies.
    Keep {
        /// Which task's.
        id: TaskId,
    },
    /// Close a descriptor that was kept.
    Forget {
        /// Which task's.
        id: TaskId,
    },
    /// Tell a client something that it did not ask for.
    Tell {
        /// Whom.
        client: ClientId,
        /// What.
        notice: Notice,
    },
    /// Do something that can fail or take time, and answer with [`Event::Finished`]. What is for one card is done in the order of
    /// these effects, but that a will goes on behind what comes later; what is for one address space, in any.
    Work {
        /// The number to answer with.
        id: TaskId,
        /// What to do, and whom it is for.
        task: Task,
    },
    /// Nobody waits for a piece of work any more: it should end soon, with a failure and nothing done, or be done.
    Cancel {
        /// Which one.
        id: TaskId,
    },
    /// Say [`Event::Reminded`] after this time.
    Remind {
        /// Which client.
        client: ClientId,
        /// Of what.
        of: Reminder,
        /// When, in milliseconds from now.
        after_ms: u32,
    },
    /// Do not say it any more.
    Unremind {
        /// Which client.
        client: ClientId,
        /// Of what.
        of: Reminder,
    },
    /// Make a client a page in which it counts what it moves, and answer its request with that, or with what is in the way.
    Tallies {
        /// Which client.
        client: ClientId,
        /// The number of its request.
        number: u64,
    },
    /// Answer with what a client has moved of these cards.
    Traffic {
        /// Whom to answer.
        client: ClientId,
        /// The number of the request.
        number: u64,
        /// Whose figures.
        of: ClientId,
        /// Of which cards.
        cards: Vec<CardId>,
    },
    /// Close a client's connection once its replies are sent. Everything of it has been taken back.
    Disconnect {
        /// Whose.
        client: ClientId,
    },
}

/// A piece of work, and whom it is for.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Task {
    /// What to do.
    pub work: Work,
    /// The client that has to wait for it before it is gone for good.
    pub client: Option<ClientId>,
    /// The number of that client's request which it answers.
    pub answer: Option<u64>,
}

/// Which of the broker's address spaces.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Space {
    /// All of them, at the same IOVA.
    All,
    /// One, by its index.
    One(usize),
}

/// Something that can fail or take time.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Work {
    /// Make a sealed memfd of this size and map it; keep its descriptor for the reply.
    Map {
        /// In which address space.
        space: Space,
        /// Where.
        iova: u64,
        /// How much, in bytes.
        size: u64,
        /// Log2 of the page size.
        page_shift: u8,
    },
    /// Make a sealed memfd that cards see where it lies in the machine, where they can reach it, and map it; keep its
    /// descriptor for the reply.
    Place {
        /// In which address space.
        space: Space,
        /// How much, in bytes, or more.
        size: u64,
        /// What its address has to be a multiple of.
        align: u64,
        /// The highest address of it.
        top: u64,
        /// Log2 of the page size; larger pages may be used.
        page_shift: u8,
    },
    /// Unmap a whole map.
    Unmap {
        /// In which address space.
        space: Space,
        /// Where.
        iova: u64,
        /// How much, in bytes.
        size: u64,
    },
    /// Make sure that the descriptor that came with the request is this memory's, close the memory to writers if others are not
    /// to write to it, and make a descriptor for others and a token.
    Share {
        /// In which address space.
        space: Space,
        /// Where.
        iova: u64,
        /// Whether others may write to it.
        writable: bool,
    },
    /// Let the card start DMA, make a grant of it and keep its descriptor for the reply.
    Grant {
        /// Which card.
        card: CardId,
    },
    /// Wire a vector to the descriptor that came with the request.
    Wire {
        /// Which card.
        card: CardId,
        /// Which vector.
        vector: u16,
    },
    /// Silence a vector.
    Silence {
        /// Which card.
        card: CardId,
        /// Which vector.
        vector: u16,
    },
    /// Carry out wills, one after the other: all of them, whatever fails.
    CarryOut {
        /// On which card.
        card: CardId,
        /// The leases, and the will that belongs to each.
        wills: Vec<(LeaseId, Will)>,
    },
    /// Reset a card.
    Reset {
        /// Which card.
        card: CardId,
        /// Nobody uses it any more: afterwards it cannot start DMA until somebody opens it again.
        unused: bool,
    },
    /// Stop a card's DMA, and close it for good, so that it can go.
    Close {
        /// Which card.
        card: CardId,
    },
    /// Look which cards there are.
    Look {
        /// Those that are known, whom nobody has to be asked for again.
        known: Vec<Identity>,
    },
    /// Open these cards in an address space of their own, side by side with others.
    Take {
        /// The index of the address space that they get.
        space: usize,
        /// Which cards, and who they have to be.
        cards: Vec<(CardId, Identity)>,
    },
    /// Close what is open of an address space whose cards are closed.
    Return {
        /// Its index.
        space: usize,
    },
}

/// Where work is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Place {
    /// At a card.
    Card(CardId),
    /// In an address space.
    Space(Space),
    /// Where it is looked for cards.
    Lookout,
    /// Where cards are opened that will have the address space of this index.
    Unit(usize),
}

impl Work {
    /// Where it is done.
    #[must_use]
    pub const fn place(&self) -> Place {
        match *self {
            Self::Map { space, .. }
            | Self::Place { space, .. }
            | Self::Unmap { space, .. }
            | Self::Share { space, .. } => Place::Space(space),
            Self::Grant { card }
            | Self::Wire { card, .. }
            | Self::Silence { card, .. }
            | Self::CarryOut { card, .. }
            | Self::Reset { card, .. }
            | Self::Close { card } => Place::Card(card),
            Self::Look { .. } => Place::Lookout,
            Self::Take { space, .. } => Place::Unit(space),
            Self::Return { space } => Place::Space(Space::One(space)),
        }
    }
}
