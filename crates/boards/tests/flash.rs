//! The driver of the flash on the model of one, behind a fake card.

#![expect(clippy::unwrap_used, reason = "helpers of tests, where a panic is the failure")]

use jitney_boards::flash::{Doing, Maker, Outcome, Progress, Update, compare};
use jitney_boards::{Catalogue, Error, Flash, FlashError, QuadSpi, identify_in};
use jitney_designs::Flash as Part;
use jitney_emulator::axi::{self, Peripheral};
use jitney_emulator::spi::nor::NorFlash;
use jitney_vfio::{Card, ErrorKind, FakeBar, FakeCard, FakeHost};
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::sync::{Arc, Mutex};

const SECTOR: usize = 64 << 10;

/// The registers of a core, and what goes wrong with them.
struct Registers {
    spi: axi::QuadSpi,
    /// Reads of the status register that are all-ones, as of a link that is down.
    down: AtomicU32,
    /// What is done with each byte that is sent, by its number.
    meddle: Mutex<Option<Meddle>>,
    sent: AtomicU32,
}

type Meddle = Box<dyn FnMut(u32, u8) -> u8 + Send>;

impl FakeBar for Registers {
    fn read32(&self, offset: u64) -> u32 {
        if self.down.load(Relaxed) != 0 {
            return u32::MAX;
        }
        self.spi.read(u32::try_from(offset).unwrap())
    }

    fn write32(&self, offset: u64, value: u32) {
        let mut value = value;
        if offset == 0x68 {
            let number = self.sent.fetch_add(1, Relaxed);
            if let Some(meddle) = &mut *self.meddle.lock().unwrap() {
                value = meddle(number, value.to_le_bytes()[0]).into();
            }
        }
        self.spi.write(u32::try_from(offset).unwrap(), value, u32::MAX);
    }
}

/// A board whose bus has a flash.
struct Rig {
    card: Arc<dyn Card>,
    registers: Arc<Registers>,
}

impl Rig {
    fn new(part: Part) -> Self {
        Self::with(axi::QuadSpi::with_flash(NorFlash::new(part)))
    }

    fn with(spi: axi::QuadSpi) -> Self {
        let registers = Arc::new(Registers { spi, down: 0.into(), meddle: Mutex::new(None), sent: 0.into() });
        let host = FakeHost::new();
        let card =
            FakeCard::builder(&host, 0x10ee, 0x7024).subsystem(2, 6).bar(0, 0x4000, Arc::clone(&registers));
        let card: Arc<dyn Card> = card.build().unwrap();
        Self { card, registers }
    }

    fn quad_spi(&self) -> QuadSpi {
        identify_in(&Catalogue::built_in(), &self.card).unwrap().quad_spi().unwrap()
    }

    fn flash(&self) -> Flash {
        self.quad_spi().lease().unwrap().flash().unwrap()
    }

    fn meddle(&self, meddle: impl FnMut(u32, u8) -> u8 + Send + 'static) {
        self.registers.sent.store(0, Relaxed);
        *self.registers.meddle.lock().unwrap() = Some(Box::new(meddle));
    }
}

fn noise(length: usize, seed: u64) -> Vec<u8> {
    let mut state = seed | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()[3]
    };
    (0..length).map(|_| next()).collect()
}

fn write(flash: &Flash, image: &[u8], offset: u64) -> Outcome {
    Update::new(flash, image, offset).unwrap().run(|_| true).unwrap()
}

fn read(flash: &Flash, address: u64, length: usize) -> Vec<u8> {
    let mut data = vec![0; length];
    flash.read(address, &mut data).unwrap();
    data
}

fn fails(error: Error) -> FlashError {
    match error {
        Error::Flash(error) => *error,
        other => panic!("{other}"),
    }
}

#[test]
fn every_part_is_identified() {
    for (part, name, maker, size, revision) in [
        (Part::S25fl256s, "S25FL256S", Maker::Spansion, 32 << 20, None),
        (Part::N25q256a, "N25Q256A, 1.8 V", Maker::Micron, 32 << 20, Some((1, 0))),
        (Part::Mt25qu256, "MT25QU256", Maker::Micron, 32 << 20, Some((1, 6))),
        (Part::Mt25qu01g, "MT25QU01G", Maker::Micron, 128 << 20, Some((1, 6))),
        (Part::Mx25l12835f, "MX25L128", Maker::Macronix, 16 << 20, Some((1, 0))),
    ] {
        let flash = Rig::new(part).flash();
        let found = flash.part();
        assert_eq!((found.name, found.maker, found.size), (Some(name), maker, size));
        assert_eq!((found.page, found.sector, found.sfdp), (256, SECTOR as u64, revision), "{part}");
        assert_eq!((flash.fifo_depth(), flash.protection().unwrap()), (256, 0));
    }
}

