//! A controller as the NVM Express Base Specification 1.4 has it, as far as the driver can see: registers, admin and I/O queues, a disk in
//! memory. What the specification forbids is noted.

use jitney_nvme::spec::PAGE;
use jitney_nvme::spec::entry::{Completion, Submission, admin, nvm};
use jitney_nvme::spec::registers::{Capabilities, Configuration, ControllerStatus};
use jitney_nvme::spec::status::Status;
use jitney_vfio::{FakeBar, FakeCard, FakeHost};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};

pub(crate) const BLOCK: u64 = 512;
pub(crate) const BLOCKS: u64 = 16384;
/// Pairs of I/O queues that it gives.
pub(crate) const PAIRS: u16 = 3;
/// Entries of an I/O queue, so that queues are gone around often.
pub(crate) const ENTRIES: u16 = 8;
/// Shift of the most bytes of a transfer (MDTS): 512 KiB.
const MOST: u8 = 7;

pub(crate) struct Model {
    host: FakeHost,
    state: Mutex<State>,
}

#[derive(Default)]
pub(crate) struct State {
    pub(crate) configuration: Configuration,
    pub(crate) status: ControllerStatus,
    sizes: u32,
    addresses: [u32; 4],
    pub(crate) submissions: BTreeMap<u16, Submissions>,
    completions: BTreeMap<u16, Completions>,
    pub(crate) disk: Vec<u8>,
    /// Commands of I/O queues are kept, and not executed.
    pub(crate) holds: bool,
    pub(crate) held: Vec<(u16, Submission)>,
    /// What software has done that it must not.
    pub(crate) violations: Vec<String>,
    /// Operation codes of the admin commands so far.
    pub(crate) admin: Vec<u8>,
}

pub(crate) struct Submissions {
    base: u64,
    size: u16,
    head: u16,
    pub(crate) tail: u16,
    completions: u16,
}

struct Completions {
    base: u64,
    size: u16,
    tail: u16,
    head: u16,
    phase: bool,
    vector: Option<u16>,
}

/// A controller in a card with 4 interrupt vectors.
pub(crate) fn plugged() -> (FakeHost, Arc<Model>, Arc<FakeCard>) {
    let host = FakeHost::new();
    let disk = vec![0; usize::try_from(BLOCK * BLOCKS).unwrap()];
    let state = Mutex::new(State { disk, ..State::default() });
    let model = Arc::new(Model { host: host.clone(), state });
    let card = FakeCard::builder(&host, 0x1b36, 0x0010)
        .bar(0, 0x4000, Arc::clone(&model))
        .vectors(4)
        .build()
        .unwrap();
    (host, model, card)
}

impl Model {
    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    /// Executes what it holds, the last first.
    pub(crate) fn release(&self) {
        let mut state = self.state();
        while let Some((queue, command)) = state.held.pop() {
            let status = self.execute(&mut state, &command);
            self.complete(&mut state, queue, &command, status, 0);
        }
    }

    /// Writes a completion that nobody has asked for.
    pub(crate) fn completes_out_of_nothing(&self, queue: u16, id: u16) {
        let mut state = self.state();
        self.complete(&mut state, queue, &Submission { id, ..Submission::default() }, Status::SUCCESS, 0);
    }

    pub(crate) fn admin_queue(&self) -> u64 {
        let [low, high, ..] = self.state().addresses;
        u64::from(high) << 32 | u64::from(low)
    }

    fn reset_queues(state: &mut State) {
        state.submissions.clear();
        state.completions.clear();
        state.held.clear();
    }

