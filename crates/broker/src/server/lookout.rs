//! Looks which cards there are, and opens those that somebody asks for: in threads of their own, since both can wait.

use super::worker::{Finished, Order, Report, Worker};
use crate::link::lock;
use crate::machine::{Failure, Outcome, Sighting, Task, TaskId, Work};
use crate::owner_options::OwnerOptions;
use crate::protocol::CardId;
use jitney_vfio::sysfs::Sysfs;
use jitney_vfio::{
    CardAddress, Error, ErrorKind, Identity, OpenOptions, OpenedCard, OpenedSpace, Result, open_all_with,
};
use rustix::fs::{AtFlags, CWD, StatxFlags};
use std::collections::HashMap;
use std::os::unix::net::UnixStream;
use std::slice;
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// How long a board that did not answer is not asked again.
const PAUSE: Duration = Duration::from_secs(10);

/// How long who asks for the list waits for boards that are asked for the first time who they are. One that takes longer is in the
/// list once it has answered.
const PATIENCE: Duration = Duration::from_secs(1);

/// Where cards are found by a broker that takes them on demand, and by a program that watches for them.
#[derive(Debug)]
pub(crate) struct Lookout {
    options: OwnerOptions,
    /// Boards that are asked who they are, or did not answer, and which socket was asked.
    asked: HashMap<CardAddress, (Option<Mark>, Asked)>,
    marks: Marks,
    /// Why a board was left out when it was looked for last.
    left_out: HashMap<CardAddress, String>,
}

/// Which socket was at each place when the board there was seen last.
#[derive(Debug, Clone, Default)]
pub(super) struct Marks(Arc<Mutex<HashMap<CardAddress, Mark>>>);

/// What tells a socket from one that is made in its place: where its file lies, and when that was made, which many file systems
/// know.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Mark {
    device: (u32, u32),
    inode: u64,
    made: Option<(i64, u32)>,
}

impl Mark {
    /// That of the socket at `address`, if there is one.
    fn of(address: &CardAddress) -> Option<Self> {
        let CardAddress::VfioUser(path) = address else { return None };
        let wanted = StatxFlags::INO | StatxFlags::BTIME;
        let status = rustix::fs::statx(CWD, path, AtFlags::empty(), wanted).ok()?;
        let knows_when = StatxFlags::from_bits_retain(status.stx_mask).contains(StatxFlags::BTIME);
        Some(Self {
            device: (status.stx_dev_major, status.stx_dev_minor),
            inode: status.stx_ino,
            made: knows_when.then_some((status.stx_btime.tv_sec, status.stx_btime.tv_nsec)),
        })
    }
}

impl Marks {
    /// That a board was seen at a place; whether it is another one than before.
    fn sees(&self, address: &CardAddress, mark: Option<Mark>) -> bool {
        let mut marks = lock(&self.0);
        let before = match mark {
            Some(mark) => marks.insert(address.clone(), mark),
            None => marks.remove(address),
        };
        before.zip(mark).is_some_and(|(before, now)| before != now)
    }

    /// Whether there is another socket than that of the board that was seen.
    fn is_another(&self, address: &CardAddress) -> bool {
        let before = lock(&self.0).get(address).copied();
        before.zip(Mark::of(address)).is_some_and(|(before, now)| before != now)
    }
}

/// A board that is asked who it is.
#[derive(Debug)]
enum Asked {
    /// It has not answered yet; who asks for the list waits for it until then.
    Still { answer: Receiver<Result<Sighting>>, until: Instant },
    /// It has not answered, so long ago: nobody waits for it any more.
    Silent(Instant),
}

impl Lookout {
    pub(crate) fn new(options: OwnerOptions) -> Self {
        Self { options, asked: HashMap::new(), marks: Marks::default(), left_out: HashMap::new() }
    }

