//! The worker of one card: everything that touches the card after it was opened. What its clients do to it can make it wait, and
//! then waits nobody but they.

use super::worker::{Finished, Order, Report, Worker};
use crate::machine::{Failure, Outcome, Task, TaskId, Work};
use crate::protocol::CardId;
use jitney_vfio::{Error, ErrorKind, OpenedCard, Result, RunningWill, WillProgress};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::Duration;

/// How often a register that a will waits for is looked at.
const LOOK: Duration = Duration::from_millis(1);
/// How often a card in use is looked after.
const WATCH: Duration = Duration::from_secs(5);

/// Starts the worker of `card`.
pub(super) fn start(id: CardId, card: OpenedCard, report: Report) -> Result<Worker> {
    let name = format!("card {}", card.identity().address);
    Worker::start(name, move |orders| {
        CardWorker { id, card: Some(card), used: false, odd: false, gone: false, wills: Vec::new(), report }
            .run(&orders);
    })
}

struct CardWorker {
    id: CardId,
    /// Until it is closed for good.
    card: Option<OpenedCard>,
    /// Whether somebody has it, as far as this worker knows.
    used: bool,
    /// Whether something about it was found odd, and said.
    odd: bool,
    /// Whether it was said that the board is gone.
    gone: bool,
    wills: Vec<(TaskId, RunningWill)>,
    report: Report,
}

impl CardWorker {
    fn run(mut self, orders: &Receiver<Order>) {
        loop {
            let patience = if self.wills.is_empty() { WATCH } else { LOOK };
            match orders.recv_timeout(patience) {
                // What a broker before this one has begun is done from the start: nothing of it is worse for coming twice.
                Ok(Order::Begin { id, task, descriptor, again: _ }) => self.begin(id, task, descriptor),
                // What it does is short, or has its own limit.
                Ok(Order::Cancel { .. } | Order::Space { .. } | Order::Return { .. }) => {}
                Err(RecvTimeoutError::Timeout) if self.wills.is_empty() => self.watch(),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) if self.wills.is_empty() => return,
                Err(RecvTimeoutError::Disconnected) => std::thread::sleep(LOOK),
            }
            self.go_on_with_wills();
            self.say_if_gone();
        }
    }

    /// Says once that the connection to an emulated board has ended: it is another one that may listen there now.
    fn say_if_gone(&mut self) {
        let Some(card) = self.card.as_ref().filter(|card| !self.gone && card.has_ended()) else { return };
        tracing::warn!(card = %card.identity(), "the board does not answer any more");
        self.gone = true;
        self.report.gone(self.id);
    }

    fn begin(&mut self, id: TaskId, task: Task, descriptor: Option<OwnedFd>) {
        let mut descriptors = Vec::new();
        let outcome = match task.work {
            Work::CarryOut { wills, .. } => match self.prepare() {
                Ok(()) => {
                    return self.wills.push((id, RunningWill::new(wills.into_iter().map(|(_, will)| will))));
                }
                Err(error) => Err(error),
            },
            Work::Grant { .. } => self.grant().map(|(kind, grant)| {
                descriptors.push(grant);
                Outcome::Grant { kind }
            }),
            Work::Wire { vector, .. } => {
                let missing = || Error::new(ErrorKind::Invalid, "there is no eventfd to wire a vector to");
                let event = descriptor.as_ref().map(AsFd::as_fd).ok_or_else(missing);
                event.and_then(|event| self.card()?.wire(vector, Some(event))).map(|()| Outcome::Done)
            }
            Work::Silence { vector, .. } => {
                self.card().and_then(|card| card.wire(vector, None)).map(|()| Outcome::Done)
            }
            Work::Reset { unused, .. } => self.reset(unused).map(|()| Outcome::Done),
            Work::Close { .. } => self.close().map(|()| Outcome::Done),
            Work::Map { .. }
            | Work::Place { .. }
            | Work::Unmap { .. }
            | Work::Share { .. }
            | Work::Look { .. }
            | Work::Take { .. }
            | Work::Return { .. } => {
                Err(Error::new(ErrorKind::System, "that is not done by a card's worker"))
            }
        };
        self.finish(id, outcome, descriptors);
    }

    fn finish(&self, task: TaskId, outcome: Result<Outcome>, descriptors: Vec<OwnedFd>) {
        let vectors = (self.id, self.card.as_ref().and_then(OpenedCard::enabled_vectors));
        let outcome = outcome.map_err(Failure::from);
        self.report.send(Finished { descriptors, vectors: Some(vectors), ..Finished::of(task, outcome) });
    }

    fn card(&mut self) -> Result<&mut OpenedCard> {
        self.card.as_mut().ok_or_else(|| Error::new(ErrorKind::LinkDown, "the broker has closed this card"))
    }

    fn grant(&mut self) -> Result<(u8, OwnedFd)> {
        let card = self.card()?;
        card.set_bus_master(true)?;
        card.set_memory_decode(true)?;
        let grant = card.grant()?;
        let kind = grant.kind();
        self.used = true;
        Ok((kind, grant.into()))
    }

    /// A client may have switched off what a will needs: that the card answers at its addresses.
    fn prepare(&mut self) -> Result<()> {
        let card = self.card()?;
        if !card.memory_decode()? {
            tracing::warn!(card = %card.identity(), "somebody has switched the card's memory off; it is on again");
            card.set_memory_decode(true)?;
        }
        Ok(())
    }

    fn go_on_with_wills(&mut self) {
        let Some(card) = self.card.as_mut() else { return };
        let (mut waiting, mut ended) = (Vec::new(), Vec::new());
        for (task, mut running) in self.wills.drain(..) {
            match running.step(card) {
                WillProgress::Waits => waiting.push((task, running)),
                WillProgress::Ended(outcome) => ended.push((task, outcome)),
            }
        }
        self.wills = waiting;
        for (task, outcome) in ended {
            self.finish(task, outcome.map(|()| Outcome::Done), Vec::new());
        }
    }

    fn reset(&mut self, unused: bool) -> Result<()> {
        let card = self.card()?;
        if unused {
            // A reset leaves bus mastering as it was; a grant switches it on again.
            quiet(card)?;
        }
        let outcome = card.reset();
        if unused {
            (self.used, self.odd) = (false, false);
        }
        outcome
    }

    fn close(&mut self) -> Result<()> {
        let mut card = self.card.take();
        let Some(card) = card.as_mut() else { return Ok(()) };
        match quiet(card) {
            // Of a card that is gone nothing is left to switch off.
            Err(error) if error.kind() == ErrorKind::LinkDown => Ok(()),
            outcome => outcome,
        }
    }

    /// Looks after a card in use. What its clients can switch off behind the broker's back is at least said.
    fn watch(&mut self) {
        if !self.used {
            return;
        }
        let Some(card) = self.card.as_mut() else { return };
        let (Ok(bus_master), Ok(decode)) = (card.bus_master(), card.memory_decode()) else { return };
        let odd = !bus_master || !decode;
        if odd && !self.odd {
            let what = if decode { "its right to start DMA" } else { "its memory" };
            tracing::warn!(
                card = %card.identity(),
                "somebody who uses the card has switched off {what}: others who use it can not"
            );
        }
        self.odd = odd;
    }
}

/// Switches the card's DMA off, and makes sure.
fn quiet(card: &mut OpenedCard) -> Result<()> {
    card.set_bus_master(false)?;
    match card.bus_master()? {
        false => Ok(()),
        true => Err(Error::new(
            ErrorKind::System,
            format!("card {}: bus mastering cannot be switched off", card.identity()),
        )),
    }
}
