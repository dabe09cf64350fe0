//! Buffers that are a program's alone, and bytes that have none.

use crate::model::{Bench, Fault};
use crate::transfers::{SHORT, h2c, works};
use jitney_vfio::{Card, OwnBuffer};
use jitney_xdma::{Error, Xdma};

fn own(bench: &Bench, size: u64) -> OwnBuffer {
    bench.fake.dma_buffer(size.into()).unwrap().into_own().unwrap()
}

#[test]
fn a_buffer_of_ones_own_is_the_engines_while_it_is_submitted() {
    let bench = Bench::new();
    let h2c = h2c(&bench);
    let mut buffer = own(&bench, 4096);
    buffer.fill(0x5a);
    bench.model.set(Fault::Hang { after: 0 });
    let lent = h2c.submit_own(buffer, 0..4096, 0x100).unwrap();
    assert!(lent.poll().unwrap().is_none());
    bench.model.set(Fault::None);
    bench.model.go_on(0);
    let (outcome, buffer) = lent.wait();
    assert_eq!(outcome.unwrap().bytes, 4096);
    let mut buffer = buffer.unwrap();
    assert!(bench.model.state().memory[0x100..0x1100].iter().all(|&byte| byte == 0x5a));

    buffer.fill(0);
    let c2h = Xdma::identify(bench.card(), 2).unwrap().c2h(0).unwrap();
    let (outcome, buffer) = c2h.submit_own(buffer, 10..20, 0x100).unwrap().wait();
    outcome.unwrap();
    let buffer = buffer.unwrap();
    assert_eq!(buffer[9..21], [[0].as_slice(), &[0x5a; 10], &[0]].concat()[..]);

    let (error, buffer) = h2c.submit_own(buffer, 0..5000, 0).unwrap_err();
    assert!(matches!(error, Error::Range { .. }) && buffer.is_some());
}

#[test]
fn an_engine_that_may_still_write_keeps_it() {
    let bench = Bench::new();
    let h2c = h2c(&bench).with_timeout(SHORT);
    bench.model.set(Fault::Stuck);
    let (outcome, buffer) = h2c.submit_own(own(&bench, 4096), 0..4096, 0).unwrap().wait();
    assert!(matches!(outcome, Err(Error::TimedOut { .. })) && buffer.is_none());
    assert_eq!(bench.host.mapped().len(), 2, "it is there for the engine");
    bench.model.unstick();
    works(&bench, &h2c);
    bench.model.set(Fault::Hang { after: 0 });
    let (outcome, buffer) = h2c.submit_own(own(&bench, 4096), 0..4096, 0).unwrap().cancel();
    assert!(outcome.unwrap().is_none() && buffer.is_some());
}

#[test]
fn bytes_without_a_buffer_go_both_ways() {
    let bench = Bench::new();
    let (h2c, c2h) = (h2c(&bench), Xdma::identify(bench.card(), 2).unwrap().c2h(0).unwrap());
    for length in [1, 4, 4096, 0x1_0001] {
        let bytes: Vec<u8> = (0..length).map(|at: u32| u8::try_from(at % 253).unwrap()).collect();
        h2c.write_bytes(&bytes, 0x33).unwrap();
        let mut read = vec![0; bytes.len()];
        c2h.read_bytes(&mut read, 0x33).unwrap();
        assert_eq!(read, bytes);
    }
    let mapped = bench.host.mapped().len();
    h2c.write_bytes(&[1, 2, 3], 0).unwrap();
    assert_eq!(bench.host.mapped().len(), mapped, "the buffer is used again");
    assert!(matches!(h2c.write_bytes(&[], 0), Err(Error::Plan { .. })));
}
