//! A pair of I/O queues, of one process.

use crate::common::ENTRIES;
use crate::controller::{Inner, Namespace};
use crate::error::{Error, Result};
use crate::flight::{Flight, Token};
use crate::pause::{Pause, STATUS_PACE};
use crate::spec::PAGE;
use crate::spec::entry::{Submission, nvm};
use crate::spec::prp::Prp;
use crate::spec::status::Status;
use jitney_vfio::{DmaBuffer, DmaRequest, ErrorKind, Interrupt, Lease, LeaseRequest, Part};
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

/// How long a command may take, as with Linux's driver.
const PATIENCE: Duration = Duration::from_secs(30);

/// A pair of I/O queues of this process alone. Several commands can be under way; each is waited for by its [`Token`].
///
/// Buffers are kept until the commands that use them have ended. Dropping it deletes the pair, which ends what is under way.
#[derive(Debug)]
pub struct QueuePair {
    controller: Arc<Inner>,
    id: u16,
    entries: u16,
    tail: u16,
    head: u16,
    phase: bool,
    flight: Flight<Kept>,
    /// A page for each command's list of pages.
    lists: DmaBuffer,
    /// Why it cannot be used any more.
    broken: Option<Error>,
    interrupt: Option<Interrupt>,
    // Last, so that nobody else has the pair before it is deleted.
    lease: Option<Lease>,
}

/// What a command keeps until it has ended.
#[derive(Debug)]
struct Kept {
    _memory: Option<DmaBuffer>,
    what: String,
}

impl QueuePair {
    pub(crate) fn open(controller: &Arc<Inner>, interrupts: bool) -> Result<Self> {
        let (id, lease) = lease_one(controller)?;
        let interrupt = match interrupts {
            true => vector_of(controller, id)?,
            false => None,
        };
        let most = controller.bar.capabilities.most_entries().saturating_add(1);
        let entries = ENTRIES.min(most).max(2);
        let lists = controller.card.dma_buffer(DmaRequest::new(u64::from(entries) * PAGE).aligned(PAGE))?;
        controller.with_admin(|admin| {
            if controller.common.may_exist(id)? {
                admin.delete_pair(id)?;
            }
            let made = admin.create_pair(id, entries, interrupt.as_ref().map(Interrupt::vector));
            // Half a pair is of no use.
            made.inspect_err(|_| drop(admin.delete_pair(id)))
        })?;
        Ok(Self {
            controller: Arc::clone(controller),
            id,
            entries,
            tail: 0,
            head: 0,
            phase: true,
            flight: Flight::new(entries - 1),
            lists,
            broken: None,
            interrupt,
            lease: Some(lease),
        })
    }

    /// Its number, from 1 on.
    #[must_use]
    pub const fn id(&self) -> u16 {
        self.id
    }

    /// How many commands can be under way.
    #[must_use]
    pub const fn depth(&self) -> u16 {
        self.entries - 1
    }

    /// Its interrupt vector, which fires when commands end, for an event loop: then [`has_ended`](Self::has_ended) says which. None if it has
    /// none.
    #[must_use]
    pub const fn interrupt(&self) -> Option<&Interrupt> {
        self.interrupt.as_ref()
    }

    /// Reads blocks from `block` on into `range` of `buffer`, and waits for the end.
    ///
    /// # Errors
    /// As [`submit_read`](Self::submit_read) and [`wait`](Self::wait).
    pub fn read(
        &mut self,
        namespace: &Namespace,
        block: u64,
        buffer: &DmaBuffer,
        range: Range<u64>,
    ) -> Result<()> {
        let token = self.submit_read(namespace, block, buffer, range)?;
        self.wait(token)
    }

    /// Writes `range` of `buffer` to blocks from `block` on, and waits for the end.
    ///
    /// # Errors
    /// As [`submit_write`](Self::submit_write) and [`wait`](Self::wait).
    pub fn write(
        &mut self,
        namespace: &Namespace,
        block: u64,
        buffer: &DmaBuffer,
        range: Range<u64>,
    ) -> Result<()> {
        let token = self.submit_write(namespace, block, buffer, range)?;
        self.wait(token)
    }

    /// Has the drive write what it caches, so that it is there after a loss of power: what has ended before, of every queue.
    ///
    /// # Errors
    /// As [`wait`](Self::wait).
    pub fn flush(&mut self, namespace: &Namespace) -> Result<()> {
        let command = Submission { operation: nvm::FLUSH, namespace: namespace.id, ..Submission::default() };
        let token = self.submit(command, None, format!("flushing namespace {}", namespace.id))?;
        self.wait(token)
    }

    /// Begins to read blocks from `block` on into `range` of `buffer`. If as many commands are under way as can be, waits for one of them.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`] and [`ErrorKind::OutOfBounds`] for a range that is not of whole blocks, not in the buffer or the namespace,
    /// not at a multiple of four bytes, or longer than [`most_bytes`](crate::Controller::most_bytes); what waiting says.
    pub fn submit_read(
        &mut self,
        namespace: &Namespace,
        block: u64,
        buffer: &DmaBuffer,
        range: Range<u64>,
    ) -> Result<Token> {
        self.transfer((nvm::READ, "reading"), namespace, block, buffer, range)
    }

