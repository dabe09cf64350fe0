//! The scenarios of crates/faces/scenarios.txt by the Rust library.

#![expect(clippy::unwrap_used, reason = "helpers of tests, where a panic is the failure")]

use jitney::boards::{Catalogue, identify};
use jitney::broker::{Broker, Offer, OwnerOptions, ServiceManager, StopHandle};
use jitney::emulated::EmulatedCard;
use jitney::emulated::emulator::boards::Board;
use jitney::emulated::emulator::fault::{Fault, FaultKind};
use jitney::emulated::emulator::{self, Function, Server};
use jitney::ring::{End, Next, Reader, Shape, Writer};
use jitney::vfio::{
    Card, CardAddress, DmaBuffer, ErrorKind, LeaseRequest, OpenOptions, SerialNumber, open_all_with,
};
use jitney::xdma::{C2h, Error, H2c, Overrun, Piece, Xdma};
use jitney::{Bus, Change, Find, boards, find};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

/// Generous: the machine may have other things to do.
const SOON: Duration = Duration::from_secs(60);

fn emulated(name: &str) -> EmulatedCard {
    EmulatedCard::new(&Board::named(&Catalogue::built_in(), name).unwrap()).unwrap()
}

fn xdma(card: &Arc<dyn Card>) -> Xdma {
    identify(card).unwrap().xdma().unwrap()
}

fn channels(card: &Arc<dyn Card>) -> (H2c, C2h) {
    let xdma = xdma(card);
    (xdma.h2c(0).unwrap(), xdma.c2h(0).unwrap())
}

/// A board whose streams to it come back.
fn loopback() -> EmulatedCard {
    let emulated = emulated("NiteFury_dma_stream_loopback");
    let switch = identify(&emulated.card()).unwrap().stream_switch().unwrap();
    let routes: Vec<_> = (0..switch.ports()).map(Some).collect();
    switch.lease().unwrap().set_routes(&routes).unwrap();
    emulated
}

/// A board that a thread of this process serves.
fn serve(name: &str, socket: &Path) -> (emulator::StopHandle, JoinHandle<()>) {
    let model = Board::named(&Catalogue::built_in(), name).unwrap();
    let server = Server::bind(socket, emulator::Options::default(), |host| {
        Ok::<_, emulator::ServerError>(Arc::new(model.plug_into(host).unwrap()) as Arc<dyn Function>)
    });
    let server = server.unwrap();
    (server.stop_handle(), std::thread::spawn(move || server.serve().unwrap()))
}

/// A broker of emulated boards; all serve by threads of this process.
struct Shared {
    folder: tempfile::TempDir,
    broker: StopHandle,
    boards: Vec<emulator::StopHandle>,
    threads: Vec<JoinHandle<()>>,
}

impl Shared {
    fn new() -> Self {
        Self::of(&["nitefury"])
    }

    /// Of these boards, whose sockets are called as they are.
    fn of(names: &[&str]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let (mut boards, mut threads, mut addresses) = (Vec::new(), Vec::new(), Vec::new());
        for name in names {
            let socket = folder.path().join(format!("{name}.sock"));
            let (board, thread) = serve(name, &socket);
            boards.push(board);
            threads.push(thread);
            addresses.push(CardAddress::VfioUser(socket));
        }
        let mut broker = Broker::new(open_all_with(&addresses, OpenOptions::default()).unwrap()).unwrap();
        broker.listen(&folder.path().join("broker.sock"), 0o600).unwrap();
        let stop = broker.stop_handle();
        threads.insert(0, std::thread::spawn(move || broker.run().map(drop).unwrap()));
        Self { folder, broker: stop, boards, threads }
    }

    fn address(&self, name: &str) -> String {
        format!("vfio-user:{}/{name}.sock", self.folder.path().display())
    }

    /// Another client.
    fn bus(&self) -> Bus {
        Bus::options().broker(self.folder.path().join("broker.sock")).open().unwrap()
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        self.broker.stop().unwrap();
        self.boards.iter().for_each(|board| board.stop().unwrap());
        self.threads.drain(..).for_each(|thread| thread.join().unwrap());
    }
}

fn address(found: jitney::vfio::Result<Arc<dyn Card>>) -> String {
    found.unwrap().identity().address.clone()
}

