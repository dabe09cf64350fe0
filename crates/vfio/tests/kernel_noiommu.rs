//! The kernel's VFIO on a machine without an IOMMU, on QEMU's edu (1234:11e8), bound to vfio-pci: in the lab's guest, as
//! root, one test at a time, with `--include-ignored --test-threads=1`.

#![expect(clippy::unwrap_used, reason = "in tests, where a panic is the failure")]

use jitney_memory::{HugePool, Memfd, PageSize};
use jitney_vfio::sysfs::Sysfs;
use jitney_vfio::{
    Card, CardAddress, DmaBuffer, DmaRequest, Error, ErrorKind, IommuInterface, OpenOptions, Owner,
    open_all_with,
};
use rustix::thread::{CapabilitySet, capabilities, set_capabilities};
use std::fs;
use std::os::unix::fs::FileExt;

const PAGE: u64 = 2 << 20;
const POOL: &str = "/proc/sys/vm/nr_hugepages";
const SWITCH: &str = "/sys/module/vfio/parameters/enable_unsafe_noiommu_mode";

const OPTIONS: OpenOptions =
    OpenOptions { iommu: IommuInterface::NoIommu, isolate: false, refuse_strangers: false };

fn edu() -> CardAddress {
    let cards = Sysfs::default().bound_to_vfio().unwrap();
    CardAddress::Pci(
        cards.iter().find(|card| (card.vendor, card.device) == (0x1234, 0x11e8)).unwrap().address,
    )
}

fn owner() -> Owner {
    Owner::open_with(&[edu()], OPTIONS).unwrap()
}

/// Has the kernel set `pages` aside, or as many as it can, and returns how many.
fn reserve(pages: u64) -> u64 {
    fs::write(POOL, pages.to_string()).unwrap();
    HugePool::of(PageSize::Huge2M).total
}

/// Every huge page of the buffer is where the card will look for it, by the kernel's own word.
fn lies_where_it_says(buffer: &DmaBuffer) {
    let pagemap = fs::File::open("/proc/self/pagemap").unwrap();
    for offset in (0..buffer.size()).step_by(usize::try_from(PAGE).unwrap()) {
        buffer.write(offset, &[1]).unwrap();
        let mut entry = [0; 8];
        pagemap.read_exact_at(&mut entry, (buffer.view().address() + offset) / 4096 * 8).unwrap();
        let frame = u64::from_ne_bytes(entry) & ((1 << 55) - 1);
        assert_eq!(frame * 4096, buffer.iova() + offset, "{buffer:?} at {offset:#x}");
    }
}

/// What happens without a capability, on a thread of its own: the other tests stay root's.
fn without<T: Send>(capability: CapabilitySet, what: impl FnOnce() -> T + Send) -> T {
    std::thread::scope(|scope| {
        let attempt = scope.spawn(move || {
            let mut sets = capabilities(None).unwrap();
            sets.effective -= capability;
            set_capabilities(None, sets).unwrap();
            what()
        });
        attempt.join().unwrap()
    })
}

fn refused(outcome: Result<impl std::fmt::Debug, impl Into<Error>>, kind: ErrorKind, says: &str) {
    let Err(error) = outcome.map_err(Into::into) else { unreachable!("it has to be refused: {says}") };
    assert_eq!(error.kind(), kind, "{error}");
    assert!(error.to_string().contains(says), "{error}");
}

#[test]
#[ignore = "needs edu: run it in the lab"]
fn only_by_name() {
    for iommu in [IommuInterface::Auto, IommuInterface::Group, IommuInterface::Iommufd] {
        let opened = open_all_with(&[edu()], OpenOptions { iommu, isolate: false, refuse_strangers: false });
        refused(opened, ErrorKind::Unsupported, "--iommu noiommu");
    }
    owner();
}

#[test]
#[ignore = "needs edu: run it in the lab"]
fn what_is_missing_is_named() {
    fs::write(SWITCH, "0").unwrap();
    refused(Owner::open_with(&[edu()], OPTIONS), ErrorKind::Unsupported, SWITCH);
    fs::write(SWITCH, "1").unwrap();
    let raw = without(CapabilitySet::SYS_RAWIO, || Owner::open_with(&[edu()], OPTIONS).map(drop));
    refused(raw, ErrorKind::Denied, "CAP_SYS_RAWIO");
    let owner = owner();
    let admin = without(CapabilitySet::SYS_ADMIN, || owner.dma_buffer(PAGE).map(drop));
    refused(admin, ErrorKind::Denied, "CAP_SYS_ADMIN");

    let before = HugePool::of(PageSize::Huge2M).total;
    reserve(0);
    refused(owner.dma_buffer(4096), ErrorKind::Exhausted, "sudo tee");
    assert_eq!(reserve(before), before);
    refused(owner.dma_buffer((before + 1) * PAGE), ErrorKind::Exhausted, "sudo tee");
}

