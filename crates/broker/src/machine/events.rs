//! What the machine is told, and what it answers with.

use crate::protocol::{Reply, Request};
use jitney_vfio::{DmaPlace, Error, Notice, Will};

/// A connection of a client, unique for as long as the broker lives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ClientId(pub u64);

/// A piece of work, unique for as long as the broker lives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TaskId(pub u64);

/// Who is behind a connection, as the kernel says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Peer {
    /// Process id.
    pub pid: u32,
    /// User id.
    pub uid: u32,
}

/// What happened.
#[derive(Debug)]
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
        /// How it went; for a grant the kind of descriptor that it made.
        outcome: Result<Outcome, Error>,
    },
    /// A card is wanted back, or has failed.
    Noticed {
        /// Which card.
        card: usize,
        /// What it is.
        notice: Notice,
    },
    /// A client is gone without a goodbye: hang-up, exit, kill, or a queue that it does not read.
    Left {
        /// Which client.
        client: ClientId,
    },
}

/// What a finished piece of work has to say besides that it is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
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
}

/// What to do, in this order.
#[derive(Debug)]
pub enum Effect {
    /// Send a reply to a client.
    Reply {
        /// To whom.
        client: ClientId,
        /// The number of the request that it answers.
        number: u64,
        /// What to say.
        reply: Result<Reply, Error>,
        /// The task whose descriptor goes with it.
        attach: Option<TaskId>,
    },
    /// Do something that can fail and answer with [`Event::Finished`].
    Work {
        /// The number to answer with.
        task: TaskId,
        /// What to do.
        work: Work,
    },
    /// Tell a client that has opened a card what is the matter with that.
    Tell {
        /// Whom.
        client: ClientId,
        /// Which card.
        card: usize,
        /// What it is.
        notice: Notice,
    },
    /// Close a client's connection once its replies are sent. Everything of it has been taken back.
    Disconnect {
        /// Whose.
        client: ClientId,
    },
}

/// Which of the broker's address spaces.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Space {
    /// All of them, at the same IOVA.
    All,
    /// One, by its index.
    One(usize),
}

/// Something that can fail or take time.
#[derive(Debug, Clone, PartialEq, Eq)]
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
    /// Let the card start DMA, make a grant of it and keep its descriptor for the reply, with the events by which the client
    /// will be told.
    Grant {
        /// Which card.
        card: usize,
        /// For whom.
        client: ClientId,
    },
    /// Wire a vector to the descriptor that came with the request.
    Wire {
        /// Which card.
        card: usize,
        /// Which vector.
        vector: u16,
    },
    /// Silence a vector.
    Silence {
        /// Which card.
        card: usize,
        /// Which vector.
        vector: u16,
    },
    /// Carry out the will of a client that is gone.
    CarryOut {
        /// On which card.
        card: usize,
        /// The writes.
        will: Will,
    },
    /// Reset a card.
    Reset {
        /// Which card.
        card: usize,
        /// Nobody uses it any more: afterwards it cannot start DMA until somebody opens it again.
        unused: bool,
    },
    /// Close a card for good, so that it can go.
    Close {
        /// Which card.
        card: usize,
    },
}
