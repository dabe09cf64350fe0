//! The worker of an address space: maps and unmaps, in bounded pieces.
//!
//! The next piece is that of the client who has had the least of the worker's time: who asks for little does not wait for who
//! asks for much. A map whose client is gone is not finished but undone.

use super::worker::{Finished, Order, Report, Worker};
use crate::machine::{ClientId, Failure, Outcome, Task, TaskId, Work};
use crate::protocol::TOKEN_SIZE;
use crate::seldom::Seldom;
use jitney_memory::{Access, Memfd, MemoryId, PageSize};
use jitney_vfio::{AddressSpace, DmaPlace, DmaRequest, Error, ErrorKind, Result};
use rustix::event::{PollFd, PollFlags, Timespec};
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::os::fd::OwnedFd;
use std::sync::mpsc::{Receiver, TryRecvError};
use std::time::{Duration, Instant};

/// Starts the worker of `space`.
/// `files` is what lies in it already, mapped by a broker before this one.
pub(super) fn start(
    name: String,
    space: AddressSpace,
    files: HashMap<u64, MemoryId>,
    changes: bool,
    report: Report,
) -> Result<Worker> {
    Worker::start(name, move |orders| {
        let queues = BTreeMap::new();
        SpaceWorker { space, changes, report, queues, files, now: Duration::ZERO }.run(&orders);
    })
}

/// How much is mapped at once where cards come and go: what the most exacting of them take, so that it is unmapped in the pieces in which
/// it was mapped.
const PIECE_OF_MANY: u64 = 16 << 20;

/// How long it is waited until others have let go of an address space.
const RETURN_LIMIT: Timespec = Timespec { tv_sec: 1, tv_nsec: 0 };

struct SpaceWorker {
    space: AddressSpace,
    /// Its cards come and go.
    changes: bool,
    report: Report,
    /// What each client waits for; `None` for what nobody does.
    queues: BTreeMap<Option<ClientId>, Queue>,
    /// Which memory is mapped where, to know it again when a client wants to share it.
    files: HashMap<u64, MemoryId>,
    /// How much time the client has had whose turn it was last: who comes anew begins there.
    now: Duration,
}

struct Queue {
    jobs: VecDeque<Job>,
    had: Duration,
}

impl SpaceWorker {
    fn run(mut self, orders: &Receiver<Order>) {
        loop {
            if self.queues.is_empty() {
                match orders.recv() {
                    Ok(order) => self.take(order),
                    Err(_) => return,
                }
            }
            loop {
                match orders.try_recv() {
                    Ok(order) => self.take(order),
                    Err(TryRecvError::Empty) => break,
                    // The rest is finished all the same: it takes memory from cards.
                    Err(TryRecvError::Disconnected) => break,
                }
            }
            self.step();
        }
    }

    fn take(&mut self, order: Order) {
        match order {
            Order::Begin { id, task, descriptor, again } => match Job::new(id, &task, descriptor) {
                Ok(mut job) => {
                    job.again = again;
                    job.tolerant = again || self.changes;
                    job.piece = if self.changes { PIECE_OF_MANY } else { self.space.piece() };
                    let fresh = Queue { jobs: VecDeque::new(), had: self.now };
                    self.queues.entry(task.client).or_insert(fresh).jobs.push_back(job);
                }
                Err(error) => self.report(id, Err(error.into()), None),
            },
            Order::Cancel { id } => {
                let jobs = self.queues.values_mut().flat_map(|queue| &mut queue.jobs);
                for job in jobs.filter(|job| job.task == id) {
                    job.cancel();
                }
            }
            Order::Space { space, until } => {
                self.space = space;
                drop(until);
            }
            Order::Return { id, after, kept } => {
                // It ends when the other end is dropped.
                let _ = after.recv();
                self.space = AddressSpace::default();
                if let Some(kept) = kept {
                    let others = &mut [PollFd::new(&kept, PollFlags::IN)];
                    if rustix::event::poll(others, Some(&RETURN_LIMIT)) != Ok(1) {
                        tracing::warn!("the service manager has not let go of cards that are given back");
                    }
                }
                self.report(id, Ok(Outcome::Done), None);
            }
        }
    }

