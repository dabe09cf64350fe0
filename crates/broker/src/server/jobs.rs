//! Maps and unmaps in bounded pieces, taken in turns, so that a long one does not hold up the others.

use crate::machine::{Outcome, Space, TaskId};
use jitney_memory::{Memfd, PageSize};
use jitney_vfio::{AddressSpace, DmaPlace, DmaRequest, Error, ErrorKind, Mapper, Result};
use std::collections::VecDeque;
use std::os::fd::OwnedFd;
use std::sync::Arc;

pub(super) struct Jobs {
    all: AddressSpace,
    spaces: Vec<AddressSpace>,
    waiting: VecDeque<Job>,
}

struct Job {
    task: TaskId,
    kind: Kind,
    space: AddressSpace,
    iova: u64,
    size: u64,
    /// How much of it is mapped, or how much is left to unmap.
    mapped: u64,
    /// What went wrong so far.
    failure: Option<Error>,
}

enum Kind {
    Map { source: Source, memory: Option<Memfd> },
    Unmap,
}

/// Where the memory of a map comes from.
enum Source {
    /// Pages of this size.
    Pages(PageSize),
    /// Wherever it lies, that is its IOVA.
    Physical(DmaRequest),
}

/// What a finished job has to say; a map comes with the descriptor of its memory.
pub(super) type Done = (Option<OwnedFd>, Outcome);

impl Jobs {
    /// `all` is joined of `spaces`.
    pub(super) const fn new(all: AddressSpace, spaces: Vec<AddressSpace>) -> Self {
        Self { all, spaces, waiting: VecDeque::new() }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    pub(super) fn map(&mut self, task: TaskId, space: Space, iova: u64, size: u64, pages: PageSize) {
        let kind = Kind::Map { source: Source::Pages(pages), memory: None };
        let space = self.space(space);
        self.waiting.push_back(Job { task, kind, space, iova, size, mapped: 0, failure: None });
    }

    pub(super) fn place(&mut self, task: TaskId, space: Space, request: DmaRequest) {
        let kind = Kind::Map { source: Source::Physical(request), memory: None };
        let space = self.space(space);
        // Where and how much is known when there is memory.
        self.waiting.push_back(Job { task, kind, space, iova: 0, size: 0, mapped: 0, failure: None });
    }

    pub(super) fn unmap(&mut self, task: TaskId, space: Space, iova: u64, size: u64) {
        let space = self.space(space);
        self.waiting.push_back(Job {
            task,
            kind: Kind::Unmap,
            space,
            iova,
            size,
            mapped: size,
            failure: None,
        });
    }

    /// From now on maps nothing for the cards of `mapper`, which are gone.
    pub(super) fn leave_out(&self, mapper: &Arc<dyn Mapper>) {
        self.all.leave_out(mapper);
    }

    fn space(&self, space: Space) -> AddressSpace {
        match space {
            Space::All => self.all.clone(),
            Space::One(index) => self.spaces[index].clone(),
        }
    }

    /// Does one piece of the next job. If that finished it, returns its task and how it went.
    pub(super) fn step(&mut self) -> Option<(TaskId, Result<Done>)> {
        let mut job = self.waiting.pop_front()?;
        let finished = match &mut job.kind {
            Kind::Map { .. } if job.failure.is_none() => job.map_piece(),
            _ => job.unmap_piece(),
        };
        if !finished {
            self.waiting.push_back(job);
            return None;
        }
        let place = DmaPlace { iova: job.iova, size: job.size };
        let done = match job.kind {
            Kind::Map { memory, source: Source::Pages(_) } => (memory.map(Memfd::into_fd), Outcome::Done),
            Kind::Map { memory, source: Source::Physical(_) } => {
                (memory.map(Memfd::into_fd), Outcome::Placed(place))
            }
            Kind::Unmap => (None, Outcome::Done),
        };
        Some((job.task, job.failure.map_or(Ok(done), Err)))
    }
}

impl Job {
    fn map_piece(&mut self) -> bool {
        match self.try_map_piece() {
            Ok(()) => self.mapped == self.size,
            Err(error) => {
                self.failure = Some(error);
                self.mapped == 0
            }
        }
    }

    fn try_map_piece(&mut self) -> Result<()> {
        let Kind::Map { source, memory } = &mut self.kind else { return Ok(()) };
        let memory = match (memory, source) {
            (Some(memory), _) => memory,
            (none, Source::Pages(pages)) => none.insert(Memfd::create("jitney-dma", self.size, *pages)?),
            (none, Source::Physical(request)) => {
                let unable =
                    || Error::new(ErrorKind::Unsupported, "no card of this space sees physical addresses");
                let (made, address) = self.space.physical().ok_or_else(unable)?.make(request)?;
                (self.iova, self.size) = (address, made.size());
                none.insert(made)
            }
        };
        let length = self.space.piece().min(self.size - self.mapped);
        self.space.map(memory, self.mapped, self.iova + self.mapped, length)?;
        self.mapped += length;
        Ok(())
    }

    /// Unmaps the last piece that is mapped: each unmap has to match a map. All are tried.
    fn unmap_piece(&mut self) -> bool {
        let piece = self.space.piece();
        let start = match self.mapped % piece {
            0 => self.mapped - piece.min(self.mapped),
            rest => self.mapped - rest,
        };
        if let Err(error) = self.space.unmap(self.iova + start, self.mapped - start) {
            tracing::warn!(iova = self.iova + start, size = self.mapped - start, %error, "a piece could not be unmapped");
            self.failure.get_or_insert(error);
        }
        self.mapped = start;
        self.mapped == 0
    }
}

pub(super) fn page_size(shift: u8) -> Result<PageSize> {
    [PageSize::Normal, PageSize::Huge2M, PageSize::Huge1G]
        .into_iter()
        .find(|pages| pages.bytes() == 1 << shift)
        .ok_or_else(|| Error::new(ErrorKind::Invalid, format!("there are no pages of 2^{shift} bytes")))
}