#[test]
fn what_is_written_is_read_back_at_both_ends_of_every_part() {
    for part in Part::ALL {
        let rig = Rig::new(part);
        let flash = rig.flash();
        let image = noise(SECTOR + 1000, 3);
        let high = flash.part().size - 2 * SECTOR as u64;
        for offset in [0, high] {
            let outcome = write(&flash, &image, offset);
            assert_eq!(outcome, Outcome { sectors: 2, equal: 0, erased: 0, written: 2 }, "{part}");
            assert!(read(&flash, offset, image.len()) == image, "{part}");
            assert_eq!(read(&flash, offset + image.len() as u64, 5), [0xff; 5], "{part}");
            assert_eq!(compare(&flash, &image, offset, |_| true).unwrap(), None);
        }
        // Over the border of a 16 MiB segment or of a die.
        let middle = flash.part().size / 2 - 3;
        assert_eq!(read(&flash, middle, 6), [0xff; 6]);
        if part.size() > 16 << 20 {
            assert_ne!(read(&flash, 0, 16), read(&flash, 16 << 20, 16), "{part}: a segment is another");
        }
        // Whoever opens it next, an FPGA for one, finds it with three bytes of address.
        drop(flash);
        let spi = rig.quad_spi().lease().unwrap();
        let mut start = [0; 16];
        spi.transaction(&[0x03, 0, 0, 0], &mut start).unwrap();
        assert_eq!(start, image[..16], "{part}");
        drop(spi);
        let again = rig.flash();
        assert!(read(&again, 0, image.len()) == image, "{part}");
    }
}

#[test]
fn short_fifos_do_as_well() {
    let flash =
        Rig::with(axi::QuadSpi::with_flash(NorFlash::new(Part::Mt25qu256)).with_short_fifos()).flash();
    assert_eq!(flash.fifo_depth(), 16);
    let image = noise(1000, 7);
    write(&flash, &image, 16 << 20);
    assert!(read(&flash, 16 << 20, 1000) == image);
}

#[test]
fn only_what_differs_is_erased_and_written() {
    let rig = Rig::new(Part::N25q256a);
    let flash = rig.flash();
    let mut image = noise(4 * SECTOR, 5);
    write(&flash, &image, 0);
    assert_eq!(write(&flash, &image, 0), Outcome { sectors: 4, equal: 4, erased: 0, written: 0 });
    // The first sector goes with any other.
    image[2 * SECTOR + 7] ^= 0xff;
    assert_eq!(write(&flash, &image, 0), Outcome { sectors: 4, equal: 2, erased: 2, written: 2 });
    // Bits that become zero need no erase, but for the first sector, from which nothing is to start meanwhile.
    image[SECTOR + 3] &= 0x0f;
    image[3] &= 0x0f;
    assert_eq!(write(&flash, &image, 0), Outcome { sectors: 4, equal: 2, erased: 1, written: 2 });
    image[5] &= 0x0f;
    assert_eq!(write(&flash, &image, 0), Outcome { sectors: 4, equal: 3, erased: 1, written: 1 });
    assert!(read(&flash, 0, image.len()) == image);
    // What lies behind the end of a shorter one stays.
    let short = noise(SECTOR + 10, 9);
    write(&flash, &short, SECTOR as u64);
    assert_eq!(read(&flash, 2 * SECTOR as u64 + 10, 100), image[2 * SECTOR + 10..][..100]);
    assert!(read(&flash, 0, SECTOR) == image[..SECTOR]);
}

/// Stopped before any piece of work, the flash never has a first sector in front of what it does not belong to.
#[test]
fn wherever_it_is_stopped_no_half_image_starts_and_writing_again_goes_on() {
    let old = noise(3 * SECTOR, 11);
    // The starts are the same, as of two builds of one design.
    let mut new = noise(3 * SECTOR, 13);
    new[..SECTOR].copy_from_slice(&old[..SECTOR]);
    let rig = Rig::new(Part::S25fl256s);
    let flash = rig.flash();
    write(&flash, &old, 0);
    let mut steps = 0;
    Update::new(&flash, &new, 0)
        .unwrap()
        .run(|_| {
            steps += 1;
            true
        })
        .unwrap();
    let mut seen = Vec::new();
    for stop in (0..7).map(|part| 1 + part * (steps - 2) / 6) {
        write(&flash, &old, 0);
        let mut count = 0;
        let stopped = Update::new(&flash, &new, 0)
            .unwrap()
            .run(|_| {
                count += 1;
                count < stop
            })
            .unwrap_err();
        assert!(stopped.cause.is_none(), "{stopped}");
        let now = read(&flash, 0, new.len());
        let first_page = now[..256] == old[..256];
        assert!(!first_page || now == old || now == new, "stopped at {stop} of {steps}: {stopped}");
        let said = stopped.to_string();
        assert_eq!(said.contains("nothing in 0x0 to 0x30000 of the flash was changed"), now == old, "{said}");
        let right = usize::try_from(stopped.state.right.start).unwrap()
            ..usize::try_from(stopped.state.right.end).unwrap();
        assert!(now[right.clone()] == new[right], "{said}");
        seen.push(said);
        let outcome = write(&flash, &new, 0);
        assert!(outcome.erased <= 3 && read(&flash, 0, new.len()) == new, "{outcome:?}");
    }
    let all = seen.join("\n");
    for part in [
        "0x0 to 0x10000 is erased,",
        "0x10000 to 0x20000 is erased or written in part",
        "0x10000 to 0x20000 holds the new image",
        "0x20000 to 0x30000 is as it was",
        "goes on from there",
    ] {
        assert!(all.contains(part), "{part}: {all}");
    }
}

