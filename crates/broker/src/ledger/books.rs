//! The books themselves: the machine with what the server knows besides, and how a record changes them.

use crate::machine::{ClientId, Effect, Event, Machine, Reminder, Work};
use crate::protocol::CardId;
use jitney_memory::MemoryId;
use jitney_vfio::{Error, ErrorKind, Result, SpaceRecord};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// The form of what is written. It changes with any type that is in it: a test holds it against a file that was written once.
const FORM: u32 = 3;

/// Everything that a broker needs to go on, besides descriptors.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Books {
    pub(crate) machine: Machine,
    pub(crate) known: Known,
}

/// What the server knows and the machine does not.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(crate) struct Known {
    /// The number of the client that comes next.
    pub(crate) next_client: u64,
    /// Who is to be reminded of what, and when, in milliseconds of the machine's clock (`CLOCK_MONOTONIC`).
    pub(crate) reminders: BTreeMap<(ClientId, Reminder), u64>,
    /// Clients for whom messages wait in this process: those are lost with it, and so are these clients.
    pub(crate) behind: BTreeSet<ClientId>,
    /// Which memory is mapped where, by its IOVA.
    pub(crate) memory: BTreeMap<u64, MemoryId>,
    /// How many vectors a card has enabled.
    pub(crate) vectors: BTreeMap<CardId, u32>,
    /// The cards' address spaces, by their index.
    pub(crate) spaces: BTreeMap<usize, SpaceRecord>,
}

/// What is written.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) enum Record {
    /// The request of this number is about to be taken out of its client's socket. Another record says what came of it.
    Taking { client: ClientId, number: u64 },
    /// Something happened at this time, in milliseconds, and is about to be handled.
    Happened { event: Event, at: u64 },
    /// What that brought about was done.
    CarriedOut,
    /// Whether messages wait for a client in this process.
    Behind { client: ClientId, behind: bool },
    /// The memory that is about to be told as mapped at an IOVA.
    Memory { iova: u64, memory: MemoryId },
    /// A card has so many vectors enabled.
    Vectors { card: CardId, count: Option<u32> },
    /// What is open of the address space of this number, if anything is.
    Space { number: usize, space: Option<SpaceRecord> },
}

/// What was in the middle of being done when the process ended.
#[derive(Debug, Clone, Default)]
pub(crate) struct Unfinished {
    /// A request that may be in its client's socket still, or may be lost.
    pub(crate) taking: Option<(ClientId, u64)>,
    /// What was perhaps carried out, and perhaps not.
    pub(crate) effects: Vec<Effect>,
}

/// What a ledger says.
#[derive(Debug)]
pub(crate) struct Replayed {
    pub(crate) books: Books,
    pub(crate) unfinished: Unfinished,
}

impl Books {
    /// As bytes.
    pub(crate) fn encode(machine: &Machine, known: &Known) -> Result<Vec<u8>> {
        let version = env!("CARGO_PKG_VERSION");
        postcard::to_stdvec(&(FORM, version, machine, known)).map_err(|error| unwritable(&error))
    }

    /// What a snapshot and the records behind it come to.
    ///
    /// # Errors
    /// [`ErrorKind::Unsupported`] if they are those of another version that this one does not understand,
    /// [`ErrorKind::Protocol`] if they make no sense.
    pub(crate) fn replay(snapshot: &[u8], records: &[Vec<u8>]) -> Result<Replayed> {
        let senseless =
            |error: postcard::Error| Error::new(ErrorKind::Protocol, format!("the broker's ledger: {error}"));
        let (form, rest): (u32, &[u8]) = postcard::take_from_bytes(snapshot).map_err(senseless)?;
        let other = |what: String| {
            Error::new(ErrorKind::Unsupported, format!("the ledger is of another broker: {what}"))
                .with_remedy("programs that had cards have to be started again")
        };
        if form != FORM {
            return Err(other(format!("of form {form}, where this one has {FORM}")));
        }
        let (version, rest): (String, &[u8]) = postcard::take_from_bytes(rest).map_err(senseless)?;
        // A snapshot is read by all that have its form. What follows from events is what that version made of them.
        if version != env!("CARGO_PKG_VERSION") && !records.is_empty() {
            return Err(other(format!("version {version} did not finish it")));
        }
        let mut books: Self = postcard::from_bytes(rest).map_err(senseless)?;
        let mut unfinished = Unfinished::default();
        for bytes in records {
            let record = postcard::from_bytes(bytes).map_err(senseless)?;
            books.apply(record, &mut unfinished);
        }
        Ok(Replayed { books, unfinished })
    }

