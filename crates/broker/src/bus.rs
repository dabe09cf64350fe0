//! `Bus`: the one door that programs use, alone or under a broker.

use crate::environment::{self, BROKER_VARIABLE};
use crate::link::{Link, lock};
use crate::offer::{Offer, Token};
use crate::owner_options::OwnerOptions;
use crate::protocol::{CardEntry, Offered};
use crate::runtime::RuntimeFolder;
use crate::socket;
use crate::usage::{Traffic, Usage};
use crate::watch::Watch;
use jitney_memory::inherited_socket;
use jitney_vfio::{
    Card, CardAddress, DmaBuffer, DmaRequest, DmaView, Error, ErrorKind, Identity, IommuInterface, OwnedCard,
    Owner, Result,
};
use rustix::io::Errno;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// How long a broker that hung up on a newcomer may take to be there again.
const NEXT_BROKER_LIMIT: Duration = Duration::from_secs(5);
/// How often it is tried.
const NEXT_BROKER_PACE: Duration = Duration::from_millis(10);

/// The cards that a program can use, whoever owns them.
///
/// A program that opens a `Bus` runs alone, and then owns the cards itself, or as the client of a broker, and then shares
/// them with others. Nothing else in it differs.
#[derive(Debug)]
pub struct Bus {
    inner: Inner,
}

#[derive(Debug)]
enum Inner {
    Alone {
        /// `None` if there is no card.
        owner: Option<Owner>,
        /// Which cards it wanted; `None` if it wanted none.
        options: Option<OwnerOptions>,
    },
    Client {
        link: Arc<Link>,
        /// As they were when the bus was opened, until somebody watches.
        cards: Arc<Mutex<Vec<CardEntry>>>,
    },
}

/// How to open a [`Bus`] otherwise than by looking around.
#[derive(Debug, Clone, Default)]
pub struct BusOptions {
    broker: Option<PathBuf>,
    owner: OwnerOptions,
    wait: Option<Duration>,
}

impl BusOptions {
    /// Use the broker whose socket is at `path`, and no other.
    #[must_use]
    pub fn broker(mut self, path: impl Into<PathBuf>) -> Self {
        self.broker = Some(path.into());
        self
    }

    /// Own the card at `address`. With any such card no broker is looked for.
    #[must_use]
    pub fn card(mut self, address: CardAddress) -> Self {
        self.owner.cards.push(address);
        self
    }

    /// By which interface of the kernel this process opens cards, if it has to. Without it `JITNEY_IOMMU` decides.
    #[must_use]
    pub fn iommu(mut self, interface: IommuInterface) -> Self {
        self.owner.iommu = Some(interface);
        self
    }

    /// If this process opens cards, give each an address space of its own: a card reaches the memory that it was asked
    /// for, and that of the bus, but not what other cards were asked for.
    #[must_use]
    pub fn isolate(mut self, isolate: bool) -> Self {
        self.owner.isolate = isolate;
        self
    }

    /// How long to stand in line for what another program holds, where a lease does not say so itself; [`Duration::MAX`] for as
    /// long as it takes. Without it `JITNEY_WAIT` decides, and without that nobody waits.
    #[must_use]
    pub const fn wait(mut self, wait: Duration) -> Self {
        self.wait = Some(wait);
        self
    }

    /// Opens the bus.
    ///
    /// # Errors
    /// As [`Bus::open`].
    pub fn open(self) -> Result<Bus> {
        match self.shared()? {
            Some(bus) => Ok(bus),
            None => Bus::own(&self.owner),
        }
    }

    /// Opens the bus of the broker that [`open`](Self::open) would use, for a program that has nothing to do without one. It never
    /// owns a card.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] if there is none, else as [`Bus::open`].
    pub fn open_shared(self) -> Result<Bus> {
        self.shared()?.ok_or_else(|| {
            Error::new(ErrorKind::NotFound, "no broker runs for this user").with_remedy(
                "start one (jitney broker), start the programs with jitney run, or name its socket: --broker PATH",
            )
        })
    }

    /// Hears of the cards that [`open`](Self::open) would find, without having one: first of each that is there, then of each that
    /// arrives or leaves, as [`Bus::watch`] does. So it is in nobody's way.
    ///
    /// # Errors
    /// As [`Bus::open`] where there is a broker; else what looking for cards says.
    pub fn watch(self) -> Result<Watch> {
        match self.shared()?.map(|bus| bus.inner) {
            Some(Inner::Client { link, .. }) => Watch::of_broker(&link, &Arc::default()),
            _ => Watch::of_the_machine(self.owner),
        }
    }