    fn configure(state: &mut State, to: Configuration) {
        let was = std::mem::replace(&mut state.configuration, to);
        match (was.enable(), to.enable()) {
            (false, true) => {
                if state.status.ready() {
                    state.violations.push("enabled before it was disabled".into());
                }
                if (to.page(), to.command_set(), to.submission_entry(), to.completion_entry()) != (0, 0, 6, 4)
                {
                    state.violations.push(format!("configuration {to:?}"));
                }
                let pair =
                    |at: usize| u64::from(state.addresses[at + 1]) << 32 | u64::from(state.addresses[at]);
                let size = |bits: u32| u16::try_from(bits & 0xfff).unwrap() + 1;
                let (base, size) = ([pair(0), pair(2)], [size(state.sizes), size(state.sizes >> 16)]);
                if !base.iter().all(|base| base.is_multiple_of(PAGE)) {
                    state.violations.push("an admin queue that is no page".into());
                }
                let [head, tail] = [0, 0];
                state
                    .submissions
                    .insert(0, Submissions { base: base[0], size: size[0], head, tail, completions: 0 });
                let completions =
                    Completions { base: base[1], size: size[1], tail, head, phase: true, vector: None };
                state.completions.insert(0, completions);
                state.status = ControllerStatus::new().with_ready(true);
            }
            (true, false) => {
                Self::reset_queues(state);
                state.status = ControllerStatus::new();
            }
            _ => {}
        }
        if to.shutdown() == 1 {
            state.status.set_shutdown(2);
        }
    }

    fn doorbell(&self, number: u64, value: u32) {
        let mut state = self.state();
        let (queue, value) = (u16::try_from(number / 2).unwrap(), u16::try_from(value).unwrap());
        let known = match number % 2 {
            0 => state
                .submissions
                .get_mut(&queue)
                .map(|known| (known.size, std::mem::replace(&mut known.tail, value))),
            _ => state
                .completions
                .get_mut(&queue)
                .map(|known| (known.size, std::mem::replace(&mut known.head, value))),
        };
        match known {
            Some((size, before)) if value < size && value != before => {}
            Some(_) => state.violations.push(format!("doorbell {number} with {value}")),
            None => state.violations.push(format!("doorbell {number} of a queue that there is not")),
        }
        if number.is_multiple_of(2) {
            self.fetch(&mut state, queue);
        }
    }

    fn fetch(&self, state: &mut State, queue: u16) {
        while let Some(known) = state.submissions.get_mut(&queue).filter(|known| known.head != known.tail) {
            let mut bytes = [0; 64];
            let at = known.base + u64::from(known.head) * 64;
            known.head = (known.head + 1) % known.size;
            if self.host.read(at, &mut bytes).is_err() {
                state.status.set_fatal(true);
                return;
            }
            let command = Submission::from_bytes(&bytes);
            if queue == 0 {
                state.admin.push(command.operation);
                let (status, result) = self.administrate(state, &command);
                self.complete(state, 0, &command, status, result);
            } else if state.holds {
                state.held.push((queue, command));
            } else {
                let status = self.execute(state, &command);
                self.complete(state, queue, &command, status, 0);
            }
        }
    }

    fn complete(&self, state: &mut State, queue: u16, command: &Submission, status: Status, result: u32) {
        let (head, to) =
            state.submissions.get(&queue).map_or((0, queue), |known| (known.head, known.completions));
        let Some(known) = state.completions.get_mut(&to) else { return };
        if (known.tail + 1) % known.size == known.head {
            state.violations.push(format!("completion queue {to} has run over"));
            return;
        }
        let entry = Completion { result, head, queue, id: command.id, phase: known.phase, status };
        let at = known.base + u64::from(known.tail) * 16;
        known.tail = (known.tail + 1) % known.size;
        known.phase ^= known.tail == 0;
        let vector = known.vector;
        // As a real one does whose completion meets nothing.
        if self.host.write(at, &entry.to_bytes()).is_err() {
            state.status.set_fatal(true);
        }
        if let Some(vector) = vector {
            self.host.fire(vector);
        }
    }

