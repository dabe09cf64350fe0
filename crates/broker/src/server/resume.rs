//! How a broker goes on where another one has stopped, however that was.

use super::closer::Closer;
use super::connection::Connection;
use super::headroom::Headroom;
use super::keeping::{self, Keeping};
use super::lookout::Lookout;
use super::reminders::Reminders;
use super::supervision::Supervision;
use super::workers::Workers;
use super::{Broker, usual_limits, waiting_place};
use crate::ledger::{Books, LedgerFile, Replayed, Unfinished};
use crate::machine::{CardDescription, ClientId, Effect, Event, Failure, Work};
use crate::manager::{Kept, ServiceManager, Store};
use crate::owner_options::OwnerOptions;
use crate::protocol;
use jitney_memory::Memfd;
use jitney_vfio::{Error, ErrorKind, OpenedCard, OpenedSpace, Result, SpaceRecord, TallyPage, TallyReader};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::os::fd::OwnedFd;
use std::sync::Arc;

impl Broker {
    /// Goes on with the clients and cards of a broker before this one, from what `manager` has kept of it; `None` if it has kept
    /// no books, because it had not begun. What was under way is finished, or answered with an error that says so; nothing is done
    /// twice that is not the same when it is done twice.
    ///
    /// `options` say where a broker that [takes cards on demand](Self::on_demand) looks for more of them. One that had all of its cards
    /// when it began has just those.
    ///
    /// If there is no broker to go on with, everything that was kept is let go of, here and by `manager`, so that its clients hear that
    /// it is gone and its cards can be opened. What stays in `kept` are the sockets at which it listened, for
    /// [`listen_again`](Self::listen_again).
    ///
    /// # Errors
    /// [`ErrorKind::Unsupported`] if that was another version, whose books this one cannot read; [`ErrorKind::Protocol`] if they
    /// make no sense; what the system says.
    pub fn resume(manager: ServiceManager, options: OwnerOptions, kept: &mut Kept) -> Result<Option<Self>> {
        let store = manager.store()?;
        let names: Vec<String> = kept.0.keys().cloned().collect();
        let entrances = kept.take_entrances();
        let outcome = Self::go_on(manager, options, kept, &entrances);
        if !matches!(outcome, Ok(Some(_))) {
            let is_entrance = |name: &str| entrances.0.contains_key(name);
            abandon(store, names.iter().map(String::as_str).filter(|name| !is_entrance(name)), kept);
            *kept = entrances;
        }
        outcome
    }

    /// Listens where a broker before this one did, of which nothing else is left: who waits there is served.
    ///
    /// # Errors
    /// What the system says of the sockets.
    pub fn listen_again(&mut self, kept: &Kept) -> Result<()> {
        self.resume_entrances(kept)
    }

