//! Device, regions, configuration space, resets.

use jitney_emulator::InterruptKinds;
use jitney_memory::{Access, Mapping, Memfd};
use jitney_vfio_user::{
    DeviceInfo, IoFdsQuery, IrqInfo, MmapArea, RegionInfo, RegionInfoReply, RegionQuery, Request,
};

use crate::client::{Client, E2BIG, EINVAL, ENOTSUP, Fixture};
use crate::toy;

const CONFIG: u32 = 7;

fn region(client: &mut Client, index: u32) -> (RegionInfo, Vec<std::os::fd::OwnedFd>) {
    let query = RegionQuery::new(index);
    let reply = client.ask(&Request::RegionInfo(query)).unwrap();
    match query.info(&reply.body).unwrap() {
        RegionInfoReply::Complete(info) => (info, reply.descriptors),
        RegionInfoReply::NeedsArgsz(_) => panic!("there was room"),
    }
}

#[test]
fn says_what_it_is() {
    let server = Fixture::new();
    let mut client = server.open();
    let info = DeviceInfo::decode(&client.ask(&Request::DeviceInfo).unwrap().body).unwrap();
    assert_eq!((info.num_regions, info.num_irqs), (9, 5));
    assert!(info.flags.reset() && info.flags.pci());

    let sizes: Vec<u64> = (0..9).map(|index| region(&mut client, index).0.size).collect();
    assert_eq!(sizes, [0x1_0000, 0, 0x4000, 0, 0x1000, 0, 0, 0x1000, 0]);
    assert_eq!(client.ask(&Request::RegionInfo(RegionQuery::new(9))).err(), Some(EINVAL));

    let counts: Vec<u32> = (0..5)
        .map(|index| {
            IrqInfo::decode(index, &client.ask(&Request::IrqInfo { index }).unwrap().body).unwrap().count
        })
        .collect();
    assert_eq!(counts, [0, 0, toy::VECTORS.into(), 0, 0]);
    assert_eq!(client.ask(&Request::IrqInfo { index: 5 }).err(), Some(EINVAL));
}

#[test]
fn memory_of_a_bar_can_be_mapped_as_far_as_there_is_any() {
    let server = Fixture::new();
    let mut client = server.open();
    let (info, mut descriptors) = region(&mut client, 2);
    assert!(info.flags.mmap() && info.flags.caps());
    assert_eq!(info.sparse, Some(vec![MmapArea { offset: 0, size: 0x2000 }]));
    let memory = Memfd::adopt(descriptors.pop().unwrap(), 0x2000).unwrap();
    let view = Mapping::shared(&memory, 0, 0x2000, Access::ReadWrite).unwrap();
    view.store32(0x1FFC, 0x1234_5678).unwrap();
    assert_eq!(client.read(2, 0x1FFC, 4), Ok(0x1234_5678_u32.to_le_bytes().into()));

    // Registers cannot.
    let (info, descriptors) = region(&mut client, 0);
    assert!(!info.flags.mmap() && descriptors.is_empty());

    // Without room for the areas there is no descriptor either, until the client asks again.
    let query = RegionQuery { index: 2, argsz: RegionInfo::FIXED_SIZE };
    let reply = client.ask(&Request::RegionInfo(query)).unwrap();
    assert_eq!(reply.body.len(), 32);
    assert!(reply.descriptors.is_empty());
    assert!(matches!(query.info(&reply.body), Ok(RegionInfoReply::NeedsArgsz(64))));
}