#[test]
fn the_first_page_is_written_last() {
    let rig = Rig::new(Part::Mx25l12835f);
    let flash = rig.flash();
    let image = noise(2 * SECTOR, 17);
    let mut last = None;
    let done = Update::new(&flash, &image, 0).unwrap().run(|progress: Progress| {
        if progress.doing == Doing::Programming {
            last = Some(());
        }
        true
    });
    done.unwrap();
    assert!(last.is_some());
    // One step before the end of programming, all but that page is there.
    let rig = Rig::new(Part::Mx25l12835f);
    let flash = rig.flash();
    let mut programs = 0;
    let stopped = Update::new(&flash, &image, 0).unwrap().run(|progress| {
        programs += u32::from(progress.doing == Doing::Programming);
        programs < 512
    });
    stopped.unwrap_err();
    let now = read(&flash, 0, image.len());
    assert!(now[..256] == [0xff; 256] && now[256..] == image[256..]);
}

#[test]
fn protection_is_told_and_taken_off() {
    for (part, bits) in [(Part::S25fl256s, 0x1c), (Part::N25q256a, 0x5c), (Part::Mx25l12835f, 0x3c)] {
        let mut model = NorFlash::new(part);
        protect(&mut model, bits);
        let rig = Rig::with(axi::QuadSpi::with_flash(model));
        let flash = rig.flash();
        assert_eq!(flash.protection().unwrap(), bits, "{part}");
        let error = fails(Update::new(&flash, &[1, 2, 3], 0).unwrap_err());
        assert!(matches!(error, FlashError::Protected { bits: said, .. } if said == bits), "{error}");
        assert!(error.to_string().contains("--unprotect"), "{error}");
        flash.unprotect().unwrap();
        assert_eq!(flash.protection().unwrap(), 0);
        write(&flash, &[1, 2, 3], 0);
        assert_eq!(read(&flash, 0, 3), [1, 2, 3]);
    }
}

fn protect(flash: &mut NorFlash, bits: u8) {
    use jitney_emulator::spi::SpiDevice;
    for command in [&[0x06][..], &[0x01, bits]] {
        flash.selected();
        command.iter().for_each(|byte| {
            flash.exchange(*byte);
        });
        flash.deselected(true);
    }
}

#[test]
fn who_is_silent_unknown_or_no_flash_at_all_is_told() {
    // Nothing on the bus: every byte is zero.
    let silent = fails(Rig::with(axi::QuadSpi::default()).quad_spi().lease().unwrap().flash().unwrap_err());
    assert!(matches!(silent, FlashError::Silent { byte: 0, .. }), "{silent}");
    assert!(silent.to_string().contains("the flash on the quad-spi of"), "{silent}");

    struct Strange(Vec<u8>);
    impl jitney_emulator::spi::SpiDevice for Strange {
        fn selected(&mut self) {
            self.0.clear();
        }
        fn exchange(&mut self, byte: u8) -> u8 {
            self.0.push(byte);
            if self.0[0] == 0x9f { u8::try_from(self.0.len()).unwrap() } else { 0xff }
        }
        fn deselected(&mut self, _: bool) {}
    }
    let strange = axi::QuadSpi::with_device(Strange(Vec::new()));
    let unknown = fails(Rig::with(strange).quad_spi().lease().unwrap().flash().unwrap_err());
    assert!(matches!(&unknown, FlashError::Unknown { id, .. } if id[..3] == [2, 3, 4]), "{unknown}");
    assert!(unknown.to_string().contains("it has no SFDP; nothing was done to it"), "{unknown}");

    let rig = Rig::new(Part::N25q256a);
    rig.registers.down.store(1, Relaxed);
    let down = rig.quad_spi().lease().unwrap_err();
    assert!(matches!(&down, Error::Card(own) if own.kind() == ErrorKind::LinkDown), "{down}");
}