    /// Does one piece.
    fn step(&mut self) {
        let next = self.queues.iter().min_by_key(|(_, queue)| queue.had).map(|(client, _)| *client);
        let Some((client, queue)) = next.and_then(|client| Some((client, self.queues.get_mut(&client)?)))
        else {
            return;
        };
        self.now = queue.had;
        let since = Instant::now();
        let Some(mut job) = queue.jobs.pop_front() else { return };
        let finished = job.step(&self.space, &self.files);
        queue.had += since.elapsed();
        if !finished {
            // Of one client, too, who asks for little does not wait for much.
            return queue.jobs.push_back(job);
        }
        if queue.jobs.is_empty() {
            self.queues.remove(&client);
        }
        let (iova, unmaps) = (job.iova, matches!(job.kind, Kind::Unmap));
        let (task, outcome, memory) = job.end();
        match (&outcome, &memory) {
            (Ok(Outcome::Done | Outcome::Placed(_)), Some(memory)) => {
                // What cannot be known again is not shared.
                self.files.extend(MemoryId::of(memory).ok().map(|id| (iova, id)));
            }
            _ if unmaps => drop(self.files.remove(&iova)),
            _ => {}
        }
        self.report(task, outcome, memory);
    }

    fn report(&self, task: TaskId, outcome: std::result::Result<Outcome, Failure>, memory: Option<OwnedFd>) {
        let descriptors = memory.into_iter().collect();
        self.report.send(Finished { descriptors, ..Finished::of(task, outcome) });
    }
}

struct Job {
    task: TaskId,
    kind: Kind,
    iova: u64,
    size: u64,
    /// How much of it is mapped, or how much is left to unmap.
    mapped: u64,
    /// What went wrong so far.
    failure: Option<Failure>,
    /// A broker before this one may have done some of it.
    again: bool,
    /// Not everything has to be mapped that is unmapped.
    tolerant: bool,
    /// How much is mapped or unmapped at once.
    piece: u64,
}

enum Kind {
    Map { source: Source, memory: Option<Memfd> },
    Unmap,
    Share(Sharing),
}

/// Memory that is to be handed to others.
struct Sharing {
    access: Access,
    /// What came with the request, then what others get.
    descriptor: Option<OwnedFd>,
    token: [u8; TOKEN_SIZE],
}

impl Sharing {
    fn prepare(&mut self, iova: u64, files: &HashMap<u64, MemoryId>) -> Result<()> {
        let none = || Error::new(ErrorKind::Invalid, format!("nothing at IOVA {iova:#x} can be shared"));
        let came = self.descriptor.as_ref().ok_or_else(none)?;
        // Something else stays where it is: much memory takes long to go, and that happens elsewhere.
        if files.get(&iova) != Some(&MemoryId::of(came)?) {
            let what = format!("the memory that came along is not that of the DMA buffer at IOVA {iova:#x}");
            return Err(Error::new(ErrorKind::Invalid, what));
        }
        self.descriptor = Some(jitney_memory::for_others(came, self.access)?);
        // Before the kernel has any randomness it waits; that is over long before there are cards.
        let mut filled = 0;
        while filled < TOKEN_SIZE {
            filled +=
                rustix::rand::getrandom(&mut self.token[filled..], rustix::rand::GetRandomFlags::empty())
                    .map_err(|errno| Error::from_errno(errno, "a token for shared memory"))?;
        }
        Ok(())
    }
}

/// Where the memory of a map comes from.
enum Source {
    /// Pages of this size.
    Pages(PageSize),
    /// Wherever it lies, that is its IOVA.
    Physical(DmaRequest),
}

impl Job {
    fn new(id: TaskId, task: &Task, descriptor: Option<OwnedFd>) -> Result<Self> {
        let (kind, iova, size, mapped) = match task.work {
            Work::Map { iova, size, page_shift, .. } => {
                let source = Source::Pages(page_size(page_shift)?);
                (Kind::Map { source, memory: None }, iova, size, 0)
            }
            Work::Place { size, align, top, page_shift, .. } => {
                let pages = page_size(page_shift)?;
                let source = Source::Physical(DmaRequest { size, align, top, pages });
                // Where and how much is known when there is memory.
                (Kind::Map { source, memory: None }, 0, 0, 0)
            }
            Work::Unmap { iova, size, .. } => (Kind::Unmap, iova, size, size),
            Work::Share { iova, writable, .. } => {
                let access = if writable { Access::ReadWrite } else { Access::ReadOnly };
                (Kind::Share(Sharing { access, descriptor, token: [0; TOKEN_SIZE] }), iova, 0, 0)
            }
            _ => {
                let what = "what is done at a card is not done in an address space";
                return Err(Error::new(ErrorKind::System, what));
            }
        };
        let (again, tolerant, piece) = (false, false, u64::MAX);
        Ok(Self { task: id, kind, iova, size, mapped, failure: None, again, tolerant, piece })
    }

    /// Turns a map round: what it has mapped is unmapped.
    fn cancel(&mut self) {
        if matches!(self.kind, Kind::Map { .. }) && self.failure.is_none() {
            let what = "the map was cancelled: nobody waits for it any more";
            self.failure = Some(Error::new(ErrorKind::Disconnected, what).into());
        }
    }

