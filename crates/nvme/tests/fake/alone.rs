//! One process.

use crate::model::{BLOCK, BLOCKS, ENTRIES, PAIRS, plugged};
use jitney_nvme::spec::entry::{Submission, admin};
use jitney_nvme::spec::status::Status;
use jitney_nvme::{Controller, Error, Namespace};
use jitney_vfio::{Card, DmaRequest, ErrorKind};
use std::sync::Arc;

fn bytes(seed: u64, count: usize) -> Vec<u8> {
    (0..count as u64).map(|at| (at * 31 + at / 251 + seed * 7).to_le_bytes()[0]).collect()
}

#[test]
fn what_is_written_is_on_the_disk_and_is_read_and_nothing_is_left() {
    let (host, model, card) = plugged();
    for interrupts in [true, false] {
        let controller = Controller::open(Arc::clone(&card) as Arc<dyn Card>).unwrap();
        assert_eq!((controller.identity().model.as_str(), controller.most_bytes()), ("model", 512 << 10));
        assert_eq!(controller.pairs(), PAIRS);
        let namespace = controller.namespace(1).unwrap();
        assert_eq!(namespace, Namespace { id: 1, block_size: BLOCK, blocks: BLOCKS });
        assert_eq!(controller.namespace(2).unwrap_err().kind(), Some(ErrorKind::NotFound));
        let status = controller.namespace(9).unwrap_err().status();
        assert_eq!(status, Some(Status::INVALID_FIELD), "what the controller refuses says so");
        let mut queue = if interrupts { controller.queue() } else { controller.polled_queue() }.unwrap();
        assert_eq!((queue.depth(), queue.interrupt().is_some()), (ENTRIES - 1, interrupts));
        let buffer = card.dma_buffer(DmaRequest::new(1 << 20)).unwrap();
        // Every shape of list, at every place in a page, and the longest; around the queues several times.
        for (round, length) in
            [512, 4096, 4608, 8192, 12288, 65536, 512 << 10].into_iter().cycle().take(40).enumerate()
        {
            let (block, start) = (round as u64 * 37, round as u64 * 516 / 4 * 4);
            let data = bytes(round as u64, usize::try_from(length).unwrap());
            buffer.write(start, &data).unwrap();
            queue.write(&namespace, block, &buffer, start..start + length).unwrap();
            let at = usize::try_from(block * BLOCK).unwrap();
            assert!(model.state().disk[at..at + data.len()] == data, "round {round}");
            buffer.view().fill(0, 1 << 20, 0xee).unwrap();
            queue.read(&namespace, block, &buffer, start..start + length).unwrap();
            let mut seen = vec![0; 1 << 20];
            buffer.read(0, &mut seen).unwrap();
            let (from, to) = (usize::try_from(start).unwrap(), usize::try_from(start + length).unwrap());
            assert!(seen[from..to] == data, "round {round}");
            assert!(
                seen[..from].iter().chain(&seen[to..]).all(|byte| *byte == 0xee),
                "beside the range, round {round}"
            );
        }
        queue.flush(&namespace).unwrap();
        drop(buffer);
        // A queue outlives the handle that it was asked of.
        drop(controller);
        assert!(model.state().status.ready());
        drop(queue);
        assert!(!model.state().configuration.enable() && !model.state().status.ready());
        assert_eq!(model.state().violations, [""; 0]);
        assert!(card.leases().is_empty() && host.mapped().is_empty());
    }
}