#[test]
fn the_bus_is_one_programs_at_a_time() {
    let rig = Rig::new(Part::N25q256a);
    let first = rig.flash();
    let second = rig.quad_spi().lease().unwrap_err();
    assert!(matches!(&second, Error::Card(own) if own.kind() == ErrorKind::Held), "{second}");
    drop(first);
    rig.flash();
}

#[test]
fn a_byte_that_is_lost_on_the_way_is_found_by_reading_back() {
    let rig = Rig::new(Part::N25q256a);
    let flash = rig.flash();
    let image = vec![0x0f; 512];
    // A bit of one byte of data is another on its way.
    let mut done = false;
    rig.meddle(move |_, byte| {
        if byte == 0x0f && !done {
            done = true;
            return 0x07;
        }
        byte
    });
    let stopped = Update::new(&flash, &image, 0).unwrap().run(|_| true).unwrap_err();
    let error = fails(*stopped.cause.unwrap());
    assert!(matches!(error, FlashError::Differs { address: 256, written: 0x0f, read: 0x07, .. }), "{error}");
    assert_eq!(stopped.state.open, Some(0..SECTOR as u64));
}

#[test]
fn a_command_that_is_not_heeded_is_an_error() {
    let rig = Rig::new(Part::Mx25l12835f);
    let flash = rig.flash();
    // Write enables get lost.
    rig.meddle(|_, byte| if byte == 0x06 { 0x04 } else { byte });
    let stopped = Update::new(&flash, &[0; 4], 0).unwrap().run(|_| true).unwrap_err();
    assert!(stopped.to_string().contains("its write enable latch stays clear"), "{stopped}");
    assert!(stopped.to_string().contains("0x0 to 0x10000 is erased or written in part"), "{stopped}");
    // Programs do.
    rig.meddle(|_, byte| if byte == 0x02 { 0x03 } else { byte });
    let stopped = Update::new(&flash, &[0; 4], 0).unwrap().run(|_| true).unwrap_err();
    assert!(
        stopped.to_string().contains("failed to program at 0x0: it did not heed the command"),
        "{stopped}"
    );
    // A command that the core was not made for stops it, and it goes on with the next.
    rig.meddle(|_, byte| if byte == 0x05 { 0x5b } else { byte });
    assert!(matches!(fails(flash.protection().unwrap_err()), FlashError::Command { command: 0x05, .. }));
    *rig.registers.meddle.lock().unwrap() = None;
    assert_eq!(flash.protection().unwrap(), 0);
}

#[test]
fn one_that_was_left_busy_stuck_asleep_or_in_its_mode_is_got_out_of_it() {
    use jitney_emulator::spi::SpiDevice;
    let send = |flash: &mut NorFlash, commands: &[&[u8]]| {
        for command in commands {
            flash.selected();
            command.iter().for_each(|byte| {
                flash.exchange(*byte);
            });
            flash.deselected(true);
        }
    };
    let mut asleep = NorFlash::new(Part::Mt25qu256);
    send(&mut asleep, &[&[0xb9]]);
    let mut stuck = NorFlash::new(Part::S25fl256s);
    protect(&mut stuck, 0x1c);
    std::thread::sleep(std::time::Duration::from_millis(1));
    send(&mut stuck, &[&[0x06], &[0x02, 0, 0, 0, 0]]);
    let mut busy = NorFlash::new(Part::N25q256a);
    send(&mut busy, &[&[0x06], &[0xc7]]);
    let mut four = NorFlash::new(Part::N25q256a);
    send(&mut four, &[&[0x06], &[0xb7]]);
    for model in [asleep, stuck, busy, four] {
        let rig = Rig::with(axi::QuadSpi::with_flash(model));
        let flash = rig.flash();
        assert_eq!(read(&flash, 0, 4), [0xff; 4], "{:?}", flash.part().name);
    }
}

#[test]
fn what_does_not_fit_is_refused_before_anything_is_written() {
    let flash = Rig::new(Part::Mx25l12835f).flash();
    let error = fails(Update::new(&flash, &[0; 2], (16 << 20) - 1).unwrap_err());
    assert!(matches!(error, FlashError::Range { .. }), "{error}");
    let error = fails(Update::new(&flash, &[0; 2], 100).unwrap_err());
    assert!(error.to_string().contains("0x64 is no multiple of 0x10000"), "{error}");
    assert!(matches!(fails(flash.read(16 << 20, &mut [0]).unwrap_err()), FlashError::Range { .. }));
    assert!(matches!(fails(flash.read(u64::MAX, &mut [0; 4]).unwrap_err()), FlashError::Range { .. }));
    let difference = compare(&flash, &[0xff, 0x00, 0xff, 0x00], 8, |_| true).unwrap().unwrap();
    assert_eq!((difference.bytes, difference.first, difference.expected, difference.read), (2, 9, 0, 0xff));
}
