//! Maps and unmaps in bounded pieces, taken in turns, so that a long one does not hold up the others.

use crate::machine::{Space, TaskId};
use jitney_memory::{Memfd, PageSize};
use jitney_vfio::{AddressSpace, Error, ErrorKind, Result};
use std::collections::VecDeque;
use std::os::fd::OwnedFd;

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
    Map { page_shift: u8, memory: Option<Memfd> },
    Unmap,
}

impl Jobs {
    /// `all` is joined of `spaces`.
    pub(super) const fn new(all: AddressSpace, spaces: Vec<AddressSpace>) -> Self {
        Self { all, spaces, waiting: VecDeque::new() }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    pub(super) fn map(&mut self, task: TaskId, space: Space, iova: u64, size: u64, page_shift: u8) {
        let kind = Kind::Map { page_shift, memory: None };
        let space = self.space(space);
        self.waiting.push_back(Job { task, kind, space, iova, size, mapped: 0, failure: None });
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

    fn space(&self, space: Space) -> AddressSpace {
        match space {
            Space::All => self.all.clone(),
            Space::One(index) => self.spaces[index].clone(),
        }
    }

    /// Does one piece of the next job. If that finished it, returns its task and how it went; a map comes with the
    /// descriptor of its memory.
    pub(super) fn step(&mut self) -> Option<(TaskId, Result<Option<OwnedFd>>)> {
        let mut job = self.waiting.pop_front()?;
        let finished = match &mut job.kind {
            Kind::Map { .. } if job.failure.is_none() => job.map_piece(),
            _ => job.unmap_piece(),
        };
        if !finished {
            self.waiting.push_back(job);
            return None;
        }
        let memory = match job.kind {
            Kind::Map { memory, .. } => memory.map(Memfd::into_fd),
            Kind::Unmap => None,
        };
        Some((job.task, job.failure.map_or(Ok(memory), Err)))
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
        let Kind::Map { page_shift, memory } = &mut self.kind else { return Ok(()) };
        if memory.is_none() {
            *memory = Some(Memfd::create("jitney-dma", self.size, page_size(*page_shift)?)?);
        }
        let Some(memory) = memory else { return Ok(()) };
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

fn page_size(shift: u8) -> Result<PageSize> {
    [PageSize::Normal, PageSize::Huge2M, PageSize::Huge1G]
        .into_iter()
        .find(|pages| pages.bytes() == 1 << shift)
        .ok_or_else(|| Error::new(ErrorKind::Invalid, format!("there are no pages of 2^{shift} bytes")))
}
