//! The wall around a card that its owner shares: what of it is mapped and when, how the owner reaches registers, and what
//! waits for what. The transport notes what it is asked for.

#![expect(clippy::unwrap_used, reason = "in tests, where a panic is the failure")]

use jitney_memory::{EventFd, Registers};
use jitney_vfio::{
    CONFIG_REGION, Device, ErrorKind, FakeHost, Grant, InterruptKind, OpenedCard, RegionInfo, Result,
    Transport,
};
use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::time::Duration;

const SIZE: u64 = 0x1000;

/// A card with BAR 0 that can be mapped and BAR 2 that cannot.
#[derive(Debug)]
struct Noted {
    asked: Mutex<Vec<String>>,
    /// What is mapped for BAR 0.
    memory: File,
    command: Mutex<u16>,
    /// The card was pulled out: what is left of configuration space is the kernel's copy of its ids.
    pulled: AtomicBool,
    /// How many vectors the machine has to give, of the card's eight.
    possible: u32,
    /// While there is something to receive from, a reset waits for it.
    reset: Mutex<Option<mpsc::Receiver<()>>>,
}

impl Noted {
    fn new() -> Self {
        let memory = tempfile::tempfile().unwrap();
        memory.set_len(SIZE).unwrap();
        Self {
            asked: Mutex::default(),
            memory,
            command: Mutex::new(0b010),
            pulled: AtomicBool::new(false),
            possible: 8,
            reset: Mutex::default(),
        }
    }

    fn note(&self, what: String) {
        self.asked.lock().unwrap().push(what);
    }

    fn take(&self) -> Vec<String> {
        std::mem::take(&mut self.asked.lock().unwrap())
    }
}

impl Transport for Noted {
    fn region(&self, index: u32) -> Result<RegionInfo> {
        let size = if matches!(index, 0 | 2 | CONFIG_REGION) { SIZE } else { 0 };
        Ok(RegionInfo { size, mappable: index == 0 })
    }

    fn read(&self, region: u32, offset: u64, data: &mut [u8]) -> Result<()> {
        data.fill(0);
        if region != CONFIG_REGION {
            self.note(format!("read {region} {offset:#x} {}", data.len()));
            data.fill(7);
        } else if self.pulled.load(Ordering::Relaxed) && offset >= 4 {
            data.fill(0xff);
        } else if offset == 4 {
            data.copy_from_slice(&self.command.lock().unwrap().to_le_bytes());
        }
        Ok(())
    }

    fn write(&self, region: u32, offset: u64, data: &[u8]) -> Result<()> {
        if region == CONFIG_REGION && offset == 4 {
            *self.command.lock().unwrap() = u16::from_le_bytes(data.try_into().unwrap());
        }
        self.note(format!("write {region} {offset:#x} {data:?}"));
        Ok(())
    }

    fn map(&self, region: u32) -> Result<Registers> {
        self.note(format!("map {region}"));
        Ok(Registers::map(&self.memory, 0, 0x1000)?)
    }

    fn interrupt_count(&self, kind: InterruptKind) -> Result<u32> {
        Ok(if kind == InterruptKind::MsiX { 8 } else { 0 })
    }

    fn enable(&self, _: InterruptKind, count: u32) -> Result<u32> {
        self.note(format!("enable {count}"));
        Ok(count.min(self.possible))
    }