#[test]
#[ignore = "needs edu: run it in the lab"]
fn a_buffer_is_one_piece_whatever_the_order_of_free_pages() {
    let owner = owner();
    let free = HugePool::of(PageSize::Huge2M).free;
    // An ordinary one takes a huge page, too.
    let small = owner.dma_buffer(4096).unwrap();
    lies_where_it_says(&small);
    assert_eq!((small.size(), HugePool::of(PageSize::Huge2M).free), (PAGE, free - 1));
    drop(small);

    // Pages come back in all orders; most pools have pieces of four pages left when every fifth page is taken.
    for stride in [2, 3, 5] {
        let mut taken: Vec<_> = (0..free).map(|_| Some(owner.dma_buffer(PAGE).unwrap())).collect();
        taken.sort_by_key(|buffer| buffer.as_ref().map(DmaBuffer::iova));
        let count = taken.len();
        for index in (0..count).map(|turn| turn * 7 % count) {
            // A stride of two gives back every second page, and so on; those that stay are the gaps.
            if index % stride != 0 {
                taken[index] = None;
            }
        }
        let most = (stride as u64 - 1) * PAGE;
        let largest = owner.dma_buffer(most).unwrap();
        lies_where_it_says(&largest);
        drop(taken);
    }
    let large = owner.dma_buffer(8 * PAGE).unwrap();
    lies_where_it_says(&large);
    assert_eq!(HugePool::of(PageSize::Huge2M).free, free - 8);
    large.free().unwrap();
    assert_eq!(HugePool::of(PageSize::Huge2M).free, free, "nothing is kept of buffers that are gone");
}

#[test]
#[ignore = "needs edu: run it in the lab"]
fn a_card_with_few_address_bits_gets_low_memory_or_is_told() {
    let card = owner();
    // Of the first MiB nothing is ever free.
    let error = card.dma_buffer(DmaRequest::new(PAGE).below((1 << 20) - 1));
    refused(error, ErrorKind::Exhausted, "the lowest page is at");
    // Edu's DMA engine has 28 bits; the more pages there are, the more surely some of them are low.
    let before = HugePool::of(PageSize::Huge2M).total;
    reserve(200);
    let buffer = card.dma_buffer(DmaRequest::new(2 * PAGE).below((1 << 28) - 1)).unwrap();
    lies_where_it_says(&buffer);
    assert!(buffer.iova() + buffer.size() <= 1 << 28);

    let registers = card.cards()[0].bar(0).unwrap();
    buffer.write(PAGE, b"there and back").unwrap();
    let transfer = |from: u64, to: u64, command: u32| {
        for (register, value) in [(0x80, from), (0x88, to), (0x90, 4096), (0x98, command.into())] {
            registers.write32(register, u32::try_from(value).unwrap()).unwrap();
        }
        while registers.read32(0x98).unwrap() & 1 != 0 {
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
    };
    transfer(buffer.iova() + PAGE, 0x4_0000, 0b01);
    transfer(0x4_0000, buffer.iova(), 0b11);
    let mut back = [0; 14];
    buffer.read(0, &mut back).unwrap();
    assert_eq!(&back, b"there and back");
    drop(buffer);
    assert_eq!(reserve(before), before);
}

#[test]
#[ignore = "needs edu: run it in the lab"]
fn memory_is_mapped_only_where_it_lies() {
    let opened = open_all_with(&[edu()], OPTIONS).unwrap().pop().unwrap();
    let (memory, address) = opened.space.physical().unwrap().make(&DmaRequest::new(PAGE)).unwrap();
    refused(
        opened.space.map(&memory, 0, address + PAGE, PAGE),
        ErrorKind::Invalid,
        "not where the memory lies",
    );
    refused(opened.space.map(&memory, 0, address, 2 * PAGE), ErrorKind::Invalid, "not where the memory lies");
    let normal = Memfd::create("test", 4096, PageSize::Normal).unwrap();
    refused(opened.space.map(&normal, 0, 0, 4096), ErrorKind::Invalid, "huge pages");
    opened.space.map(&memory, 0, address, PAGE).unwrap();
    // It is kept while it is mapped, whoever else lets go of it.
    let free = HugePool::of(PageSize::Huge2M).free;
    drop(memory);
    assert_eq!(HugePool::of(PageSize::Huge2M).free, free);
    refused(opened.space.unmap(address, 2 * PAGE), ErrorKind::NotFound, "not mapped as such");
    opened.space.unmap(address, PAGE).unwrap();
    assert_eq!(HugePool::of(PageSize::Huge2M).free, free + 1);
}
