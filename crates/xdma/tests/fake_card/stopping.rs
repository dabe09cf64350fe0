//! Engines that have to be stopped, those that do not stop, and what happens to their memory.

use crate::model::{Bench, Fault};
use crate::transfers::{SHORT, h2c, patterned, works};
use crate::wrapped::{Config, Wrapped};
use jitney_vfio::{Card, ErrorKind, LeaseRequest, Notice};
use jitney_xdma::{Error, Xdma};
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::{Duration, Instant};

#[test]
fn who_waits_for_a_card_that_is_wanted_back_lets_go_of_it() {
    for (notice, says) in [(Notice::Leaving, "is being unplugged"), (Notice::Failed, "has reported an error")]
    {
        let bench = Bench::new();
        let channel = h2c(&bench).with_timeout(10 * SHORT);
        let buffer = patterned(&bench, 4096);
        bench.model.set(Fault::Hang { after: 0 });
        let pending = channel.submit(&buffer, 0..4096, 0).unwrap();
        assert!(bench.host.notify(notice));
        let since = Instant::now();
        let error = pending.wait().unwrap_err();
        assert!(matches!(&error, Error::LinkDown(_)) && error.to_string().contains(says), "{error}");
        assert!(since.elapsed() < 5 * SHORT, "{:?}", since.elapsed());
        assert_eq!(bench.model.state().channels[0].control & 1, 0, "the engine was stopped");
        assert!(matches!(channel.write(&buffer, 0), Err(Error::LinkDown(_))), "nothing more is started");
        assert_eq!(bench.model.state().channels[0].runs, 1);
        drop((channel, buffer));
        assert!(bench.fake.leases().is_empty() && bench.host.mapped().is_empty());
    }
}

#[test]
fn what_an_earlier_user_left_running_is_stopped() {
    let bench = Bench::new();
    bench.model.state().channels[0].control = 1;
    bench.model.state().channels[0].status = 1 | 1 << 4;
    let h2c = h2c(&bench);
    assert_eq!(bench.model.state().channels[0].status, 0);
    let writes = bench.model.state().writes.clone();
    assert!(writes.contains(&(0x6018, 1)) && writes.contains(&(0x6024, 1)), "halt is off and credit mode on");
    works(&bench, &h2c);
}

#[test]
fn a_channel_that_an_earlier_user_left_stuck_is_refused() {
    let bench = Bench::new();
    bench.model.set(Fault::Stuck);
    bench.model.state().channels[0].status = 1;
    let started = Instant::now();
    let error = Xdma::identify(bench.card(), 2).unwrap().h2c(0).unwrap_err();
    assert!(matches!(&error, Error::StillBusy { .. }), "{error:?}");
    let text = error.to_string();
    assert!(text.contains("h2c0 of fake") && text.contains("0x00000001: busy"), "{text}");
    assert!(text.contains("try again, and reset the card if it stays so"), "{text}");
    assert!(started.elapsed() >= Duration::from_millis(3685), "it may have been at the longest descriptor");
    assert!(bench.fake.leases().is_empty() && bench.host.mapped().is_empty());
    bench.model.unstick();
    works(&bench, &h2c(&bench));
}

#[test]
fn a_card_that_is_gone_ends_the_wait_and_keeps_no_memory() {
    let bench = Bench::new();
    let h2c = h2c(&bench).with_timeout(Duration::from_secs(60));
    let buffer = patterned(&bench, 4096);
    bench.model.set(Fault::LinkDown);
    let started = Instant::now();
    let pending = h2c.submit(&buffer, 0..4096, 0).unwrap();
    let error = loop {
        if let Err(error) = pending.poll() {
            break error;
        }
    };
    assert!(matches!(error, Error::LinkDown(_)), "{error:?}");
    assert!(started.elapsed() < Duration::from_secs(1));
    assert!(matches!(pending.wait(), Err(Error::LinkDown(_))), "asked again it says the same");
    for noticed in ["while a transfer ran", "before one was started"] {
        bench.host.set_link(true);
        bench.model.state().channels = Default::default();
        works(&bench, &h2c);
        bench.host.set_link(false);
        assert!(matches!(h2c.write(&buffer, 0), Err(Error::LinkDown(_))), "after {noticed}");
    }
    bench.host.set_link(true);
    bench.model.set(Fault::LinkDown);
    drop(h2c.submit(&buffer, 0..4096, 0).unwrap());
    drop((h2c, buffer));
    assert!(
        bench.fake.leases().is_empty() && bench.host.mapped().is_empty(),
        "a card that is gone keeps no memory"
    );
}

