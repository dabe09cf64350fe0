//! The 100G Ethernet port of an emulated U200.

use crate::rig::Emulated;
use jitney_boards::Error;
use jitney_vfio::ErrorKind;
use std::time::Duration;

#[test]
fn a_link_comes_up_and_its_packets_are_counted() {
    let emulated = Emulated::new("U200_100G_ether_duplex");
    let port = emulated.board().cmac(0).unwrap();
    assert_eq!(port.version().unwrap(), [3, 1]);
    let leased = port.lease().unwrap();
    let link = leased.link().unwrap();
    assert!(!link.up && link.local_fault, "{link:?}");
    leased.enable(true, false).unwrap();
    let link = leased.link().unwrap();
    assert!(link.up && link.aligned && !link.local_fault, "{link:?}");
    leased.take_statistics().unwrap();
    std::thread::sleep(Duration::from_millis(60));
    let counted = leased.take_statistics().unwrap();
    let packets = counted.received("packets").unwrap();
    assert!(packets >= 5, "{counted:?}");
    assert_eq!(counted.received("bytes"), Some(64 * packets));
    assert_eq!((counted.received("broadcast"), counted.received("bad FCS")), (Some(packets), Some(0)));
    assert_eq!((counted.sent("packets"), counted.sent("jabber")), (Some(0), None));
    let again = leased.take_statistics().unwrap();
    assert!(again.received("packets").unwrap() < packets, "counted from the last time on");

    let held = port.lease().unwrap_err();
    assert!(matches!(&held, Error::Card(error) if error.kind() == ErrorKind::Held), "{held}");
    // The second port is another one.
    let second = emulated.board().cmac(1).unwrap().lease().unwrap();
    assert!(!second.link().unwrap().up);
    assert!(matches!(emulated.board().cmac(2), Err(Error::NoPeripheral { .. })));
}
