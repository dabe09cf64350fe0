//! What the server writes down and has kept, so that another broker can go on where this one stops, however it stops.
//!
//! Nothing is carried out that is not written, and no descriptor is needed by what is written that is not kept: so each is
//! kept first, then the event is written, then it is handled.

use crate::ledger::{Books, Known, LedgerFile, Record};
use crate::machine::{ClientId, Effect, Event, Machine, Outcome, TaskId, Work};
use crate::manager::Store;
use crate::protocol::CardId;
use jitney_memory::MemoryId;
use jitney_vfio::{Identity, OpenedSpace, Result, SpaceRecord};
use rustix::time::{ClockId, clock_gettime};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

/// How long who comes waits for a manager that takes nothing. A program that hangs for longer is as good as gone, and nobody is kept from
/// the cards by it.
const PATIENCE: Duration = Duration::from_secs(60);

/// The name under which the ledger is kept.
pub(crate) const LEDGER: &str = "ledger";

/// The name of a client's socket, of its process, and of the page in which it counts.
pub(super) fn names_of(client: ClientId) -> [String; 3] {
    let number = client.0;
    [format!("k{number}"), format!("p{number}"), format!("t{number}")]
}

/// The name of what a piece of work has brought about.
pub(super) fn name_of(task: TaskId) -> String {
    format!("m{}", task.0)
}

/// The names of a socket at which this broker listens, and of its lock.
pub(super) fn names_of_entrance(number: u64) -> [String; 2] {
    [format!("l{number}"), format!("x{number}")]
}

pub(super) struct Keeping {
    store: Store,
    file: LedgerFile,
    known: Known,
    /// What the work that is reported now has brought about.
    brought: Option<TaskId>,
    /// When what is handled now happened.
    at: u64,
    /// It could not be written, and is worth nothing any more.
    broken: bool,
}

/// The time in milliseconds, the same in all processes of this machine.
pub(super) fn now() -> u64 {
    let now = clock_gettime(ClockId::Monotonic);
    let milliseconds = now.tv_sec.unsigned_abs().saturating_mul(1000);
    milliseconds.saturating_add(now.tv_nsec.unsigned_abs() / 1_000_000)
}

/// Has the descriptors of a space kept. Returns the record of it.
pub(super) fn keep_space(store: &mut Store, number: usize, opened: &OpenedSpace) -> Result<SpaceRecord> {
    let (record, descriptors) = opened.record(number)?;
    for (name, descriptor) in descriptors {
        store.keep(&name, descriptor);
    }
    Ok(record)
}

impl Keeping {
    /// Begins to write down what `machine` does.
    pub(super) fn begin(mut store: Store, machine: &Machine, known: Known) -> Result<Self> {
        let file = LedgerFile::create(&Books::encode(machine, &known)?)?;
        store.keep(LEDGER, &file);
        store.settle();
        Ok(Self::go_on(store, file, known))
    }

    /// Goes on in the ledger of a broker before this one.
    pub(super) const fn go_on(store: Store, file: LedgerFile, known: Known) -> Self {
        Self { store, file, known, brought: None, at: 0, broken: false }
    }

    pub(super) fn keep(&mut self, name: &str, descriptor: impl AsFd) {
        self.store.keep(name, descriptor);
    }

    pub(super) fn forget(&mut self, name: &str) {
        self.store.forget(name);
    }

    /// A client has come; whether it can be let in. It cannot while the manager takes nothing, as it would be lost with this process.
    pub(super) fn came(
        &mut self,
        client: ClientId,
        socket: BorrowedFd<'_>,
        process: Option<BorrowedFd<'_>>,
    ) -> bool {
        let [socket_name, process_name, _] = names_of(client);
        self.store.keep(&socket_name, socket);
        if let Some(process) = process {
            self.store.keep(&process_name, process);
        }
        // Before it is written down that there is such a client: who is killed before the manager has it would lose it.
        self.store.settle() || !self.is_patient()
    }

    /// What a piece of work of a broker before this one has brought about is being said again.
    pub(super) const fn has_brought(&mut self, task: TaskId) {
        self.brought = Some(task);
    }

    /// Sends what the manager had no room for; whether that was all.
    pub(super) fn flush(&mut self) -> bool {
        self.store.flush()
    }

    /// Whether who comes should wait for a manager that takes nothing: not for ever.
    pub(super) fn is_patient(&self) -> bool {
        self.store.hangs_since().is_some_and(|since| since.elapsed() < PATIENCE)
    }

    /// A request is about to be taken out of a client's socket.
    pub(super) fn takes(&mut self, client: ClientId, number: u64) {
        self.write(&Record::Taking { client, number });
    }

