//! The kernel's own VFIO, on QEMU's edu (1234:11e8) and NVMe, both bound to vfio-pci: in the lab's guest, as root, one test
//! at a time, with `--include-ignored --test-threads=1`. `JITNEY_IOMMU=group|iommufd` names the interface.
//!
//! What the cards do is in the examples `edu` and `nvme_identify`; here is what the kernel refuses, and what it says.

#![expect(clippy::unwrap_used, reason = "in tests, where a panic is the failure")]

use jitney_memory::{Access, Mapping, Memfd, PageSize};
use jitney_vfio::sysfs::Sysfs;
use jitney_vfio::{
    AddressSpace, CardAddress, Device, DmaRequest, ErrorKind, Grant, InterruptKind, IommuInterface, Notice,
    OpenOptions, OpenedCard, OpenedSpace, Owner, Result, holders, open_all_with,
};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use rustix::thread::{CapabilitySet, capabilities, set_capabilities, set_thread_uid};
use std::fs;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

const EDU: (u16, u16) = (0x1234, 0x11e8);
const NVME: (u16, u16) = (0x1b36, 0x0010);

/// Registers of edu's BAR 0.
const LIVENESS: u64 = 0x04;
const RAISE: u64 = 0x60;
const ACKNOWLEDGE: u64 = 0x64;

const SECOND: Duration = Duration::from_secs(1);

fn interface() -> IommuInterface {
    std::env::var("JITNEY_IOMMU").map_or(IommuInterface::Auto, |text| text.parse().unwrap())
}

fn address(id: (u16, u16)) -> CardAddress {
    let cards = Sysfs::default().bound_to_vfio().unwrap();
    CardAddress::Pci(cards.iter().find(|card| (card.vendor, card.device) == id).unwrap().address)
}

fn open(ids: &[(u16, u16)], isolate: bool) -> Result<Vec<OpenedSpace>> {
    let addresses: Vec<_> = ids.iter().map(|&id| address(id)).collect();
    open_all_with(&addresses, OpenOptions { iommu: interface(), isolate, ..OpenOptions::default() })
}

fn edu() -> (OpenedCard, AddressSpace) {
    let OpenedSpace { mut cards, space } = open(&[EDU], false).unwrap().pop().unwrap();
    (cards.pop().unwrap(), space)
}

/// The card as another process that it is handed to has it.
fn handed_over(card: &OpenedCard) -> Device {
    card.grant().unwrap().open("0000:00:00.0".into()).unwrap()
}