#[test]
fn a_transfer_that_nobody_waits_for_keeps_its_buffer_until_it_is_cancelled() {
    let bench = Bench::new();
    let h2c = h2c(&bench);
    let buffer = patterned(&bench, 4096);
    let iova = buffer.iova();
    let mapped = || bench.host.mapped().iter().any(|place| place.iova == iova);
    bench.model.set(Fault::Hang { after: 0 });
    let pending = h2c.submit(&buffer, 0..4096, 0).unwrap();
    drop(buffer);
    assert!(mapped(), "the transfer keeps it");
    drop(pending);
    assert!(mapped(), "and the channel, without its handle");
    h2c.cancel_all().unwrap();
    assert!(!mapped());
    let channel = bench.model.state().channels[0];
    assert_eq!((channel.control & 1, channel.status), (0, 0));
    works(&bench, &h2c);
}

#[test]
fn an_engine_that_does_not_stop_keeps_its_memory() {
    let bench = Bench::new();
    let h2c = h2c(&bench);
    let buffer = patterned(&bench, 4096);
    let iova = buffer.iova();
    let mapped = |iova| bench.host.mapped().iter().any(|place| place.iova == iova);
    bench.model.set(Fault::Stuck);
    let error = h2c.write(&buffer, 0).unwrap_err();
    assert!(matches!(&error, Error::TimedOut { failure, .. } if !failure.usable), "{error:?}");
    assert!(error.to_string().contains("has not stopped so far: try again, and reset the card"), "{error}");
    drop(buffer);
    assert!(mapped(iova));

    let other = patterned(&bench, 4096);
    let error = h2c.write(&other, 0).unwrap_err();
    assert!(matches!(&error, Error::StillBusy { .. }), "{error:?}");
    let other_iova = other.iova();
    drop(other);
    assert!(mapped(iova) && !mapped(other_iova), "the second was never given to the engine");

    bench.model.unstick();
    works(&bench, &h2c);
    assert!(!mapped(iova), "idle at last");

    bench.model.set(Fault::Stuck);
    let buffer = patterned(&bench, 4096);
    let iova = buffer.iova();
    drop(h2c.submit(&buffer, 0..4096, 0).unwrap());
    drop((h2c, buffer));
    assert!(mapped(iova) && bench.host.mapped().len() == 2, "the buffer and the descriptors");
    let leases = bench.fake.leases();
    assert_eq!(
        leases.len(),
        1,
        "nor does the lease go back: its will stops the engine when the process has ended"
    );
    assert!(leases[0].part.name() == "h2c0" && leases[0].will.waits());
}

#[test]
fn a_reset_gives_back_what_an_engine_that_did_not_stop_may_have_used() {
    for is_dropped in [true, false] {
        let bench = Bench::new();
        let h2c = h2c(&bench);
        let buffer = patterned(&bench, 4096);
        let iova = buffer.iova();
        let mapped = |iova| bench.host.mapped().iter().any(|place| place.iova == iova);
        bench.model.set(Fault::Stuck);
        h2c.write(&buffer, 0).unwrap_err();
        drop(buffer);
        let channel = (!is_dropped).then_some(h2c);
        assert!(mapped(iova) && bench.fake.leases().len() == 1);
        // A lease of something else still stands in the way, and a reset that was not changes nothing.
        let other = bench.fake.lease(LeaseRequest::exclusive("c2h0".parse().unwrap())).unwrap();
        assert_eq!(bench.fake.reset().unwrap_err().kind(), ErrorKind::Held);
        assert!(mapped(iova) && bench.fake.leases().len() == 2);
        drop(other);
        bench.fake.reset().unwrap();
        assert!(!mapped(iova), "the reset has ended the engine");
        match channel {
            Some(channel) => works(&bench, &channel),
            None => assert!(bench.fake.leases().is_empty() && bench.host.mapped().is_empty()),
        }
        works(&bench, &crate::transfers::h2c(&bench));
    }
}

