//! How a broker goes on where another one has stopped, however that was.

use super::closer::Closer;
use super::connection::Connection;
use super::keeping::{self, Keeping};
use super::reminders::Reminders;
use super::supervision::Supervision;
use super::workers::Workers;
use super::{Broker, usual_limits, waiting_place};
use crate::ledger::{Books, LedgerFile, Replayed, Unfinished};
use crate::machine::{CardDescription, ClientId, Effect, Event, Failure, Work};
use crate::manager::{Kept, ServiceManager};
use crate::protocol;
use jitney_memory::Memfd;
use jitney_vfio::{
    AddressSpace, Error, ErrorKind, OpenedCard, OpenedSpace, Result, SpaceRecord, TallyPage, TallyReader,
};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::os::fd::OwnedFd;
use std::sync::Arc;

impl Broker {
    /// Goes on with the clients and cards of a broker before this one, from what `manager` has kept of it; `None` if it has kept
    /// nothing. What was under way is finished, or answered with an error that says so; nothing is done twice that is not the
    /// same when it is done twice.
    ///
    /// # Errors
    /// [`ErrorKind::Unsupported`] if that was another version, whose books this one cannot read; [`ErrorKind::Protocol`] if they
    /// make no sense; what the system says. What was kept is closed then.
    pub fn resume(manager: ServiceManager, kept: Kept) -> Result<Option<Self>> {
        let Kept(mut kept) = kept;
        let Some(ledger) = kept.remove(keeping::LEDGER) else { return Ok(None) };
        let Some(store) = manager.store()? else {
            let what = "descriptors were kept for this broker, and now nobody keeps any";
            return Err(Error::new(ErrorKind::Invalid, what).with_remedy("start it as the one before was"));
        };
        let (file, snapshot, records) = LedgerFile::open(ledger)?;
        let Replayed { books, unfinished } = Books::replay(&snapshot, &records)?;
        let machine = books.machine.resumed(std::process::id(), usual_limits());
        let known = books.known;
        let spaces = resume_spaces(&known.spaces, &mut kept)?;
        let descriptions: Vec<CardDescription> = machine.cards().cloned().collect();
        let spaces = spaces.into_iter().map(|opened| {
            let vectors = |card: &OpenedCard| {
                let found = descriptions.iter().find(|it| it.identity.address == card.identity().address);
                found.and_then(|card| known.vectors.get(&card.id)).copied()
            };
            let cards = opened.cards.into_iter().map(|card| {
                let count = vectors(&card);
                card.with_enabled_vectors(count)
            });
            OpenedSpace { cards: cards.collect(), space: opened.space }
        });
        let spaces: Vec<OpenedSpace> = spaces.collect();
        let all = AddressSpace::joined(spaces.iter().map(|opened| &opened.space));
        let (epoll, stop) = waiting_place()?;
        let files: HashMap<_, _> = known.memory.iter().map(|(iova, memory)| (*iova, *memory)).collect();
        let workers = Workers::resume(spaces, all, &files, &descriptions, &epoll)?;
        let mut reminders = Reminders::default();
        let now = keeping::now();
        for ((client, of), at) in &known.reminders {
            reminders.add_at(*client, *of, *at, now);
        }
        let (next_client, behind) = (known.next_client, known.behind.clone());
        let supervision = Supervision::new(manager, descriptions.len());
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
            supervision,
            idleness: None,
            tallies: HashMap::new(),
            stop,
            buffer: vec![0; protocol::MAX_MESSAGE],
            keeping: Some(Keeping::go_on(store, file, known)),
        };
        broker.resume_entrances(&mut kept)?;
        let lost = broker.resume_clients(&mut kept, &behind);
        broker.finish(unfinished, &mut kept);
        for client in lost {
            broker.feed(Event::Left { client });
        }
        broker.forget(kept);
        tracing::info!(clients = broker.clients.len(), "the broker goes on where another one has stopped");
        Ok(Some(broker))
    }

    /// The sockets that the broker before this one has bound.
    fn resume_entrances(&mut self, kept: &mut BTreeMap<String, OwnedFd>) -> Result<()> {
        let numbers: Vec<u64> = kept.keys().filter_map(|name| name.strip_prefix('l')?.parse().ok()).collect();
        let mut found = Vec::new();
        for number in numbers {
            let [socket, lock] = keeping::names_of_entrance(number);
            if let (Some(socket), Some(lock)) = (kept.remove(&socket), kept.remove(&lock)) {
                found.push((number, socket, lock));
            }
        }
        if let Some(keeping) = &mut self.keeping {
            for (number, ..) in &found {
                keeping::names_of_entrance(*number).iter().for_each(|name| keeping.forget(name));
            }
        }
        for (_, socket, lock) in found {
            self.entrances.resume(socket, lock, &self.epoll)?;
        }
        self.keep_entrances();
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
            let [socket, process, page] = keeping::names_of(client).map(|name| kept.remove(&name));
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
                _ => self.workers.begin_again(id, task),
            }
        }
    }

    /// Does what was perhaps done. What is sent twice is known by its number; the rest follows from the books.
    fn finish_effect(&mut self, effect: Effect, kept: &mut BTreeMap<String, OwnedFd>) {
        match effect {
            Effect::Reply { client, attach: Some(task), .. } if !self.kept.contains_key(&task) => {
                match kept.remove(&keeping::name_of(task)) {
                    Some(descriptor) => self.carry_out(vec![effect], vec![descriptor]),
                    // Whether the client has it nobody knows, so that it cannot go on.
                    None => self.feed(Event::Left { client }),
                }
            }
            Effect::Tallies { client, .. } if self.tallies.contains_key(&client) => {}
            Effect::Reply { .. }
            | Effect::Tell { .. }
            | Effect::Tallies { .. }
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
        for name in kept.keys() {
            tracing::debug!(name, "a descriptor that was kept is of nothing that is there");
            if let Some(keeping) = &mut self.keeping {
                keeping.forget(name);
            }
        }
        self.closer.own(kept.into_values().collect());
    }
}

fn resume_spaces(records: &[SpaceRecord], kept: &mut BTreeMap<String, OwnedFd>) -> Result<Vec<OpenedSpace>> {
    let spaces = records.iter().enumerate();
    spaces.map(|(number, record)| OpenedSpace::resume(record, number, kept)).collect()
}