/// Moves 4 KiB from the card's memory to `iova`.
fn dma_to_host(card: &OpenedCard, iova: u64) {
    for (register, value) in [(0x80, 0x4_0000), (0x88, iova), (0x90, 4096), (0x98, 0b11)] {
        card.write_register(0, register, u32::try_from(value).unwrap()).unwrap();
    }
    for _ in 0..1000 {
        if card.read_register(0, 0x98).unwrap() & 1 == 0 {
            return;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    unreachable!("the DMA engine does not stop");
}

#[test]
#[ignore = "needs edu: run it in the lab"]
fn registers_are_the_same_mapped_and_trapped() {
    let (card, _space) = edu();
    let device = handed_over(&card);
    let registers = device.bar(0).unwrap();
    assert!(registers.registers().is_some());
    registers.write32(LIVENESS, 0x0102_0304).unwrap();
    let mut trapped = [0; 4];
    let transport = device.transport();
    transport.read(0, LIVENESS, &mut trapped).unwrap();
    assert_eq!(u32::from_le_bytes(trapped), !0x0102_0304);
    transport.write(0, LIVENESS, &0x55_u32.to_le_bytes()).unwrap();
    assert_eq!(registers.read32(LIVENESS).unwrap(), !0x55);

    let beyond = transport.read(0, registers.size(), &mut trapped).unwrap_err();
    assert_eq!(beyond.kind(), ErrorKind::OutOfBounds);
    assert_eq!(transport.read(5, 0, &mut trapped).unwrap_err().kind(), ErrorKind::NotFound);
    assert_eq!(transport.map(7).unwrap_err().kind(), ErrorKind::Unsupported);
    card.set_bus_master(true).unwrap();
    assert!(card.bus_master().unwrap());
    card.set_bus_master(false).unwrap();
    assert!(!card.bus_master().unwrap());
}

#[test]
#[ignore = "needs edu: run it in the lab"]
fn a_second_owner_is_told_who_the_first_is() {
    let (first, _space) = edu();
    for second in [IommuInterface::Group, IommuInterface::Iommufd] {
        let options = OpenOptions { iommu: second, isolate: false, refuse_strangers: false };
        let error = open_all_with(&[address(EDU)], options).unwrap_err();
        if error.kind() == ErrorKind::Unsupported {
            continue;
        }
        assert_eq!(error.kind(), ErrorKind::Held, "{error}");
        let me = format!("pid {} ({}", std::process::id(), std::env::current_exe().unwrap().display());
        assert!(error.to_string().contains(&me), "{error}");
    }
    // Nothing of the failed attempts stays.
    drop((first, _space));
    edu();
}

#[test]
#[ignore = "needs edu: run it in the lab"]
fn memory_is_mapped_once_and_where_the_iommu_can() {
    let (_card, space) = edu();
    let granule = space.granule();
    let memory = Memfd::create("test", 8 * granule, PageSize::Normal).unwrap();
    space.map(&memory, 0, 0x10_0000, 4 * granule).unwrap();

    let twice = space.map(&memory, 0, 0x10_0000 + granule, granule).unwrap_err();
    assert_eq!(twice.error.kind(), ErrorKind::Held, "{twice}");
    assert!(twice.to_string().contains("EEXIST"), "{twice}");

    let window = space.ranges()[0].end() + 1 - granule;
    let across = space.map(&memory, 0, window, 2 * granule).unwrap_err();
    assert_eq!(across.error.kind(), ErrorKind::Invalid, "{across}");
    assert!(across.to_string().contains("maps only within [0x0, 0xfedfffff] and"), "{across}");

    let odd = space.map(&memory, 0, 0x20_0800, granule).unwrap_err();
    assert!(odd.to_string().contains("multiples of"), "{odd}");

    let partial = space.unmap(0x10_0000, 2 * granule);
    assert!(partial.is_err(), "a map is undone whole");
    space.unmap(0x10_0000, 4 * granule).unwrap();
    let again = space.unmap(0x10_0000, 4 * granule).unwrap_err();
    assert!(again.to_string().contains("0x4000 bytes at IOVA 0x100000"), "{again}");
}

/// On x86 the addresses of message-signalled interrupts are no memory: [0xfee00000, 0xfeefffff].
#[test]
#[ignore = "needs edu: run it in the lab"]
fn no_buffer_lies_across_the_reserved_window() {
    let owner = Owner::of(open(&[EDU], false).unwrap()).unwrap();
    let request = DmaRequest::new(3 << 20).below(0xffff_ffff);
    // The highest addresses go first, and large buffers begin at multiples of 2 MiB: above the window is room for four.
    let buffers: Vec<_> = (0..8).map(|_| owner.dma_buffer(request).unwrap()).collect();
    let above = buffers.iter().filter(|buffer| buffer.iova() > 0xfeef_ffff).count();
    let below = buffers.iter().filter(|buffer| buffer.iova() + buffer.size() <= 0xfee0_0000).count();
    assert_eq!((above, below), (4, 4), "{buffers:?}");
}

/// Through iommufd, Linux 6.13 and later map a file (`IOMMU_IOAS_MAP_FILE`); all others pin what they find behind an address.
#[test]
#[ignore = "needs edu: run it in the lab"]
fn memory_is_mapped_without_a_view_where_the_kernel_can() {
    const SIZE: u64 = 16 << 20;
    let (card, space) = edu();
    card.set_bus_master(true).unwrap();
    let memory = Memfd::create("test", SIZE, PageSize::Normal).unwrap();
    let before = getrlimit(Resource::As);
    let statm = fs::read_to_string("/proc/self/statm").unwrap();
    let pages: u64 = statm.split(' ').next().unwrap().parse().unwrap();
    // Room for all but a view of the memory.
    let limit = Rlimit { current: Some(pages * 4096 + SIZE / 2), maximum: before.maximum };
    setrlimit(Resource::As, limit).unwrap();
    let outcome = space.map(&memory, 0, 0x100_0000, SIZE);
    setrlimit(Resource::As, before).unwrap();

    let maps_files = interface() == IommuInterface::Iommufd && linux() >= (6, 13);
    assert_eq!(outcome.is_ok(), maps_files, "{outcome:?} on Linux {:?}", linux());
    if maps_files {
        dma_to_host(&card, 0x100_0000);
        space.unmap(0x100_0000, SIZE).unwrap();
    }
}

/// The version of the running kernel: its first two numbers.
fn linux() -> (u32, u32) {
    let release = rustix::system::uname().release().to_string_lossy().into_owned();
    let mut numbers = release.split(['.', '-']).map(|number| number.parse().unwrap());
    (numbers.next().unwrap(), numbers.next().unwrap())
}

#[test]
#[ignore = "needs edu: run it in the lab"]
fn the_iommu_keeps_the_card_away_from_memory_that_is_not_mapped() {
    let (card, space) = edu();
    card.set_bus_master(true).unwrap();
    let memory = Memfd::create("test", 4096, PageSize::Normal).unwrap();
    let view = Mapping::shared(&memory, 0, 4096, Access::ReadWrite).unwrap();
    let untouched = 0xa5a5_a5a5;
    view.store32(0, untouched).unwrap();

    space.map(&memory, 0, 0x20_0000, 4096).unwrap();
    dma_to_host(&card, 0x20_0000);
    assert_ne!(view.load32(0).unwrap(), untouched, "mapped memory is written");

    view.store32(0, untouched).unwrap();
    space.unmap(0x20_0000, 4096).unwrap();
    dma_to_host(&card, 0x20_0000);
    assert_eq!(view.load32(0).unwrap(), untouched, "memory that is no longer mapped is not");
}

#[test]
#[ignore = "needs edu: run it in the lab"]
fn large_buffers_are_mapped_in_pieces_and_let_go_of() {
    let locked = || {
        let status = fs::read_to_string("/proc/self/status").unwrap();
        let lines = status.lines().filter(|line| line.starts_with("VmLck:") || line.starts_with("VmPin:"));
        lines.map(str::to_owned).collect::<Vec<_>>()
    };
    let before = locked();
    let owner = Owner::of(open(&[EDU], false).unwrap()).unwrap();
    let buffer = owner.dma_buffer(130 << 20).unwrap();
    assert_ne!(locked(), before, "pinned memory is accounted for");
    // No huge page was reserved for it. Some of the machine's memory may be in small pieces.
    let large = buffer.on_large_pages().unwrap();
    assert!(large > 64 << 20, "{large:#x} bytes on large pages");
    buffer.write((130 << 20) - 4, &[1, 2, 3, 4]).unwrap();
    buffer.free().unwrap();
    assert_eq!(locked(), before);

    let huge = owner.dma_buffer(DmaRequest::new(4 << 20).of(PageSize::Huge2M)).unwrap();
    assert_eq!(huge.iova() % (2 << 20), 0);
    assert_eq!(huge.on_large_pages().unwrap(), huge.size());
    huge.free().unwrap();
}

#[test]
#[ignore = "needs edu: run it in the lab"]
fn a_limit_of_locked_memory_is_named_with_its_numbers() {
    let (_card, space) = edu();
    let memory = Memfd::create("test", 8 << 20, PageSize::Normal).unwrap();
    let before = getrlimit(Resource::Memlock);
    let outcome = std::thread::scope(|scope| {
        scope
            .spawn(|| {
                setrlimit(Resource::Memlock, Rlimit { current: Some(1 << 20), maximum: before.maximum })
                    .unwrap();
                // Root's threads are exempt as long as they have the capability.
                let mut sets = capabilities(None).unwrap();
                sets.effective -= CapabilitySet::IPC_LOCK;
                set_capabilities(None, sets).unwrap();
                space.map(&memory, 0, 0, 8 << 20)
            })
            .join()
            .unwrap()
    });
    setrlimit(Resource::Memlock, before).unwrap();
    let error = outcome.unwrap_err().error;
    assert_eq!(error.kind(), ErrorKind::Exhausted, "{error}");
    let text = error.to_string();
    assert!(text.contains("may lock 0x100000 bytes") && text.contains("needs 0x800000: ENOMEM"), "{text}");
    space.map(&memory, 0, 0, 8 << 20).unwrap();
    space.unmap(0, 8 << 20).unwrap();
}

#[test]
#[ignore = "needs edu: run it in the lab"]
fn an_ordinary_user_is_told_what_permission_is_missing() {
    let nobody = rustix::process::Uid::from_raw(1000);
    let address = address(EDU);
    let options = OpenOptions { iommu: interface(), isolate: false, refuse_strangers: false };
    let attempt = std::thread::spawn(move || {
        // The thread's alone; the other tests stay root's.
        set_thread_uid(nobody).unwrap();
        (open_all_with(&[address], options).unwrap_err(), holders::who_holds_devices().unwrap())
    });
    let (error, found) = attempt.join().unwrap();
    assert_eq!(error.kind(), ErrorKind::Denied, "{error}");
    assert!(error.remedy().unwrap().contains("sudo chown $USER /dev/"), "{error}");
    assert!(found.hidden > 0, "processes of root that could not be looked into are counted");
}

#[test]
#[ignore = "needs edu: run it in the lab"]
fn a_grant_reaches_the_card() {
    let (card, _space) = edu();
    card.set_bus_master(true).unwrap();
    let grant = card.grant().unwrap();
    let (kind, descriptor) = (grant.kind(), OwnedFd::from(grant));
    let theirs = Grant::from_parts(kind, descriptor).unwrap().open("0000:00:00.0".into()).unwrap();
    theirs.bar(0).unwrap().write32(LIVENESS, 7).unwrap();
    assert_eq!(card.read_register(0, LIVENESS).unwrap(), !7);

    // The owner wires the vector to an event of the other's; it fires there.
    let event = jitney_memory::EventFd::new().unwrap();
    card.wire(0, Some(event.as_fd())).unwrap();
    theirs.bar(0).unwrap().write32(RAISE, 1).unwrap();
    assert!(event.wait(Some(SECOND)).unwrap());
    theirs.bar(0).unwrap().write32(ACKNOWLEDGE, 1).unwrap();
    card.wire(0, None).unwrap();
}

/// Whoever has a grant can switch off that the card answers; a mapped access would end the owner (SIGBUS).
#[test]
#[ignore = "needs edu: run it in the lab"]
fn a_card_that_does_not_answer_to_its_addresses_costs_its_owner_an_error_and_no_more() {
    let (card, _space) = edu();
    let theirs = handed_over(&card);
    theirs.set_memory_decode(false).unwrap();
    assert!(!card.memory_decode().unwrap() && card.link_is_up().unwrap());
    for error in
        [card.write_register(0, LIVENESS, 7).unwrap_err(), card.read_register(0, LIVENESS).unwrap_err()]
    {
        assert_eq!((error.kind(), error.errno()), (ErrorKind::LinkDown, Some(Errno::IO)), "{error}");
    }
    card.set_memory_decode(true).unwrap();
    card.write_register(0, LIVENESS, 7).unwrap();
    assert_eq!(card.read_register(0, LIVENESS).unwrap(), !7);
}

#[test]
#[ignore = "needs edu: run it in the lab"]
fn the_interrupt_line_fires_once_for_each_unmask() {
    let (card, _space) = edu();
    let device = handed_over(&card);
    let (transport, registers) = (device.transport(), device.bar(0).unwrap());
    assert_eq!(transport.interrupt_count(InterruptKind::Intx).unwrap(), 1);
    let event = jitney_memory::EventFd::new().unwrap();
    // As an owner does: all silent, then one by one.
    transport.arm(InterruptKind::Intx, 0, &[None]).unwrap();
    transport.arm(InterruptKind::Intx, 0, &[Some(event.as_fd())]).unwrap();
    for _ in 0..3 {
        registers.write32(RAISE, 1).unwrap();
        assert!(event.wait(Some(SECOND)).unwrap());
        assert_eq!(event.take().unwrap(), 1, "the line is masked while it is up");
        registers.write32(ACKNOWLEDGE, 1).unwrap();
        transport.unmask(InterruptKind::Intx, 0).unwrap();
    }
    assert!(!event.wait(Some(Duration::from_millis(50))).unwrap());
    transport.disarm(InterruptKind::Intx).unwrap();
}

#[test]
#[ignore = "needs edu: run it in the lab"]
fn who_has_the_card_hears_that_it_is_wanted_back() {
    let CardAddress::Pci(address) = address(EDU) else { unreachable!() };
    let (card, space) = edu();
    let wanted = card.notices().clone();
    assert_eq!(wanted.look().unwrap(), None);
    let device = format!("/sys/bus/pci/devices/{address}");
    let unbinder = std::thread::spawn({
        let file = format!("{device}/driver/unbind");
        move || fs::write(file, address.to_string())
    });
    let mut readable = [PollFd::new(&wanted, PollFlags::IN)];
    poll(&mut readable, Some(&Timespec { tv_sec: 5, tv_nsec: 0 })).unwrap();
    assert_eq!(wanted.look().unwrap(), Some(Notice::Leaving));
    assert!(!unbinder.is_finished(), "the kernel waits until the card is let go of");
    drop((card, space));
    unbinder.join().unwrap().unwrap();
    assert!(open(&[NVME], false).is_ok(), "another card is not touched by that");

    fs::write(format!("{device}/driver_override"), "vfio-pci").unwrap();
    fs::write("/sys/bus/pci/drivers_probe", address.to_string()).unwrap();
    let node = || Sysfs::default().function(address).is_ok_and(|function| function.bound_to_vfio());
    assert!((0..100).any(|_| node() || {
        std::thread::sleep(SECOND / 100);
        false
    }));
    edu();
}

#[test]
#[ignore = "needs edu and an NVMe: run it in the lab"]
fn cards_of_two_groups_share_an_address_space_or_not() {
    let shared = open(&[EDU, NVME], false).unwrap();
    let [OpenedSpace { cards, space }] = &shared[..] else { unreachable!("{shared:?}") };
    assert_eq!(cards.len(), 2);
    let memory = Memfd::create("test", 4096, PageSize::Normal).unwrap();
    space.map(&memory, 0, 0, 4096).unwrap();
    space.unmap(0, 4096).unwrap();
    drop(shared);

    let apart = open(&[EDU, NVME], true).unwrap();
    assert_eq!(apart.len(), 2);
    for opened in &apart {
        opened.space.map(&memory, 0, 0, 4096).unwrap();
    }
    for opened in &apart {
        opened.space.unmap(0, 4096).unwrap();
    }
}

/// edu has no function-level reset and no power management; a root bus cannot be reset, another one only as a whole.
#[test]
#[ignore = "needs edu and an NVMe: run it in the lab"]
fn a_bus_with_another_card_is_not_reset() {
    let OpenedSpace { cards, space: _space } = open(&[EDU, NVME], false).unwrap().pop().unwrap();
    let [edu, nvme] = &cards[..] else { unreachable!() };
    let error = edu.reset().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported, "{error}");
    let reason = match edu.identity().address.starts_with("0000:00:") {
        true => "its bus cannot be reset".to_owned(),
        false => format!("would also reset {}", nvme.identity().address),
    };
    assert!(error.to_string().contains(&reason), "{error}");
}

#[test]
#[ignore = "needs edu and an NVMe: run it in the lab"]
fn a_card_is_reset() {
    let OpenedSpace { cards, space: _space } = open(&[EDU, NVME], false).unwrap().pop().unwrap();
    let [_edu, nvme] = &cards[..] else { unreachable!() };
    nvme.set_bus_master(true).unwrap();
    // The sizes of queue entries in the controller's configuration, while it is not enabled.
    nvme.write_register(0, 0x14, 4 << 20 | 6 << 16).unwrap();
    assert_ne!(nvme.read_register(0, 0x14).unwrap(), 0);
    nvme.reset().unwrap();
    assert_eq!(nvme.read_register(0, 0x14).unwrap(), 0);
    assert!(nvme.bus_master().unwrap());
}