#[test]
fn several_are_under_way_and_end_in_any_order() {
    let (_host, model, card) = plugged();
    let controller = Controller::open(Arc::clone(&card) as Arc<dyn Card>).unwrap();
    let namespace = controller.namespace(1).unwrap();
    let mut queue = controller.queue().unwrap();
    let buffer = card.dma_buffer(DmaRequest::new(65536)).unwrap();
    for round in 0..20 {
        model.state().holds = true;
        let data = bytes(round, 7 * 512);
        buffer.write(0, &data).unwrap();
        let tokens: Vec<_> = (0..7)
            .map(|at| queue.submit_write(&namespace, 100 - at, &buffer, at * 512..(at + 1) * 512).unwrap())
            .collect();
        assert_eq!(queue.under_way().unwrap(), 7);
        assert!(!queue.has_ended(tokens[0]).unwrap());
        // One more waits until there is room.
        let more = std::thread::scope(|scope| {
            scope.spawn(|| {
                std::thread::sleep(std::time::Duration::from_millis(5));
                model.state().holds = false;
                model.release();
            });
            queue.submit_read(&namespace, 100, &buffer, 8192..8704).unwrap()
        });
        queue.wait(more).unwrap();
        for token in &tokens {
            queue.wait(*token).unwrap();
        }
        assert_eq!(queue.wait(tokens[0]).unwrap_err().kind(), Some(ErrorKind::Invalid), "it was waited for");
        for at in 0..7 {
            let disk = &model.state().disk[(100 - at) * 512..][..512];
            assert_eq!(disk, &data[at * 512..][..512]);
        }
    }
    assert_eq!(model.state().violations, [""; 0]);
}

#[test]
fn what_is_wrong_with_a_transfer_is_said_before_it_begins() {
    let (_host, model, card) = plugged();
    let controller = Controller::open(Arc::clone(&card) as Arc<dyn Card>).unwrap();
    let namespace = controller.namespace(1).unwrap();
    let mut queue = controller.queue().unwrap();
    let buffer = card.dma_buffer(DmaRequest::new(2 << 20)).unwrap();
    for (block, range, kind, says) in [
        (BLOCKS, 0..512, ErrorKind::OutOfBounds, "16384 blocks"),
        (u64::MAX, 0..1024, ErrorKind::OutOfBounds, "16384 blocks"),
        (0, 0..0, ErrorKind::Invalid, "whole blocks of 512"),
        (0, 0..100, ErrorKind::Invalid, "whole blocks of 512"),
        (0, 0..(512 << 10) + 512, ErrorKind::Invalid, "at most 0x80000"),
        (0, 2..514, ErrorKind::Invalid, "multiple of four"),
        (0, (2 << 20) - 256..(2 << 20) + 256, ErrorKind::OutOfBounds, "is not in"),
    ] {
        let error = queue.read(&namespace, block, &buffer, range).unwrap_err();
        assert_eq!(error.kind(), Some(kind), "{error}");
        assert!(error.to_string().contains(says), "{error}");
    }
    // What the controller refuses.
    let other = Namespace { blocks: 1 << 40, ..namespace };
    let error = queue.read(&other, BLOCKS, &buffer, 0..512).unwrap_err();
    assert_eq!(error.status(), Some(Status::OUT_OF_RANGE));
    assert!(
        error.to_string().contains("of block 16384 of namespace 1 by queue 1 of the NVMe controller of fake"),
        "{error}"
    );
    queue.read(&namespace, 0, &buffer, 0..512).unwrap();
    assert_eq!(model.state().violations, [""; 0]);
}

#[test]
fn a_queue_that_is_dropped_ends_what_is_under_way_before_its_memory_goes() {
    let (host, model, card) = plugged();
    let controller = Controller::open(Arc::clone(&card) as Arc<dyn Card>).unwrap();
    let namespace = controller.namespace(1).unwrap();
    let mut queue = controller.queue().unwrap();
    model.state().holds = true;
    let buffer = card.dma_buffer(DmaRequest::new(4096)).unwrap();
    let _token = queue.submit_read(&namespace, 0, &buffer, 0..4096).unwrap();
    let before = host.mapped().len();
    drop(buffer);
    assert_eq!(host.mapped().len(), before, "the queue keeps it");
    drop(queue);
    assert!(model.state().held.is_empty() && model.state().submissions.len() == 1);
    assert_eq!(host.mapped().len(), 1, "what all have in common");
}