/// What all programs do, whoever owns the card.
fn move_bytes(card: &Arc<dyn Card>) {
    let (h2c, c2h) = channels(card);
    let sent: Vec<u8> = (0..1_u32 << 18).flat_map(|word| word.wrapping_mul(77).to_le_bytes()).collect();
    let buffer = card.dma_buffer((sent.len() as u64).into()).unwrap();
    buffer.write(0, &sent).unwrap();
    assert_eq!(h2c.write(&buffer, 0x1000).unwrap().bytes, sent.len() as u64);
    buffer.write(0, &vec![0; sent.len()]).unwrap();
    c2h.read(&buffer, 0x1000).unwrap();
    let mut came = vec![0; sent.len()];
    buffer.read(0, &mut came).unwrap();
    assert!(came == sent);
}

#[test]
fn every_scenario_of_the_list_has_a_test() {
    let list = include_str!("../../faces/scenarios.txt");
    let words = list.lines().filter(|line| !line.starts_with('#')).map(|line| line.split_whitespace());
    let ours = words.filter_map(|mut words| {
        let name = words.next()?;
        let only = words.next()?;
        (!only.starts_with('[') || only.contains("rust")).then_some(name)
    });
    let source = include_str!("scenarios.rs");
    let missing: Vec<_> = ours.filter(|name| !source.contains(&format!("#[test]\nfn {name}()"))).collect();
    assert!(missing.is_empty(), "no test of {missing:?}");
}

#[test]
fn identify_a_board() {
    let card = emulated("nitefury").card();
    let board = identify(&card).unwrap();
    assert_eq!((board.name(), board.version()), ("NiteFury", Some(2)));
    assert!(board.memory().unwrap().size > 0 && card.bars()[0].size > 0);
}

#[test]
fn card_chosen() {
    const WITH_DNA: &str = "XCKU5P_SINGLE_QSFP_dma_ddr4";
    let shared = Shared::of(&["nitefury", "litefury", WITH_DNA]);
    let bus = shared.bus();
    assert_eq!(address(find(&bus).board("NITEFURY").one()), shared.address("nitefury"));
    let with_dna = find(&bus).board(WITH_DNA).one().unwrap();
    let (serial, dna) =
        (with_dna.serial_number().unwrap(), identify(&with_dna).unwrap().dna_numbers().unwrap());
    let of_litefury = bus.card(&shared.address("litefury")).unwrap().serial_number().unwrap().unwrap();
    assert_eq!(of_litefury.to_string(), "00-00-00-01-01-00-0a-35");
    assert_eq!((serial, dna.len()), (None, 1));
    assert_eq!(address(find(&bus).dna(dna[0]).one()), shared.address(WITH_DNA));
    assert_eq!(address(find(&bus).serial(of_litefury).board("litefury").one()), shared.address("litefury"));
    let wide = |card: &Arc<dyn Card>| identify(card).unwrap().memories().iter().any(|own| own.size > 1 << 30);
    assert_eq!(address(find(&bus).matching(wide).one()), shared.address(WITH_DNA));
    // As on the command line.
    for text in [&format!("dna:{}", dna[0]), "board:xcku5p_single_qsfp_dma_ddr4", &shared.address(WITH_DNA)] {
        assert_eq!(address(find(&bus).named(text).one()), shared.address(WITH_DNA), "{text}");
    }
    assert_eq!(find(&bus).named(format!("serial:{of_litefury}")).all().unwrap().len(), 2);
    assert_eq!(find(&bus).named("*").all().unwrap().len(), 3);

    let error = |found: Find<'_>| found.one().unwrap_err();
    let several = error(find(&bus).serial(of_litefury));
    let words = several.to_string();
    assert!(
        words.contains(&shared.address("nitefury")) && words.contains(&shared.address("litefury")),
        "{words}"
    );
    assert!(words.contains("2 cards fit serial number 00-00-00-01-01-00-0a-35"), "{words}");
    assert_eq!(several.remedy(), Some("name one by its address"));
    for nobody in [
        find(&bus).board("no-such-board"),
        find(&bus).serial(SerialNumber(7)),
        find(&bus).dna("000000000000000000000000".parse().unwrap()),
        find(&bus).matching(|_| false),
        find(&bus).board("nitefury").serial(SerialNumber(7)),
    ] {
        let none = error(nobody);
        assert!(none.kind() == ErrorKind::NotFound && none.to_string().contains("nitefury.sock"), "{none}");
    }
    for wrong in ["serial:7", "dna:4002"] {
        assert_eq!(error(find(&bus).named(wrong)).kind(), ErrorKind::Invalid, "{wrong}");
    }

    // One that cannot be asked may be it.
    shared.boards[1].stop().unwrap();
    let words = error(find(&bus).board("nitefury")).to_string();
    assert!(words.contains("and so may others that cannot be asked"), "{words}");
    assert!(
        words.contains(&shared.address("nitefury")) && words.contains(&shared.address("litefury")),
        "{words}"
    );
    assert_eq!(find(&bus).board("nitefury").all().unwrap().len(), 1);
    assert_eq!(address(find(&bus).dna(dna[0]).one()), shared.address(WITH_DNA));
    assert_eq!(address(find(&bus).named(shared.address("nitefury")).one()), shared.address("nitefury"));
}