    /// The bus of the broker that was named, or, where no cards were, that is found.
    fn shared(&self) -> Result<Option<Bus>> {
        match &self.broker {
            Some(path) => Bus::named(path, self.patience()?).map(Some),
            None if self.owner.cards.is_empty() => Bus::find_broker(self),
            None => Ok(None),
        }
    }

    fn patience(&self) -> Result<Option<Duration>> {
        match self.wait {
            Some(wait) => Ok(Some(wait)),
            None => environment::wait(),
        }
    }
}

impl Bus {
    /// Finds the broker that this program was started under (`JITNEY_BROKER`), else the cards that it was told to own
    /// (`JITNEY_CARDS`), else a broker at its user's well-known socket or the system's, else owns every card that can be seen
    /// and had: one that is somebody else's, or does not answer, is left out, with a warning in the log.
    ///
    /// # Errors
    /// [`ErrorKind::Disconnected`] and others if a broker was named and does not answer: it never falls back to owning
    /// the cards. [`ErrorKind::Denied`] if what is at the well-known place could be, or is, another user's: that may be
    /// used by name only, or if the system's broker is for a group that this process is not in. [`ErrorKind::TimedOut`] if a
    /// broker is there that lets nobody in. Whatever opening a card says. That there is no card at all is no error:
    /// [`cards`](Self::cards) is empty.
    pub fn open() -> Result<Self> {
        Self::options().open()
    }

    fn find_broker(options: &BusOptions) -> Result<Option<Self>> {
        if let Some(broker) = environment::broker()? {
            let bus = match broker.strip_prefix("fd:") {
                Some(number) => Self::inherited(number, options.patience()?),
                None => Self::named(Path::new(&broker), options.patience()?),
            };
            return bus.map(Some);
        }
        if environment::cards()?.is_some() {
            return Ok(None);
        }
        let patience = options.patience()?;
        let link = persistently(|| {
            Self::well_known_broker()?.map(|socket| Link::new(socket, patience)).transpose()
        })?;
        link.map(Self::client).transpose()
    }

    /// A connection to the broker at this user's well-known place, else to that at the system's; nobody named one, so that there
    /// is none is no failure.
    fn well_known_broker() -> Result<Option<OwnedFd>> {
        // Of this user there may be no place where it could be.
        let own = RuntimeFolder::of_this_user().ok();
        let system = RuntimeFolder::of_the_system();
        let places = own.into_iter().filter(|own| *own != system).chain([system.clone()]);
        for place in places {
            let Some(path) = place.broker()? else { continue };
            let found = socket::connect_if_there(&path)?;
            if found.is_some() {
                return Ok(found);
            }
        }
        Ok(None)
    }

    /// How to open a bus otherwise.
    #[must_use]
    pub fn options() -> BusOptions {
        BusOptions::default()
    }

    /// Owns `cards`, alone. There may be none. `JITNEY_IOMMU` says by which interface of the kernel.
    ///
    /// # Errors
    /// What opening one of them says; then none stays open.
    pub fn alone(cards: &[CardAddress]) -> Result<Self> {
        match cards {
            [] => Ok(Self { inner: Inner::Alone { owner: None, options: None } }),
            cards => Self::own(&OwnerOptions { cards: cards.to_vec(), ..OwnerOptions::default() }),
        }
    }

    fn own(options: &OwnerOptions) -> Result<Self> {
        let spaces = options.open()?;
        let owner = if spaces.is_empty() { None } else { Some(Owner::of(spaces)?) };
        Ok(Self { inner: Inner::Alone { owner, options: Some(options.clone()) } })
    }

    /// The cards that can be used: those that there were when the bus was opened, and of a broker, as long as somebody
    /// [watches](Self::watch), those that there are.
    #[must_use]
    pub fn cards(&self) -> Vec<Identity> {
        match &self.inner {
            Inner::Alone { owner, .. } => owned(owner).iter().map(|card| card.identity().clone()).collect(),
            Inner::Client { cards, .. } => lock(cards).iter().map(|card| card.identity.clone()).collect(),
        }
    }

    /// Hears of cards that arrive and leave from now on, and first of what has changed since the bus was opened.
    ///
    /// Under a broker it is the broker that tells, also of cards that it takes only when somebody wants them; it looks for those once a
    /// second while somebody watches. [`card`](Self::card) then opens what has arrived. Alone, this process looks for cards that are bound to
    /// vfio-pci when the kernel says that something has happened, and for all once a second; its bus keeps the cards that it was opened
    /// with, and one that has arrived is opened by a bus of its own: `Bus::options().card(…)`.
    ///
    /// # Errors
    /// [`ErrorKind::Disconnected`] if the broker is gone; what the system says.
    pub fn watch(&self) -> Result<Watch> {
        match &self.inner {
            Inner::Alone { options, .. } => Watch::alone(options.clone(), self.cards()),
            Inner::Client { link, cards } => Watch::of_broker(link, cards),
        }
    }

