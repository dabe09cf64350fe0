//! A card that several processes have, within this one: each has leases of its own, and can be killed.

use jitney_vfio::{
    BarInfo, Card, DmaBuffer, DmaRequest, Error, ErrorKind, FakeCard, Handed, Identity, Interrupt, Keeper,
    Lease, LeaseId, LeaseRequest, LeaseTable, Mode, Notices, Region, Result, SharedInterrupt, StillUsed,
    WillStep,
};
use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// What a broker knows.
#[derive(Default)]
struct Books {
    table: LeaseTable<u32>,
    last: u64,
    offers: HashMap<String, DmaBuffer>,
}

/// The machine with the card.
#[derive(Clone)]
pub(crate) struct Machine {
    card: Arc<FakeCard>,
    books: Arc<Mutex<Books>>,
}

/// The card as one process has it.
pub(crate) struct Process {
    number: u32,
    machine: Machine,
}

struct Desk(Machine, u32);

impl Machine {
    pub(crate) fn new(card: &Arc<FakeCard>) -> Self {
        Self { card: Arc::clone(card), books: Arc::default() }
    }

    pub(crate) fn process(&self, number: u32) -> Arc<dyn Card> {
        Arc::new(Process { number, machine: self.clone() })
    }

    /// A process is killed: its wills are carried out, of what it shares if it is the last, and its leases end.
    pub(crate) fn kill(&self, number: u32) {
        let mut books = self.books.lock().unwrap();
        for gone in books.table.release_all(&number) {
            let shared = books.table.iter().any(|other| other.request.part == gone.request.part);
            for step in gone.request.will.0.iter().filter(|_| !shared) {
                let bar = self.card.bar(0).unwrap();
                match *step {
                    WillStep::Write { offset, value, .. } => bar.write32(offset, value).unwrap(),
                    WillStep::WaitUntil { offset, mask, value, .. } => {
                        assert_eq!(bar.read32(offset).unwrap() & mask, value, "its will came true");
                    }
                }
            }
        }
        let anybody = books.table.iter().next().is_some();
        if !anybody {
            books.offers.clear();
        }
    }

    pub(crate) fn leases(&self) -> Vec<String> {
        self.books.lock().unwrap().table.iter().map(|lease| lease.request.part.to_string()).collect()
    }
}

impl Card for Process {
    fn identity(&self) -> &Identity {
        self.machine.card.identity()
    }
    fn bars(&self) -> &[BarInfo; 6] {
        self.machine.card.bars()
    }
    fn bar(&self, index: usize) -> Result<Region> {
        self.machine.card.bar(index)
    }
    fn config(&self) -> Result<Region> {
        self.machine.card.config()
    }
    fn dma_buffer(&self, request: DmaRequest) -> Result<DmaBuffer> {
        self.machine.card.dma_buffer(request)
    }
    fn offer(&self, buffer: &DmaBuffer, name: &str) -> Result<()> {
        self.machine.books.lock().unwrap().offers.insert(name.into(), buffer.clone());
        Ok(())
    }
    fn attach(&self, name: &str) -> Result<DmaBuffer> {
        let books = self.machine.books.lock().unwrap();
        books.offers.get(name).cloned().ok_or_else(|| Error::new(ErrorKind::NotFound, "no such offer"))
    }
    fn lease(&self, request: LeaseRequest) -> Result<Lease> {
        let until = Instant::now() + request.wait.unwrap_or_default().min(Duration::from_secs(5));
        loop {
            let mut books = self.machine.books.lock().unwrap();
            books.last += 1;
            let id = LeaseId(books.last);
            if books.table.grant(id, self.number, request.clone()).is_ok() {
                return Ok(Lease::new(request.part, id, Arc::new(Desk(self.machine.clone(), self.number))));
            }
            if Instant::now() >= until {
                return Err(Error::new(ErrorKind::Held, format!("{} is held", request.part)));
            }
            drop(books);
            std::thread::sleep(Duration::from_millis(1));
        }
    }
    fn vectors(&self) -> Result<u32> {
        self.machine.card.vectors()
    }
    fn interrupt(&self, vector: u16) -> Result<Interrupt> {
        self.machine.card.interrupt(vector)
    }
    fn shared_interrupt(&self, vector: u16, source: u8) -> Result<SharedInterrupt> {
        self.machine.card.shared_interrupt(vector, source)
    }
    fn notices(&self) -> Result<Notices> {
        self.machine.card.notices()
    }
    fn still_used(&self) -> &StillUsed {
        self.machine.card.still_used()
    }
    fn reset(&self) -> Result<()> {
        self.machine.card.reset()
    }
}

impl Keeper for Desk {
    fn take_back(&self, what: Handed) -> Result<()> {
        let Handed::Lease { id } = what else { return Ok(()) };
        let mut books = self.0.books.lock().unwrap();
        let ended = books.table.release(id, &self.1);
        let shared = |lease: &LeaseRequest| lease.part.name() == "controller" && lease.mode == Mode::Shared;
        // Who was the last lets go of what it had in common with others right after.
        if ended.is_some_and(|ended| shared(&ended.request))
            && !books.table.iter().any(|lease| shared(&lease.request))
        {
            books.offers.clear();
        }
        Ok(())
    }
}

impl fmt::Debug for Process {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "process {}", self.number)
    }
}

impl fmt::Debug for Desk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "desk of process {}", self.1)
    }
}