    /// Does one piece; true if that was the last.
    fn step(&mut self, space: &AddressSpace, files: &HashMap<u64, MemoryId>) -> bool {
        match &mut self.kind {
            Kind::Share(sharing) => {
                self.failure = sharing.prepare(self.iova, files).err().map(Failure::from);
                true
            }
            Kind::Map { source: Source::Pages(_), .. } if self.again => {
                self.clear(space);
                false
            }
            Kind::Map { .. } if self.failure.is_none() => self.map_piece(space),
            _ => self.unmap_piece(space),
        }
    }

    /// Unmaps what a broker before this one may have mapped of it: its memory is gone, and nobody was told of it.
    fn clear(&mut self, space: &AddressSpace) {
        self.again = false;
        let mut offset = 0;
        while offset < self.size {
            let length = self.piece.min(self.size - offset);
            if let Err(error) = space.unmap_if_mapped(self.iova + offset, length) {
                self.failure = Some(Failure { error, lost: true });
                return;
            }
            offset += length;
        }
    }

    fn map_piece(&mut self, space: &AddressSpace) -> bool {
        match self.try_map_piece(space) {
            Ok(()) => self.mapped == self.size,
            Err(failure) => {
                self.failure = Some(failure);
                self.mapped == 0
            }
        }
    }

    fn try_map_piece(&mut self, space: &AddressSpace) -> std::result::Result<(), Failure> {
        let Kind::Map { source, memory } = &mut self.kind else { return Ok(()) };
        let memory = match (memory, source) {
            (Some(memory), _) => memory,
            (none, Source::Pages(pages)) => {
                none.insert(Memfd::create("jitney-dma", self.size, *pages).map_err(Error::from)?)
            }
            (none, Source::Physical(request)) => {
                let unable =
                    || Error::new(ErrorKind::Unsupported, "no card of this space sees physical addresses");
                let (made, address) = space.physical().ok_or_else(unable)?.make(request)?;
                (self.iova, self.size) = (address, made.size());
                none.insert(made)
            }
        };
        let length = self.piece.min(self.size - self.mapped);
        space.map(memory, self.mapped, self.iova + self.mapped, length).map_err(|failed| {
            // Something that is not ours lies there, and nobody knows for how long; or what is ours could not be undone.
            let lost = failed.left_behind || failed.error.kind() == ErrorKind::Held;
            Failure { error: failed.error, lost }
        })?;
        self.mapped += length;
        Ok(())
    }

    /// Unmaps the last piece that is mapped: each unmap has to match a map. All are tried.
    fn unmap_piece(&mut self, space: &AddressSpace) -> bool {
        let piece = self.piece;
        let start = match self.mapped % piece {
            0 => self.mapped - piece.min(self.mapped),
            rest => self.mapped - rest,
        };
        let unmap = |iova, size| match self.tolerant {
            true => space.unmap_if_mapped(iova, size),
            false => space.unmap(iova, size),
        };
        if start < self.mapped
            && let Err(error) = unmap(self.iova + start, self.mapped - start)
        {
            static SELDOM: Seldom = Seldom::new();
            if let Some(before) = SELDOM.allows() {
                let (iova, size) = (self.iova + start, self.mapped - start);
                tracing::warn!(iova, size, %error, before, "a piece could not be unmapped");
            }
            self.failure.get_or_insert(error.into()).lost = true;
        }
        self.mapped = start;
        self.mapped == 0
    }

    fn end(self) -> (TaskId, std::result::Result<Outcome, Failure>, Option<OwnedFd>) {
        let place = DmaPlace { iova: self.iova, size: self.size };
        let (outcome, memory) = match self.kind {
            Kind::Map { memory, source: Source::Pages(_) } => (Outcome::Done, memory),
            Kind::Map { memory, source: Source::Physical(_) } => (Outcome::Placed(place), memory),
            Kind::Unmap => (Outcome::Done, None),
            Kind::Share(Sharing { token, descriptor, .. }) => {
                return (self.task, self.failure.map_or(Ok(Outcome::Shared { token }), Err), descriptor);
            }
        };
        match self.failure {
            None => (self.task, Ok(outcome), memory.map(Memfd::into_fd)),
            // Much memory takes long to go: that happens elsewhere.
            Some(failure) => (self.task, Err(failure), memory.map(Memfd::into_fd)),
        }
    }
}

fn page_size(shift: u8) -> Result<PageSize> {
    [PageSize::Normal, PageSize::Huge2M, PageSize::Huge1G]
        .into_iter()
        .find(|pages| pages.bytes() == 1 << shift)
        .ok_or_else(|| Error::new(ErrorKind::Invalid, format!("there are no pages of 2^{shift} bytes")))
}