#[test]
fn cards_come_and_go() {
    let folder = tempfile::tempdir().unwrap();
    let [first, later] = ["first.sock", "later.sock"].map(|name| folder.path().join(name));
    let named = |cards: &[&PathBuf]| {
        let cards = cards.iter().map(|path| CardAddress::VfioUser((*path).clone())).collect();
        OwnerOptions { cards, ..OwnerOptions::default() }
    };
    let (stop_first, serves_first) = serve("nitefury", &first);
    let mut broker = Broker::on_demand(ServiceManager::default(), named(&[&first, &later])).unwrap();
    let socket = folder.path().join("broker.sock");
    broker.listen(&socket, 0o600).unwrap();
    let (stop, shares) = (broker.stop_handle(), std::thread::spawn(move || broker.run().map(drop).unwrap()));
    let bus = Bus::options().broker(&socket).open().unwrap();
    let watch = bus.watch().unwrap();
    assert_eq!((bus.cards().len(), watch.poll().unwrap()), (1, None));
    assert_eq!(watch.wait(Some(Duration::ZERO)).unwrap(), None);
    for _ in 0..2 {
        let (stop_later, serves_later) = serve("litefury", &later);
        #[cfg(feature = "async")]
        let change = Some(async_io::block_on(watch.changed()).unwrap());
        #[cfg(not(feature = "async"))]
        let change = watch.wait(Some(SOON)).unwrap();
        let Some(Change::Arrived(card)) = change else { panic!("none arrived: {change:?}") };
        assert_eq!(card.address, format!("vfio-user:{}", later.display()));
        // The bus has it now.
        assert_eq!(identify(&bus.card(&card.address).unwrap()).unwrap().name(), "LiteFury");
        assert_eq!(address(find(&bus).board("litefury").one()), card.address);
        // A watch that begins later hears of what comes later.
        let second = bus.watch().unwrap();
        assert_eq!(second.poll().unwrap(), None);
        stop_later.stop().unwrap();
        serves_later.join().unwrap();
        for watch in [&watch, &second] {
            assert_eq!(watch.wait(Some(SOON)).unwrap(), Some(Change::Left(card.clone())));
            assert_eq!(watch.poll().unwrap(), None, "said twice");
        }
        assert_eq!(
            (bus.cards().len(), bus.card(&card.address).unwrap_err().kind()),
            (1, ErrorKind::NotFound)
        );
    }
    // What has changed between the bus and the watch is said, too.
    let (stop_later, serves_later) = serve("litefury", &later);
    let late = bus.watch().unwrap();
    assert!(matches!(late.poll().unwrap(), Some(Change::Arrived(_))));
    stop_later.stop().unwrap();
    serves_later.join().unwrap();

    stop.stop().unwrap();
    shares.join().unwrap();
    let gone = loop {
        match watch.wait(Some(SOON)) {
            Ok(Some(_)) => {}
            Ok(None) => panic!("the broker's end was not heard"),
            Err(error) => break error.kind(),
        }
    };
    assert_eq!(gone, ErrorKind::Disconnected);

    // Alone.
    let bus = Bus::options().card(CardAddress::VfioUser(first.clone())).open().unwrap();
    let watch = bus.watch().unwrap();
    assert_eq!(watch.poll().unwrap(), None);
    stop_first.stop().unwrap();
    serves_first.join().unwrap();
    let left = watch.wait(Some(SOON)).unwrap();
    assert!(matches!(&left, Some(Change::Left(card)) if *card == bus.cards()[0]), "{left:?}");
    let (stop_first, serves_first) = serve("nitefury", &first);
    let back = watch.wait(Some(SOON)).unwrap().unwrap();
    assert_eq!(back.to_string(), format!("vfio-user:{} (10ee:7011) has arrived", first.display()));
    drop((watch, bus));
    assert_eq!(Bus::alone(&[]).unwrap().watch().unwrap().poll().unwrap(), None);
    stop_first.stop().unwrap();
    serves_first.join().unwrap();
}

