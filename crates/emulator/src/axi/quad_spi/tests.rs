//! The core as software drives it.

use super::*;
use jitney_designs::Flash;
use std::sync::Arc;

const RUNNING: u32 = CONTROL_ENABLE | CONTROL_MASTER | 1 << 7;

/// A core on which a byte takes no time.
fn quick(spi: QuadSpi) -> QuadSpi {
    spi.core().byte_time = Duration::ZERO;
    spi
}

fn write(spi: &QuadSpi, offset: u32, value: u32) {
    spi.write(offset, value, u32::MAX);
}

/// A transaction of at most a FIFO's bytes: what comes back.
fn talk(spi: &QuadSpi, bytes: &[u8]) -> Vec<u8> {
    write(spi, CONTROL, RUNNING | CONTROL_INHIBIT | CONTROL_RX_RESET | CONTROL_TX_RESET);
    bytes.iter().for_each(|byte| write(spi, TX_DATA, u32::from(*byte)));
    write(spi, SLAVE_SELECT, !1);
    write(spi, CONTROL, RUNNING);
    let mut back = Vec::new();
    while back.len() < bytes.len() && spi.read(STATUS) & STATUS_COMMAND == 0 {
        if spi.read(STATUS) & 1 == 0 {
            back.push(u8::try_from(spi.read(RX_DATA)).unwrap());
        }
    }
    write(spi, CONTROL, RUNNING | CONTROL_INHIBIT);
    write(spi, SLAVE_SELECT, u32::MAX);
    back
}

fn flash(part: Flash) -> QuadSpi {
    let spi = quick(QuadSpi::with_flash(NorFlash::new(part)));
    talk(&spi, &[0x9F, 0, 0, 0]);
    spi
}

#[test]
fn software_finds_the_fifo_depth_and_an_empty_bus() {
    let spi = quick(QuadSpi::default());
    write(&spi, SOFT_RESET, SOFT_RESET_KEY);
    assert_eq!((spi.read(CONTROL), spi.read(STATUS)), (0x180, 0xA5));

    let mut depth = 0;
    while spi.read(STATUS) & 1 << 3 == 0 {
        write(&spi, TX_DATA, 0x9F);
        depth += 1;
    }
    assert_eq!((depth, spi.read(TX_OCCUPANCY)), (256, 255));
    write(&spi, TX_DATA, 0x9F);
    assert_eq!(spi.read(TX_OCCUPANCY), 255, "there is no room for one more");

    write(&spi, CONTROL, CONTROL_ENABLE | CONTROL_MASTER);
    assert_eq!(spi.read(STATUS), 0x26, "everything was sent and as much came back");
    write(&spi, TX_DATA, 0);
    assert_eq!(spi.read(INTERRUPT_STATUS) & INTERRUPT_RX_OVERRUN, INTERRUPT_RX_OVERRUN);
    write(&spi, INTERRUPT_STATUS, INTERRUPT_RX_OVERRUN);
    assert_eq!(spi.read(INTERRUPT_STATUS) & INTERRUPT_RX_OVERRUN, 0);
    let mut received = 0;
    while spi.read(STATUS) & 1 == 0 {
        assert_eq!(spi.read(RX_DATA), 0);
        received += 1;
    }
    assert_eq!((received, spi.read(RX_DATA)), (256, 0));
}

/// What a flash programmer does first, and what it finds wrong.
#[test]
fn a_master_shows_no_error() {
    let spi = QuadSpi::default();
    write(&spi, SOFT_RESET, SOFT_RESET_KEY);
    assert_eq!(spi.read(STATUS), 0xA5);
    write(&spi, CONTROL, CONTROL_INHIBIT | CONTROL_MASTER | CONTROL_ENABLE);
    assert_eq!(spi.read(STATUS), 0x25);
    write(&spi, CONTROL, CONTROL_INHIBIT);
    assert_eq!(spi.read(STATUS), 0xA5);
    for (control, error) in [
        (CONTROL_POLARITY, STATUS_CLOCK_MODE),
        (CONTROL_PHASE, STATUS_CLOCK_MODE),
        (CONTROL_POLARITY | CONTROL_PHASE, 0),
        (CONTROL_LSB_FIRST, STATUS_BIT_ORDER),
        (CONTROL_LOOPBACK, STATUS_LOOPBACK),
    ] {
        write(&spi, CONTROL, CONTROL_INHIBIT | CONTROL_MASTER | CONTROL_ENABLE | control);
        assert_eq!(spi.read(STATUS), 0x25 | error);
    }
}

#[test]
fn fifo_resets_clear_themselves() {
    let spi = QuadSpi::default();
    write(&spi, TX_DATA, 1);
    write(&spi, CONTROL, CONTROL_AT_RESET | CONTROL_TX_RESET);
    assert_eq!((spi.read(CONTROL), spi.read(STATUS)), (0x180, 0xA5));
    write(&spi, CONTROL, 0);
    spi.reset();
    assert_eq!(spi.read(CONTROL), 0x180);
}