    fn apply(&mut self, record: Record, unfinished: &mut Unfinished) {
        match record {
            Record::Taking { client, number } => unfinished.taking = Some((client, number)),
            Record::Happened { event, at } => {
                unfinished.taking = None;
                self.known.before(&event, &self.machine);
                let effects = self.machine.handle(event);
                effects.iter().for_each(|effect| self.known.after(effect, at));
                unfinished.effects.extend(effects);
            }
            Record::CarriedOut => *unfinished = Unfinished::default(),
            other => self.known.note(other),
        }
    }
}

impl Known {
    /// Takes in a record that is about nothing else.
    pub(crate) fn note(&mut self, record: Record) {
        match record {
            Record::Behind { client, behind: true } => drop(self.behind.insert(client)),
            Record::Behind { client, behind: false } => drop(self.behind.remove(&client)),
            Record::Memory { iova, memory } => drop(self.memory.insert(iova, memory)),
            Record::Vectors { card, count: Some(count) } => drop(self.vectors.insert(card, count)),
            Record::Vectors { card, count: None } => drop(self.vectors.remove(&card)),
            Record::Space { number, space: Some(space) } => drop(self.spaces.insert(number, space)),
            Record::Space { number, space: None } => drop(self.spaces.remove(&number)),
            Record::Taking { .. } | Record::Happened { .. } | Record::CarriedOut => {}
        }
    }

    /// Takes in what is about to happen to `machine`.
    pub(crate) fn before(&mut self, event: &Event, machine: &Machine) {
        match event {
            Event::Joined { client, .. } => self.next_client = client.0 + 1,
            Event::Reminded { client, of } => drop(self.reminders.remove(&(*client, *of))),
            Event::Finished { task, .. } => {
                if let Some(Work::Unmap { iova, .. }) = machine.work(*task) {
                    self.memory.remove(iova);
                }
            }
            _ => {}
        }
    }

    /// Takes in what is to be done, said at this time.
    pub(crate) fn after(&mut self, effect: &Effect, at: u64) {
        match *effect {
            Effect::Remind { client, of, after_ms } => {
                self.reminders.insert((client, of), at.saturating_add(after_ms.into()));
            }
            Effect::Unremind { client, of } => drop(self.reminders.remove(&(client, of))),
            Effect::Disconnect { client } => {
                self.behind.remove(&client);
                self.reminders.retain(|(whose, _), _| *whose != client);
            }
            _ => {}
        }
    }
}

impl Record {
    pub(crate) fn encode(&self) -> Result<Vec<u8>> {
        postcard::to_stdvec(self).map_err(|error| unwritable(&error))
    }
}

fn unwritable(error: &postcard::Error) -> Error {
    Error::new(ErrorKind::System, format!("the broker's ledger cannot be written: {error}"))
}

#[cfg(test)]
pub(super) mod tests {
    use super::super::file::CHECKSUM;
    use super::*;
    use crate::machine::testing::{Setting, Step, Steps, World};
    use jitney_emulator::boards::{Board, BoardOptions};
    use jitney_emulator::designs::Catalogue;
    use jitney_emulator::{Function, Options, Server};
    use jitney_vfio::{CardAddress, OpenedSpace, open_all};
    use proptest::prelude::*;
    use std::sync::Arc;

    /// What a broker of the present [`FORM`] has written once: machines in many states, and what happened to them.
    const WRITTEN: &[u8] = include_bytes!("form-3.postcard");

    /// The checksum of how that reads: of two fields, or variants, that have changed places nothing else tells.
    const READS: u32 = 2_539_987_287;

    /// Where another such file is to be written, for whoever raises [`FORM`].
    const WRITE: &str = "JITNEY_WRITE_LEDGER_FORM";

