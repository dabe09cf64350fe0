//! Drivers on a card whose registers read as anything: they end, with an error or a result, and soon.

#![expect(clippy::unwrap_used, reason = "in tests, where a panic is the failure")]

use jitney_boards::cms::ModulePlace;
use jitney_boards::pmbus::Regulator;
use jitney_boards::{Board, Catalogue, identify_in};
use jitney_vfio::{Card, FakeBar, FakeCard, FakeHost};
use proptest::prelude::*;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

/// Each read gives another word, with some bits always as they are in `fixed`.
struct Garbage {
    state: AtomicU32,
    mask: u32,
    fixed: u32,
}

impl FakeBar for Garbage {
    fn read32(&self, _offset: u64) -> u32 {
        let word = self.state.load(Ordering::Relaxed).wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        self.state.store(word, Ordering::Relaxed);
        (word.rotate_left(13) & !self.mask) | (self.fixed & self.mask)
    }

    fn write32(&self, _offset: u64, _value: u32) {}
}

/// A card with the subsystem id of a design.
fn board(subsystem: u16, garbage: Garbage) -> Board {
    let card = FakeCard::builder(&FakeHost::new(), 0x10ee, 0x9038).subsystem(2, subsystem);
    let card: Arc<dyn Card> = card.bar(0, 0x8_0000, garbage).build().unwrap();
    identify_in(&Catalogue::built_in(), &card).unwrap()
}

fn ends_soon<T>(what: &str, run: impl FnOnce() -> T) {
    let begun = Instant::now();
    let _ = run();
    assert!(begun.elapsed() < Duration::from_secs(8), "{what} took {:?}", begun.elapsed());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn an_i2c_master_that_says_anything(seed: u32, mask in prop_oneof![Just(0), any::<u32>()], fixed: u32) {
        // TEF1001_dma_stream_crc64. Never all-ones, which is a link that is down.
        let board = board(0x17, Garbage { state: seed.into(), mask: mask | 1 << 31, fixed: fixed & !(1 << 31) });
        ends_soon("a transfer", || {
            let bus = board.iic(0)?.lease()?;
            bus.probe(0x50)?;
            bus.write(0x40, &[1, 2, 3])?;
            bus.write_read(0x50, &[0], 255)?;
            Regulator::new(&bus, 0x40).id()
        });
    }

    #[test]
    fn a_card_management_that_says_anything(seed: u32, fixed: u32) {
        // U200_ibert_100G_ether: out of reset, ready, and with no message that waits, so that it is asked.
        let mask = 1 << 31 | 1 << 5 | 1;
        let board = board(0x1f, Garbage { state: seed.into(), mask, fixed: (fixed & !(1 << 31) & !(1 << 5)) | 1 });
        ends_soon("a message", || {
            let cms = board.cms()?;
            // Its map has hardly the right id; what follows does not rely on that.
            let _ = cms.start();
            cms.readings()?;
            let leased = cms.lease()?;
            leased.card_info()?;
            leased.module_page(ModulePlace { cage: 0, upper: None })?;
            leased.module_signals(0)
        });
    }

    #[test]
    fn monitors_and_numbers_that_say_anything(seed: u32) {
        let of = |subsystem| board(subsystem, Garbage { state: seed.into(), mask: 1 << 31, fixed: 0 });
        for subsystem in [0x17, 0x1e] {
            for monitor in of(subsystem).monitors().unwrap() {
                let readings = monitor.readings().unwrap();
                prop_assert!(readings.iter().all(|own| own.now.is_finite() && own.now.abs() < 1000.0));
            }
        }
        let board = of(0x30);
        prop_assert_eq!(board.dna(2).unwrap().number().unwrap().to_string().len(), 24);
    }
}
