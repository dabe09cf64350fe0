//! Messages byte by byte, as the tables of the specification lay them out.

#![cfg(target_endian = "little")]
#![expect(clippy::unwrap_used, reason = "helpers of tests fail the test")]

use jitney_vfio_user::{
    Capabilities, Command, DecodeError, DeviceFlags, DeviceInfo, DmaAccess, DmaMap, DmaMapFlags, DmaRequest,
    DmaUnmap, Frames, Header, IrqAction, IrqData, IrqFlags, IrqInfo, MAX_DATA_XFER_SIZE, MmapArea,
    RegionAccess, RegionFlags, RegionInfo, RegionInfoReply, RegionQuery, ReplyError, Request, SetIrqs,
    Version, errno, reply,
};

/// Bytes written as hexadecimal digits, with blanks where the reader needs them.
fn hex(digits: &str) -> Vec<u8> {
    let digits: Vec<u8> = digits.bytes().filter(u8::is_ascii_hexdigit).collect();
    let byte = |pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap();
    digits.chunks(2).map(byte).collect()
}

fn request(request: Request<'_>) -> Vec<u8> {
    let mut out = Vec::new();
    request.encode(0x1234, &mut out);
    out
}

/// The header of a command that is to be answered.
fn asked(command: Command) -> Header {
    let mut out = Vec::new();
    Request::DeviceReset.encode(0x1234, &mut out);
    Header { command: command.number(), ..Header::decode(out.first_chunk().unwrap()) }
}

fn replied(build: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let mut out = Vec::new();
    build(&mut out);
    out
}

fn set_irqs(digits: &str) -> Result<SetIrqs<'static>, DecodeError> {
    let body = Vec::leak(hex(digits));
    match Request::decode(Command::DeviceSetIrqs.number(), body)? {
        Request::SetIrqs(set) => Ok(set),
        other => panic!("{other:?}"),
    }
}

#[test]
fn header_of_a_command_and_of_its_replies() {
    let bytes = request(Request::DeviceReset);
    assert_eq!(bytes, hex("3412 0d00 10000000 00000000 00000000"));
    let header = Header::decode(bytes.first_chunk().unwrap());
    assert!(header.is_command() && header.wants_reply() && !header.is_reply());

    assert_eq!(replied(|out| reply::done(&header, out)), hex("3412 0d00 10000000 01000000 00000000"));
    let refusal = replied(|out| reply::error(&header, errno::EINVAL, out));
    assert_eq!(refusal, hex("3412 0d00 10000000 21000000 16000000"));

    let refusal = Header::decode(refusal.first_chunk().unwrap());
    assert_eq!(
        refusal.check_reply(0x1234, Command::DeviceReset),
        Err(ReplyError::Refused { command: Command::DeviceReset, errno: 22 })
    );
    assert!(matches!(refusal.check_reply(1, Command::DeviceReset), Err(ReplyError::Mismatch { .. })));
    assert!(matches!(refusal.check_reply(0x1234, Command::DmaMap), Err(ReplyError::Mismatch { .. })));
    assert!(matches!(header.check_reply(0x1234, Command::DeviceReset), Err(ReplyError::NotAReply { .. })));
}

#[test]
fn a_posted_write_wants_no_reply() {
    let mut out = Vec::new();
    Request::RegionWrite { region: 2, offset: 0x10, data: &[0xaa, 0xbb] }.encode_posted(7, &mut out);
    assert_eq!(out, hex("0700 0a00 22000000 10000000 00000000  1000000000000000 02000000 02000000 aabb"));
    assert!(!Header::decode(out.first_chunk().unwrap()).wants_reply());
}

#[test]
fn version() {
    let ours = Version { major: 0, minor: 1, capabilities: Capabilities::ours() };
    let json = br#"{"capabilities":{"max_msg_fds":16,"max_data_xfer_size":1048576,"max_dma_maps":65535,"pgsizes":4096}}"#;
    let bytes = request(Request::Version(ours));
    assert_eq!(bytes[..20], hex("3412 0100 79000000 00000000 00000000  0000 0100"));
    assert_eq!(bytes[20..bytes.len() - 1], json[..]);
    assert_eq!(bytes.last(), Some(&0));
    assert_eq!(bytes.len(), 0x79);
}