#[test]
fn reads_and_writes_of_any_size_reach_the_registers() {
    let server = Fixture::new();
    let mut client = server.open();
    assert_eq!(client.get(toy::ID), toy::ID_VALUE);
    client.set(toy::SCRATCH, 0x0102_0304);
    assert_eq!(client.read(0, toy::SCRATCH, 2), Ok(vec![4, 3]));
    assert_eq!(client.read(0, toy::SCRATCH, 0), Ok(vec![]));
    // A bus does no accesses of twelve bytes: three words.
    let words = client.read(0, 0, 12).unwrap();
    assert_eq!(words[..8], [0xFE, 0xCA, 0x11, 0x70, 4, 3, 2, 1]);
    assert_eq!(client.read(2, 0, 0x4000).map(|data| data.len()), Ok(0x4000));

    assert_eq!(client.read(0, 0xFFFE, 4), Err(EINVAL));
    assert_eq!(client.read(0, u64::MAX, 1), Err(EINVAL));
    assert_eq!(client.read(3, 0, 4), Err(EINVAL));
    assert_eq!(client.read(6, 0, 1), Err(EINVAL));
    assert_eq!(client.read(100, 0, 1), Err(EINVAL));
    assert_eq!(client.read(0, 0, 2 << 20), Err(E2BIG));
    assert_eq!(client.write(4, 0x1000, &[0]), Err(EINVAL));
    assert_eq!(client.get(toy::ID), toy::ID_VALUE);
}

#[test]
fn the_msix_table_lies_among_the_registers() {
    let server = Fixture::new();
    let mut client = server.open();
    assert_eq!(client.read(0, 0x800C, 4), Ok(vec![1, 0, 0, 0]));
    client.write(0, 0x8000, &[7; 16]).unwrap();
    assert_eq!(client.read(0, 0x8008, 4), Ok(vec![7; 4]));
    client.set(toy::RAISE, 9);
    assert_eq!(client.read(0, 0x8FE0, 8), Ok(vec![0, 2, 0, 0, 0, 0, 0, 0]));
}

#[test]
fn posted_writes_are_never_answered() {
    let server = Fixture::new();
    let mut client = server.open();
    client.post(0, toy::SCRATCH, &[1, 0, 0, 0]);
    // Errors of every sort, and then one more that works: `get` would trip over any reply.
    client.post(0, u64::MAX - 3, &[0; 4]);
    client.post(5, 0, &[0; 4]);
    client.post(99, 0, &[0; 4]);
    client.post(CONFIG, 0x5, &[4]);
    assert_eq!(client.get(toy::SCRATCH), 1);
}

#[test]
fn configuration_space_is_a_region() {
    let server = Fixture::new();
    let mut client = Client::to(&server.path);
    assert_eq!(client.read(CONFIG, 0, 4), Ok(vec![0xEE, 0x10, 0x11, 0x70]));
    client.write(CONFIG, 0x10, &[0xFF; 4]).unwrap();
    assert_eq!(client.read(CONFIG, 0x10, 4), Ok(vec![0, 0, 0xFF, 0xFF]));
    assert_eq!(client.read(CONFIG, 0, 4096).map(|data| data.len()), Ok(4096));
    assert_eq!(client.read(CONFIG, 4093, 4), Err(EINVAL));
    assert_eq!(client.get(toy::BUS_MASTER), 0);
    client.write(CONFIG, 4, &[6, 0]).unwrap();
    assert_eq!(client.get(toy::BUS_MASTER), 1);
}

#[test]
fn a_function_that_is_switched_off_does_not_answer_at_its_bars() {
    let server = Fixture::new();
    let mut client = server.open();
    let config = |client: &mut Client, offset, bytes: &[u8]| client.write(CONFIG, offset, bytes).unwrap();
    assert_eq!(client.get(toy::ID), toy::ID_VALUE);
    // Memory Space off, and D3hot.
    let power = 0x44;
    for (offset, off, on) in [(4, 4, 6), (power, 3, 0)] {
        config(&mut client, offset, &[off]);
        assert_eq!(client.get(toy::ID), u32::MAX);
        config(&mut client, offset, &[on]);
        assert_eq!(client.get(toy::ID), toy::ID_VALUE);
    }
    config(&mut client, 4, &[0]);
    assert_eq!(client.get(toy::ID), u32::MAX);
    client.ask(&Request::DeviceReset).unwrap();
    assert_eq!(client.get(toy::ID), toy::ID_VALUE, "a reset restores it, as the kernel does");
}