    fn administrate(&self, state: &mut State, command: &Submission) -> (Status, u32) {
        let [word, how, ..] = command.words;
        let queue = u16::try_from(word & 0xffff).unwrap();
        let size = u16::try_from(word >> 16).unwrap().wrapping_add(1);
        let other = u16::try_from(how >> 16).unwrap();
        let specific = |code: u16| (Status::from_bits(1 << 8 | code), 0);
        let is_bad = queue == 0 || queue > PAIRS;
        let bad_place = how & 1 == 0 || !command.prp1.is_multiple_of(PAGE);
        match command.operation {
            admin::IDENTIFY => (self.identify(command), 0),
            admin::SET_FEATURES if word & 0xff == admin::NUMBER_OF_QUEUES => {
                let pairs = u32::from(PAIRS - 1);
                (Status::SUCCESS, pairs << 16 | pairs)
            }
            admin::CREATE_COMPLETION_QUEUE if is_bad || state.completions.contains_key(&queue) => specific(1),
            admin::CREATE_SUBMISSION_QUEUE if is_bad || state.submissions.contains_key(&queue) => specific(1),
            admin::CREATE_COMPLETION_QUEUE | admin::CREATE_SUBMISSION_QUEUE
                if !(2..=ENTRIES).contains(&size) =>
            {
                specific(2)
            }
            admin::CREATE_COMPLETION_QUEUE | admin::CREATE_SUBMISSION_QUEUE if bad_place => {
                (Status::INVALID_FIELD, 0)
            }
            admin::CREATE_COMPLETION_QUEUE => {
                let vector = (how & 2 != 0).then_some(other);
                let (base, tail, head, phase) = (command.prp1, 0, 0, true);
                state.completions.insert(queue, Completions { base, size, tail, head, phase, vector });
                (Status::SUCCESS, 0)
            }
            admin::CREATE_SUBMISSION_QUEUE if !state.completions.contains_key(&other) => specific(0),
            admin::CREATE_SUBMISSION_QUEUE => {
                let (base, head, tail, completions) = (command.prp1, 0, 0, other);
                state.submissions.insert(queue, Submissions { base, size, head, tail, completions });
                (Status::SUCCESS, 0)
            }
            admin::DELETE_SUBMISSION_QUEUE if is_bad || !state.submissions.contains_key(&queue) => {
                specific(1)
            }
            admin::DELETE_SUBMISSION_QUEUE => {
                let (own, others): (Vec<_>, Vec<_>) = state.held.drain(..).partition(|(of, _)| *of == queue);
                state.held = others;
                for (_, command) in own {
                    self.complete(state, queue, &command, Status::from_bits(0x08), 0);
                }
                state.submissions.remove(&queue);
                (Status::SUCCESS, 0)
            }
            admin::DELETE_COMPLETION_QUEUE if is_bad || !state.completions.contains_key(&queue) => {
                specific(1)
            }
            admin::DELETE_COMPLETION_QUEUE
                if state.submissions.values().any(|known| known.completions == queue) =>
            {
                specific(0x0c)
            }
            admin::DELETE_COMPLETION_QUEUE => {
                state.completions.remove(&queue);
                (Status::SUCCESS, 0)
            }
            _ => (Status::INVALID_OPCODE, 0),
        }
    }

    fn identify(&self, command: &Submission) -> Status {
        let mut bytes = [0; 4096];
        match (command.words[0], command.namespace) {
            (1, _) => {
                bytes[4..7].copy_from_slice(b"123");
                bytes[24..29].copy_from_slice(b"model");
                (bytes[77], bytes[516], bytes[525]) = (MOST, 1, 1);
            }
            (0, 1) => {
                bytes[..8].copy_from_slice(&BLOCKS.to_le_bytes());
                bytes[128 + 2] = 9;
            }
            (0, 2) => {}
            _ => return Status::INVALID_FIELD,
        }
        match self.host.write(command.prp1, &bytes) {
            Ok(()) => Status::SUCCESS,
            Err(_) => Status::DATA_TRANSFER_ERROR,
        }
    }

