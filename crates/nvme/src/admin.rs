//! Admin commands: one at a time, of all processes, each under the lease `admin`.
//!
//! A command is written, then the state says that it is under way, then the controller is told, and when its completion was read the state says
//! so. Whoever is killed in between leaves a state in which the next one finds either nothing, or a command that is written as a whole: it
//! finishes that first.

use crate::bar::Bar;
use crate::common::{AdminState, Common, ENTRIES};
use crate::error::{Error, Result};
use crate::pause::Pause;
use crate::spec::entry::{Completion, Submission, admin};
use crate::spec::identify;
use crate::spec::status::Status;
use jitney_vfio::{Card, ErrorKind, Lease, LeaseRequest};
use std::time::Duration;

/// How long an admin command may take.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long to stand in line for the admin queues: several commands of others that are slow.
const TURN: Duration = Duration::from_secs(60);
/// How long a command of somebody who was killed may take, if it was told to the controller, before it is told again.
const TOLD: Duration = Duration::from_millis(100);

/// The right to send admin commands.
pub(crate) fn take_turn(card: &dyn Card) -> Result<Lease> {
    Ok(card.lease(LeaseRequest::exclusive("admin".parse()?).waiting(TURN))?)
}

/// The admin queues, for who has the lease.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Admin<'a> {
    bar: &'a Bar,
    common: &'a Common,
}

impl<'a> Admin<'a> {
    /// Of who has `_turn`. Finishes what somebody who was killed has begun.
    pub(crate) fn new(bar: &'a Bar, common: &'a Common, _turn: &'a Lease) -> Result<Self> {
        let this = Self { bar, common };
        bar.check_ready()?;
        let state = common.admin_state()?;
        if state.busy {
            tracing::warn!("{}: an admin command of a process that was killed is finished", bar.name);
            this.finish_for_another(state)?;
        }
        Ok(this)
    }

    /// What was begun may have been told to the controller, or not. Telling it the same again is nothing to it but an event of the kind
    /// "invalid doorbell value" (section 5.2), for which nobody has asked.
    fn finish_for_another(&self, state: AdminState) -> Result<()> {
        let pause = Pause::new();
        while self.common.completion(0, state.head, state.phase)?.is_none() {
            if pause.elapsed() > TOLD {
                self.bar.ring_submission(0, state.tail)?;
                break;
            }
            pause.pause();
        }
        self.finish(state, "an admin command of a process that was killed").map(drop)
    }

    fn execute(&self, mut command: Submission, what: &str) -> Result<Completion> {
        let before = self.common.admin_state()?;
        command.id = before.id.wrapping_add(1);
        self.common.write_submission(0, before.tail, &command)?;
        let begun = AdminState { tail: (before.tail + 1) % ENTRIES, id: command.id, busy: true, ..before };
        self.common.set_admin_state(begun)?;
        self.bar.ring_submission(0, begun.tail)?;
        self.finish(begun, what)
    }

    /// Waits for the end of the command that is under way.
    fn finish(&self, begun: AdminState, what: &str) -> Result<Completion> {
        let mut pause = Pause::new();
        let completion = loop {
            if let Some(completion) = self.common.completion(0, begun.head, begun.phase)? {
                break completion;
            }
            if pause.is_status_due() {
                self.bar.check_ready()?;
            }
            if pause.elapsed() > PATIENCE {
                let what = format!("{}: {what} has not ended within {PATIENCE:?}", self.bar.name);
                return Err(Error::of(
                    ErrorKind::TimedOut,
                    what,
                    "end all programs that use it, then reset the card",
                ));
            }
            pause.pause();
        };
        if completion.id != begun.id {
            let what = format!(
                "{}: the admin command {} was under way, and {} has ended: somebody else uses the admin queues",
                self.bar.name, begun.id, completion.id
            );
            return Err(Error::of(
                ErrorKind::Protocol,
                what,
                "end all programs that use it, then reset the card",
            ));
        }
        let head = (begun.head + 1) % ENTRIES;
        self.common.set_admin_state(AdminState {
            head,
            phase: begun.phase ^ (head == 0),
            busy: false,
            ..begun
        })?;
        self.bar.ring_completion(0, head)?;
        Ok(completion)
    }

    /// The same of a command that has to end well.
    fn done(&self, command: Submission, what: &str) -> Result<u32> {
        let completion = self.execute(command, what)?;
        match completion.status.is(Status::SUCCESS) {
            true => Ok(completion.result),
            false => Err(Error::Command {
                command: format!("{what} of {}", self.bar.name),
                status: completion.status,
            }),
        }
    }

    /// Identify: 4 KiB about the controller or a namespace.
    pub(crate) fn identify(&self, of: u32, namespace: u32, what: &str) -> Result<[u8; identify::SIZE]> {
        let command = Submission {
            operation: admin::IDENTIFY,
            namespace,
            prp1: self.common.answer_at(),
            words: [of, 0, 0, 0, 0, 0],
            ..Submission::default()
        };
        self.done(command, what)?;
        self.common.answer()
    }

    /// Asks for `pairs` of I/O queues; returns how many there are of them.
    pub(crate) fn number_of_queues(&self, pairs: u16) -> Result<u16> {
        let wanted = u32::from(pairs - 1);
        let command = Submission {
            operation: admin::SET_FEATURES,
            words: [admin::NUMBER_OF_QUEUES, wanted << 16 | wanted, 0, 0, 0, 0],
            ..Submission::default()
        };
        let given = self.done(command, "setting the number of queues")?;
        let fewest = (given & 0xffff).min(given >> 16).saturating_add(1);
        Ok(u16::try_from(fewest).unwrap_or(u16::MAX).min(pairs))
    }

    /// Makes pair `queue` of `entries`, with its interrupt vector if it has one. It is empty.
    pub(crate) fn create_pair(&self, queue: u16, entries: u16, vector: Option<u16>) -> Result<()> {
        let place = u32::from(entries - 1) << 16 | u32::from(queue);
        // Contiguous (bit 0), with interrupts (bit 1).
        let how = vector.map_or(1, |vector| u32::from(vector) << 16 | 0b11);
        self.common.clear(queue)?;
        self.common.set_may_exist(queue, true)?;
        let completions = Submission {
            operation: admin::CREATE_COMPLETION_QUEUE,
            prp1: self.common.completion_queue(queue),
            words: [place, how, 0, 0, 0, 0],
            ..Submission::default()
        };
        self.done(completions, &format!("making completion queue {queue}"))?;
        let submissions = Submission {
            operation: admin::CREATE_SUBMISSION_QUEUE,
            prp1: self.common.submission_queue(queue),
            words: [place, u32::from(queue) << 16 | 1, 0, 0, 0, 0],
            ..Submission::default()
        };
        self.done(submissions, &format!("making submission queue {queue}"))?;
        Ok(())
    }

    /// Deletes what there is of pair `queue`: the controller does nothing any more that was in it, and touches none of its memory.
    pub(crate) fn delete_pair(&self, queue: u16) -> Result<()> {
        let kinds =
            [(admin::DELETE_SUBMISSION_QUEUE, "submission"), (admin::DELETE_COMPLETION_QUEUE, "completion")];
        for (operation, kind) in kinds {
            let command =
                Submission { operation, words: [queue.into(), 0, 0, 0, 0, 0], ..Submission::default() };
            match self.done(command, &format!("deleting {kind} queue {queue}")) {
                // Whoever made it was killed in between.
                Err(error) if error.status().is_some_and(|status| status.is(Status::INVALID_QUEUE)) => {}
                outcome => {
                    outcome?;
                }
            }
        }
        self.common.set_may_exist(queue, false)
    }
}
