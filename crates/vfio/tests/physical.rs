//! Buffers whose memory decides where cards see it, as without an IOMMU, on an imitated machine.

#![expect(clippy::unwrap_used, reason = "in tests, where a panic is the failure")]

use jitney_memory::{Memfd, PageSize};
use jitney_vfio::{
    AddressSpace, Card, DmaRequest, Error, ErrorKind, FakeBar, FakeCard, FakeHost, MapError, Mapper,
    OpenedSpace, Owner, PhysicalMemory, Result,
};
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

const PAGE: u64 = 4096;

/// A machine whose memory is handed out from an address upwards.
#[derive(Debug)]
struct Machine {
    host: FakeHost,
    next: AtomicU64,
}

impl Mapper for Machine {
    fn ranges(&self) -> Vec<RangeInclusive<u64>> {
        vec![0..=u64::MAX]
    }

    fn granule(&self) -> u64 {
        PAGE
    }

    fn physical(&self) -> Option<&dyn PhysicalMemory> {
        Some(self)
    }

    fn map(&self, memory: &Memfd, offset: u64, iova: u64, size: u64) -> std::result::Result<(), MapError> {
        self.host.map(memory, offset, iova, size)
    }

    fn unmap(&self, iova: u64, size: u64) -> std::result::Result<(), MapError> {
        self.host.unmap(iova, size)
    }
}

impl PhysicalMemory for Machine {
    /// Twice as much as asked for, as if its pages were larger.
    fn make(&self, request: &DmaRequest) -> Result<(Memfd, u64)> {
        let size = 2 * request.rounded_size()?;
        let address = self.next.fetch_add(size, Ordering::Relaxed);
        match address + size - 1 > request.top {
            true => Err(Error::new(ErrorKind::Exhausted, "the memory lies too high")),
            false => Ok((Memfd::create("physical", size, PageSize::Normal)?, address)),
        }
    }
}

struct Silent;

impl FakeBar for Silent {
    fn read32(&self, _: u64) -> u32 {
        0
    }

    fn write32(&self, _: u64, _: u32) {}
}

fn machine() -> (FakeHost, Arc<Machine>, Owner) {
    let host = FakeHost::new();
    let machine = Arc::new(Machine { host: host.clone(), next: AtomicU64::new(0x1234_5000) });
    let card = FakeCard::builder(&host, 1, 2).bar(0, PAGE, Silent).open().unwrap();
    let space = AddressSpace::new(vec![Arc::clone(&machine) as _]);
    let owner = Owner::of(vec![OpenedSpace { cards: vec![card], space }]).unwrap();
    (host, machine, owner)
}

#[test]
fn a_buffer_is_where_its_memory_lies() {
    let (host, _, owner) = machine();
    let first = owner.dma_buffer(PAGE).unwrap();
    assert_eq!((first.iova(), first.size()), (0x1234_5000, 2 * PAGE));
    let second = owner.cards()[0].dma_buffer(DmaRequest::new(1)).unwrap();
    assert_eq!(second.iova(), 0x1234_7000);
    second.write(PAGE, b"physical").unwrap();
    let mut seen = [0; 8];
    host.read(0x1234_8000, &mut seen).unwrap();
    assert_eq!(&seen, b"physical");
    drop((first, second));
    assert_eq!(host.mapped(), []);
}

#[test]
fn memory_that_lies_too_high_is_no_buffer() {
    let (host, _, owner) = machine();
    let error = owner.dma_buffer(DmaRequest::new(PAGE).below(0xff_ffff)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Exhausted);
    assert_eq!(host.mapped(), []);
}

#[test]
fn memory_that_comes_again_may_be_a_buffer_again_once_the_first_is_gone() {
    let (host, machine, owner) = machine();
    let first = owner.dma_buffer(PAGE).unwrap();
    // A machine that hands out the same memory twice.
    machine.next.store(0x1234_6000, Ordering::Relaxed);
    let error = owner.dma_buffer(PAGE).unwrap_err();
    assert!(error.to_string().contains("overlaps"), "{error}");
    assert_eq!(host.mapped().len(), 1);
    first.free().unwrap();
    machine.next.store(0x1234_6000, Ordering::Relaxed);
    assert_eq!(owner.dma_buffer(PAGE).unwrap().iova(), 0x1234_6000);
}