#[test]
fn a_controller_that_does_nothing_any_more_is_noticed_while_waiting() {
    let (host, model, card) = plugged();
    let controller = Controller::open(Arc::clone(&card) as Arc<dyn Card>).unwrap();
    let namespace = controller.namespace(1).unwrap();
    let buffer = card.dma_buffer(DmaRequest::new(4096)).unwrap();
    model.state().holds = true;
    let mut queue = controller.queue().unwrap();
    let token = queue.submit_read(&namespace, 0, &buffer, 0..4096).unwrap();
    model.state().status.set_fatal(true);
    let error = queue.wait(token).unwrap_err();
    assert!(error.to_string().contains("CSTS.CFS"), "{error}");
    assert_eq!(queue.flush(&namespace).unwrap_err(), error, "it is of no use");
    model.state().status.set_fatal(false);
    drop(queue);
    let mut queue = controller.polled_queue().unwrap();
    let token = queue.submit_read(&namespace, 0, &buffer, 0..4096).unwrap();
    model.completes_out_of_nothing(queue.id(), 5);
    let error = queue.wait(token).unwrap_err();
    assert_eq!(error.kind(), Some(ErrorKind::Protocol), "{error}");
    drop(queue);
    let mut queue = controller.queue().unwrap();
    let token = queue.submit_read(&namespace, 0, &buffer, 0..4096).unwrap();
    host.set_link(false);
    assert_eq!(queue.wait(token).unwrap_err().kind(), Some(ErrorKind::LinkDown));
    drop((queue, controller, buffer));
    assert!(host.mapped().is_empty(), "a card that is gone uses no memory");
}

/// What is in the memory after a process was killed at each point of an admin command.
#[test]
fn an_admin_command_of_who_was_killed_is_finished_by_the_next() {
    const STATE: u64 = 0x08;
    for told in [None, Some(false), Some(true)] {
        let (host, model, card) = plugged();
        let controller = Controller::open(Arc::clone(&card) as Arc<dyn Card>).unwrap();
        let queue = model.admin_queue();
        let header = queue - 4096;
        let mut state = [0; 8];
        host.read(header + STATE, &mut state).unwrap();
        let (tail, id) = (u16::from_le_bytes([state[0], state[1]]), 0x7777_u16);
        // Of a queue that there is not, which is an error that is not ours.
        let words = [9, 0, 0, 0, 0, 0];
        let command =
            Submission { operation: admin::DELETE_SUBMISSION_QUEUE, id, words, ..Submission::default() };
        host.write(queue + u64::from(tail) * 64, &command.to_bytes()).unwrap();
        if let Some(told) = told {
            state[..2].copy_from_slice(&(tail + 1).to_le_bytes());
            state[4..6].copy_from_slice(&id.to_le_bytes());
            state[6] |= 2;
            host.write(header + STATE, &state).unwrap();
            if told {
                card.bar(0).unwrap().write32(0x1000, u32::from(tail) + 1).unwrap();
            }
        }
        let before = model.state().admin.len();
        controller.namespace(1).unwrap();
        controller.namespace(1).unwrap();
        let since = model.state().admin[before - usize::from(told == Some(true))..].to_vec();
        let identify = admin::IDENTIFY;
        match told {
            // It was not yet written as a whole, and is written over.
            None => assert_eq!(since, [identify, identify]),
            Some(_) => assert_eq!(since, [admin::DELETE_SUBMISSION_QUEUE, identify, identify]),
        }
        assert_eq!(model.state().violations, [""; 0]);
    }
}

#[test]
fn pairs_of_queues_are_given_out_until_there_are_none() {
    let (_host, model, card) = plugged();
    let controller = Controller::open(Arc::clone(&card) as Arc<dyn Card>).unwrap();
    let mut queues: Vec<_> = (0..PAIRS).map(|_| controller.queue().unwrap()).collect();
    let error = controller.queue().unwrap_err();
    assert_eq!(error.kind(), Some(ErrorKind::Exhausted), "{error}");
    queues.remove(1);
    assert_eq!(controller.queue().unwrap().id(), 2);
    // A second one in this process is refused.
    let error = Controller::open(Arc::clone(&card) as Arc<dyn Card>).unwrap_err();
    assert!(matches!(&error, Error::Card(error) if error.kind() == ErrorKind::NotFound), "{error}");
    assert!(error.to_string().contains("this process has"), "{error}");
    assert_eq!(model.state().violations, [""; 0]);
}
