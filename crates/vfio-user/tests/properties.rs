//! What must hold for every message, every stream and every string of bytes.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail the test")]

use jitney_vfio_user::{
    Capabilities, Command, DeviceFlags, DeviceInfo, DmaAccess, DmaMap, DmaMapFlags, DmaRequest, DmaUnmap,
    FrameError, Frames, Header, HeaderFlags, IrqAction, IrqData, IrqFlags, IrqInfo, MAX_MESSAGE_SIZE,
    MmapArea, RegionAccess, RegionFlags, RegionInfo, RegionInfoReply, RegionQuery, Request, SetIrqs,
    TwinSocket, Version, reply,
};
use proptest::collection::vec;
use proptest::prelude::*;

/// Sends one whole message through [`Frames`] and returns its parts.
fn receive(bytes: &[u8]) -> (Header, Vec<u8>) {
    let mut frames = Frames::new();
    frames.push(bytes);
    let message = frames.next_message().unwrap().expect("a whole message");
    let parts = (message.header, message.body.to_vec());
    assert!(!frames.is_partial(), "bytes are left over");
    parts
}

/// A request arrives as it was sent, posted or not, behind whatever the buffer held before.
fn round_trip(request: Request<'_>) {
    let mut bytes = vec![0xee; 3];
    request.encode(7, &mut bytes);
    let (header, body) = receive(&bytes[3..]);
    assert_eq!((header.id, header.command, header.wants_reply()), (7, request.command().number(), true));
    assert_eq!(Request::decode(header.command, &body).unwrap(), request);

    let mut posted = Vec::new();
    request.encode_posted(7, &mut posted);
    let (header, posted_body) = receive(&posted);
    assert!(!header.wants_reply());
    assert_eq!(posted_body, body);
}

/// The body of a reply to `command`, its header checked.
fn answer(command: Command, build: impl FnOnce(&Header, &mut Vec<u8>)) -> Vec<u8> {
    let asked = Header { id: 9, command: command.number(), size: 16, flags: HeaderFlags::new(), error: 0 };
    let mut bytes = Vec::new();
    build(&asked, &mut bytes);
    let (header, body) = receive(&bytes);
    header.check_reply(9, command).unwrap();
    body
}

/// A start and a length that fit below 2^64 together, or end exactly there.
fn range() -> impl Strategy<Value = (u64, u64)> {
    (any::<u64>(), any::<u64>(), any::<bool>()).prop_map(|(start, size, top)| {
        let start = start.max(1);
        let most = start.wrapping_neg();
        (start, if top { most } else { size % most + 1 })
    })
}

prop_compose! {
    fn version()(
        (major, minor, max_msg_fds, max_data_xfer_size) in any::<(u16, u16, u32, u32)>(),
        (max_dma_maps, pgsizes, write_multiple) in any::<(u32, u64, bool)>(),
        twin in any::<Option<(bool, Option<u32>)>>(),
    ) -> Version {
        let twin_socket = twin.map(|(supported, fd_index)| TwinSocket { supported, fd_index });
        let capabilities = Capabilities {
            max_msg_fds, max_data_xfer_size, max_dma_maps, pgsizes, twin_socket, write_multiple,
        };
        Version { major, minor, capabilities }
    }
}

fn irq_action() -> impl Strategy<Value = IrqAction> {
    prop_oneof![Just(IrqAction::Mask), Just(IrqAction::Unmask), Just(IrqAction::Trigger)]
}