#[test]
fn what_qemu_proposes_and_is_answered() {
    let mut body = hex("0000 0000");
    body.extend_from_slice(
        br#"{"capabilities": {"migration": {"max_bitmap_size": 268435456, "pgsize": 4096}, "write_multiple": true,
            "max_dma_maps": 65535, "max_msg_fds": 16, "max_data_xfer_size": 1048576, "pgsizes": 4096}}"#,
    );
    body.push(0);
    let proposed = Version::decode(&body).unwrap();
    assert_eq!((proposed.major, proposed.minor), (0, 0));
    assert_eq!(proposed.capabilities, Capabilities { write_multiple: true, ..Capabilities::ours() });

    let answer = Version::ours().answer(&proposed).unwrap();
    assert_eq!(answer, Version { major: 0, minor: 0, capabilities: Capabilities::ours() });
    assert_eq!(proposed.accept(&answer), Ok(()));
    assert!(proposed.accept(&Version::ours()).is_err(), "0.1 is higher than the 0.0 that was proposed");
    assert!(Version::ours().answer(&Version { major: 1, ..proposed }).is_err());
}

#[test]
fn capabilities_may_be_missing_or_strange() {
    for rest in ["", "00", "7b7d 00"] {
        let version = Version::decode(&hex(&format!("0000 0200 {rest}"))).unwrap();
        assert_eq!((version.minor, version.capabilities), (2, Capabilities::default()), "{rest:?}");
    }
    let with = |json: &str| Version::decode(&[&[0; 4], json.as_bytes(), &[0]].concat());
    let huge = with(r#"{"capabilities":{"max_dma_maps":18446744073709551615}}"#).unwrap();
    assert_eq!(huge.capabilities.max_dma_maps, u32::MAX);
    let twin = with(r#"{"capabilities":{"twin_socket":{"supported":true,"fd_index":3}},"x":[1]}"#).unwrap();
    assert_eq!(twin.capabilities.twin_socket.and_then(|twin| twin.fd_index), Some(3));
    assert_eq!(Version::ours().answer(&twin).unwrap().capabilities.twin_socket, None);

    assert_eq!(Version::decode(&hex("0000 0200 7b7d")).unwrap_err().errno(), errno::EINVAL, "no NUL");
    for json in [
        "{",
        "7",
        "[]",
        r#"{"capabilities":[]}"#,
        r#"{"capabilities":[16]}"#,
        r#"{"capabilities":{"twin_socket":[true]}}"#,
        r#"{"capabilities":{"max_msg_fds":-1}}"#,
        r#"{"capabilities":{"pgsizes":"4k"}}"#,
    ] {
        let error = with(json).unwrap_err();
        assert!(matches!(error, DecodeError::Capabilities { .. }), "{json}: {error}");
        assert_eq!(error.errno(), errno::EINVAL);
    }
    assert!(with(&"[".repeat(1 << 16)).is_err(), "deep nesting must not exhaust the stack");
    assert_eq!(
        Version::decode(&[0; 3]),
        Err(DecodeError::Short { command: Command::Version, field: "minor", needed: 4, length: 3 })
    );
}

#[test]
fn dma_map_and_unmap() {
    let flags = DmaMapFlags::new().with_read(true).with_write(true);
    let map = DmaMap { flags, offset: 0x1000, address: 0x8000_0000, size: 0x2000 };
    assert_eq!(
        request(Request::DmaMap(map)),
        hex("3412 0200 30000000 00000000 00000000
             20000000 03000000 0010000000000000 0000008000000000 0020000000000000")
    );
    let unmap = DmaUnmap::range(0x8000_0000, 0x2000);
    let body = "18000000 00000000 0000008000000000 0020000000000000";
    assert_eq!(
        request(Request::DmaUnmap(unmap)),
        hex(&format!("3412 0300 28000000 00000000 00000000 {body}"))
    );
    assert_eq!(
        replied(|out| reply::dma_unmapped(&asked(Command::DmaUnmap), &unmap, out)),
        hex(&format!("3412 0300 28000000 01000000 00000000 {body}"))
    );
}

#[test]
fn ranges_may_end_at_the_top_and_not_beyond() {
    let top = DmaUnmap::range(1 << 63, 1 << 63);
    assert_eq!(top.end(), 1 << 64);
    let decode = |digits: &str| Request::decode(Command::DmaUnmap.number(), &hex(digits)).map(|_| ());
    assert_eq!(decode("18000000 00000000 0000000000000080 0000000000000080"), Ok(()));
    assert!(decode("18000000 00000000 0100000000000080 0000000000000080").is_err());
    assert_eq!(decode("18000000 02000000 0000000000000000 0000000000000000"), Ok(()));
    let bitmap = decode("18000000 01000000 0000000000000000 0010000000000000").unwrap_err();
    assert_eq!(bitmap.errno(), errno::ENOTSUP);
    assert!(decode("17000000 00000000 0000000000000000 0010000000000000").is_err(), "argsz");

    let map = |digits: &str| Request::decode(Command::DmaMap.number(), &hex(digits)).map(|_| ());
    let rest = "0000000000000000 00f0ffffffffffff";
    assert_eq!(map(&format!("20000000 01000000 {rest} 0010000000000000")), Ok(()));
    assert!(map(&format!("20000000 01000000 {rest} 0110000000000000")).is_err(), "ends beyond 2^64");
    assert!(map(&format!("20000000 01000000 {rest} 0000000000000000")).is_err(), "empty");
    assert!(map(&format!("20000000 04000000 {rest} 0010000000000000")).is_err(), "unknown flag");
}

#[test]
fn device_info() {
    assert_eq!(
        request(Request::DeviceInfo),
        hex("3412 0400 20000000 00000000 00000000  10000000 00000000 00000000 00000000")
    );
    let flags = DeviceFlags::new().with_reset(true).with_pci(true);
    let info = DeviceInfo { flags, num_regions: 9, num_irqs: 5 };
    let bytes = replied(|out| reply::device_info(&asked(Command::DeviceGetInfo), &info, out));
    assert_eq!(bytes, hex("3412 0400 20000000 01000000 00000000  10000000 03000000 09000000 05000000"));
    assert_eq!(DeviceInfo::decode(&bytes[16..]), Ok(info));
}

#[test]
fn region_info() {
    let query = RegionQuery { index: 2, argsz: 96 };
    assert_eq!(
        request(Request::RegionInfo(query)),
        hex("3412 0500 30000000 00000000 00000000
             60000000 00000000 02000000 00000000 0000000000000000 0000000000000000")
    );
    let flags = RegionFlags::new().with_read(true).with_write(true).with_mmap(true);
    let areas = vec![MmapArea { offset: 0, size: 0x1000 }, MmapArea { offset: 0x3000, size: 0x2000 }];
    let info = RegionInfo { index: 2, flags, size: 0x1_0000, offset: 0x4000, sparse: Some(areas) };
    let to = asked(Command::DeviceGetRegionInfo);
    let bytes = replied(|out| reply::region_info(&to, &query, &info, out));
    assert_eq!(
        bytes,
        hex("3412 0500 60000000 01000000 00000000
             50000000 0f000000 02000000 20000000 0000010000000000 0040000000000000
             0100 0100 00000000 02000000 00000000
             0000000000000000 0010000000000000 0030000000000000 0020000000000000")
    );
    let decoded = RegionInfo { flags: flags.with_caps(true), ..info.clone() };
    assert_eq!(query.info(&bytes[16..]), Ok(RegionInfoReply::Complete(decoded.clone())));

    // Without room for the areas, the reply says how much is needed, and QEMU's check of cap_offset passes.
    let small = RegionQuery { index: 2, argsz: 32 };
    let bytes = replied(|out| reply::region_info(&to, &small, &info, out));
    assert_eq!(bytes.len(), 16 + 32);
    assert_eq!(bytes[16..32], hex("50000000 0f000000 02000000 20000000"));
    assert_eq!(small.info(&bytes[16..]), Ok(RegionInfoReply::NeedsArgsz(0x50)));
    let exact = RegionQuery { index: 2, argsz: 0x50 };
    let bytes = replied(|out| reply::region_info(&to, &exact, &info, out));
    assert_eq!(exact.info(&bytes[16..]), Ok(RegionInfoReply::Complete(decoded)));

    // Without areas nothing follows the fixed part.
    let plain = RegionInfo { sparse: None, ..info };
    let bytes = replied(|out| reply::region_info(&to, &query, &plain, out));
    assert_eq!(bytes[16..32], hex("20000000 07000000 02000000 00000000"));
    assert_eq!(query.info(&bytes[16..]), Ok(RegionInfoReply::Complete(plain)));
    assert!(RegionQuery::new(3).info(&bytes[16..]).is_err(), "about another region");
}

/// The body of a region info reply about region 0, of 0x10000 bytes, with this list of capabilities.
fn capabilities(cap_offset: &str, list: &str) -> Result<Option<Vec<MmapArea>>, DecodeError> {
    let list = hex(list);
    let mut body = u32::try_from(32 + list.len()).unwrap().to_le_bytes().to_vec();
    body.extend(hex(&format!("0f000000 00000000 {cap_offset} 0000010000000000 0000000000000000")));
    body.extend(list);
    match RegionQuery::new(0).info(&body)? {
        RegionInfoReply::Complete(info) => Ok(info.sparse),
        RegionInfoReply::NeedsArgsz(argsz) => panic!("{argsz}"),
    }
}

#[test]
fn capabilities_of_hostile_servers() {
    assert_eq!(capabilities("00000000", ""), Ok(None));
    // A capability of another kind (TYPE, 16 bytes) comes first.
    let sparse = "0100 0100 00000000 01000000 00000000 0010000000000000 0010000000000000";
    let type_first = format!("0200 0100 30000000 00000000 00000000 {sparse}");
    let area = MmapArea { offset: 0x1000, size: 0x1000 };
    assert_eq!(capabilities("20000000", &type_first), Ok(Some(vec![area])));
    // The sparse one in a version nobody knows is passed over.
    assert_eq!(capabilities("20000000", "0100 0200 00000000"), Ok(None));

    for (cap_offset, list, why) in [
        ("1f000000", sparse, "inside the fixed part"),
        ("ffffffff", sparse, "far outside"),
        ("40000000", sparse, "cut off by the end"),
        ("20000000", "0200 0100 20000000", "points to itself"),
        ("20000000", "0200 0100 28000000 0200 0100 20000000", "two that point at each other"),
        ("20000000", "0100 0100 00000000 ffffffff 00000000", "4 G areas"),
        (
            "20000000",
            "0100 0100 00000000 01000000 00000000 00f0000000000000 0120000000000000",
            "beyond the region",
        ),
        ("20000000", "0100 0100 00000000 01000000 00000000 ffffffffffffffff ffffffffffffffff", "overflow"),
    ] {
        assert!(capabilities(cap_offset, list).is_err(), "{why}");
    }
    // An argsz that claims more than came, although the query had room for it.
    let body = hex("40000000 07000000 00000000 00000000 0000010000000000 0000000000000000");
    assert!(RegionQuery::new(0).info(&body).is_err());
}

#[test]
fn irq_info() {
    assert_eq!(
        request(Request::IrqInfo { index: 2 }),
        hex("3412 0700 20000000 00000000 00000000  10000000 00000000 02000000 00000000")
    );
    let info = IrqInfo { index: 2, flags: IrqFlags::new().with_eventfd(true).with_noresize(true), count: 32 };
    let bytes = replied(|out| reply::irq_info(&asked(Command::DeviceGetIrqInfo), &info, out));
    assert_eq!(bytes, hex("3412 0700 20000000 01000000 00000000  10000000 09000000 02000000 20000000"));
    assert_eq!(IrqInfo::decode(2, &bytes[16..]), Ok(info));
    assert!(IrqInfo::decode(1, &bytes[16..]).is_err(), "about another type");
}

#[test]
fn set_irqs_messages() {
    let arm = SetIrqs { index: 2, start: 1, count: 3, action: IrqAction::Trigger, data: IrqData::Eventfds };
    assert_eq!(
        request(Request::SetIrqs(arm)),
        hex("3412 0800 24000000 00000000 00000000  14000000 24000000 02000000 01000000 03000000")
    );
    let mask =
        SetIrqs { index: 0, start: 0, count: 2, action: IrqAction::Mask, data: IrqData::Bools(&[1, 0]) };
    assert_eq!(
        request(Request::SetIrqs(mask)),
        hex("3412 0800 26000000 00000000 00000000  16000000 0a000000 00000000 00000000 02000000 0100")
    );
    let off = set_irqs("14000000 21000000 01000000 00000000 00000000").unwrap();
    assert!(off.disables_all());
    assert!(!arm.disables_all());
}

#[test]
fn set_irqs_that_make_no_sense() {
    for (body, why) in [
        ("14000000 20000000 00000000 00000000 01000000", "no kind of data"),
        ("14000000 23000000 00000000 00000000 01000000", "two kinds of data"),
        ("14000000 01000000 00000000 00000000 01000000", "no action"),
        ("14000000 31000000 00000000 00000000 01000000", "two actions"),
        ("14000000 61000000 00000000 00000000 01000000", "an unknown flag"),
        ("14000000 21000000 00000000 ffffffff 01000000", "start and count overflow"),
        ("14000000 22000000 00000000 00000000 02000000 01", "fewer bytes than the count"),
        ("14000000 22000000 00000000 00000000 ffffffff 01", "4 G bytes"),
        ("14000000 21000000 00000000 00000000 010000", "cut off"),
        ("13000000 21000000 00000000 00000000 01000000", "argsz"),
    ] {
        assert_eq!(set_irqs(body).unwrap_err().errno(), errno::EINVAL, "{why}");
    }
}

#[test]
fn region_access() {
    let access = RegionAccess { region: 1, offset: 0x44, count: 4 };
    assert_eq!(
        request(Request::RegionRead(access)),
        hex("3412 0900 20000000 00000000 00000000  4400000000000000 01000000 04000000")
    );
    let read = replied(|out| {
        reply::region_read(&asked(Command::RegionRead), access, out).copy_from_slice(&[1, 2, 3, 4]);
    });
    assert_eq!(
        read,
        hex("3412 0900 24000000 01000000 00000000  4400000000000000 01000000 04000000 01020304")
    );
    assert_eq!(access.data(&read[16..]), Ok(&[1, 2, 3, 4][..]));
    assert!(access.data(&read[16..35]).is_err(), "a byte is missing");
    assert!(RegionAccess { count: 3, ..access }.data(&read[16..]).is_err(), "more than asked for");
    assert!(RegionAccess { offset: 0x40, ..access }.data(&read[16..]).is_err(), "from elsewhere");
    assert!(RegionAccess { region: 0, ..access }.data(&read[16..]).is_err(), "of another region");

    let written = replied(|out| reply::region_written(&asked(Command::RegionWrite), access, out));
    assert_eq!(written, hex("3412 0a00 20000000 01000000 00000000  4400000000000000 01000000 04000000"));
    assert_eq!(access.written(&written[16..]), Ok(4));
}

#[test]
fn region_access_of_hostile_clients() {
    let decode = |command: Command, digits: &str| {
        Request::decode(command.number(), &hex(digits)).map(|_| ()).map_err(|error| error.errno())
    };
    let limit = MAX_DATA_XFER_SIZE.to_be(); // swapped, so that {:08x} prints it as it travels
    assert_eq!(decode(Command::RegionRead, &format!("0000000000000000 00000000 {limit:08x}")), Ok(()));
    assert_eq!(decode(Command::RegionRead, "0000000000000000 00000000 01001000"), Err(errno::E2BIG));
    assert_eq!(decode(Command::RegionRead, "0000000000000000 00000000 ffffffff"), Err(errno::E2BIG));
    assert_eq!(decode(Command::RegionRead, "ffffffffffffffff 00000000 02000000"), Err(errno::EINVAL));
    assert_eq!(decode(Command::RegionWrite, "0000000000000000 00000000 04000000 010203"), Err(errno::EINVAL));
    assert_eq!(decode(Command::RegionWrite, "0000000000000000 00000000 02000000 010203"), Err(errno::EINVAL));
    assert_eq!(decode(Command::RegionWrite, "0000000000000000 00000000"), Err(errno::EINVAL));
}

#[test]
fn dma_messages() {
    let access = DmaAccess { address: 0x1000, count: 2 };
    let mut out = Vec::new();
    DmaRequest::Read(access).encode(1, &mut out);
    assert_eq!(out, hex("0100 0b00 20000000 00000000 00000000  0010000000000000 0200000000000000"));
    out.clear();
    DmaRequest::Write { address: 0x1000, data: &[5, 6] }.encode(1, &mut out);
    assert_eq!(out, hex("0100 0c00 22000000 00000000 00000000  0010000000000000 0200000000000000 0506"));

    let read = replied(|out| {
        reply::dma_read(&asked(Command::DmaRead), access, out).copy_from_slice(&[7, 8]);
    });
    assert_eq!(read, hex("3412 0b00 22000000 01000000 00000000  0010000000000000 0200000000000000 0708"));
    assert_eq!(access.data(&read[16..]), Ok(&[7, 8][..]));
    let written = replied(|out| reply::dma_written(&asked(Command::DmaWrite), access, out));
    assert_eq!(written, hex("3412 0c00 20000000 01000000 00000000  0010000000000000 0200000000000000"));
    assert_eq!(access.written(&written[16..]), Ok(2));
    assert_eq!(access.written(&hex("0010000000000000 02000000")), Ok(2), "the specification's 4-byte count");
    assert!(access.written(&hex("0010000000000000 03000000")).is_err());

    let body = hex("0010000000000000 0000000001000000");
    let huge = DmaRequest::decode(Command::DmaRead.number(), &body);
    assert_eq!(huge.unwrap_err().errno(), errno::E2BIG);
}

#[test]
fn each_side_refuses_the_commands_of_the_other_and_the_unknown() {
    for command in Command::ALL {
        assert_eq!(Command::from_number(command.number()), Some(*command));
        let refused = |result: Result<(), DecodeError>| matches!(result, Err(DecodeError::UnsupportedCommand { command: named }) if named == *command);
        let for_server = !refused(Request::decode(command.number(), &[]).map(|_| ()));
        let for_client = !refused(DmaRequest::decode(command.number(), &[]).map(|_| ()));
        assert!(!(for_server && for_client), "{command} is for both sides");
        assert_eq!(for_server, matches!(command.number(), 1..=10 | 13), "{command}");
        assert_eq!(for_client, matches!(command.number(), 11..=12), "{command}");
    }
    for number in [0, 19, u16::MAX] {
        let error = Request::decode(number, &[]).unwrap_err();
        assert_eq!(error, DecodeError::UnknownCommand { number });
        assert_eq!(error.errno(), errno::ENOTSUP);
    }
}

#[test]
fn an_unmap_says_all_or_a_range_and_has_room_for_its_reply() {
    let body = |argsz: u32, flags: u32, address: u64, size: u64| {
        [&argsz.to_ne_bytes()[..], &flags.to_ne_bytes(), &address.to_ne_bytes(), &size.to_ne_bytes()].concat()
    };
    DmaUnmap::decode(&body(24, 2, 0, 0)).unwrap();
    DmaUnmap::decode(&body(1 << 20, 0, 0x1000, 0x1000)).unwrap();
    for wrong in [
        body(24, 2, 0x1000, 0),
        body(24, 2, 0, 0x1000),
        body(23, 0, 0x1000, 0x1000),
        body((1 << 20) + 8, 0, 0x1000, 0x1000),
        body(u32::MAX, 2, 0, 0),
    ] {
        assert_eq!(DmaUnmap::decode(&wrong).unwrap_err().errno(), errno::EINVAL, "{wrong:?}");
    }
}

#[test]
fn errors_name_the_command_and_the_field() {
    let body = hex("0000000000000000 00000000 04000000 010203");
    let error = Request::decode(Command::RegionWrite.number(), &body).unwrap_err();
    assert_eq!(error.to_string(), "REGION_WRITE: `count` is 0x4: not the length of the data that follows");
    let error = Request::decode(Command::DmaMap.number(), &[0x20, 0, 0, 0]).unwrap_err();
    assert_eq!(error.to_string(), "DMA_MAP: the body has 4 bytes, `flags` ends at byte 8");
}

#[test]
fn a_register_read_reuses_its_buffers() {
    let access = RegionAccess { region: 0, offset: 0, count: 4 };
    let (mut out, mut frames) = (Vec::with_capacity(64), Frames::new());
    let room = out.as_ptr();
    for id in 0..1000 {
        out.clear();
        Request::RegionRead(access).encode(id, &mut out);
        frames.push(&out);
        assert_eq!(frames.next_message().unwrap().unwrap().header.id, id);
    }
    assert_eq!(out.as_ptr(), room);
}