#[test]
fn register_by_name() {
    let card = emulated("nitefury").card();
    let xdma = boards::probe(&card).unwrap().unwrap();
    let names = xdma.registers();
    let offset = |wanted: &str| names.iter().find(|(name, _)| name == wanted).unwrap().1;
    let bar = card.bar(xdma.bar()).unwrap();
    assert_eq!(bar.read32(offset("h2c0.identifier")).unwrap() >> 20, 0x1fc);
    bar.write32(offset("irq.user_enable"), 5).unwrap();
    assert_eq!(bar.read32(offset("irq.user_enable")).unwrap(), 5);
}

#[test]
fn register_out_of_range() {
    let bar = emulated("nitefury").card().bar(0).unwrap();
    for offset in [bar.size(), bar.size() - 2, u64::MAX - 3] {
        assert!(bar.read32(offset).is_err() && bar.write32(offset, 0).is_err());
    }
    assert_eq!(bar.read32(bar.size()).unwrap_err().kind(), ErrorKind::OutOfBounds);
}

#[test]
fn link_down() {
    let emulated = emulated("nitefury");
    let (h2c, _c2h) = channels(&emulated.card());
    emulated.board().inject(Fault::new(FaultKind::LinkDown));
    assert_eq!(emulated.card().bar(0).unwrap().read32(0).unwrap(), u32::MAX);
    assert!(matches!(h2c.write_bytes(b"abcd", 0), Err(Error::LinkDown(_))));
}

#[test]
fn written_and_read_back() {
    move_bytes(&emulated("nitefury").card());
}

#[test]
fn gather() {
    let card = emulated("nitefury").card();
    let (h2c, c2h) = channels(&card);
    let [first, second]: [DmaBuffer; 2] = [0, 1].map(|_| card.dma_buffer(4096.into()).unwrap());
    first.write(100, b"one ").unwrap();
    second.write(0, b"two").unwrap();
    let pieces = [Piece::new(&first, 100..104, 0), Piece::new(&second, 0..4, 4)];
    let done = h2c.submit_pieces(pieces).unwrap().wait().unwrap();
    assert_eq!((done.bytes, done.descriptors), (8, 2));
    let mut text = [0; 7];
    c2h.read_bytes(&mut text, 0).unwrap();
    assert_eq!(&text, b"one two");
}

#[test]
fn in_flight_and_polled() {
    let card = emulated("nitefury").card();
    let h2c = xdma(&card).h2c(0).unwrap().by_interrupt().unwrap();
    let buffer = card.dma_buffer((4 << 20).into()).unwrap();
    let pending: Vec<_> =
        (0..4_u64).map(|i| h2c.submit(&buffer, i << 20..(i + 1) << 20, i << 20).unwrap()).collect();
    for own in &pending {
        assert!(own.event().is_some());
        assert_eq!(own.wait_for(SOON).unwrap().unwrap().bytes, 1 << 20);
        assert!(own.poll().unwrap().is_some());
    }
}

#[test]
fn cancelled() {
    let card = loopback().card();
    let (_h2c, c2h) = channels(&card);
    let buffer = card.dma_buffer(4096.into()).unwrap();
    let pending = c2h.receive(&buffer, 0..4096).unwrap();
    assert!(pending.wait_for(Duration::from_millis(10)).unwrap().is_none());
    assert!(pending.cancel().unwrap().is_none());
    assert!(matches!(pending.poll(), Err(Error::Cancelled { .. })));
}

#[test]
fn stream_packet() {
    let card = loopback().card();
    let (h2c, c2h) = channels(&card);
    let buffer = card.dma_buffer(4096.into()).unwrap();
    h2c.write_bytes(&[b'p'; 192], 0).unwrap();
    let done = c2h.receive(&buffer, 0..4096).unwrap().wait().unwrap();
    assert!(done.ends_packet && done.bytes == 192);
}

#[test]
fn capture() {
    for overrun in [Overrun::Wait, Overrun::Overwrite] {
        let card = loopback().card();
        let (h2c, c2h) = channels(&card);
        let mut capture = c2h.capture(16, 4096, overrun).unwrap();
        let mut block = [0; 4096];
        for number in 0..20 {
            h2c.write_bytes(&[number; 4096], 0).unwrap();
            let captured = capture.read(&mut block, Some(SOON)).unwrap().unwrap();
            assert_eq!((captured.sequence, captured.lost, block[4095]), (number.into(), 0, number));
        }
    }
}

