//! Several processes on one controller.

use crate::model::{BLOCK, plugged};
use crate::processes::Machine;
use jitney_nvme::spec::entry::admin;
use jitney_nvme::{Controller, Namespace, QueuePair};
use jitney_vfio::{Card, DmaBuffer, DmaRequest};
use std::sync::Arc;

/// Bytes of a block.
const BYTES: usize = 512;

/// What one process has.
struct One {
    card: Arc<dyn Card>,
    _controller: Controller,
    queue: QueuePair,
    namespace: Namespace,
    buffer: DmaBuffer,
}

impl One {
    fn of(machine: &Machine, number: u32) -> Self {
        let card = machine.process(number);
        let controller = Controller::open(Arc::clone(&card)).unwrap();
        let queue = controller.queue().unwrap();
        let namespace = controller.namespace(1).unwrap();
        let buffer = card.dma_buffer(DmaRequest::new(65536)).unwrap();
        Self { card, _controller: controller, queue, namespace, buffer }
    }

    /// Writes a block and reads it back.
    fn works(&mut self, block: u64, byte: u8) {
        let Self { queue, namespace, buffer, .. } = self;
        buffer.write(0, &[byte; BYTES]).unwrap();
        queue.write(namespace, block, buffer, 0..BLOCK).unwrap();
        queue.read(namespace, block, buffer, 4096..4096 + BLOCK).unwrap();
        let mut seen = [0; BYTES];
        buffer.read(4096, &mut seen).unwrap();
        assert_eq!(seen, [byte; BYTES]);
    }
}

#[test]
fn each_has_a_queue_and_the_last_to_go_disables_the_controller() {
    for first_to_go in [0, 1] {
        let (host, model, card) = plugged();
        let machine = Machine::new(&card);
        let mut both = [Some(One::of(&machine, 1)), Some(One::of(&machine, 2))];
        let ids = both.each_ref().map(|one| one.as_ref().unwrap().queue.id());
        assert_eq!(ids, [1, 2]);
        for round in 0..20 {
            both.iter_mut()
                .flatten()
                .zip([10, 20])
                .for_each(|(one, byte)| one.works(byte.into(), byte + round));
        }
        both[first_to_go] = None;
        assert!(model.state().status.ready() && model.state().submissions.len() == 2, "the other uses it");
        both.iter_mut().flatten().for_each(|one| one.works(5, 5));
        // And back again.
        both[first_to_go] = Some(One::of(&machine, 3));
        both.iter_mut().flatten().for_each(|one| one.works(6, 6));
        drop(both);
        assert!(!model.state().status.ready(), "it was disabled");
        assert!(machine.leases().is_empty() && host.mapped().is_empty());
        assert_eq!(model.state().violations, [""; 0]);
    }
}

#[test]
fn the_place_of_who_was_killed_goes_to_the_next_and_the_others_notice_nothing() {
    let (host, model, card) = plugged();
    let machine = Machine::new(&card);
    // The one that is killed has enabled the controller.
    let mut first = One::of(&machine, 1);
    let mut other = One::of(&machine, 2);
    let mut number = 1;
    for round in 3..23 {
        model.state().holds = true;
        for at in 0..5 {
            let _token = first
                .queue
                .submit_read(&first.namespace, at, &first.buffer, at * 512..at * 512 + 512)
                .unwrap();
        }
        machine.kill(number);
        let (iova, id) = (first.buffer.iova(), first.queue.id());
        std::mem::forget(first);
        model.state().holds = false;
        other.works(40, 1);
        let before = model.state().admin.len();
        number = round;
        first = One::of(&machine, number);
        assert_eq!(first.queue.id(), id, "it has the dead one's place");
        let since = model.state().admin[before..].to_vec();
        let [deletes, creates] = [admin::DELETE_SUBMISSION_QUEUE, admin::CREATE_COMPLETION_QUEUE]
            .map(|operation| since.iter().position(|other| *other == operation).unwrap());
        assert!(deletes < creates && model.state().held.is_empty(), "{since:?}");
        assert_ne!(first.buffer.iova(), iova);
        first.works(50, 2);
        other.works(40, 3);
        assert!(model.state().status.ready() && !model.state().status.fatal());
        machine_number_is(&machine, round);
    }
    drop((first, other));
    assert!(!model.state().status.ready() && machine.leases().is_empty());
    assert_eq!(model.state().violations, [""; 0]);
    assert!(host.bus_master());
}

/// The processes that are there hold one pair each, and share the controller.
fn machine_number_is(machine: &Machine, round: u32) {
    let mut leases = machine.leases();
    leases.sort();
    assert_eq!(leases, ["controller", "controller", "queue1", "queue2"], "round {round}");
}

#[test]
fn when_the_last_is_killed_its_will_disables_the_controller_and_the_next_enables_it() {
    let (_host, model, card) = plugged();
    let machine = Machine::new(&card);
    let (first, second) = (One::of(&machine, 1), One::of(&machine, 2));
    std::mem::forget(first);
    machine.kill(1);
    assert!(model.state().status.ready(), "another uses it");
    std::mem::forget(second);
    machine.kill(2);
    assert!(!model.state().status.ready(), "nobody does");
    let mut third = One::of(&machine, 3);
    assert_eq!(third.queue.id(), 1);
    third.works(1, 1);
    assert_eq!(third.card.identity().vendor, 0x1b36);
    assert_eq!(model.state().violations, [""; 0]);
}