    fn execute(&self, state: &mut State, command: &Submission) -> Status {
        if command.namespace != 1 {
            return Status::from_bits(0x0b);
        }
        let block = u64::from(command.words[1]) << 32 | u64::from(command.words[0]);
        let count = u64::from(command.words[2] & 0xffff) + 1;
        match command.operation {
            nvm::FLUSH => return Status::SUCCESS,
            nvm::READ | nvm::WRITE => {}
            _ => return Status::INVALID_OPCODE,
        }
        if block.checked_add(count).is_none_or(|end| end > BLOCKS) {
            return Status::OUT_OF_RANGE;
        }
        let mut at = usize::try_from(block * BLOCK).unwrap();
        let length = count * BLOCK;
        if length > 4096 << MOST {
            return Status::INVALID_FIELD;
        }
        let Ok(pieces) = self.pieces(command, length) else { return Status::DATA_TRANSFER_ERROR };
        for (iova, length) in pieces {
            let bytes = &mut state.disk[at..at + usize::try_from(length).unwrap()];
            let done = match command.operation {
                nvm::READ => self.host.write(iova, bytes),
                _ => self.host.read(iova, bytes),
            };
            if done.is_err() {
                return Status::DATA_TRANSFER_ERROR;
            }
            at += bytes.len();
        }
        Status::SUCCESS
    }

    /// Where the data of a command is (section 4.3): the second entry is a page, or a list, whose last entry is the next list if there
    /// are more.
    fn pieces(&self, command: &Submission, length: u64) -> jitney_vfio::Result<Vec<(u64, u64)>> {
        let first = length.min(PAGE - command.prp1 % PAGE);
        let (mut pieces, mut left) = (vec![(command.prp1, first)], length - first);
        if (1..=PAGE).contains(&left) {
            pieces.push((command.prp2, left));
            left = 0;
        }
        let mut entry = command.prp2;
        while left > 0 {
            let mut bytes = [0; 8];
            self.host.read(entry, &mut bytes)?;
            let value = u64::from_le_bytes(bytes);
            if entry % PAGE == PAGE - 8 && left > PAGE {
                entry = value;
                continue;
            }
            pieces.push((value, left.min(PAGE)));
            left -= left.min(PAGE);
            entry += 8;
        }
        Ok(pieces)
    }
}

impl FakeBar for Model {
    fn read32(&self, offset: u64) -> u32 {
        let state = self.state();
        let most = ENTRIES - 1;
        let capabilities = Capabilities::new()
            .with_most_entries(most)
            .with_contiguous(true)
            .with_timeout(2)
            .with_nvm(true)
            .with_largest_page(4);
        match offset {
            0x00 => u32::try_from(capabilities.into_bits() & 0xffff_ffff).unwrap(),
            0x04 => u32::try_from(capabilities.into_bits() >> 32).unwrap(),
            0x08 => 0x0001_0400,
            0x14 => state.configuration.into_bits(),
            0x1c => state.status.into_bits(),
            0x24 => state.sizes,
            0x28..=0x34 => state.addresses[usize::try_from((offset - 0x28) / 4).unwrap()],
            _ => 0,
        }
    }

    fn write32(&self, offset: u64, value: u32) {
        let mut state = self.state();
        match offset {
            0x14 => Self::configure(&mut state, Configuration::from_bits(value)),
            0x24..=0x34 if state.configuration.enable() => {
                state.violations.push("admin queues moved while enabled".into())
            }
            0x24 => state.sizes = value,
            0x28..=0x34 => state.addresses[usize::try_from((offset - 0x28) / 4).unwrap()] = value,
            0x1000.. => {
                drop(state);
                self.doorbell((offset - 0x1000) / 4, value);
            }
            _ => state.violations.push(format!("a write to {offset:#x}")),
        }
    }

    fn reset(&self) {
        Self::configure(&mut self.state(), Configuration::new());
    }
}
