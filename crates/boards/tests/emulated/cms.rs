//! The Alveo card management of an emulated U200.

use crate::rig::Emulated;
use jitney_boards::cms::{CageKind, ModulePlace};
use jitney_boards::{Error, Quantity};
use jitney_vfio::ErrorKind;
use std::time::{Duration, Instant};

const DESIGN: &str = "U200_ibert_100G_ether";

fn kind(error: Error) -> ErrorKind {
    match error {
        Error::Card(error) => error.kind(),
        other => panic!("{other}"),
    }
}

#[test]
fn firmware_is_started_and_its_sensors_are_read() {
    let emulated = Emulated::new(DESIGN);
    let cms = emulated.board().cms().unwrap();
    assert!(!cms.is_ready().unwrap());
    assert_eq!(kind(cms.readings().unwrap_err()), ErrorKind::Invalid);
    cms.start().unwrap();
    assert_eq!(cms.profile().unwrap(), "U2XX");
    assert_eq!(cms.firmware_version().unwrap(), [12, 1, 5]);
    assert!(cms.power_is_good().unwrap());
    let readings = cms.readings().unwrap();
    let find = |name: &str| readings.iter().find(|own| own.name == name).unwrap();
    for (name, quantity, around) in [
        ("12V_PEX", Quantity::Voltage, 12.1),
        ("12VPEX_I_IN", Quantity::Current, 1.65),
        ("FPGA_TEMP", Quantity::Temperature, 45.0),
        ("FAN_SPEED", Quantity::Speed, 1400.0),
        ("12V_PEX_POWER", Quantity::Power, 20.0),
    ] {
        let own = find(name);
        assert!(own.quantity == quantity && (own.now - around).abs() < around / 10.0, "{own:?}");
    }
    assert!(readings.iter().all(|own| !own.name.starts_with("HBM")), "a U200 has none");
    assert!(readings.iter().all(|own| own.max.is_none_or(|max| max >= own.now)));
}

#[test]
fn an_old_ready_bit_is_not_taken_for_a_new_one() {
    let emulated = Emulated::new(DESIGN);
    let cms = emulated.board().cms().unwrap();
    cms.start().unwrap();
    // The microprocessor goes back into reset; its map stays, and says that it is ready.
    emulated.card.bar(0).unwrap().write32(0x2_0000, 0).unwrap();
    assert!(!cms.is_ready().unwrap());
    cms.start().unwrap();
    assert!(cms.lease().unwrap().card_info().unwrap().serial.is_some());
}

#[test]
fn messages_are_answered() {
    let emulated = Emulated::new(DESIGN);
    let cms = emulated.board().cms().unwrap();
    assert_eq!(kind(cms.lease().unwrap().card_info().unwrap_err()), ErrorKind::Invalid, "not started");
    cms.start().unwrap();
    let leased = cms.lease().unwrap();
    let info = leased.card_info().unwrap();
    assert_eq!(info.name.as_deref(), Some("ALVEO U200 PQ"));
    assert_eq!((info.serial.as_deref(), info.power_watts), (Some("21290594R00A"), Some(225)));
    assert_eq!(info.mac_addresses.len(), 2, "{info:?}");
    assert_eq!(info.cages[0].kind, CageKind::Qsfp);
    let module = leased.module(0).unwrap();
    assert_eq!((module.kind(), module.part.as_str(), module.sums_are_right), ("QSFP28", "JO-100G-SR4", true));
    assert!((module.celsius - 31.5).abs() < 0.1, "{module:?}");
    let refused = leased.module(1).unwrap_err();
    assert!(matches!(refused, Error::CardManagement { code: 0xa, opcode: 0x0b, .. }), "{refused}");
    assert!(refused.to_string().contains("no module answers"), "{refused}");

    let signals = [0, 1].map(|cage| leased.module_signals(cage).unwrap());
    assert!(signals[0].present && !signals[0].reset && !signals[1].present, "{signals:?}");
    leased.set_module_signals(0, false, true).unwrap();
    assert!(leased.module_signals(0).unwrap().low_power);
    let lower = ModulePlace { cage: 0, upper: None };
    leased.set_module_byte(lower, 86, 0x0f).unwrap();
    assert_eq!(leased.module_byte(lower, 86).unwrap(), 0x0f);
    assert_eq!(leased.module_byte(ModulePlace { cage: 0, upper: Some(0) }, 148).unwrap(), b'J');
}

#[test]
fn firmware_that_hangs_is_given_up() {
    let emulated = Emulated::with_fault(DESIGN, "cms-hang");
    let cms = emulated.board().cms().unwrap();
    cms.start().unwrap();
    let begun = Instant::now();
    let error = cms.lease().unwrap().card_info().unwrap_err();
    assert!(begun.elapsed() < Duration::from_secs(10));
    assert!(error.to_string().contains("does not answer"), "{error}");
    assert_eq!(kind(error), ErrorKind::TimedOut);
}