    type Written = Vec<(Machine, Known, Vec<Record>)>;

    /// What has to be in it, besides what always is.
    const NEEDED: [&str; 14] = [
        "Taken {",
        "Seen(",
        "Returning",
        "Away",
        "Quarantined",
        "Deferred",
        "Offer {",
        "Departure {",
        "Wiring",
        "CarryOut",
        "WaitUntil",
        "CardRecord",
        "Failure {",
        "Unmapping",
    ];

    fn lacking(written: &Written) -> Vec<&'static str> {
        let all = format!("{written:?}");
        NEEDED.into_iter().filter(|needed| !all.contains(needed)).collect()
    }

    /// What a server knew once, with a space and a card.
    pub(crate) fn a_known() -> Known {
        let written: Written = postcard::from_bytes(WRITTEN).unwrap();
        written.into_iter().next().unwrap().1
    }

    /// A type that has changed reads something else, or writes it otherwise: `FORM` has to be raised then, and the file made anew
    /// (`JITNEY_WRITE_LEDGER_FORM=crates/broker/src/ledger/form-4.postcard cargo test -p jitney-broker --lib form`).
    #[test]
    fn the_form_is_what_its_number_says() {
        if let Some(path) = std::env::var_os(WRITE) {
            std::fs::write(path, postcard::to_stdvec(&examples()).unwrap()).unwrap();
        }
        let written: Written = postcard::from_bytes(WRITTEN).expect("FORM has to be raised");
        assert_eq!(postcard::to_stdvec(&written).unwrap(), WRITTEN, "FORM has to be raised");
        let reads = CHECKSUM.checksum(format!("{written:?}").as_bytes());
        assert_eq!(
            reads, READS,
            "FORM has to be raised, unless names have changed and nothing else: then it is READS"
        );
        let lacks = lacking(&written);
        assert!(lacks.is_empty(), "{lacks:?} are not in the file, so that nobody sees it when they change");
    }

    /// Random histories, and the record of a board that is reached by its socket.
    fn examples() -> Written {
        let spaces = BTreeMap::from([(0, record_of_a_board())]);
        let history = |seed: u64| {
            let mut world = World::new(Setting {
                one_space: seed.is_multiple_of(2),
                narrow: seed.is_multiple_of(3),
                on_demand: seed.is_multiple_of(5),
                ..Setting::default()
            });
            world.events = Some(Vec::new());
            let mut steps = Steps(seed);
            for _ in 0..20 + seed % 100 {
                world.take(Step::of(steps.number()));
            }
            let events = world.events.unwrap_or_default();
            let at = seed;
            let mut records: Vec<Record> =
                events.into_iter().map(|event| Record::Happened { event, at }).collect();
            let (client, card) = (ClientId(seed), CardId(1));
            records.extend([
                Record::Taking { client, number: 7 },
                Record::CarriedOut,
                Record::Behind { client, behind: true },
                Record::Vectors { card, count: Some(4) },
                Record::Space { number: 1, space: spaces.get(&0).cloned() },
            ]);
            let known = Known {
                next_client: seed,
                reminders: [((client, Reminder::InLine(3)), 5)].into(),
                behind: [client].into(),
                vectors: [(card, 4)].into(),
                spaces: spaces.clone(),
                ..Known::default()
            };
            (world.machine, known, records)
        };
        let mut written = Written::new();
        // Those that show something that no other has shown.
        for one in (0..20_000).map(history) {
            let before = lacking(&written).len();
            written.push(one);
            if lacking(&written).len() == before {
                written.pop();
            }
        }
        written
    }

    /// The record of a board that is reached by its socket.
    fn record_of_a_board() -> SpaceRecord {
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("board");
        let board = Board::named(&Catalogue::built_in(), "nitefury").unwrap().with(BoardOptions::default());
        let server = Server::bind(&socket, Options::default(), |host| {
            Ok::<_, jitney_emulator::ServerError>(
                Arc::new(board.plug_into(host).unwrap()) as Arc<dyn Function>
            )
        })
        .unwrap();
        let stop = server.stop_handle();
        let thread = std::thread::spawn(move || server.serve().unwrap());
        let (cards, space) = open_all(&[CardAddress::VfioUser(socket)]).unwrap();
        let record = OpenedSpace { cards, space }.record(0).unwrap().0;
        stop.stop().unwrap();
        thread.join().unwrap();
        record
    }

    fn records(events: &[Event]) -> Vec<Vec<u8>> {
        let happened = |event: &Event| Record::Happened { event: event.clone(), at: 7 }.encode().unwrap();
        let carried_out = || Record::CarriedOut.encode().unwrap();
        events.iter().flat_map(|event| [happened(event), carried_out()]).collect()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(300))]

        /// Wherever a snapshot was taken, and wherever the process ended: what is read is what was.
        #[test]
        fn what_is_read_is_what_was(
            bits in 0u8..32,
            steps in proptest::collection::vec(any::<u64>().prop_map(Step::of), 0..60),
            (snapshot, end) in (any::<prop::sample::Index>(), any::<prop::sample::Index>()),
        ) {
            let setting = Setting {
                physical: bits & 9 == 1, one_space: bits & 2 != 0, narrow: bits & 4 != 0, coarse: bits & 8 != 0,
                on_demand: bits & 16 != 0,
            };
            let mut world = World::new(setting);
            let mut machine = world.machine.clone();
            world.events = Some(Vec::new());
            for step in steps {
                world.take(step);
            }
            let events = world.events.unwrap_or_default();
            let end = end.index(events.len() + 1);
            let snapshot = snapshot.index(end + 1);
            let (mut known, mut effects) = (Known::default(), Vec::new());
            let mut written = Vec::new();
            for (number, event) in events[..end].iter().enumerate() {
                if number == snapshot {
                    written = Books::encode(&machine, &known).unwrap();
                }
                known.before(event, &machine);
                effects = machine.handle(event.clone());
                effects.iter().for_each(|effect| known.after(effect, 7));
            }
            if snapshot == end {
                written = Books::encode(&machine, &known).unwrap();
                effects.clear();
            }
            let records = records(&events[snapshot..end]);
            // It ended before the last one was carried out.
            let records = &records[..records.len().saturating_sub(1)];
            let Replayed { books, unfinished } = Books::replay(&written, records).unwrap();
            prop_assert_eq!(&books.machine, &machine);
            prop_assert_eq!(&books.known, &known);
            prop_assert_eq!(format!("{:?}", unfinished.effects), format!("{effects:?}"));
        }
    }

    #[test]
    fn a_request_that_was_being_taken_is_known_until_something_came_of_it() {
        let world = World::new(Setting::default());
        let snapshot = Books::encode(&world.machine, &Known::default()).unwrap();
        let client = ClientId(3);
        let mut records = vec![Record::Taking { client, number: 9 }.encode().unwrap()];
        let replayed = Books::replay(&snapshot, &records).unwrap();
        assert_eq!(replayed.unfinished.taking, Some((client, 9)));
        records.push(Record::Happened { event: Event::Left { client }, at: 0 }.encode().unwrap());
        assert_eq!(Books::replay(&snapshot, &records).unwrap().unfinished.taking, None);
    }

    #[test]
    fn books_of_another_broker_are_refused() {
        let world = World::new(Setting::default());
        let machine = &world.machine;
        let encode = |form: u32, version: &str| {
            postcard::to_stdvec(&(form, version, machine, &Known::default())).unwrap()
        };
        let records = [Record::CarriedOut.encode().unwrap()];
        let why = |snapshot: &[u8], records: &[Vec<u8>]| Books::replay(snapshot, records).unwrap_err().kind();
        assert_eq!(why(&encode(FORM + 1, env!("CARGO_PKG_VERSION")), &[]), ErrorKind::Unsupported);
        // A finished snapshot of another version is understood, and events are not.
        Books::replay(&encode(FORM, "0.0.0"), &[]).unwrap();
        assert_eq!(why(&encode(FORM, "0.0.0"), &records), ErrorKind::Unsupported);
        assert_eq!(why(&encode(FORM, env!("CARGO_PKG_VERSION"))[..20], &[]), ErrorKind::Protocol);
        assert_eq!(why(&[], &[]), ErrorKind::Protocol);
    }
}