#[test]
fn ring_read() {
    let shared = Shared::new();
    let (writes, reads) = (shared.bus(), shared.bus());
    let shape = Shape::new(16, 4096).unwrap();
    let buffer = writes.dma_buffer(shape.request()).unwrap();
    let mut writer = Writer::new(&buffer, shape).unwrap();
    writes.share(&buffer, Offer::to_readers().named("samples")).unwrap();
    let mut reader = Reader::new(reads.view("samples").unwrap()).unwrap();
    writer.put(b"a block", true).unwrap();
    let Next::Block(mut block) = reader.next(SOON).unwrap() else { panic!("there is one") };
    let mut bytes = [0; 7];
    block.read(0, &mut bytes).unwrap();
    assert_eq!(&bytes, b"a block");
    drop(writer);
    assert!(matches!(reader.next(SOON).unwrap(), Next::Ended(End::Closed)));
}

#[test]
fn interrupt() {
    let emulated = emulated("nitefury");
    let mut line = xdma(&emulated.card()).user_interrupt(0).unwrap();
    assert!(!line.wait(Some(Duration::ZERO)).unwrap());
    emulated.board().set_user_interrupt(0, true);
    assert!(line.wait(Some(SOON)).unwrap());
    emulated.board().set_user_interrupt(0, false);
    assert!(!line.wait(Some(Duration::ZERO)).unwrap());
}

#[test]
fn sensor() {
    let board = identify(&emulated("nitefury").card()).unwrap();
    let monitors = board.monitors().unwrap();
    let all: Vec<_> = monitors.iter().flat_map(|monitor| monitor.readings().unwrap()).collect();
    assert!(
        all.iter().any(|reading| reading.quantity.unit() == "°C" && (0.0..120.0).contains(&reading.now)),
        "{all:?}"
    );
}

#[test]
fn held_names_the_holder() {
    let shared = Shared::new();
    let (first, second) = (shared.bus(), shared.bus());
    let _h2c = xdma(&first.card("*").unwrap()).h2c(0).unwrap();
    let error = xdma(&second.card("*").unwrap()).h2c(0).unwrap_err().to_string();
    assert!(error.contains(&format!("is held by pid {} (", std::process::id())), "{error}");
}

#[test]
fn lease_waited_for() {
    let shared = Shared::new();
    let (first, second) = (shared.bus(), shared.bus());
    let request = || LeaseRequest::exclusive("filter".parse().unwrap());
    let held = first.card("*").unwrap().lease(request()).unwrap();
    let card = second.card("*").unwrap();
    assert!(card.lease(request().waiting(Duration::from_millis(10))).is_err());
    let waits = std::thread::spawn(move || card.lease(request().waiting(SOON)).map(drop));
    std::thread::sleep(Duration::from_millis(50));
    drop(held);
    waits.join().unwrap().unwrap();
}

#[test]
fn flash_info() {
    let board = identify(&emulated("nitefury").card()).unwrap();
    let flash = board.quad_spi().unwrap().lease().unwrap().flash().unwrap();
    let mut data = [0; 300];
    flash.read(1, &mut data).unwrap();
    assert!(data == [0xff; 300] && flash.read(flash.part().size - 1, &mut data).is_err());
}

#[test]
fn emulated_in_process() {
    let (first, second) = (emulated("nitefury"), emulated("nitefury"));
    move_bytes(&first.card());
    drop(first);
    move_bytes(&second.card());
    assert!(Board::named(&Catalogue::built_in(), "no-such-board").is_err());
}

#[test]
fn error_has_errno_and_remedy() {
    let error = Bus::options().broker("/nowhere/at/all.sock").open().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
    assert!(error.errno().is_some() && error.remedy().unwrap().contains("jitney broker --socket"));
}

#[test]
fn freed_in_any_order() {
    let shared = Shared::new();
    let bus = shared.bus();
    let card = bus.card("*").unwrap();
    let (h2c, bar) = (xdma(&card).h2c(0).unwrap(), card.bar(0).unwrap());
    let buffer = card.dma_buffer(4096.into()).unwrap();
    let pending = h2c.submit(&buffer, 0..4096, 0).unwrap();
    drop((card, bus, buffer, h2c));
    assert_eq!(pending.wait_for(SOON).unwrap().unwrap().bytes, 4096);
    drop(pending);
    bar.read32(0).unwrap();
}

#[test]
fn under_a_broker() {
    let shared = Shared::new();
    let (first, second) = (shared.bus(), shared.bus());
    assert_eq!(first.broker(), Some(std::process::id()));
    move_bytes(&first.card("*").unwrap());
    let buffer = first.dma_buffer(4096).unwrap();
    first.share(&buffer, Offer::to_writers().named("mine")).unwrap();
    let attached = second.attach("mine").unwrap();
    buffer.write(0, b"seen").unwrap();
    let mut seen = [0; 4];
    attached.read(0, &mut seen).unwrap();
    assert_eq!((&seen, attached.iova()), (b"seen", buffer.iova()));
}