    fn arm(&self, _: InterruptKind, first: u32, events: &[Option<BorrowedFd<'_>>]) -> Result<()> {
        self.note(format!("arm {first} {:?}", events.iter().map(Option::is_some).collect::<Vec<_>>()));
        Ok(())
    }

    fn disarm(&self, _: InterruptKind) -> Result<()> {
        self.note("disarm".into());
        Ok(())
    }

    fn reset(&self) -> Result<()> {
        self.note("reset".into());
        if let Some(end) = self.reset.lock().unwrap().take() {
            end.recv_timeout(Duration::from_secs(60)).unwrap();
        }
        *self.command.lock().unwrap() = 0;
        Ok(())
    }

    fn grant(&self) -> Result<Grant> {
        self.note("grant".into());
        Ok(Grant::Kernel(tempfile::tempfile().unwrap().into()))
    }
}

fn open(transport: &Arc<Noted>) -> OpenedCard {
    let device = Device::new("noted".into(), Arc::clone(transport) as _).unwrap();
    OpenedCard::new(device, Arc::new(FakeHost::new())).unwrap()
}

#[test]
fn every_bar_that_can_be_is_mapped_before_a_grant_leaves() {
    let transport = Arc::new(Noted::new());
    let card = open(&transport);
    card.grant().unwrap();
    assert_eq!(transport.take(), ["map 0", "grant"]);
}

/// The mapping is one that ends this process when it is touched, as that of a card whose memory decoding a client has
/// switched off.
#[test]
fn an_owner_reaches_registers_past_the_mapping() {
    let transport = Arc::new(Noted::new());
    let card = open(&transport);
    transport.memory.set_len(0).unwrap();
    transport.take();
    card.write_register(0, 0xffc, 0x0403_0201).unwrap();
    assert_eq!(card.read_register(0, 0x10).unwrap(), 0x0707_0707);
    card.write_register(2, 0, 1).unwrap();
    assert_eq!(transport.take(), ["write 0 0xffc [1, 2, 3, 4]", "read 0 0x10 4", "write 2 0x0 [1, 0, 0, 0]"]);

    for (bar, offset, kind) in [
        (0, 0x1000, ErrorKind::OutOfBounds),
        (0, u64::MAX - 3, ErrorKind::OutOfBounds),
        (0, 2, ErrorKind::Invalid),
        (1, 0, ErrorKind::NotFound),
        (9, 0, ErrorKind::NotFound),
    ] {
        assert_eq!(card.write_register(bar, offset, 0).unwrap_err().kind(), kind);
        let error = card.read_register(bar, offset).unwrap_err();
        assert!(error.kind() == kind && error.to_string().contains("noted"), "{error}");
    }
    assert!(transport.take().is_empty(), "nothing of that reaches the card");
}

#[test]
fn registers_of_64_bits_are_two_of_32_the_low_word_first_mapped_or_not() {
    let transport = Arc::new(Noted::new());
    let device = Device::new("noted".into(), Arc::clone(&transport) as _).unwrap();
    let (mapped, trapped) = (device.bar(0).unwrap(), device.bar(2).unwrap());
    assert!(mapped.registers().is_some() && trapped.registers().is_none());
    transport.take();
    for region in [&mapped, &trapped] {
        region.write64(0xff8, 0x0807_0605_0403_0201).unwrap();
        for (offset, kind) in [(0xffc, ErrorKind::Invalid), (0x1000, ErrorKind::OutOfBounds)] {
            assert_eq!(region.write64(offset, 0).unwrap_err().kind(), kind);
            assert_eq!(region.read64(offset).unwrap_err().kind(), kind);
        }
    }
    assert_eq!(mapped.read64(0xff8).unwrap(), 0x0807_0605_0403_0201);
    assert_eq!(mapped.read32(0xffc).unwrap(), 0x0807_0605);
    assert_eq!(trapped.read64(0x10).unwrap(), 0x0707_0707_0707_0707);
    let asked =
        ["write 2 0xff8 [1, 2, 3, 4]", "write 2 0xffc [5, 6, 7, 8]", "read 2 0x10 4", "read 2 0x14 4"];
    assert_eq!(transport.take(), asked);
}

#[test]
fn bits_of_the_command_register_are_switched_one_by_one() {
    let transport = Arc::new(Noted::new());
    let card = open(&transport);
    assert!(card.link_is_up().unwrap() && card.memory_decode().unwrap() && !card.bus_master().unwrap());
    card.set_bus_master(true).unwrap();
    card.set_memory_decode(false).unwrap();
    assert_eq!(*transport.command.lock().unwrap(), 0b100);
    assert!(!card.memory_decode().unwrap() && card.bus_master().unwrap());
}

#[test]
fn a_card_that_was_pulled_out_does_not_answer_although_the_kernel_still_has_its_ids() {
    let transport = Arc::new(Noted::new());
    let card = open(&transport);
    transport.pulled.store(true, Ordering::Relaxed);
    assert!(!card.link_is_up().unwrap());
}

#[test]
fn a_card_with_more_vectors_than_the_machine_has_for_it_works_with_those() {
    let transport = Arc::new(Noted { possible: 2, ..Noted::new() });
    let card = open(&transport);
    let event = EventFd::new().unwrap();
    transport.take();
    card.wire(1, None).unwrap();
    assert!(transport.take().is_empty(), "what was never wired is silent already");
    card.wire(1, Some(event.as_fd())).unwrap();
    card.wire(0, Some(event.as_fd())).unwrap();
    let error = card.wire(2, Some(event.as_fd())).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Exhausted);
    assert!(error.to_string().contains("only 2 to give of its 8"), "{error}");
    assert_eq!(card.wire(8, Some(event.as_fd())).unwrap_err().kind(), ErrorKind::NotFound);
    assert_eq!(transport.take(), ["enable 8", "arm 1 [true]", "arm 0 [true]"]);

    card.reset().unwrap();
    card.reset().unwrap();
    card.wire(0, Some(event.as_fd())).unwrap();
    assert_eq!(transport.take(), ["disarm", "reset", "reset", "enable 8", "arm 0 [true]"]);
}

#[test]
fn nobody_waits_for_a_reset() {
    let transport = Arc::new(Noted::new());
    let card = open(&transport);
    card.set_bus_master(true).unwrap();
    let (end, receiver) = mpsc::channel();
    *transport.reset.lock().unwrap() = Some(receiver);
    std::thread::scope(|scope| {
        let card = &card;
        let reset = scope.spawn(|| card.reset());
        while !transport.asked.lock().unwrap().iter().any(|asked| asked == "reset") {
            std::thread::yield_now();
        }
        // As when a client with a wired vector dies meanwhile.
        let (silent, silenced) = mpsc::channel();
        scope.spawn(move || silent.send(card.wire(0, None)).unwrap());
        let silenced = silenced.recv_timeout(Duration::from_secs(20));
        end.send(()).unwrap();
        silenced.expect("silencing a vector waits for a reset").unwrap();
        reset.join().unwrap().unwrap();
    });
    assert!(card.bus_master().unwrap(), "it is as it was before");
}