#[test]
fn the_first_transaction_after_the_configuration_is_lost() {
    let spi = quick(QuadSpi::with_flash(NorFlash::new(Flash::N25q256a)));
    assert_eq!(talk(&spi, &[0x9F, 0, 0, 0]), [0xFF; 4]);
    assert_eq!(talk(&spi, &[0x9F, 0, 0, 0]), [0xFF, 0x20, 0xBB, 0x19]);
    // A reset of the core configures nothing.
    write(&spi, SOFT_RESET, SOFT_RESET_KEY);
    assert_eq!(talk(&spi, &[0x9F, 0, 0, 0]), [0xFF, 0x20, 0xBB, 0x19]);
}

#[test]
fn a_command_that_is_not_in_the_table_is_an_error_until_the_core_is_reset() {
    let spi = flash(Flash::S25fl256s);
    assert!(talk(&spi, &[0x5A, 0, 0, 0, 0, 0]).is_empty());
    assert_eq!(spi.read(STATUS) & ERRORS, STATUS_COMMAND);
    assert!(talk(&spi, &[0x9F, 0]).is_empty());
    write(&spi, SOFT_RESET, SOFT_RESET_KEY);
    assert_eq!(talk(&spi, &[0x9F, 0]), [0xFF, 0x01]);
    let micron = flash(Flash::N25q256a);
    assert_eq!(talk(&micron, &[0x5A, 0, 0, 0, 0, 0])[5], b'S');
}

#[test]
fn a_byte_takes_time_and_the_last_is_still_under_way_when_the_fifo_is_empty() {
    let spi = flash(Flash::N25q256a);
    spi.core().byte_time = Duration::from_secs(3600);
    write(&spi, CONTROL, RUNNING | CONTROL_INHIBIT);
    write(&spi, TX_DATA, 0x06);
    write(&spi, SLAVE_SELECT, !1);
    write(&spi, CONTROL, RUNNING);
    assert_eq!(spi.read(STATUS) & 0b101, 0b101, "nothing to send, nothing received");
    // Who deselects the device now has sent it no command.
    write(&spi, SLAVE_SELECT, u32::MAX);
    spi.core().byte_time = Duration::ZERO;
    assert_eq!(talk(&spi, &[0x05, 0]), [0xFF, 0x00]);
    assert_eq!(talk(&spi, &[0x06]).len(), 1);
    assert_eq!(talk(&spi, &[0x05, 0]), [0xFF, 0x02]);
}

#[test]
fn a_device_is_selected_as_long_as_the_register_says_so() {
    #[derive(Clone, Default)]
    struct Log(Arc<Mutex<Vec<String>>>);

    impl SpiDevice for Log {
        fn selected(&mut self) {
            self.0.lock().unwrap().push("selected".into());
        }
        fn exchange(&mut self, byte: u8) -> u8 {
            self.0.lock().unwrap().push(format!("{byte:02x}"));
            byte + 1
        }
        fn deselected(&mut self, at_byte: bool) {
            self.0.lock().unwrap().push(format!("deselected {at_byte}"));
        }
    }

    let log = Log::default();
    let spi = quick(QuadSpi::with_device(log.clone()));
    talk(&spi, &[]);
    assert_eq!(talk(&spi, &[0x10, 0x20]), [0x11, 0x21]);
    // Another chip select, and none at all.
    write(&spi, SLAVE_SELECT, !2);
    write(&spi, CONTROL, RUNNING);
    write(&spi, TX_DATA, 0x30);
    spi.reset();
    let seen = log.0.lock().unwrap().join(", ");
    assert_eq!(seen, "selected, 10, 20, deselected true");
}

mod anything {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        /// Whatever is written, FIFOs hold what they can and no more, and a reset ends it.
        #[test]
        fn any_registers_are_taken(
            accesses in prop::collection::vec((0_u32..0x20, any::<u32>(), any::<bool>(), any::<bool>()), 0..600),
        ) {
            let spi = flash(Flash::N25q256a);
            for (register, value, small, write) in accesses {
                let offset = if register < 8 { TX_DATA } else { register * 4 };
                let value = if small { value & 0x3FF } else { value };
                if write { spi.write(offset, value, u32::MAX) } else { _ = spi.read(offset) }
                prop_assert!(spi.read(TX_OCCUPANCY) < 256 && spi.read(RX_OCCUPANCY) < 256);
            }
            write(&spi, SOFT_RESET, SOFT_RESET_KEY);
            prop_assert_eq!((spi.read(CONTROL), spi.read(STATUS)), (0x180, 0xA5));
        }
    }
}
