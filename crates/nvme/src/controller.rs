//! The controller as a process uses it: alone, or with others.

use crate::admin::{Admin, take_turn};
use crate::bar::Bar;
use crate::common::{Common, ENTRIES, PAIRS};
use crate::error::{Error, Result};
use crate::queue::QueuePair;
use crate::spec::identify::{CONTROLLER, ControllerIdentity, NAMESPACE, NamespaceIdentity};
use jitney_vfio::{Card, ErrorKind, Lease, LeaseRequest, Part};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// An NVMe controller, enabled. A clone is the same; the last of all processes to let go of it disables it.
#[derive(Debug, Clone)]
pub struct Controller {
    inner: Arc<Inner>,
}

/// Blocks of a drive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Namespace {
    /// Its number, from 1 on.
    pub id: u32,
    /// Bytes of a block.
    pub block_size: u64,
    /// How many blocks it has.
    pub blocks: u64,
}

#[derive(Debug)]
pub(crate) struct Inner {
    pub(crate) card: Arc<dyn Card>,
    pub(crate) bar: Bar,
    pub(crate) common: Common,
    pub(crate) identity: ControllerIdentity,
    pairs: u16,
    /// Of this process one thread at a time asks for the admin queues.
    turn: Mutex<()>,
    /// That this process uses the controller; none while it lets go of it.
    user: Mutex<Option<Lease>>,
}

/// The part that everybody shares who uses the controller.
fn controller_part() -> Result<Part> {
    Ok("controller".parse()?)
}

/// Uses it alone, if nobody else uses it.
fn alone(card: &dyn Card, bar: &Bar) -> Result<Option<Lease>> {
    let request = LeaseRequest::exclusive(controller_part()?).with_will(bar.will()).waiting(Duration::ZERO);
    match card.lease(request) {
        Ok(lease) => Ok(Some(lease)),
        Err(error) if error.kind() == ErrorKind::Held => Ok(None),
        Err(error) => Err(error.into()),
    }
}

impl Controller {
    /// Enables the controller of `card` if nobody uses it, else joins those who do. A process opens it once.
    ///
    /// # Errors
    /// [`ErrorKind::Unsupported`] if it is no NVMe controller that this driver can drive, [`ErrorKind::Held`] if another driver has it,
    /// [`ErrorKind::NotFound`] if others use it whose memory cannot be had, [`ErrorKind::LinkDown`], [`ErrorKind::TimedOut`] and
    /// [`ErrorKind::System`] if it does not do what it should.
    pub fn open(card: Arc<dyn Card>) -> Result<Self> {
        let bar = Bar::new(&*card, PAIRS)?;
        let turn = take_turn(&*card)?;
        let shared = LeaseRequest::shared(controller_part()?).with_will(bar.will()).waiting(Duration::ZERO);
        let (common, user) = match alone(&*card, &bar)? {
            Some(alone) => {
                let common = start(&*card, &bar, &turn)?;
                drop(alone);
                (common, card.lease(shared)?)
            }
            // First, so that it is not disabled meanwhile.
            None => {
                let user = card.lease(shared)?;
                (Common::attach(&*card)?, user)
            }
        };
        let bytes =
            Admin::new(&bar, &common, &turn)?.identify(CONTROLLER, 0, "identifying the controller")?;
        let identity = ControllerIdentity::from_bytes(&bytes);
        let pairs = common.pairs()?;
        let user = Mutex::new(Some(user));
        drop(turn);
        Ok(Self { inner: Arc::new(Inner { card, bar, common, identity, pairs, turn: Mutex::new(()), user }) })
    }

    /// Who it is, and what it can do.
    #[must_use]
    pub fn identity(&self) -> &ControllerIdentity {
        &self.inner.identity
    }

    /// The most bytes that one command can move.
    #[must_use]
    pub fn most_bytes(&self) -> u64 {
        self.inner.most_bytes()
    }

    /// How many pairs of I/O queues there are for all processes.
    #[must_use]
    pub fn pairs(&self) -> u16 {
        self.inner.pairs
    }

