//! The memory that all processes which use a controller have in common: its admin queues with what whoever sends the next command has to know,
//! and the I/O queues of all. It is there as long as one of them is, whoever made it and whoever dies.
//!
//! | Page | Holds |
//! |---|---|
//! | 0 | [`MAGIC`], how many pairs of I/O queues there are, the [`AdminState`], and of each pair whether it may exist |
//! | 1, 2 | admin submission and completion queue |
//! | 3 | what Identify answers |
//! | 2 + 2 N, 3 + 2 N | submission and completion queue of pair N, from 1 on |

use crate::error::{Error, Result};
use crate::spec::entry::{Completion, Submission};
use crate::spec::{PAGE, identify};
use jitney_vfio::{Card, DmaBuffer, DmaRequest, ErrorKind};

/// The most entries of each queue: submissions fill a page.
pub(crate) const ENTRIES: u16 = 64;
/// The most pairs of I/O queues.
pub(crate) const PAIRS: u16 = 16;
/// The memory is ready, and as this version has it.
const MAGIC: u32 = 0x4a4e_0001;

const MAGIC_AT: u64 = 0x00;
const PAIRS_AT: u64 = 0x04;
const STATE_AT: u64 = 0x08;
const MADE_AT: u64 = 0x100;
const ANSWER: u64 = 3 * PAGE;

/// How far the admin queues are used: one word, so that it is as it was before or as it is after whenever its writer is killed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct AdminState {
    /// Where the next command goes; while one is under way, behind that.
    pub(crate) tail: u16,
    /// Where the next completion comes.
    pub(crate) head: u16,
    /// Of the last command.
    pub(crate) id: u16,
    /// The phase tag of the next completion.
    pub(crate) phase: bool,
    /// A command is written, and was or is about to be told to the controller.
    pub(crate) busy: bool,
}

impl AdminState {
    pub(crate) const FIRST: Self = Self { tail: 0, head: 0, id: 0, phase: true, busy: false };

    fn to_word(self) -> u64 {
        u64::from(self.tail)
            | u64::from(self.head) << 16
            | u64::from(self.id) << 32
            | u64::from(self.phase) << 48
            | u64::from(self.busy) << 49
    }

    fn from_word(word: u64) -> Self {
        let [a, b, c, d, e, f, flags, _] = word.to_le_bytes();
        let pair = |low, high| u16::from_le_bytes([low, high]);
        Self {
            tail: pair(a, b) % ENTRIES,
            head: pair(c, d) % ENTRIES,
            id: pair(e, f),
            phase: flags & 1 != 0,
            busy: flags & 2 != 0,
        }
    }
}

/// The memory, mapped for the card.
#[derive(Debug, Clone)]
pub(crate) struct Common(DmaBuffer);

/// What the memory of `card` is offered as.
pub(crate) fn name_for(card: &dyn Card) -> String {
    let address = &card.identity().address;
    let plain: String = address.chars().map(|c| if c == ':' || c == '.' { '-' } else { c }).collect();
    let fits = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    if plain.len() <= 27 && plain.chars().all(fits) {
        return format!("nvme-{plain}");
    }
    // FNV-1a: the same in every build of every program.
    let hash = address.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    format!("nvme-{hash:016x}")
}

impl Common {
    /// New memory, all zeros but for the state of the admin queues.
    pub(crate) fn make(card: &dyn Card) -> Result<Self> {
        let size = PAGE * (4 + 2 * u64::from(PAIRS));
        let buffer = card.dma_buffer(DmaRequest::new(size).aligned(PAGE))?;
        let this = Self(buffer);
        this.0.view().fill(0, usize::try_from(size).unwrap_or(0), 0).map_err(jitney_vfio::Error::from)?;
        this.set_admin_state(AdminState::FIRST)?;
        Ok(this)
    }

    /// From now on others can use it.
    pub(crate) fn is_ready(&self, card: &dyn Card, pairs: u16) -> Result<()> {
        self.store(PAIRS_AT, pairs.into())?;
        self.store(MAGIC_AT, MAGIC)?;
        Ok(card.offer(&self.0, &name_for(card))?)
    }

    /// The memory that others use.
    pub(crate) fn attach(card: &dyn Card) -> Result<Self> {
        let name = name_for(card);
        let buffer = card.attach(&name).map_err(|error| {
            let context = format!("others use the NVMe controller of {}, and their memory {name} cannot be had", card.identity());
            let remedy = "use the Controller that this process has; others have to use this driver, too, and be of this user";
            error.context(context).with_remedy(remedy)
        })?;
        let this = Self(buffer);
        if this.0.size() < PAGE * (4 + 2 * u64::from(PAIRS)) || this.load(MAGIC_AT)? != MAGIC {
            let what = format!("the memory {name} is not as this version of jitney-nvme has it");
            return Err(Error::of(
                ErrorKind::Unsupported,
                what,
                "use one version in all programs that share a controller",
            ));
        }
        Ok(this)
    }