#[test]
fn a_channel_left_behind_can_be_had_again_when_its_engine_is_idle_at_last() {
    let bench = Bench::new();
    let channel = h2c(&bench);
    let buffer = patterned(&bench, 4096);
    bench.model.set(Fault::Stuck);
    channel.write(&buffer, 0).unwrap_err();
    drop(channel);
    let error = Xdma::identify(bench.card(), 2).unwrap().h2c(0).unwrap_err();
    assert!(matches!(&error, Error::StillBusy { .. }), "{error:?}");
    assert!(error.to_string().contains("reset the card if it stays so"), "{error}");
    assert_eq!(bench.host.mapped().len(), 2, "the buffer and the descriptors");
    let Err(buffer) = buffer.into_own() else { panic!("the engine may be using it") };

    bench.model.unstick();
    let own = buffer.into_own().expect("idle by now, so that nothing is kept");
    assert!(bench.fake.leases().is_empty());
    drop(own);
    assert!(bench.host.mapped().is_empty());
    works(&bench, &h2c(&bench));

    // One that has not heard that it is to stop is told again.
    let channel = h2c(&bench);
    bench.model.set(Fault::Dark { accesses: u32::MAX });
    drop(channel.submit(&patterned(&bench, 4096), 0..4096, 0).unwrap());
    drop(channel);
    assert_eq!(bench.fake.leases().len(), 1);
    bench.model.set(Fault::None);
    bench.model.state().dark = 0;
    assert_eq!(bench.model.state().channels[0].control & 1, 1);
    bench.fake.still_used().look_again();
    assert_eq!(bench.fake.leases().len(), 1, "it runs");
    let channel = Xdma::identify(bench.card(), 2).unwrap().h2c(0).unwrap();
    assert_eq!(bench.model.state().channels[0].control & 1, 0, "it was told again");
    drop(channel);
    assert!(bench.fake.leases().is_empty() && bench.host.mapped().is_empty());
}

#[test]
fn a_card_that_nobody_has_any_more_is_reset_if_its_engine_did_not_stop() {
    let Bench { host, model, fake } = Bench::new();
    let card: Arc<dyn Card> = Arc::clone(&fake) as _;
    let channel = Xdma::identify(card, 2).unwrap().h2c(0).unwrap();
    let buffer = fake.dma_buffer(4096.into()).unwrap();
    model.set(Fault::Stuck);
    drop(channel.submit(&buffer, 0..4096, 0).unwrap());
    drop((buffer, fake));
    assert_eq!((host.mapped().len(), host.resets()), (2, 0), "the channel has the card");
    drop(channel);
    assert_eq!((host.mapped().len(), host.resets()), (0, 1));
}