    fn go_on(
        manager: ServiceManager,
        options: OwnerOptions,
        kept: &mut Kept,
        entrances: &Kept,
    ) -> Result<Option<Self>> {
        let kept = &mut kept.0;
        let Some(ledger) = kept.remove(keeping::LEDGER) else { return Ok(None) };
        let Some(mut store) = manager.store()? else {
            let what = "descriptors were kept for this broker, and now nobody keeps any";
            return Err(Error::new(ErrorKind::Invalid, what).with_remedy("start it as the one before was"));
        };
        let (file, snapshot, records) = LedgerFile::open(ledger)?;
        let Replayed { books, unfinished } = Books::replay(&snapshot, &records)?;
        let machine = books.machine.resumed(std::process::id(), usual_limits());
        let mut known = books.known;
        let descriptions: Vec<CardDescription> = machine.cards().cloned().collect();
        let open: Vec<CardDescription> =
            descriptions.iter().filter(|card| machine.has_open(card.id)).cloned().collect();
        // What it had opened when it was ended, and had told nobody; or had not let go of everywhere yet.
        let owned = |name: &String| {
            known.spaces.iter().any(|(number, space)| {
                machine.has_space(*number)
                    && space.descriptor_names(*number).is_ok_and(|names| names.contains(name))
            })
        };
        let strays = kept.keys().filter(|name| name.starts_with('s') && !owned(name)).cloned();
        let strays: Vec<String> = strays.collect();
        for name in &strays {
            store.forget(name);
            drop(kept.remove(name));
        }
        known.spaces.retain(|number, _| machine.has_space(*number));
        for (&number, space) in &mut known.spaces {
            for (address, name) in closed_cards(space, number, &open)? {
                // The broker was ended when it had just closed it. It would stay open for ever, and could not be unplugged.
                store.forget(&name);
                drop(kept.remove(&name));
                space.close(&address);
            }
        }
        // They can be opened again when nobody has them any more.
        if !strays.is_empty() && !store.barrier() {
            tracing::warn!("the service manager has not let go of cards that nobody uses");
        }
        let spaces = resume_spaces(&known.spaces, kept)?;
        let spaces = spaces.into_iter().map(|(number, opened)| {
            let vectors = |card: &OpenedCard| {
                let found = descriptions.iter().find(|it| it.identity.address == card.identity().address);
                found.and_then(|card| known.vectors.get(&card.id)).copied()
            };
            let cards = opened.cards.into_iter().map(|card| {
                let count = vectors(&card);
                card.with_enabled_vectors(count)
            });
            (number, OpenedSpace { cards: cards.collect(), space: opened.space })
        });
        let spaces: BTreeMap<usize, OpenedSpace> = spaces.collect();
        let (epoll, stop) = waiting_place()?;
        let files: HashMap<_, _> = known.memory.iter().map(|(iova, memory)| (*iova, *memory)).collect();
        let lookout = machine.is_on_demand().then(|| Lookout::new(options));
        let workers = Workers::resume(spaces, &files, &open, lookout, &epoll)?;
        let mut reminders = Reminders::default();
        let now = keeping::now();
        for ((client, of), at) in &known.reminders {
            reminders.add_at(*client, *of, *at, now);
        }
        let (next_client, behind) = (known.next_client, known.behind.clone());
        let supervision = Supervision::new(manager);
        let mut broker = Self {
            machine,
            workers,
            closer: Closer::new()?,
            epoll,
            entrances: super::Entrances::default(),
            clients: HashMap::new(),
            kept: HashMap::new(),
            next_client,
            crowded: BTreeSet::new(),
            reminders,
            headroom: Headroom::new(),
            supervision,
            idleness: None,
            tallies: HashMap::new(),
            stop,
            buffer: vec![0; protocol::MAX_MESSAGE],
            keeping: Some(Keeping::go_on(store, file, known)),
        };
        broker.resume_entrances(entrances)?;
        let lost = broker.resume_clients(kept, &behind);
        broker.finish(unfinished, kept);
        for client in lost {
            broker.feed(Event::Left { client });
        }
        broker.forget(std::mem::take(kept));
        tracing::debug!(clients = broker.clients.len(), "taken over from the broker before");
        Ok(Some(broker))
    }

    /// The sockets that the broker before this one has bound.
    fn resume_entrances(&mut self, entrances: &Kept) -> Result<()> {
        let copy = |name: &str| -> Result<Option<OwnedFd>> {
            let descriptor = entrances.0.get(name).map(OwnedFd::try_clone).transpose();
            descriptor.map_err(|error| super::io(&error))
        };
        let mut halves = BTreeSet::new();
        for name in entrances.0.keys() {
            let Some(number) = name.get(1..).and_then(|number| number.parse().ok()) else { continue };
            let [socket_name, lock_name] = keeping::names_of_entrance(number);
            match (copy(&socket_name)?, copy(&lock_name)?) {
                // They have the number that they had, so that they are kept all the time.
                (Some(socket), Some(lock)) if *name == socket_name => {
                    self.entrances.resume(number, socket, lock, &self.epoll)?;
                }
                (Some(_), Some(_)) => {}
                _ => drop(halves.insert(name)),
            }
        }
        if let (Some(keeping), false) = (&mut self.keeping, halves.is_empty()) {
            // It was ended when it had just bound one. The path is free when nobody has the lock any more.
            halves.into_iter().for_each(|name| keeping.forget(name));
            keeping.is_all_kept();
        }
        Ok(())
    }

