//! Interrupts of the design's own logic.

use crate::model::Bench;
use jitney_vfio::{ErrorKind, WillStep};
use jitney_xdma::{Error, UserInterrupt, Xdma};
use std::time::Duration;

const NOW: Option<Duration> = Some(Duration::ZERO);
const SOON: Option<Duration> = Some(Duration::from_secs(60));

fn line(bench: &Bench, number: u8) -> UserInterrupt {
    Xdma::identify(bench.card(), 2).unwrap().user_interrupt(number).unwrap()
}

#[test]
fn a_line_is_waited_for_and_heard_again_as_long_as_it_is_up() {
    let bench = Bench::with_vectors(32);
    let mut irq = line(&bench, 3);
    assert_eq!(bench.model.state().irq.user_vectors[0].to_le_bytes()[3], 2 + 3, "behind the two channels");
    assert!(!irq.wait(NOW).unwrap() && !irq.is_raised().unwrap());
    bench.model.set_user_line(3, true);
    assert!(irq.wait(SOON).unwrap() && irq.is_raised().unwrap());
    assert!(irq.wait(SOON).unwrap(), "nobody has told the logic");
    bench.model.set_user_line(3, false);
    assert!(!irq.wait(NOW).unwrap());
    // Raised while nobody waits.
    bench.model.set_user_line(3, true);
    assert!(irq.wait(NOW).unwrap());
    bench.model.set_user_line(3, false);
    bench.model.set_user_line(3, true);
    assert!(irq.wait(NOW).unwrap());
    bench.model.set_user_line(3, false);
    bench.model.set_user_line(4, true);
    assert!(!irq.wait(Some(Duration::from_millis(5))).unwrap(), "another's");
}

#[test]
fn a_thread_sleeps_until_the_line_is_raised() {
    let bench = Bench::with_vectors(32);
    let mut irq = line(&bench, 0);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            std::thread::sleep(Duration::from_millis(20));
            bench.model.set_user_line(0, true);
        });
        assert!(irq.wait(None).unwrap());
    });
}

#[test]
fn lines_are_leased_one_by_one_and_masked_afterwards() {
    let bench = Bench::with_vectors(32);
    let mut first = line(&bench, 0);
    let _second = line(&bench, 15);
    let leases = bench.fake.leases();
    let names: Vec<_> = leases.iter().map(|lease| lease.part.name().to_owned()).collect();
    assert_eq!(names, ["user-irq0", "irq2", "user-irq15", "irq17"]);
    assert_eq!(leases[2].will.0, [WillStep::write(2, 0x200c, 1 << 15)]);
    let error = Xdma::identify(bench.card(), 2).unwrap().user_interrupt(0).unwrap_err();
    assert!(matches!(&error, Error::Card(error) if error.kind() == ErrorKind::Held), "{error}");
    assert!(!first.wait(NOW).unwrap());
    assert_eq!(bench.model.state().irq.user_enable, 1);
    drop(first);
    assert_eq!(bench.model.state().irq.user_enable, 0);
    assert_eq!(bench.fake.leases().len(), 2);
}

#[test]
fn a_line_or_vector_that_is_not_there_is_refused() {
    let few = Bench::with_vectors(2);
    let xdma = Xdma::identify(few.card(), 2).unwrap();
    let error = xdma.user_interrupt(16).unwrap_err().to_string();
    assert!(error.contains("no user interrupt 16 of fake") && error.contains("has 16"), "{error}");
    let error = xdma.user_interrupt_by(3, 5).unwrap_err().to_string();
    assert!(error.contains("no interrupt vector 5; it has 2"), "{error}");
    assert!(few.fake.leases().is_empty());
    let mut irq = xdma.user_interrupt_by(3, 1).unwrap();
    few.model.set_user_line(3, true);
    assert!(irq.wait(SOON).unwrap());
    assert!(xdma.card().interrupt(1).is_err());
}

#[cfg(feature = "async")]
#[tokio::test]
async fn a_line_is_awaited() {
    let bench = Bench::with_vectors(32);
    let mut irq = line(&bench, 7);
    let model = std::sync::Arc::clone(&bench.model);
    let other = std::thread::spawn(move || {
        std::thread::sleep(Duration::from_millis(20));
        model.set_user_line(7, true);
    });
    irq.raised().await.unwrap();
    other.join().unwrap();
    bench.model.set_user_line(7, false);
    tokio::time::timeout(Duration::from_millis(20), irq.raised()).await.unwrap_err();
}