    /// How many pairs of I/O queues the controller gives.
    pub(crate) fn pairs(&self) -> Result<u16> {
        Ok(u16::try_from(self.load(PAIRS_AT)?).unwrap_or(PAIRS).min(PAIRS))
    }

    pub(crate) fn admin_state(&self) -> Result<AdminState> {
        let word = self.0.view().load_acquire64(STATE_AT).map_err(jitney_vfio::Error::from)?;
        Ok(AdminState::from_word(word))
    }

    pub(crate) fn set_admin_state(&self, state: AdminState) -> Result<()> {
        Ok(self.0.view().store_release64(STATE_AT, state.to_word()).map_err(jitney_vfio::Error::from)?)
    }

    /// Whether pair `queue` may exist in the controller.
    pub(crate) fn may_exist(&self, queue: u16) -> Result<bool> {
        Ok(self.load(MADE_AT + 4 * u64::from(queue))? != 0)
    }

    pub(crate) fn set_may_exist(&self, queue: u16, may: bool) -> Result<()> {
        self.store(MADE_AT + 4 * u64::from(queue), may.into())
    }

    /// Where the card finds a submission queue; 0 is the admin queue.
    pub(crate) fn submission_queue(&self, queue: u16) -> u64 {
        self.0.iova() + Self::queue_at(queue)
    }

    /// Where the card finds a completion queue.
    pub(crate) fn completion_queue(&self, queue: u16) -> u64 {
        self.submission_queue(queue) + PAGE
    }

    fn queue_at(queue: u16) -> u64 {
        match u64::from(queue) {
            0 => PAGE,
            queue => (2 + 2 * queue) * PAGE,
        }
    }

    /// Empties a pair of queues that the controller does not know.
    pub(crate) fn clear(&self, queue: u16) -> Result<()> {
        Ok(self.0.write(Self::queue_at(queue), &[0; 2 * 4096])?)
    }

    pub(crate) fn write_submission(&self, queue: u16, index: u16, entry: &Submission) -> Result<()> {
        let at = Self::queue_at(queue) + u64::from(index) * Submission::SIZE;
        Ok(self.0.write(at, &entry.to_bytes())?)
    }

    /// The completion at `index` of a queue, if it has this phase tag: it is new.
    pub(crate) fn completion(&self, queue: u16, index: u16, phase: bool) -> Result<Option<Completion>> {
        let at = Self::queue_at(queue) + PAGE + u64::from(index) * Completion::SIZE;
        if Completion::phase_of(self.load(at + Completion::LAST_WORD)?) != phase {
            return Ok(None);
        }
        let mut bytes = [0; 16];
        self.0.read(at, &mut bytes)?;
        Ok(Some(Completion::from_bytes(bytes)))
    }

    /// Where the card is to write what Identify answers.
    pub(crate) fn answer_at(&self) -> u64 {
        self.0.iova() + ANSWER
    }

    pub(crate) fn answer(&self) -> Result<[u8; identify::SIZE]> {
        let mut bytes = [0; identify::SIZE];
        self.0.read(ANSWER, &mut bytes)?;
        Ok(bytes)
    }

    fn load(&self, at: u64) -> Result<u32> {
        Ok(self.0.view().load_acquire32(at).map_err(jitney_vfio::Error::from)?)
    }

    fn store(&self, at: u64, value: u32) -> Result<()> {
        Ok(self.0.view().store_release32(at, value).map_err(jitney_vfio::Error::from)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use jitney_vfio::{FakeCard, FakeHost};

    #[test]
    fn the_state_is_one_word() {
        let state = AdminState { tail: 63, head: 5, id: 0xffff, phase: true, busy: true };
        assert_eq!(AdminState::from_word(state.to_word()), state);
        assert_eq!(AdminState::from_word(AdminState::FIRST.to_word()), AdminState::FIRST);
        // Whoever can write to the memory can write anything there.
        let wild = AdminState::from_word(u64::MAX);
        assert!(wild.tail < ENTRIES && wild.head < ENTRIES);
    }

    #[test]
    fn the_memory_has_a_name_that_can_be_one() {
        let host = FakeHost::new();
        let name =
            |address: &str| name_for(&*FakeCard::builder(&host, 1, 2).address(address).build().unwrap());
        assert_eq!(name("0000:2e:00.0"), "nvme-0000-2e-00-0");
        let hashed = name("vfio-user:/run/a/B.sock");
        assert!(
            hashed.parse::<jitney_vfio::Part>().is_ok() && hashed != name("vfio-user:/run/a/b.sock"),
            "{hashed}"
        );
    }
}