    /// The cards that there are. A board that is `known` is not asked again who it is.
    pub(crate) fn look(&mut self, known: &[Identity]) -> Result<Vec<Sighting>> {
        let (addresses, named) = self.options.addresses()?;
        let sysfs = Sysfs::default();
        self.asked.retain(|address, _| addresses.contains(address));
        self.left_out.retain(|address, _| addresses.contains(address));
        for address in addresses.iter().filter(|address| !matches!(address, CardAddress::Pci(_))) {
            let mark = Mark::of(address);
            match self.asked.get(address).filter(|(asked, _)| *asked == mark) {
                Some((_, Asked::Still { .. })) => {}
                Some((_, Asked::Silent(since))) if since.elapsed() < PAUSE => {}
                before => {
                    let patience = if before.is_none() { PATIENCE } else { Duration::ZERO };
                    // One that was started in the place of another has to say itself who it is.
                    let known = if self.marks.is_another(address) { &[] } else { known };
                    let answer = ask(address.clone(), known, named)?;
                    let until = Instant::now() + patience;
                    self.asked.insert(address.clone(), (mark, Asked::Still { answer, until }));
                }
            }
        }
        let mut cards = Vec::new();
        for address in addresses {
            let sighting = match &address {
                CardAddress::Pci(_) => see_function(&sysfs, &address),
                _ => self.answer(&address),
            };
            match sighting {
                Ok(sighting) => {
                    if sighting.is_some() {
                        self.left_out.remove(&address);
                    }
                    cards.extend(sighting);
                }
                // Said once, as long as it is the same.
                Err(error) => {
                    let why = error.to_string();
                    if self.left_out.get(&address) != Some(&why) {
                        tracing::warn!(%error, "card {address} is left out");
                        self.left_out.insert(address, why);
                    }
                }
            }
        }
        Ok(cards)
    }

    /// Who a board is that was asked, if it says so while it is waited for.
    fn answer(&mut self, address: &CardAddress) -> Result<Option<Sighting>> {
        let Some((mark, Asked::Still { answer, until })) = self.asked.get(address) else { return Ok(None) };
        let mark = *mark;
        match answer.recv_timeout(until.saturating_duration_since(Instant::now())) {
            Err(RecvTimeoutError::Timeout) => Ok(None),
            Ok(Err(error)) if error.kind() == ErrorKind::TimedOut => {
                self.asked.insert(address.clone(), (mark, Asked::Silent(Instant::now())));
                Err(error)
            }
            ended => {
                self.asked.remove(address);
                let sighting = ended.unwrap_or_else(|_| Err(gone(&address.to_string())))?;
                Ok(Some(Sighting { is_new: self.marks.sees(address, mark), ..sighting }))
            }
        }
    }

    /// Which socket each board that was seen has.
    pub(super) fn marks(&self) -> Marks {
        self.marks.clone()
    }

    /// How cards are opened.
    pub(super) fn open_options(&self) -> Result<OpenOptions> {
        let (_, named) = self.options.addresses()?;
        Ok(OpenOptions { iommu: self.options.interface()?, isolate: true, refuse_strangers: !named })
    }
}

fn see_function(sysfs: &Sysfs, address: &CardAddress) -> Result<Option<Sighting>> {
    let CardAddress::Pci(place) = address else { return Ok(None) };
    let function = match sysfs.function(*place) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        function => function?,
    };
    let unit = match function.iommu_group {
        Some(group) => format!("IOMMU group {group}"),
        None => format!("card {address}"),
    };
    Ok(function.bound_to_vfio().then(|| Sighting { identity: function.identity(), unit, is_new: false }))
}

/// Asks a board who it is, in a thread of its own, since it may not answer.
fn ask(address: CardAddress, known: &[Identity], named: bool) -> Result<Receiver<Result<Sighting>>> {
    let (answer, answers) = channel();
    let known = known.to_vec();
    let ask = move || {
        // Nobody waits any more for a board whose socket has gone meanwhile.
        let _ = answer.send(see_board(&address, &known, named));
    };
    std::thread::Builder::new().name("look".into()).spawn(ask).map_err(|error| super::io(&error))?;
    Ok(answers)
}

fn see_board(address: &CardAddress, known: &[Identity], named: bool) -> Result<Sighting> {
    let text = address.to_string();
    let identity = match (known.iter().find(|identity| identity.address == text), address) {
        // That somebody listens is enough.
        (Some(identity), CardAddress::VfioUser(path)) if UnixStream::connect(path).is_ok() => {
            identity.clone()
        }
        _ => {
            let options = OpenOptions { refuse_strangers: !named, ..OpenOptions::default() };
            let spaces = open_all_with(slice::from_ref(address), options)?;
            let mut cards = spaces.iter().flat_map(|space| &space.cards);
            cards.next().map(|card| card.identity().clone()).ok_or_else(|| gone(&text))?
        }
    };
    Ok(Sighting { unit: format!("card {text}"), identity, is_new: false })
}