    /// The card that `selector` means: its address, or `vendor:device` in hexadecimal.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] if there is none or more than one, with a list; what opening it says.
    pub fn card(&self, selector: &str) -> Result<Arc<dyn Card>> {
        let cards = self.cards();
        let matching: Vec<usize> = (0..cards.len()).filter(|&i| cards[i].matches(selector)).collect();
        let list = |of: &mut dyn Iterator<Item = &Identity>| {
            of.map(ToString::to_string).collect::<Vec<_>>().join(", ")
        };
        match matching[..] {
            [index] => self.open_card(&cards[index]),
            [] if cards.is_empty() => Err(no_card(format!("no card {selector:?}"))),
            [] => Err(Error::new(
                ErrorKind::NotFound,
                format!("no card {selector:?}; there is {}", list(&mut cards.iter())),
            )),
            _ => Err(Error::new(
                ErrorKind::NotFound,
                format!(
                    "{selector:?} means {} cards: {}",
                    matching.len(),
                    list(&mut matching.iter().map(|&index| &cards[index]))
                ),
            )
            .with_remedy("name one by its address")),
        }
    }

    /// Every card, opened, in the order of [`cards`](Self::cards).
    ///
    /// # Errors
    /// What opening one of them says.
    pub fn open_cards(&self) -> Result<Vec<Arc<dyn Card>>> {
        self.cards().iter().map(|card| self.open_card(card)).collect()
    }

    fn open_card(&self, wanted: &Identity) -> Result<Arc<dyn Card>> {
        let gone = || Error::new(ErrorKind::NotFound, format!("card {wanted} is not there any more"));
        match &self.inner {
            Inner::Alone { owner, .. } => {
                let card = owned(owner).iter().find(|card| card.identity() == wanted);
                Ok(Arc::clone(card.ok_or_else(gone)?) as _)
            }
            Inner::Client { link, cards } => {
                let entry = lock(cards).iter().find(|card| card.identity == *wanted).cloned();
                Ok(Arc::new(link.open(&entry.ok_or_else(gone)?)?))
            }
        }
    }

    /// Memory that this process and every card see, at the same IOVA. Of a broker that takes cards on demand those are the cards that
    /// this process has open: one that it opens later does not see it.
    ///
    /// # Errors
    /// As [`Card::dma_buffer`]; [`ErrorKind::NotFound`] if there is no card, or none is open.
    pub fn dma_buffer(&self, request: impl Into<DmaRequest>) -> Result<DmaBuffer> {
        match &self.inner {
            Inner::Alone { owner: Some(owner), .. } => owner.dma_buffer(request),
            Inner::Alone { owner: None, .. } => Err(no_card("a DMA buffer")),
            Inner::Client { link, .. } => link.dma_buffer(None, request.into()),
        }
    }

    /// Offers a buffer of this bus to other processes. They attach to it by the token, or by its name if it has one.
    ///
    /// The offer stands until it is [withdrawn](Self::unshare), this process lets go of the buffer, or ends; an offer to writers then goes on as
    /// that of another process of the same user that has the buffer to write, if there is one. The buffer stays mapped until the last of those
    /// who have it has let go of it.
    ///
    /// # Errors
    /// [`ErrorKind::Held`] if the buffer is offered already or the name is taken, by whom the message says; [`ErrorKind::Denied`] if
    /// this process may only read it; [`ErrorKind::Invalid`] for a buffer of another bus, a name that cannot be one, and an offer to
    /// writers of what was offered to readers before; [`ErrorKind::Unsupported`] if this process owns the cards itself.
    pub fn share(&self, buffer: &DmaBuffer, offer: Offer) -> Result<Token> {
        self.link("sharing a DMA buffer")?.share(buffer, offer)
    }

    /// Ends the offer of a buffer. Who has attached to it keeps it.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`] if this process does not offer it.
    pub fn unshare(&self, buffer: &DmaBuffer) -> Result<()> {
        self.link("sharing a DMA buffer")?.unshare(buffer)
    }

    /// A buffer that another process offers to writers, by its [`Token`] or its name: the same memory at the same IOVA.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] if nothing is offered by that, [`ErrorKind::Denied`] if it is offered to readers, or by name by
    /// another user; [`ErrorKind::Invalid`] if this process has the buffer already; [`ErrorKind::Exhausted`] as for a buffer of its
    /// own, since it counts as one; [`ErrorKind::Unsupported`] if this process owns the cards itself.
    pub fn attach(&self, offered: impl Into<Offered>) -> Result<DmaBuffer> {
        self.link("attaching to a shared DMA buffer")?.attach(offered.into())
    }