#[test]
fn both_resets_reset() {
    let server = Fixture::new();
    let mut client = server.open();
    for (resets, by_config) in [(1, false), (2, true)] {
        client.write(CONFIG, 4, &[6, 0]).unwrap();
        client.set(toy::SCRATCH, 5);
        if by_config {
            // Device control, bit 15, as a guest's kernel writes it.
            let at = 0x68;
            let control = client.read(CONFIG, at, 2).unwrap();
            let start = std::time::Instant::now();
            client.write(CONFIG, at, &[control[0], control[1] | 0x80]).unwrap();
            assert!(start.elapsed().as_millis() < 100);
            assert_eq!(client.read(CONFIG, at, 2), Ok(control));
        } else {
            client.ask(&Request::DeviceReset).unwrap();
        }
        assert_eq!(client.get(toy::RESETS), resets);
        assert_eq!(client.get(toy::SCRATCH), 0);
        assert_eq!(client.get(toy::BUS_MASTER), 0);
        assert_eq!(client.read(CONFIG, 4, 2), Ok(vec![2, 0]));
    }
}

#[test]
fn a_link_that_is_down_reads_all_ones() {
    let server = Fixture::new();
    let mut client = server.open();
    client.set(toy::UNPLUG, 1);
    assert_eq!(client.get(toy::ID), u32::MAX);
    assert_eq!(client.read(CONFIG, 0, 4), Ok(vec![0xFF; 4]));
    assert_eq!(client.read(2, 0x10, 8), Ok(vec![0xFF; 8]));
    client.write(CONFIG, 4, &[6, 0]).unwrap();
    client.set(toy::SCRATCH, 1);
}

#[test]
fn each_kind_of_interrupt_is_counted() {
    for (kind, counts) in [
        (InterruptKinds::default(), [0, 0, 0, 0, 0]),
        (InterruptKinds { line: true, ..Default::default() }, [1, 0, 0, 0, 0]),
        // A power of two, as the capability can only say that.
        (InterruptKinds { msi: 18, ..Default::default() }, [0, 32, 0, 0, 0]),
        (toy::MSIX, [0, 0, 18, 0, 0]),
        (InterruptKinds { line: true, msi: 4, ..toy::MSIX }, [1, 4, 18, 0, 0]),
    ] {
        let server = Fixture::with(kind);
        let mut client = server.open();
        let infos = (0..5).map(|index| {
            IrqInfo::decode(index, &client.ask(&Request::IrqInfo { index }).unwrap().body).unwrap()
        });
        let infos: Vec<IrqInfo> = infos.collect();
        assert_eq!(infos.iter().map(|info| info.count).collect::<Vec<_>>(), counts);
        assert!(infos[0].flags.automasked() && infos[0].flags.maskable() && infos[2].flags.eventfd());
    }
}

/// As libvfio-user answers; an error would say that the command is not known.
#[test]
fn no_descriptor_stands_for_a_part_of_a_region() {
    let server = Fixture::new();
    let mut client = server.open();
    for region in 0..9 {
        let reply = client.ask(&Request::RegionIoFds(IoFdsQuery { region })).unwrap();
        assert_eq!(reply.body, [[16, 0, 0, 0], [0; 4], [region as u8, 0, 0, 0], [0; 4]].concat());
        assert!(reply.descriptors.is_empty());
    }
    assert_eq!(client.ask(&Request::RegionIoFds(IoFdsQuery { region: 9 })).err(), Some(EINVAL));
}

#[test]
fn what_is_left_out_is_refused_and_the_connection_goes_on() {
    let server = Fixture::new();
    let mut client = server.open();
    // DMA_READ (the server's own to ask), DIRTY_PAGES, WRITE_MULTI, DEVICE_FEATURE, and no command.
    for command in [11_u16, 14, 15, 16, 0, 4711] {
        let id = client.next_id();
        let mut message = Vec::new();
        message.extend(id.to_ne_bytes());
        message.extend(command.to_ne_bytes());
        message.extend(24_u32.to_ne_bytes());
        message.extend([0; 16]);
        client.send(&message, &[]);
        let reply = client.reply(id).unwrap().header;
        assert!(reply.flags.error());
        assert_eq!((reply.command, reply.error), (command, ENOTSUP));
    }
    assert_eq!(client.get(toy::ID), toy::ID_VALUE);
}