    /// The connections of all clients. Returns those that are lost: their sockets are not there, or messages for them were lost
    /// with the process in which they waited.
    fn resume_clients(
        &mut self,
        kept: &mut BTreeMap<String, OwnedFd>,
        behind: &BTreeSet<ClientId>,
    ) -> Vec<ClientId> {
        let mut lost = Vec::new();
        for client in self.machine.clients().collect::<Vec<_>>() {
            let [socket, process, page] = keeping::names_of(client);
            let (socket, process) = (kept.remove(&socket), kept.remove(&process));
            // The page itself may still be to be told to the client.
            let page = kept.get(&page).and_then(|page| page.try_clone().ok());
            let Some(peer) = self.machine.peer(client) else { continue };
            let connection = socket
                .map(|socket| Connection::resume(socket, process, &self.epoll, (client, peer), &self.closer));
            match connection {
                Some(Ok(connection)) => {
                    self.clients.insert(client, connection);
                }
                Some(Err(error)) => tracing::warn!(client = client.0, %error, "a client is lost"),
                None => {}
            }
            if behind.contains(&client) || !self.clients.contains_key(&client) {
                lost.push(client);
            }
            let page = page.map(|page| TallyReader::new(&Memfd::adopt(page, TallyPage::SIZE)?));
            match page {
                Some(Ok(page)) => {
                    self.tallies.insert(client, page);
                }
                // It is for people who watch.
                Some(Err(error)) => tracing::warn!(client = client.0, %error, "a client's figures are lost"),
                None => {}
            }
        }
        lost
    }

    /// Finishes what was in the middle of being done.
    fn finish(&mut self, unfinished: Unfinished, kept: &mut BTreeMap<String, OwnedFd>) {
        for task in self.machine.kept().collect::<Vec<_>>() {
            let descriptor = kept.remove(&keeping::name_of(task)).map(Arc::new);
            self.kept.extend(descriptor.map(|descriptor| (task, descriptor)));
        }
        for effect in unfinished.effects {
            self.finish_effect(effect, kept);
        }
        if let Some((client, number)) = unfinished.taking
            && let Some(connection) = self.clients.get(&client)
            && connection.next_number(&mut self.buffer) != Some(number)
        {
            // It was taken out of the socket, and nobody knows it any more.
            let reply = Err(protocol::lost());
            self.carry_out(vec![Effect::Reply { client, number, reply, attach: None }], Vec::new());
        }
        if let Some(keeping) = &mut self.keeping {
            keeping.did(&self.machine);
        }
        let tasks: Vec<_> = self.machine.tasks().map(|(id, task)| (id, task.clone())).collect();
        for (id, task) in tasks {
            match task.work {
                // What it was to be done with came with the request.
                Work::Wire { .. } | Work::Share { .. } => {
                    let outcome = Err(Failure::from(protocol::lost()));
                    self.feed(Event::Finished { task: id, outcome });
                }
                Work::Return { space } => {
                    let kept = self.keeping.as_mut().and_then(|keeping| keeping.returns(space));
                    self.workers.give_back(id, space, kept);
                }
                _ => self.workers.begin_again(id, task),
            }
        }
    }

    /// Does what was perhaps done. What is sent twice is known by its number; the rest follows from the books.
    fn finish_effect(&mut self, effect: Effect, kept: &mut BTreeMap<String, OwnedFd>) {
        match effect {
            Effect::Reply { client, attach: Some(task), .. } if !self.kept.contains_key(&task) => {
                match kept.remove(&keeping::name_of(task)) {
                    Some(descriptor) => {
                        self.carry_out(vec![effect], vec![descriptor]);
                        if let Some(keeping) = &mut self.keeping {
                            keeping.has_brought(task);
                        }
                    }
                    // Whether the client has it nobody knows, so that it cannot go on.
                    None => self.feed(Event::Left { client }),
                }
            }
            Effect::Tallies { client, .. } => {
                let [_, _, page] = keeping::names_of(client);
                self.carry_out(vec![effect], kept.remove(&page).into_iter().collect());
            }
            Effect::Reply { .. }
            | Effect::Tell { .. }
            | Effect::Traffic { .. }
            | Effect::Disconnect { .. } => self.carry_out(vec![effect], Vec::new()),
            Effect::Keep { .. }
            | Effect::Forget { .. }
            | Effect::Work { .. }
            | Effect::Cancel { .. }
            | Effect::Remind { .. }
            | Effect::Unremind { .. } => {}
        }
    }