proptest! {
    #[test]
    fn headers(id: u16, command: u16, size: u32, bits: u32, error: u32) {
        let header = Header { id, command, size, flags: HeaderFlags::from_bits(bits), error };
        let mut bytes = Vec::new();
        header.encode(&mut bytes);
        prop_assert_eq!(bytes.len(), Header::SIZE);
        prop_assert_eq!(Header::decode(bytes.first_chunk().unwrap()), header);
    }

    #[test]
    fn versions(version in version()) {
        round_trip(Request::Version(version));
        let body = answer(Command::Version, |to, out| reply::version(to, &version, out));
        prop_assert_eq!(Version::decode(&body).unwrap(), version);
    }

    #[test]
    fn answers_are_acceptable(ours in version(), mut proposed in version()) {
        proposed.major = ours.major;
        let answer = ours.answer(&proposed).unwrap();
        prop_assert_eq!(proposed.accept(&answer), Ok(()));
        prop_assert!(answer.minor <= ours.minor);
    }

    #[test]
    fn maps((address, size) in range(), read: bool, write: bool, offset in 0..1u64 << 62) {
        let flags = DmaMapFlags::new().with_read(read).with_write(write);
        let size = size.min(1 << 63);
        let map = DmaMap { flags, offset, address, size };
        prop_assert!(map.end() <= 1 << 64);
        round_trip(Request::DmaMap(map));
    }

    #[test]
    fn unmaps((address, size) in range(), all: bool) {
        let unmap = if all { DmaUnmap { all, address: 0, size: 0 } } else { DmaUnmap::range(address, size) };
        round_trip(Request::DmaUnmap(unmap));
        let body = answer(Command::DmaUnmap, |to, out| reply::dma_unmapped(to, &unmap, out));
        prop_assert_eq!(DmaUnmap::decode(&body).unwrap(), unmap);
    }

    #[test]
    fn device_infos(bits: u32, num_regions: u32, num_irqs: u32) {
        round_trip(Request::DeviceInfo);
        round_trip(Request::DeviceReset);
        let info = DeviceInfo { flags: DeviceFlags::from_bits(bits), num_regions, num_irqs };
        let body = answer(Command::DeviceGetInfo, |to, out| reply::device_info(to, &info, out));
        prop_assert_eq!(DeviceInfo::decode(&body).unwrap(), info);
    }

    #[test]
    fn region_infos(
        index: u32, bits: u32, size in 1..u64::MAX, offset: u64, argsz in 32..200u32,
        areas in proptest::option::of(vec(any::<(u64, u64)>(), 0..20)),
    ) {
        let sparse: Option<Vec<_>> = areas.map(|areas| {
            let inside = |(start, length)| (start % size, length % (size - start % size));
            areas.into_iter().map(inside).map(|(offset, size)| MmapArea { offset, size }).collect()
        });
        let flags = RegionFlags::from_bits(bits).with_caps(sparse.is_some());
        let info = RegionInfo { index, flags, size, offset, sparse };
        let mut query = RegionQuery { index, argsz };
        round_trip(Request::RegionInfo(query));

        let body = answer(Command::DeviceGetRegionInfo, |to, out| reply::region_info(to, &query, &info, out));
        prop_assert!(body.len() <= argsz as usize);
        let mut got = query.info(&body).unwrap();
        if let RegionInfoReply::NeedsArgsz(needed) = got {
            prop_assert!(needed > argsz);
            query.argsz = needed;
            let body = answer(Command::DeviceGetRegionInfo, |to, out| reply::region_info(to, &query, &info, out));
            got = query.info(&body).unwrap();
        }
        prop_assert_eq!(got, RegionInfoReply::Complete(info));
    }

    #[test]
    fn irq_infos(index: u32, bits: u32, count: u32) {
        round_trip(Request::IrqInfo { index });
        let info = IrqInfo { index, flags: IrqFlags::from_bits(bits), count };
        let body = answer(Command::DeviceGetIrqInfo, |to, out| reply::irq_info(to, &info, out));
        prop_assert_eq!(IrqInfo::decode(index, &body).unwrap(), info);
    }

    #[test]
    fn irq_sets(
        index: u32, start in 0..1u32 << 31, count in 0..1u32 << 31, action in irq_action(), bools: Vec<u8>,
    ) {
        for data in [IrqData::None, IrqData::Eventfds] {
            round_trip(Request::SetIrqs(SetIrqs { index, start, count, action, data }));
        }
        let count = u32::try_from(bools.len()).unwrap();
        round_trip(Request::SetIrqs(SetIrqs { index, start, count, action, data: IrqData::Bools(&bools) }));
    }

    #[test]
    fn region_accesses(region: u32, offset in 0..1u64 << 63, data in vec(any::<u8>(), 0..300)) {
        let access = RegionAccess { region, offset, count: u32::try_from(data.len()).unwrap() };
        round_trip(Request::RegionRead(access));
        round_trip(Request::RegionWrite { region, offset, data: &data });
        let body = answer(Command::RegionRead, |to, out| {
            reply::region_read(to, access, out).copy_from_slice(&data);
        });
        prop_assert_eq!(access.data(&body).unwrap(), &data[..]);
        let body = answer(Command::RegionWrite, |to, out| reply::region_written(to, access, out));
        prop_assert_eq!(access.written(&body).unwrap(), access.count);
    }

    #[test]
    fn dma_accesses(address in 0..1u64 << 63, data in vec(any::<u8>(), 0..300)) {
        let access = DmaAccess { address, count: u32::try_from(data.len()).unwrap() };
        for request in [DmaRequest::Read(access), DmaRequest::Write { address, data: &data }] {
            let mut bytes = Vec::new();
            request.encode(1, &mut bytes);
            let (header, body) = receive(&bytes);
            prop_assert_eq!(DmaRequest::decode(header.command, &body).unwrap(), request);
        }
        let body = answer(Command::DmaRead, |to, out| {
            reply::dma_read(to, access, out).copy_from_slice(&data);
        });
        prop_assert_eq!(access.data(&body).unwrap(), &data[..]);
        let body = answer(Command::DmaWrite, |to, out| reply::dma_written(to, access, out));
        prop_assert_eq!(access.written(&body).unwrap(), access.count);
    }

    /// No bytes make a decoder panic, and what a server takes for a request it can write again.
    #[test]
    fn any_bytes(command in 0..20u16, body in vec(prop_oneof![Just(0), 0..64u8, any::<u8>()], 0..120)) {
        if let Ok(request) = Request::decode(command, &body) {
            round_trip(request);
        }
        let _ = DmaRequest::decode(command, &body);
        let _ = Version::decode(&body);
        let _ = DeviceInfo::decode(&body);
        let _ = DmaUnmap::decode(&body);
        let _ = IrqInfo::decode(0, &body);
        let _ = RegionQuery::new(0).info(&body);
        let access = RegionAccess { region: 0, offset: 0, count: 8 };
        let _ = (access.data(&body), access.written(&body));
        let access = DmaAccess { address: 0, count: 8 };
        let _ = (access.data(&body), access.written(&body));
    }

    /// However a stream is cut into pieces, the same messages come out of it.
    #[test]
    fn streams(
        bodies in vec((any::<u16>(), vec(any::<u8>(), 0..600)), 0..12),
        cuts in vec(1..400usize, 1..20),
        whole: bool,
    ) {
        let mut stream = Vec::new();
        for (id, body) in &bodies {
            Request::RegionWrite { region: 0, offset: 0, data: body }.encode(*id, &mut stream);
        }
        let (mut frames, mut got, mut left) = (Frames::new(), Vec::new(), &stream[..]);
        for cut in cuts.into_iter().cycle() {
            if left.is_empty() {
                break;
            }
            let cut = cut.min(left.len());
            let taken = if whole {
                frames.push(&left[..cut]);
                cut
            } else {
                // As a socket is read: into the space, and never beyond the end of a message.
                let space = frames.space();
                let taken = space.len().min(cut);
                space[..taken].copy_from_slice(&left[..taken]);
                frames.filled(taken);
                taken
            };
            left = &left[taken..];
            while let Some(message) = frames.next_message().unwrap() {
                got.push((message.header.id, message.body[16..].to_vec()));
                prop_assert!(whole || frames.missing() == Header::SIZE, "read beyond a message");
            }
        }
        prop_assert_eq!(got, bodies);
        prop_assert!(!frames.is_partial());
    }
}