#[test]
fn a_cancelled_transfer_has_time_for_the_descriptor_that_it_is_at() {
    let bench = Bench::new();
    // 256 MiB in 1.5 s: a link of 180 MB/s.
    let h2c = h2c(&bench).descriptors_of_at_most(0x0fff_ffff);
    let large = bench.fake.dma_buffer(0x1000_0000.into()).unwrap();
    bench.model.set(Fault::Slow { descriptor: Duration::from_millis(1500) });
    bench.model.state().writes.clear();
    let started = Instant::now();
    assert_eq!(h2c.submit(&large, 0..0x0fff_ffff, 0).unwrap().cancel().unwrap(), None);
    let stops = bench.model.state().writes.iter().filter(|write| write.0 == 0x000c).count();
    assert_eq!(stops, 2, "it is told until that must have arrived, and no more");
    assert!(started.elapsed() >= Duration::from_millis(1500), "{:?}", started.elapsed());
    let iova = large.iova();
    drop(large);
    assert!(bench.host.mapped().iter().all(|place| place.iova != iova), "it was seen idle");
    works(&bench, &h2c);

    // A short one has no such excuse.
    bench.model.set(Fault::Slow { descriptor: Duration::from_secs(60) });
    let error = h2c.write(&patterned(&bench, 4096), 0).unwrap_err();
    assert!(matches!(&error, Error::TimedOut { failure, .. } if !failure.usable), "{error:?}");
    let error = h2c.write(&patterned(&bench, 4096), 0).unwrap_err();
    let Error::StillBusy { after, .. } = error else { panic!("{error:?}") };
    assert!((Duration::from_secs(1)..Duration::from_secs(3)).contains(&after), "{after:?}");
    bench.model.unstick();
    works(&bench, &h2c);
}

#[test]
fn registers_that_do_not_answer_for_a_moment_are_asked_again() {
    for accesses in 1..10 {
        let bench = Bench::new();
        let h2c = h2c(&bench).with_timeout(Duration::from_secs(60));
        let buffer = patterned(&bench, 4096);
        bench.model.set(Fault::Dark { accesses });
        let error = h2c.write(&buffer, 0).unwrap_err();
        assert!(matches!(&error, Error::LinkDown(_)), "{accesses}: {error:?}");
        let channel = bench.model.state().channels[0];
        assert_eq!((channel.control & 1, channel.status), (0, 0), "told when it could hear that: {accesses}");
        assert!(bench.host.bus_master(), "nothing was done to others");
        works(&bench, &h2c);
        drop((h2c, buffer));
        assert!(bench.fake.leases().is_empty() && bench.host.mapped().is_empty());
    }
}

#[test]
fn a_card_whose_registers_do_not_answer_but_that_is_there_is_cut_off() {
    let bench = Bench::new();
    let h2c = h2c(&bench).with_timeout(Duration::from_secs(60));
    let buffer = patterned(&bench, 4096);
    let iova = buffer.iova();
    let mapped = || bench.host.mapped().iter().any(|place| place.iova == iova);
    bench.model.set(Fault::Dark { accesses: u32::MAX });
    let error = h2c.write(&buffer, 0).unwrap_err();
    assert!(matches!(&error, Error::CutOff(_)), "{error:?}");
    for says in ["h2c0 of fake", "all-ones", "bus mastering was switched off", "reset the card"] {
        assert!(error.to_string().contains(says), "{error}");
    }
    assert!(!bench.host.bus_master());
    drop(buffer);
    assert!(mapped(), "kept as long as the channel may see it idle");
    let other = patterned(&bench, 4096);
    assert!(matches!(h2c.write(&other, 0), Err(Error::CutOff(_))));

    // It comes back, and the engine with it: busy until it is told to stop.
    bench.model.set(Fault::None);
    bench.model.state().dark = 0;
    assert_eq!(bench.model.state().channels[0].control & 1, 1);
    let error = h2c.write(&other, 0).unwrap_err();
    assert!(
        matches!(&error, Error::Engine(_)) && error.to_string().contains("bus mastering is off"),
        "{error}"
    );
    assert!(!mapped(), "seen idle at last");
    bench.fake.reset().unwrap_err();

    bench.model.set(Fault::Dark { accesses: u32::MAX });
    drop(h2c.submit(&other, 0..4096, 0).unwrap());
    drop((h2c, other));
    assert_eq!(bench.fake.leases().len(), 1, "for as long as somebody may give it its bus mastering back");
    assert_eq!(bench.host.mapped().len(), 2, "the buffer and the descriptors");
}