    /// The same to be read only, whether it is offered to readers or to writers.
    ///
    /// # Errors
    /// As [`attach`](Self::attach).
    pub fn view(&self, offered: impl Into<Offered>) -> Result<DmaView> {
        self.link("attaching to a shared DMA buffer")?.view(offered.into())
    }

    fn link(&self, what: &str) -> Result<&Arc<Link>> {
        match &self.inner {
            Inner::Client { link, .. } => Ok(link),
            Inner::Alone { .. } => {
                let what = format!("{what}: this process owns its cards, and no other can reach them");
                Err(Error::new(ErrorKind::Unsupported, what)
                    .with_remedy("start jitney broker, or start the programs with jitney run"))
            }
        }
    }

    /// The process id of the broker that owns the cards; `None` if this process owns them.
    #[must_use]
    pub fn broker(&self) -> Option<u32> {
        match &self.inner {
            Inner::Alone { .. } => None,
            Inner::Client { link, .. } => Some(link.broker()),
        }
    }

    /// Who uses what, as the broker knows; empty if this process owns the cards.
    ///
    /// # Errors
    /// [`ErrorKind::Disconnected`] if the broker is gone.
    pub fn usage(&self) -> Result<Vec<Usage>> {
        match &self.inner {
            Inner::Alone { .. } => Ok(Vec::new()),
            Inner::Client { link, cards } => {
                let cards = &lock(cards).clone();
                Ok(link.usage()?.into_iter().map(|client| Usage::new(client, cards)).collect())
            }
        }
    }

    /// What a program has moved by its channels, as it says itself; empty if it does not count, is gone, or if this process
    /// owns the cards.
    ///
    /// # Errors
    /// [`ErrorKind::Disconnected`] if the broker is gone.
    pub fn traffic(&self, program: &Usage) -> Result<Vec<Traffic>> {
        let Inner::Client { link, cards } = &self.inner else { return Ok(Vec::new()) };
        match link.traffic(program.client) {
            Ok(moved) => {
                let cards = &lock(cards).clone();
                Ok(moved.into_iter().map(|moved| Traffic::new(moved, cards)).collect())
            }
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(Vec::new()),
            Err(error) => Err(error),
        }
    }

    fn client(link: Link) -> Result<Self> {
        let cards = Arc::new(Mutex::new(link.cards()?));
        Ok(Self { inner: Inner::Client { link: Arc::new(link), cards } })
    }

    fn named(path: &Path, patience: Option<Duration>) -> Result<Self> {
        let connect = || {
            socket::connect(path).map_err(|error| match error.remedy() {
                Some(_) => error,
                None => error
                    .with_remedy(format!("start a broker there: jitney broker --socket {}", path.display())),
            })
        };
        Self::client(persistently(|| Link::new(connect()?, patience))?)
    }

    fn inherited(number: &str, patience: Option<Duration>) -> Result<Self> {
        let wrong = |why: String| {
            Error::new(ErrorKind::Disconnected, format!("{BROKER_VARIABLE}=fd:{number}: {why}"))
                .with_remedy("start this program with `jitney run`, or unset the variable to run alone")
        };
        let number = number.parse().map_err(|_| wrong("this is no descriptor's number".into()))?;
        let outside = inherited_socket(number).map_err(|error| wrong(error.to_string()))?;
        Self::client(Link::through(outside, patience)?)
    }
}

/// Introduces this process to a broker by `connect`, again if that broker hung up before it has said who it is: it was started
/// anew just then, and there is another one in a moment.
fn persistently<T>(mut connect: impl FnMut() -> Result<T>) -> Result<T> {
    let since = Instant::now();
    loop {
        match connect() {
            Err(error) if error.errno() == Some(Errno::PIPE) && since.elapsed() < NEXT_BROKER_LIMIT => {
                std::thread::sleep(NEXT_BROKER_PACE);
            }
            outcome => return outcome,
        }
    }
}

fn owned(owner: &Option<Owner>) -> &[Arc<OwnedCard>] {
    owner.as_ref().map_or(&[], Owner::cards)
}

fn no_card(what: impl std::fmt::Display) -> Error {
    Error::new(ErrorKind::NotFound, format!("{what}: there is no card at all")).with_remedy(
        "start an emulated one: jitney emulate nitefury --socket PATH, then name it: --card vfio-user:PATH",
    )
}