    /// Lets go of what is kept and nobody needs.
    fn forget(&mut self, kept: BTreeMap<String, OwnedFd>) {
        let pages: BTreeSet<String> =
            self.tallies.keys().map(|client| keeping::names_of(*client)[2].clone()).collect();
        for name in kept.keys().filter(|name| !pages.contains(*name)) {
            tracing::debug!(name, "a descriptor that was kept is of nothing that is there");
            if let Some(keeping) = &mut self.keeping {
                keeping.forget(name);
            }
        }
        self.closer.own(kept.into_values().collect());
    }
}

/// Lets go of what was kept of a broker with which nobody goes on, and has `store` do the same.
fn abandon<'a>(store: Option<Store>, names: impl Iterator<Item = &'a str>, kept: &mut Kept) {
    if let Some(mut store) = store {
        names.for_each(|name| store.forget(name));
        // A card can be opened when the last copy of its descriptor is closed.
        if !store.barrier() {
            tracing::warn!("the service manager has not let go of what it kept of the broker before");
        }
    }
    // Boards and clients hear of it also if a copy is left somewhere.
    for descriptor in std::mem::take(&mut kept.0).into_values() {
        // Of what is no socket, or not connected any more, nobody is at the other end.
        let _ = rustix::net::shutdown(&descriptor, rustix::net::Shutdown::Both);
    }
}

/// The cards of a record that the machine does not know any more: address, and the name of the descriptor.
fn closed_cards(
    space: &SpaceRecord,
    number: usize,
    known: &[CardDescription],
) -> Result<Vec<(String, String)>> {
    let names = space.card_names(number)?.into_iter();
    let is_known = |address: &str| known.iter().any(|card| card.identity.address == address);
    let closed = names.filter(|(identity, _)| !is_known(&identity.address));
    Ok(closed.map(|(identity, name)| (identity.address.clone(), name)).collect())
}

