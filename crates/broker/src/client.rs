//! A client's link to its broker, and a card as a client has it.

use crate::line::Line;
use crate::protocol::{ClientUsage, Reply, Request};
use crate::server::door;
use jitney_memory::{EventFd, Memfd};
use jitney_vfio::{
    BarInfo, Card, Device, DmaBuffer, DmaPlace, DmaRequest, Error, ErrorKind, Grant, Handed, Identity,
    Interrupt, InterruptKind, Keeper, Lease, LeaseRequest, Notices, Part, Region, Result,
};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// The longest command line that a client tells its broker, in bytes.
const MAX_PROGRAM: usize = 120;

/// How long whoever is at the other end may take to show that it is a broker.
const HELLO_LIMIT: Duration = Duration::from_secs(10);

/// A client's link to its broker. It says goodbye when the last user of it is gone.
pub struct Link {
    /// One request is under way at a time; replies come in order.
    line: Mutex<Line>,
    broker: u32,
}

impl Link {
    /// Introduces this process to the broker at the other end of `socket`.
    ///
    /// # Errors
    /// [`ErrorKind::TimedOut`] if there is no answer within 10 seconds: whoever is there is no broker.
    pub(crate) fn new(socket: OwnedFd) -> Result<Self> {
        let line = Line::new(socket);
        line.limit_waiting(Some(HELLO_LIMIT))?;
        let mut link = Self { line: Mutex::new(line), broker: 0 };
        match link.ask(&Request::Hello { program: command_line() })? {
            Reply::Welcome { broker } => link.broker = broker,
            other => return Err(unexpected(&other)),
        }
        link.line().limit_waiting(None)?;
        Ok(link)
    }

    /// Introduces this process to the broker behind an inherited door.
    pub(crate) fn through(outside: impl AsFd) -> Result<Self> {
        Self::new(door::knock(outside)?)
    }

    /// The broker's process id.
    #[must_use]
    pub const fn broker(&self) -> u32 {
        self.broker
    }

    /// The cards of this broker, in the order of their indexes.
    pub(crate) fn cards(&self) -> Result<Vec<Identity>> {
        match self.ask(&Request::Cards)? {
            Reply::Cards(cards) => Ok(cards),
            other => Err(unexpected(&other)),
        }
    }

    /// Who uses what.
    pub(crate) fn usage(&self) -> Result<Vec<ClientUsage>> {
        match self.ask(&Request::Usage)? {
            Reply::Usage(usage) => Ok(usage),
            other => Err(unexpected(&other)),
        }
    }

    /// Memory that `card` reaches, or all do.
    pub(crate) fn dma_buffer(self: &Arc<Self>, card: Option<u32>, request: DmaRequest) -> Result<DmaBuffer> {
        let page_shift = u8::try_from(request.pages.bytes().ilog2()).unwrap_or(u8::MAX);
        let DmaRequest { size, align, top, .. } = request;
        let allocate = Request::Allocate { card, size, align, top, page_shift };
        // Not within the match, where the line would stay locked while a buffer that failed is given back.
        let allocated = self.line().allocate(&allocate)?;
        match allocated {
            (Reply::Allocated { iova, size }, descriptors) => {
                let [descriptor] = counted(descriptors)?;
                let memory = Memfd::adopt(descriptor, size)?;
                let keeper = Arc::new(MemoryKeeper(Arc::clone(self)));
                DmaBuffer::new(memory, DmaPlace { iova, size }, keeper)
            }
            (other, _) => Err(unexpected(&other)),
        }
    }

    pub(crate) fn open(self: &Arc<Self>, index: usize, identity: &Identity) -> Result<ClientCard> {
        let card = u32::try_from(index).unwrap_or(u32::MAX);
        let (kind, descriptors) = match self.exchange(&Request::Open { card }, None)? {
            (Reply::Opened { kind }, descriptors) => (kind, descriptors),
            (other, _) => return Err(unexpected(&other)),
        };
        let opened = Opened(Arc::new(CardKeeper { link: Arc::clone(self), card }));
        let [grant, leaving, failed] = counted(descriptors)?;
        let notices = Notices::new(Some(leaving.try_into()?), Some(failed.try_into()?))?;
        let device = Grant::from_parts(kind, grant)?.open(identity.address.clone())?;
        Ok(ClientCard { device, notices, opened })
    }

    fn ask(&self, request: &Request) -> Result<Reply> {
        Ok(self.exchange(request, None)?.0)
    }

    fn done(&self, request: &Request, descriptor: Option<BorrowedFd<'_>>) -> Result<()> {
        match self.exchange(request, descriptor)?.0 {
            Reply::Done => Ok(()),
            other => Err(unexpected(&other)),
        }
    }

    fn exchange(
        &self,
        request: &Request,
        descriptor: Option<BorrowedFd<'_>>,
    ) -> Result<(Reply, Vec<OwnedFd>)> {
        self.line().exchange(request, descriptor)
    }

    fn line(&self) -> MutexGuard<'_, Line> {
        self.line.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        // If the broker is gone there is nobody to say goodbye to, and nothing of ours is left there.
        if let Err(error) = self.done(&Request::Goodbye, None) {
            tracing::debug!(%error, "no goodbye");
        }
    }
}

impl std::fmt::Debug for Link {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Link(broker pid {})", self.broker)
    }
}