    /// Namespace `id`.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] if there is none, [`ErrorKind::Unsupported`] if its blocks have metadata; what the controller says.
    pub fn namespace(&self, id: u32) -> Result<Namespace> {
        let what = format!("identifying namespace {id}");
        let bytes = self.inner.with_admin(|admin| admin.identify(NAMESPACE, id, &what))?;
        let NamespaceIdentity { blocks, block_shift, metadata } = NamespaceIdentity::from_bytes(&bytes);
        let name = &self.inner.bar.name;
        if blocks == 0 {
            let what =
                format!("{name} has no namespace {id}; it can have {}", self.inner.identity.namespaces);
            return Err(Error::of(ErrorKind::NotFound, what, "use one that is attached, mostly 1"));
        }
        if metadata > 0 || !(9..=16).contains(&block_shift) {
            let what = format!(
                "namespace {id} of {name} has blocks of 2^{block_shift} bytes and {metadata} bytes of metadata each"
            );
            return Err(Error::of(ErrorKind::Unsupported, what, "format it without metadata (nvme format)"));
        }
        Ok(Namespace { id, block_size: 1 << block_shift, blocks })
    }

    /// A pair of I/O queues that nobody has, with the interrupt vector of its number if the card has that many and nobody has it.
    /// What a process left in it that was killed is deleted first.
    ///
    /// # Errors
    /// [`ErrorKind::Exhausted`] if all are taken; what the controller says.
    pub fn queue(&self) -> Result<QueuePair> {
        QueuePair::open(&self.inner, true)
    }

    /// The same without an interrupt: who waits looks at memory.
    ///
    /// # Errors
    /// As [`queue`](Self::queue).
    pub fn polled_queue(&self) -> Result<QueuePair> {
        QueuePair::open(&self.inner, false)
    }
}

/// Enables the controller with new admin queues, for who uses it alone.
fn start(card: &dyn Card, bar: &Bar, turn: &Lease) -> Result<Common> {
    bar.disable()?;
    let common = Common::make(card)?;
    let started = (|| {
        bar.enable(common.submission_queue(0), common.completion_queue(0), ENTRIES)?;
        let pairs = Admin::new(bar, &common, turn)?.number_of_queues(PAIRS)?;
        common.is_ready(card, pairs)
    })();
    match started {
        Ok(()) => Ok(common),
        Err(error) => {
            // Before its memory goes.
            if let Err(second) = bar.disable() {
                tracing::warn!(error = %second, "a controller could not be disabled");
                std::mem::forget(common);
            }
            Err(error)
        }
    }
}

impl Inner {
    pub(crate) const fn pairs(&self) -> u16 {
        self.pairs
    }

    pub(crate) fn most_bytes(&self) -> u64 {
        use crate::spec::{PAGE, prp::LIST};
        self.identity.most_bytes.unwrap_or(u64::MAX).min(LIST * PAGE)
    }

    /// Sends admin commands, when it is this process's turn.
    pub(crate) fn with_admin<T>(&self, run: impl FnOnce(Admin<'_>) -> Result<T>) -> Result<T> {
        let _one = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        let turn = take_turn(&*self.card)?;
        run(Admin::new(&self.bar, &self.common, &turn)?)
    }

    fn let_go(&self, user: Lease) -> Result<()> {
        // Nobody comes or goes meanwhile.
        let _turn = take_turn(&*self.card)?;
        drop(user);
        let Some(alone) = alone(&*self.card, &self.bar)? else { return Ok(()) };
        let done = self.bar.shut_down();
        match &done {
            Err(error) if error.kind() != Some(ErrorKind::LinkDown) => {
                // It may still use its queues: memory and lease stay taken until the process ends, and then the will is carried out.
                std::mem::forget((alone, self.common.clone()));
            }
            _ => drop(alone),
        }
        done
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        let user = self.user.get_mut().unwrap_or_else(PoisonError::into_inner).take();
        // Who unwinds leaves it to the lease's will.
        if let Some(user) = user.filter(|_| !std::thread::panicking())
            && let Err(error) = self.let_go(user)
        {
            tracing::warn!(%error, "a controller was not let go of in order");
        }
    }
}