    /// Begins to write `range` of `buffer` to blocks from `block` on.
    ///
    /// # Errors
    /// As [`submit_read`](Self::submit_read).
    pub fn submit_write(
        &mut self,
        namespace: &Namespace,
        block: u64,
        buffer: &DmaBuffer,
        range: Range<u64>,
    ) -> Result<Token> {
        self.transfer((nvm::WRITE, "writing"), namespace, block, buffer, range)
    }

    fn transfer(
        &mut self,
        (operation, doing): (u8, &str),
        namespace: &Namespace,
        block: u64,
        buffer: &DmaBuffer,
        range: Range<u64>,
    ) -> Result<Token> {
        let Namespace { id, block_size, blocks } = *namespace;
        let what = format!(
            "{doing} {:#x} bytes of block {block} of namespace {id}",
            range.end.saturating_sub(range.start)
        );
        let wrong = |kind, why: String| Error::Card(jitney_vfio::Error::new(kind, format!("{what}: {why}")));
        if range.start > range.end || range.end > buffer.size() {
            let why = format!("{range:#x?} is not in {buffer:?}");
            return Err(wrong(ErrorKind::OutOfBounds, why));
        }
        let length = range.end - range.start;
        let most = self.controller.most_bytes();
        if length == 0 || !length.is_multiple_of(block_size) || length > most || length / block_size > 1 << 16
        {
            let why = format!(
                "a transfer has whole blocks of {block_size} bytes, at least one, and at most {most:#x} bytes"
            );
            return Err(wrong(ErrorKind::Invalid, why));
        }
        let count = length / block_size;
        if block.checked_add(count).is_none_or(|end| end > blocks) {
            return Err(wrong(ErrorKind::OutOfBounds, format!("the namespace has {blocks} blocks")));
        }
        let Some(prp) = Prp::new(buffer.iova() + range.start, length) else {
            let why = "its memory has to begin at a multiple of four bytes, and to touch at most 513 pages"
                .to_owned();
            return Err(wrong(ErrorKind::Invalid, why));
        };
        let [low, high] = halves(block);
        let command = Submission {
            operation,
            namespace: id,
            words: [low, high, u32::try_from(count - 1).unwrap_or(u32::MAX), 0, 0, 0],
            ..Submission::default()
        };
        self.submit(command, Some((buffer, prp)), what)
    }

    fn submit(
        &mut self,
        mut command: Submission,
        data: Option<(&DmaBuffer, Prp)>,
        what: String,
    ) -> Result<Token> {
        self.check_usable()?;
        let id = self.free_number()?;
        command.id = id;
        if let Some((_, prp)) = &data {
            let at = u64::from(id) * PAGE;
            if let Some(list) = prp.list() {
                self.lists.write(at, &list)?;
            }
            (command.prp1, command.prp2) = (prp.first, prp.second(self.lists.iova() + at));
        }
        self.controller.common.write_submission(self.id, self.tail, &command)?;
        let memory = data.map(|(buffer, _)| buffer.clone());
        let token = self.flight.begin(id, Kept { _memory: memory, what });
        let tail = (self.tail + 1) % self.entries;
        if let Err(error) = self.controller.bar.ring_submission(self.id, tail) {
            self.flight.take_back(id);
            return Err(error);
        }
        self.tail = tail;
        Ok(token)
    }

    fn free_number(&mut self) -> Result<u16> {
        let mut pause = Pause::new();
        loop {
            match self.flight.free() {
                Some(id) => return Ok(id),
                None => self.look_again(&mut pause, "a command to end, since no more can be under way")?,
            }
        }
    }

    /// Waits for the end of a command. A second wait for it is refused.
    ///
    /// # Errors
    /// [`Error::Command`] if it has failed; [`ErrorKind::TimedOut`] after 30 seconds, [`ErrorKind::LinkDown`] and [`ErrorKind::System`] if
    /// the controller does nothing any more, [`ErrorKind::Protocol`] if somebody else meddles with the queue: then the pair is of no use,
    /// and is to be dropped.
    pub fn wait(&mut self, token: Token) -> Result<()> {
        let mut pause = Pause::new();
        loop {
            self.take_in()?;
            if let Some(ended) = self.flight.ended(token) {
                return match ended.status.is(Status::SUCCESS) {
                    true => Ok(()),
                    false => Err(Error::Command {
                        command: format!(
                            "{} by queue {} of {}",
                            ended.kept.what, self.id, self.controller.bar.name
                        ),
                        status: ended.status,
                    }),
                };
            }
            if !self.flight.is_under_way(token) {
                return Err(Error::invalid("this command was waited for already, or is another queue's"));
            }
            self.check_usable()?;
            self.look_again(&mut pause, "a command to end")?;
        }
    }