fn resume_spaces(
    records: &BTreeMap<usize, SpaceRecord>,
    kept: &mut BTreeMap<String, OwnedFd>,
) -> Result<BTreeMap<usize, OpenedSpace>> {
    let spaces = records.iter();
    spaces.map(|(&number, record)| Ok((number, OpenedSpace::resume(record, number, kept)?))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::{Known, Record};
    use crate::machine::{Limits, Machine, Peer, Way};
    use crate::protocol::{Message, Reply, Request};
    use crate::server::StopHandle;
    use crate::socket;
    use jitney_iova::Allocator;
    use jitney_memory::descriptors::{self, Wait};
    use std::io::IoSlice;
    use std::os::unix::net::UnixDatagram;

    const CLIENT: ClientId = ClientId(0);

    /// A broker without cards and with one client, as it is found after it was killed.
    struct Found {
        machine: Machine,
        known: Known,
        records: Vec<Record>,
        client: OwnedFd,
        socket: OwnedFd,
        /// What else is kept.
        others: BTreeMap<String, OwnedFd>,
    }

    impl Found {
        fn new() -> Self {
            let iovas = Allocator::new([0..=0xffff_ffff], 4096).unwrap();
            let mut machine = Machine::new(1, Vec::new(), iovas, Limits::default());
            let peer = Peer { pid: None, uid: 0, gid: 0, groups: Vec::new(), way: Way::Listener };
            machine.handle(Event::Joined { client: CLIENT, peer });
            machine.handle(request(1, Request::Hello { program: "test".into() }));
            let (client, socket) = socket::pair().unwrap();
            Self {
                machine,
                known: Known::default(),
                records: Vec::new(),
                client,
                socket,
                others: BTreeMap::new(),
            }
        }

        fn say(&self, number: u64, request: &Request) {
            let message = protocol::encode_request(number, request).unwrap();
            descriptors::send(&self.client, &[IoSlice::new(&message)], &[], Wait::Block).unwrap();
        }

        /// Goes on with it. Returns with the broker its client's end, and that of its manager.
        fn begin(self) -> (Broker, OwnedFd, UnixDatagram) {
            let mut file = LedgerFile::create(&Books::encode(&self.machine, &self.known).unwrap()).unwrap();
            for record in &self.records {
                file.append(&record.encode().unwrap()).unwrap();
            }
            let mut kept = self.others;
            kept.insert(keeping::LEDGER.to_owned(), rustix::io::dup(&file).unwrap());
            kept.insert(keeping::names_of(CLIENT)[0].clone(), self.socket);
            let (ours, theirs) = UnixDatagram::pair().unwrap();
            ours.set_nonblocking(true).unwrap();
            let broker =
                Broker::resume(ServiceManager::behind(ours), OwnerOptions::default(), &mut Kept(kept))
                    .unwrap()
                    .unwrap();
            (broker, self.client, theirs)
        }

        /// Goes on with it, and ends it when `hears` has heard enough.
        fn resume(self, hears: impl FnOnce(&OwnedFd)) {
            let (broker, client, _manager) = self.begin();
            let stop: StopHandle = broker.stop_handle();
            let runs = std::thread::spawn(move || broker.run());
            hears(&client);
            stop.stop().unwrap();
            runs.join().unwrap().unwrap();
        }
    }

    fn request(number: u64, request: Request) -> Event {
        Event::Request { client: CLIENT, number, request, descriptor: false }
    }

    /// The next reply; `None` at the end of the connection.
    fn hear(client: &OwnedFd) -> Option<(u64, Result<Reply>)> {
        let mut buffer = vec![0; protocol::MAX_MESSAGE];
        let received = descriptors::receive(client, &mut buffer, 1, Wait::Block).unwrap();
        if received.len == 0 {
            return None;
        }
        match protocol::decode_message(&buffer[..received.len]).unwrap() {
            Message::Reply(number, reply) => Some((number, reply)),
            Message::Notice(notice) => panic!("{notice:?}"),
        }
    }

    const CARDS: Request = Request::Cards { after: None };

    #[test]
    fn what_was_still_in_the_socket_is_answered_once() {
        let mut found = Found::new();
        found.say(5, &CARDS);
        found.records.push(Record::Taking { client: CLIENT, number: 5 });
        found.resume(|client| {
            assert!(matches!(hear(client), Some((5, Ok(Reply::Cards { .. })))));
        });
    }

    #[test]
    fn what_was_taken_out_and_is_not_known_any_more_is_said_to_be_lost() {
        let mut found = Found::new();
        found.say(6, &CARDS);
        found.records.push(Record::Taking { client: CLIENT, number: 5 });
        found.resume(|client| {
            let (number, reply) = hear(client).unwrap();
            assert_eq!(number, 5);
            assert!(protocol::was_lost(&reply.unwrap_err()));
            assert!(matches!(hear(client), Some((6, Ok(Reply::Cards { .. })))));
        });
    }

    #[test]
    fn what_was_handled_and_perhaps_not_answered_is_answered() {
        let mut found = Found::new();
        found.records = vec![
            Record::Taking { client: CLIENT, number: 5 },
            Record::Happened { event: request(5, CARDS), at: 0 },
        ];
        found.resume(|client| {
            assert!(matches!(hear(client), Some((5, Ok(Reply::Cards { .. })))));
        });
    }

    /// The page may have been told to the client, or not: it is told again, and it is the same page.
    #[test]
    fn a_page_that_was_made_is_told_to_its_client() {
        let mut found = Found::new();
        let page = Memfd::create("test", TallyPage::SIZE, jitney_memory::PageSize::Normal).unwrap().into_fd();
        let made = jitney_memory::MemoryId::of(&page).unwrap();
        found.others.insert(keeping::names_of(CLIENT)[2].clone(), page);
        found.records = vec![
            Record::Taking { client: CLIENT, number: 5 },
            Record::Happened { event: request(5, Request::Tallies), at: 0 },
        ];
        found.resume(|client| {
            let mut buffer = vec![0; protocol::MAX_MESSAGE];
            let received = descriptors::receive(client, &mut buffer, 1, Wait::Block).unwrap();
            let message = protocol::decode_message(&buffer[..received.len]).unwrap();
            assert!(matches!(message, Message::Reply(5, Ok(Reply::Tallies))));
            assert_eq!(jitney_memory::MemoryId::of(&received.descriptors[0]).unwrap(), made);
        });
    }

    /// One that was killed while it stopped does not come back to let nobody in for ever.
    #[test]
    fn a_broker_that_was_told_to_stop_stops() {
        let mut found = Found::new();
        found.records = vec![Record::Happened { event: Event::Stop, at: 0 }];
        let (broker, client, manager) = found.begin();
        assert_eq!(broker.run().unwrap(), super::super::End::Stopped);
        assert!(hear(&client).is_none());
        // And whoever is started by the same manager finds nothing to go on with.
        manager.set_nonblocking(true).unwrap();
        let mut said = Vec::new();
        let mut buffer = [0; 256];
        while let Ok(len) = manager.recv(&mut buffer) {
            said.push(String::from_utf8_lossy(&buffer[..len]).into_owned());
        }
        assert!(said.contains(&"FDSTOREREMOVE=1\nFDNAME=j.ledger".to_owned()), "{said:?}");
    }

    /// Of books that make no sense nothing is kept, but for the sockets at which programs wait.
    #[test]
    fn where_there_is_no_going_on_everything_is_let_go_of() {
        let (ours, theirs) = UnixDatagram::pair().unwrap();
        ours.set_nonblocking(true).unwrap();
        let (client, socket) = socket::pair().unwrap();
        let file = LedgerFile::create(b"nonsense").unwrap();
        let (one, other) = (tempfile::tempfile().unwrap(), tempfile::tempfile().unwrap());
        let mut kept = Kept(BTreeMap::from([
            (keeping::LEDGER.to_owned(), rustix::io::dup(&file).unwrap()),
            ("k7".to_owned(), rustix::io::dup(&socket).unwrap()),
            ("l1".to_owned(), one.into()),
            ("x1".to_owned(), other.into()),
        ]));
        let hears = std::thread::spawn(move || {
            let mut said = Vec::new();
            loop {
                let mut buffer = [0; 256];
                let received = descriptors::receive(&theirs, &mut buffer, 1, Wait::Block).unwrap();
                let text = String::from_utf8_lossy(&buffer[..received.len]).into_owned();
                if text == "BARRIER=1" {
                    return said;
                }
                said.push(text);
            }
        });
        let error = Broker::resume(ServiceManager::behind(ours), OwnerOptions::default(), &mut kept)
            .map(drop)
            .unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unsupported, "{error}");
        let said = hears.join().unwrap();
        assert_eq!(said, ["FDSTOREREMOVE=1\nFDNAME=j.k7", "FDSTOREREMOVE=1\nFDNAME=j.ledger"]);
        assert!(hear(&client).is_none(), "also if somebody has a copy of the socket");
        assert_eq!(kept.0.keys().collect::<Vec<_>>(), ["l1", "x1"]);
        drop(socket);
    }

    #[test]
    fn a_client_whose_messages_were_lost_with_the_process_is_dropped() {
        let mut found = Found::new();
        found.known.behind.insert(CLIENT);
        found.resume(|client| assert!(hear(client).is_none()));
    }

    #[test]
    fn without_anything_kept_there_is_nothing_to_go_on_with() {
        let (ours, _theirs) = UnixDatagram::pair().unwrap();
        assert!(
            Broker::resume(ServiceManager::behind(ours), OwnerOptions::default(), &mut Kept::default())
                .unwrap()
                .is_none()
        );
        // Whoever kept something keeps nothing now: clients of this broker would be lost with the next crash.
        let file = LedgerFile::create(b"x").unwrap();
        let kept = BTreeMap::from([(keeping::LEDGER.to_owned(), rustix::io::dup(&file).unwrap())]);
        let error = Broker::resume(ServiceManager::default(), OwnerOptions::default(), &mut Kept(kept))
            .map(drop)
            .unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Invalid, "{error}");
    }

    /// Killed between the end of a card and what the record says of it.
    #[test]
    fn a_card_that_was_closed_is_not_kept_open() {
        let known = crate::ledger::a_known();
        let all: Vec<_> = known.spaces[&0].identities().cloned().collect();
        let closed = closed_cards(&known.spaces[&0], 0, &[]).unwrap();
        assert_eq!(closed, [(all[0].address.clone(), "s0c0".to_owned())]);
        let bars = [jitney_vfio::BarInfo::default(); 6];
        let identity = all[0].clone();
        let there = CardDescription { id: protocol::CardId(0), identity, bars, space: 0, physical: false };
        assert!(closed_cards(&known.spaces[&0], 0, &[there]).unwrap().is_empty());
    }
}