    /// An event is about to be handled by `machine`; `carried` came with it.
    pub(super) fn happens(&mut self, event: &Event, carried: &[OwnedFd], machine: &Machine) {
        self.at = now();
        if let (Event::Finished { task, outcome: Ok(outcome) }, Some(descriptor)) = (event, carried.first()) {
            // The answer goes with it: a broker that comes next could not make it again.
            self.store.keep(&name_of(*task), descriptor);
            self.store.settle();
            self.brought = Some(*task);
            let place = match (machine.work(*task), outcome) {
                (Some(Work::Map { iova, .. }), _) => Some(*iova),
                (_, Outcome::Placed(place)) => Some(place.iova),
                _ => None,
            };
            if let (Some(iova), Ok(memory)) = (place, MemoryId::of(descriptor)) {
                self.note(Record::Memory { iova, memory });
            }
        }
        self.write(&Record::Happened { event: event.clone(), at: self.at });
        self.known.before(event, machine);
    }

    /// Something is about to be done.
    pub(super) fn does(&mut self, effect: &Effect) {
        self.known.after(effect, self.at);
        match effect {
            Effect::Keep { id } if self.brought == Some(*id) => self.brought = None,
            Effect::Forget { id } => self.store.forget(&name_of(*id)),
            Effect::Disconnect { client } => {
                names_of(*client).iter().for_each(|name| self.store.forget(name));
            }
            _ => {}
        }
    }

    /// All of it was done.
    pub(super) fn did(&mut self, machine: &Machine) {
        self.write(&Record::CarriedOut);
        if let Some(task) = self.brought.take() {
            self.store.forget(&name_of(task));
        }
        if self.file.is_long() {
            self.renew(machine);
        }
    }

    /// Begins anew with a snapshot.
    pub(super) fn renew(&mut self, machine: &Machine) {
        if self.broken {
            return;
        }
        let written = Books::encode(machine, &self.known).and_then(|books| self.file.begin(&books));
        self.check(written);
    }

    /// Whether messages wait in this process for a client.
    pub(super) fn is_behind(&mut self, client: ClientId, behind: bool) {
        if self.known.behind.contains(&client) != behind {
            self.note(Record::Behind { client, behind });
        }
    }

    /// How many vectors a card has enabled.
    pub(super) fn has_vectors(&mut self, card: CardId, count: Option<u32>) {
        if self.known.vectors.get(&card).copied() != count {
            self.note(Record::Vectors { card, count });
        }
    }

    /// A card is closed: nothing may keep it open any more.
    pub(super) fn closed(&mut self, card: &Identity) {
        let mut changed = Vec::new();
        for (&number, space) in &self.known.spaces {
            let names = space.card_names(number).unwrap_or_default();
            let name = names.into_iter().find(|(identity, _)| *identity == card).map(|(_, name)| name);
            if let Some(name) = name {
                self.store.forget(&name);
                let mut space = space.clone();
                space.close(&card.address);
                changed.push((number, space));
            }
        }
        for (number, space) in changed {
            self.note(Record::Space { number, space: Some(space) });
        }
    }

    /// Cards were opened because somebody has asked for them.
    pub(super) fn opened(&mut self, number: usize, opened: &OpenedSpace) -> Result<()> {
        let record = keep_space(&mut self.store, number, opened)?;
        self.store.settle();
        self.note(Record::Space { number, space: Some(record) });
        Ok(())
    }

    /// What is left of an address space is about to be closed, and nothing may keep it open. What is returned hangs up when the manager
    /// has let go of it.
    pub(super) fn returns(&mut self, number: usize) -> Option<OwnedFd> {
        if let Some(space) = self.known.spaces.get(&number) {
            let names = space.descriptor_names(number).unwrap_or_default();
            names.iter().for_each(|name| self.store.forget(name));
            self.note(Record::Space { number, space: None });
        }
        self.store.ask_barrier()
    }

    fn note(&mut self, record: Record) {
        self.write(&record);
        self.known.note(record);
    }

    fn write(&mut self, record: &Record) {
        if !self.broken {
            let written = record.encode().and_then(|record| self.file.append(&record));
            self.check(written);
        }
    }

    /// Half a ledger is worse than none: what it says would not be what is.
    fn check(&mut self, written: Result<()>) {
        let Err(error) = written else { return };
        self.broken = true;
        tracing::error!(%error, "a broker that comes after this one begins anew");
        if let Err(error) = self.file.give_up() {
            tracing::error!(%error, "the broker's ledger cannot even be given up");
        }
    }

    /// Nobody is to go on where this broker ends.
    pub(super) fn end(&mut self) {
        self.broken = true;
        if let Err(error) = self.file.give_up() {
            tracing::error!(%error, "the broker's ledger cannot be given up");
        }
        self.store.forget(LEDGER);
        self.store.settle();
    }

    /// Waits until the manager has all that it is to keep; false if there is none any more.
    pub(super) fn is_all_kept(&mut self) -> bool {
        !self.broken && self.store.barrier()
    }
}