    /// Whether a command has ended, without waiting; [`wait`](Self::wait) then says how.
    ///
    /// # Errors
    /// As [`wait`](Self::wait), but for how the command has ended.
    pub fn has_ended(&mut self, token: Token) -> Result<bool> {
        self.take_in()?;
        Ok(self.flight.has_ended(token))
    }

    /// How many commands are under way.
    ///
    /// # Errors
    /// As [`has_ended`](Self::has_ended).
    pub fn under_way(&mut self) -> Result<usize> {
        self.take_in()?;
        Ok(self.flight.count())
    }

    fn check_usable(&self) -> Result<()> {
        match &self.broken {
            Some(error) => Err(error.clone()),
            None => Ok(()),
        }
    }

    /// Pauses, and takes in what has ended. Fails if the controller does nothing any more.
    fn look_again(&mut self, pause: &mut Pause, what: &str) -> Result<()> {
        match &self.interrupt {
            // One that is lost delays a command by no more than this.
            Some(interrupt) => {
                interrupt.wait(Some(STATUS_PACE))?;
            }
            None => pause.pause(),
        }
        self.take_in()?;
        let outcome = if pause.elapsed() > PATIENCE {
            let what = format!(
                "queue {} of {}: waited for {PATIENCE:?} for {what}; {} are under way",
                self.id,
                self.controller.bar.name,
                self.flight.count()
            );
            let remedy = "let go of this queue; if that does not help, reset the card";
            Err(Error::of(ErrorKind::TimedOut, what, remedy))
        } else if pause.is_status_due() {
            self.controller.bar.check_ready()
        } else {
            Ok(())
        };
        outcome.inspect_err(|error| self.broken = Some(error.clone()))
    }

    /// Takes in the completions that have come.
    fn take_in(&mut self) -> Result<()> {
        let before = self.head;
        let mut strange = None;
        while let Some(completion) = self.controller.common.completion(self.id, self.head, self.phase)? {
            if completion.queue != self.id || !self.flight.ends(&completion) {
                strange = Some(completion);
                break;
            }
            self.head = (self.head + 1) % self.entries;
            self.phase ^= self.head == 0;
        }
        if self.head != before {
            self.controller.bar.ring_completion(self.id, self.head)?;
        }
        let Some(completion) = strange else { return Ok(()) };
        let what = format!(
            "queue {} of {} has a completion of command {} of queue {}, which is not under way",
            self.id, self.controller.bar.name, completion.id, completion.queue
        );
        let error = Error::of(
            ErrorKind::Protocol,
            what,
            "see who else writes to the card or its memory (jitney status)",
        );
        self.broken = Some(error.clone());
        Err(error)
    }
}

/// A pair of queues that nobody has.
fn lease_one(controller: &Inner) -> Result<(u16, Lease)> {
    let mut last = None;
    for id in 1..=controller.pairs() {
        let part: Part = format!("queue{id}").parse()?;
        match controller.card.lease(LeaseRequest::exclusive(part).waiting(Duration::ZERO)) {
            Ok(lease) => return Ok((id, lease)),
            Err(error) if error.kind() == ErrorKind::Held => last = Some(error),
            Err(error) => return Err(error.into()),
        }
    }
    let who = last.map_or_else(String::new, |error| format!(": {error}"));
    let what = format!(
        "{} has {} pairs of I/O queues, and all are taken{who}",
        controller.bar.name,
        controller.pairs()
    );
    Err(Error::of(ErrorKind::Exhausted, what, "let go of one"))
}

/// The interrupt vector of a pair's number, if there is one and nobody has it.
fn vector_of(controller: &Inner, id: u16) -> Result<Option<Interrupt>> {
    if u32::from(id) >= controller.card.vectors()? {
        return Ok(None);
    }
    match controller.card.interrupt(id) {
        Ok(interrupt) => Ok(Some(interrupt)),
        Err(error) if matches!(error.kind(), ErrorKind::Held | ErrorKind::NotFound) => {
            tracing::info!(%error, "queue {id} is polled");
            Ok(None)
        }
        Err(error) => Err(error.into()),
    }
}

/// The low and the high 32 bits.
fn halves(value: u64) -> [u32; 2] {
    let [a, b, c, d, e, f, g, h] = value.to_le_bytes();
    [u32::from_le_bytes([a, b, c, d]), u32::from_le_bytes([e, f, g, h])]
}

impl Drop for QueuePair {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.keep();
            return;
        }
        let controller = Arc::clone(&self.controller);
        match controller.with_admin(|admin| admin.delete_pair(self.id)) {
            Err(error) if error.kind() != Some(ErrorKind::LinkDown) => {
                tracing::warn!(%error, "queue {} could not be deleted", self.id);
                self.keep();
            }
            _ => {}
        }
    }
}

impl QueuePair {
    /// What is under way may go on: its memory and the lease stay taken until the process ends.
    fn keep(&mut self) {
        if self.flight.count() > 0 {
            std::mem::forget(std::mem::replace(&mut self.flight, Flight::new(0)));
            std::mem::forget((self.lists.clone(), self.lease.take()));
        }
    }
}