/// A card as a client of a broker has it: registers directly, the rest by asking the broker.
#[derive(Debug)]
pub struct ClientCard {
    device: Device,
    notices: Notices,
    opened: Opened,
}

/// Closes the card at the broker when it is dropped.
#[derive(Debug)]
struct Opened(Arc<CardKeeper>);

impl Drop for Opened {
    fn drop(&mut self) {
        self.0.close();
    }
}

impl ClientCard {
    fn keeper(&self) -> &Arc<CardKeeper> {
        &self.opened.0
    }
}

impl Card for ClientCard {
    fn identity(&self) -> &Identity {
        self.device.identity()
    }

    fn bars(&self) -> &[BarInfo; 6] {
        self.device.bars()
    }

    fn bar(&self, index: usize) -> Result<Region> {
        self.device.bar(index)
    }

    fn config(&self) -> Result<Region> {
        self.device.config()
    }

    fn dma_buffer(&self, request: DmaRequest) -> Result<DmaBuffer> {
        let keeper = self.keeper();
        keeper.link.dma_buffer(Some(keeper.card), request)
    }

    fn lease(&self, request: LeaseRequest) -> Result<Lease> {
        let keeper = self.keeper();
        let part = request.part.clone();
        match keeper.link.ask(&Request::Lease { card: keeper.card, request })? {
            Reply::Leased(id) => Ok(Lease::new(part, id, Arc::clone(keeper) as _)),
            other => Err(unexpected(&other)),
        }
    }

    fn interrupt(&self, vector: u16) -> Result<Interrupt> {
        let keeper = self.keeper();
        let lease = self.lease(LeaseRequest::exclusive(Part::interrupt(vector)))?;
        // The broker says what is wrong with a card that has none.
        let kind = self.device.vectors()?.map_or(InterruptKind::MsiX, |(kind, _)| kind);
        let event = EventFd::new()?;
        keeper.link.done(&Request::Wire { card: keeper.card, vector }, Some(event.as_fd()))?;
        Ok(Interrupt::new(vector, event, lease, Arc::clone(keeper) as _, (kind, &self.device)))
    }

    fn notices(&self) -> Result<Notices> {
        Ok(self.notices.clone())
    }

    fn reset(&self) -> Result<()> {
        let keeper = self.keeper();
        keeper.link.done(&Request::Reset { card: keeper.card }, None)
    }
}

/// Gives back to the broker what a client has of one card.
#[derive(Debug)]
struct CardKeeper {
    link: Arc<Link>,
    card: u32,
}

impl CardKeeper {
    fn close(&self) {
        if let Err(error) = self.link.done(&Request::Close { card: self.card }, None)
            && error.kind() != ErrorKind::Disconnected
        {
            tracing::debug!(card = self.card, %error, "a card stays open until this process says goodbye");
        }
    }
}

impl Keeper for CardKeeper {
    fn take_back(&self, what: Handed) -> Result<()> {
        let card = self.card;
        let request = match what {
            Handed::Buffer { .. } => return Err(foreign(what)),
            Handed::Lease { id } => Request::Release { card, lease: id },
            Handed::Interrupt { vector } => Request::Silence { card, vector },
        };
        self.link.done(&request, None)
    }
}

/// Gives memory back to the broker.
#[derive(Debug)]
struct MemoryKeeper(Arc<Link>);

impl Keeper for MemoryKeeper {
    fn take_back(&self, what: Handed) -> Result<()> {
        match what {
            Handed::Buffer { iova } => self.0.done(&Request::Free { iova }, None),
            Handed::Lease { .. } | Handed::Interrupt { .. } => Err(foreign(what)),
        }
    }

    /// Without waiting for the reply: that costs a program as much as making a buffer.
    fn take_back_soon(&self, what: Handed) {
        let outcome = match what {
            Handed::Buffer { iova } => self.0.line().post(&Request::Free { iova }),
            Handed::Lease { .. } | Handed::Interrupt { .. } => Err(foreign(what)),
        };
        if let Err(error) = outcome {
            tracing::warn!(?what, %error, "could not be given back");
        }
    }
}

fn foreign(what: Handed) -> Error {
    Error::new(ErrorKind::Invalid, format!("{what:?} was handed out by somebody else"))
}

/// The descriptors of a reply, of which there have to be so many.
fn counted<const N: usize>(descriptors: Vec<OwnedFd>) -> Result<[OwnedFd; N]> {
    descriptors.try_into().map_err(|came: Vec<_>| {
        let what = format!("{} descriptors came with the broker's reply instead of {N}", came.len());
        Error::new(ErrorKind::Protocol, what)
    })
}

fn unexpected(reply: &Reply) -> Error {
    Error::new(ErrorKind::Protocol, format!("the broker answered something else than was asked: {reply:?}"))
}

/// This process's command line, for people who ask who holds what.
fn command_line() -> String {
    let mut words = std::env::args();
    let program = words.next().unwrap_or_default();
    let name = Path::new(&program).file_name().map(|name| name.to_string_lossy().into_owned());
    let mut line = name.unwrap_or(program);
    for word in words {
        line.push(' ');
        line.push_str(&word);
    }
    if line.len() > MAX_PROGRAM {
        let end = line.floor_char_boundary(MAX_PROGRAM);
        line.truncate(end);
        line.push('…');
    }
    line
}