#[test]
fn impossible_sizes_are_refused_at_once_and_for_good() {
    for size in [0, 15, MAX_MESSAGE_SIZE + 1, u32::MAX] {
        let header = Header { id: 1, command: 9, size, flags: HeaderFlags::new(), error: 0 };
        let mut bytes = Vec::new();
        header.encode(&mut bytes);
        let mut frames = Frames::new();
        frames.push(&bytes);
        for _ in 0..2 {
            let error = frames.next_message().unwrap_err();
            match size {
                0 | 15 => assert_eq!(error, FrameError::Undersized { id: 1, command: 9, size }),
                _ => assert!(matches!(error, FrameError::Oversized { .. })),
            }
            assert_eq!(frames.missing(), 0);
            assert!(frames.space().is_empty());
        }
    }
}

#[test]
fn an_announced_size_costs_nothing_before_the_bytes_come() {
    let header = Header { id: 1, command: 10, size: MAX_MESSAGE_SIZE, flags: HeaderFlags::new(), error: 0 };
    let mut bytes = Vec::new();
    header.encode(&mut bytes);
    let mut frames = Frames::new();
    frames.push(&bytes);
    assert_eq!(frames.next_message(), Ok(None));
    assert_eq!(frames.missing(), MAX_MESSAGE_SIZE as usize - Header::SIZE);
    assert_eq!(frames.space().len(), 64 << 10);
    frames.filled(usize::MAX);
    assert_eq!(frames.missing(), MAX_MESSAGE_SIZE as usize - Header::SIZE - (64 << 10));

    let mut frames = Frames::with_limit(64);
    frames.push(&bytes);
    assert!(matches!(frames.next_message(), Err(FrameError::Oversized { limit: 64, .. })));
}
