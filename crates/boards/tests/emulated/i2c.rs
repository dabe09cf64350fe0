//! The I2C bus of an emulated TEF1001, and what is on it.

use crate::rig::Emulated;
use jitney_boards::pmbus::{Regulator, status_words};
use jitney_boards::spd::{Generation, Spd};
use jitney_boards::{Error, Quantity};
use jitney_vfio::ErrorKind;
use std::time::{Duration, Instant};

const DESIGN: &str = "TEF1001_dma_stream_crc64";
const SPD: u8 = 0x50;

fn kind(error: &Error) -> ErrorKind {
    match error {
        Error::Card(error) => error.kind(),
        other => panic!("{other}"),
    }
}

#[test]
fn a_bus_is_scanned() {
    let emulated = Emulated::new(DESIGN);
    let iic = emulated.board().iic(0).unwrap();
    let known: Vec<u8> = iic.known().iter().map(|device| device.address).collect();
    let bus = iic.lease().unwrap();
    let found: Vec<u8> = (0x08..=0x77).filter(|address| bus.probe(*address).unwrap()).collect();
    assert_eq!(found, [0x40, 0x4f, 0x50]);
    assert_eq!(found, known);
    for address in [0x00, 0x07, 0x78, 0xa0] {
        let error = bus.probe(address).unwrap_err();
        assert!(kind(&error) == ErrorKind::Invalid && error.to_string().contains("0x08 to 0x77"), "{error}");
    }
    let second = iic.lease().unwrap_err();
    assert_eq!(kind(&second), ErrorKind::Held);
}

#[test]
fn a_module_is_read_in_pieces_of_any_length() {
    let emulated = Emulated::new(DESIGN);
    let bus = emulated.board().iic(0).unwrap().lease().unwrap();
    let all = [bus.write_read(SPD, &[0], 255).unwrap(), bus.write_read(SPD, &[255], 1).unwrap()].concat();
    let spd = Spd::decode(&all).unwrap();
    assert_eq!((spd.generation, spd.bytes, spd.sum_is_right), (Generation::Ddr3, Some(8 << 30), true));
    for (from, count) in [(0_u8, 1), (7, 15), (7, 16), (7, 17), (100, 33)] {
        let end = usize::from(from) + count;
        assert_eq!(
            bus.write_read(SPD, &[from], count).unwrap(),
            all[from.into()..end],
            "{count} from {from}"
        );
    }
    assert_eq!(bus.read(SPD, 2).unwrap(), all[133..135], "it goes on where it was");
    for count in [0, 256] {
        assert_eq!(kind(&bus.read(SPD, count).unwrap_err()), ErrorKind::Invalid);
    }
}

#[test]
fn who_does_not_acknowledge_is_told_from_other_failures_and_leaves_the_bus_free() {
    let emulated = Emulated::new(DESIGN);
    let bus = emulated.board().iic(0).unwrap().lease().unwrap();
    for _ in 0..3 {
        let error = bus.write(0x51, &[1, 2, 3]).unwrap_err();
        assert!(matches!(error, Error::NotAcknowledged { address: 0x51, .. }), "{error}");
        assert!(matches!(bus.read(0x51, 40).unwrap_err(), Error::NotAcknowledged { .. }));
        bus.write_read(SPD, &[2], 1).unwrap();
    }
}

#[test]
fn regulators_tell_what_they_measure() {
    let emulated = Emulated::new(DESIGN);
    let bus = emulated.board().iic(0).unwrap().lease().unwrap();
    let regulator = Regulator::new(&bus, 0x40);
    let id = regulator.id().unwrap();
    assert_eq!((id.manufacturer.as_str(), id.model.as_str(), id.revision), ("LTC", "LTM4676A", 0x22));
    let outputs = regulator.outputs(2).unwrap();
    let find = |page: usize, name: &str, quantity: Quantity| {
        outputs[page].readings.iter().find(|own| own.name == name && own.quantity == quantity).unwrap().now
    };
    assert_eq!((find(0, "output", Quantity::Voltage), find(1, "output", Quantity::Voltage)), (4.0, 1.5));
    let other = Regulator::new(&bus, 0x4f).outputs(1).unwrap();
    assert_eq!(other[0].readings[0].now, 1.0);
    assert!((find(0, "input", Quantity::Voltage) - 12.03).abs() < 0.02);
    assert!((find(1, "temperature 1", Quantity::Temperature) - 41.5).abs() < 0.1);
    assert!(outputs.iter().all(|output| status_words(output.status).is_empty()), "{outputs:?}");
    // A command that it does not have is noted, until it is cleared.
    bus.write_read(0x40, &[0xc9], 1).unwrap();
    assert_eq!(status_words(regulator.outputs(1).unwrap()[0].status), ["communication or logic"]);
    regulator.clear_faults().unwrap();
    assert_eq!(regulator.outputs(1).unwrap()[0].status, 0);
}

#[test]
fn a_device_that_holds_the_clock_is_waited_for_and_one_that_holds_the_bus_is_given_up() {
    let emulated = Emulated::with_fault(DESIGN, "i2c-stretch@2");
    let bus = emulated.board().iic(0).unwrap().lease().unwrap();
    let begun = Instant::now();
    assert_eq!(bus.write_read(SPD, &[2], 1).unwrap(), [0x0b]);
    assert!(begun.elapsed() >= Duration::from_millis(100));

    let emulated = Emulated::with_fault(DESIGN, "i2c-hang@2");
    let bus = emulated.board().iic(0).unwrap().lease().unwrap();
    let begun = Instant::now();
    let error = bus.write_read(SPD, &[2], 1).unwrap_err();
    assert!(kind(&error) == ErrorKind::TimedOut && error.to_string().contains("does not go on"), "{error}");
    assert!(begun.elapsed() < Duration::from_secs(2));
    assert_eq!(bus.write_read(SPD, &[2], 1).unwrap(), [0x0b], "a reset of the core has freed the bus");

    let emulated = Emulated::with_fault(DESIGN, "i2c-nak");
    let bus = emulated.board().iic(0).unwrap().lease().unwrap();
    assert!(!bus.probe(SPD).unwrap());
    assert!(bus.probe(SPD).unwrap());
}