fn gone(address: &str) -> Error {
    Error::new(ErrorKind::NotFound, format!("card {address} is not there any more"))
}

/// The thread that looks.
pub(super) fn start(mut lookout: Lookout, report: Report) -> Result<Worker> {
    Worker::start("lookout".into(), move |orders| look_for_all(&mut lookout, &orders, &report))
}

fn look_for_all(lookout: &mut Lookout, orders: &Receiver<Order>, report: &Report) {
    while let Ok(first) = orders.recv() {
        // All who have asked before it is looked get what is seen then.
        let orders = std::iter::once(first).chain(orders.try_iter());
        let mut tasks = Vec::new();
        let mut known = Vec::new();
        for order in orders {
            if let Order::Begin { id, task: Task { work: Work::Look { known: these }, .. }, .. } = order {
                tasks.push(id);
                known = these;
            }
        }
        let seen = lookout.look(&known);
        for task in tasks {
            let outcome = seen.as_ref().map(|seen| Outcome::Seen(seen.clone()));
            report.send(Finished::of(task, outcome.map_err(|error| Failure::from(error.clone()))));
        }
    }
}

/// Opens cards in a thread of their own.
pub(super) fn take(
    task: TaskId,
    cards: Arc<[(CardId, Identity)]>,
    options: OpenOptions,
    marks: Marks,
    report: Report,
) -> Result<()> {
    let take = move || match open(&cards, options, &marks) {
        Ok(opened) => {
            let bars = opened.cards.iter().map(|card| *card.bars()).collect();
            let ranges = opened.space.ranges().iter().map(|range| (*range.start(), *range.end())).collect();
            let outcome = Ok(Outcome::Taken { bars, ranges });
            report.send(Finished { opened: Some(opened), ..Finished::of(task, outcome) });
        }
        Err(failure) => report.send(Finished::of(task, Err(failure))),
    };
    std::thread::Builder::new().name("take".into()).spawn(take).map_err(|error| super::io(&error))?;
    Ok(())
}

fn open(
    cards: &[(CardId, Identity)],
    options: OpenOptions,
    marks: &Marks,
) -> std::result::Result<OpenedSpace, Failure> {
    let addresses = cards.iter().map(|(_, identity)| identity.address.parse());
    let addresses = addresses.collect::<Result<Vec<CardAddress>>>()?;
    // Whoever asks for a card means the one that was seen, and not what was started in its place.
    if let Some(address) = addresses.iter().find(|address| marks.is_another(address)) {
        let error = Error::new(ErrorKind::NotFound, format!("where card {address} was there is another now"));
        return Err(Failure { error: error.with_remedy("ask for the list of cards again"), lost: true });
    }
    let spaces = open_all_with(&addresses, options).map_err(|error| {
        let lost = error.kind() == ErrorKind::NotFound;
        Failure { error, lost }
    })?;
    let [space]: [OpenedSpace; 1] = spaces.try_into().map_err(|_| {
        Error::new(ErrorKind::System, "cards that are taken together have several address spaces")
    })?;
    if space.space.granule() > page_size() {
        let what = format!(
            "the IOMMU of card {} maps pages of {:#x} bytes, and this broker hands out smaller ones",
            addresses.iter().map(ToString::to_string).collect::<Vec<_>>().join(", "),
            space.space.granule()
        );
        let remedy = "start the broker so that it has its cards all the time, without on-demand";
        return Err(Error::new(ErrorKind::Unsupported, what).with_remedy(remedy).into());
    }
    let strange = |(card, (_, identity)): &(&OpenedCard, &(CardId, Identity))| card.identity() != identity;
    match space.cards.iter().zip(cards).find(strange) {
        Some((card, (_, identity))) => {
            let what = format!("where card {identity} was there is {} now", card.identity());
            let error = Error::new(ErrorKind::NotFound, what);
            Err(Failure { error: error.with_remedy("ask for the list of cards again"), lost: true })
        }
        None => Ok(space),
    }
}

/// The smallest page that every card maps, before one is open.
pub(super) fn page_size() -> u64 {
    u64::try_from(rustix::param::page_size()).unwrap_or(4096)
}