#[test]
fn memory_stays_while_nothing_is_known_of_the_engine() {
    for (config, says) in [
        (Config::Fails(ErrorKind::TimedOut), "configuration space does not answer"),
        (Config::Fails(ErrorKind::System), "configuration space does not answer"),
        (Config::StaysMaster, "stays on (command 0x0004)"),
    ] {
        let bench = Bench::new();
        let card: Arc<dyn Card> = Arc::new(Wrapped { card: Arc::clone(&bench.fake), config });
        let h2c = Xdma::identify(card, 2).unwrap().h2c(0).unwrap();
        let buffer = patterned(&bench, 4096);
        let iova = buffer.iova();
        bench.model.set(Fault::Dark { accesses: u32::MAX });
        let error = h2c.write(&buffer, 0).unwrap_err();
        assert!(matches!(&error, Error::Unknown(_)) && error.to_string().contains(says), "{error:?}");
        drop((h2c, buffer));
        assert!(bench.host.mapped().iter().any(|place| place.iova == iova) && bench.host.mapped().len() == 2);
        assert_eq!(bench.fake.leases().len(), 1);
    }
}

#[test]
fn only_bus_mastering_is_switched_off() {
    for (before, after) in [(0x0406, 0x0402), (0x0402, 0x0402)] {
        let bench = Bench::new();
        let command = Arc::new(AtomicU16::new(before));
        let config = Config::Command(Arc::clone(&command));
        let card: Arc<dyn Card> = Arc::new(Wrapped { card: Arc::clone(&bench.fake), config });
        let h2c = Xdma::identify(card, 2).unwrap().h2c(0).unwrap();
        bench.model.set(Fault::Dark { accesses: u32::MAX });
        let error = h2c.write(&patterned(&bench, 4096), 0).unwrap_err();
        assert!(matches!(error, Error::CutOff(_)), "{error:?}");
        assert_eq!(command.load(Ordering::Relaxed), after);
    }
}

#[test]
fn registers_that_answer_every_other_time_do_not_put_the_end_off() {
    let bench = Bench::new();
    let h2c = h2c(&bench);
    bench.model.set(Fault::Flicker);
    let started = Instant::now();
    let error = h2c.write(&patterned(&bench, 4096), 0).unwrap_err();
    assert!(matches!(error, Error::CutOff(_) | Error::TimedOut { .. }), "{error:?}");
    assert!(started.elapsed() < Duration::from_secs(20));
    bench.model.unstick();
    drop(h2c);
    assert!(bench.host.mapped().is_empty());
}

#[test]
fn a_card_is_gone_if_the_kernel_or_its_class_says_so_whatever_its_ids() {
    for config in [Config::Fails(ErrorKind::LinkDown), Config::OnlyIds, Config::Going(Arc::default())] {
        let bench = Bench::new();
        let card: Arc<dyn Card> = Arc::new(Wrapped { card: Arc::clone(&bench.fake), config });
        let h2c = Xdma::identify(card, 2).unwrap().h2c(0).unwrap();
        let buffer = patterned(&bench, 4096);
        bench.model.set(Fault::Dark { accesses: u32::MAX });
        let error = h2c.write(&buffer, 0).unwrap_err();
        assert!(matches!(&error, Error::LinkDown(_)), "{error:?}");
        drop((h2c, buffer));
        assert!(bench.fake.leases().is_empty() && bench.host.mapped().is_empty());
    }
}

#[test]
fn nothing_is_started_with_addresses_that_the_card_has_not_got() {
    for register in [0x0088, 0x008c, 0x4080, 0x4084] {
        let bench = Bench::new();
        bench.model.state().overrides.push((register, 0x1234));
        let error = Xdma::identify(bench.card(), 2).unwrap().h2c(0).unwrap_err();
        assert!(matches!(&error, Error::LinkDown(_)), "{error:?}");
        assert!(error.to_string().contains("1234") && error.to_string().contains("was written"), "{error}");
        assert!(bench.fake.leases().is_empty() && bench.host.mapped().is_empty());
    }
}
