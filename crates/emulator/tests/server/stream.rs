//! Bytes on a stream: versions, split and merged messages, nonsense.

use std::io::Write;
use std::time::Duration;

use jitney_vfio_user::{Capabilities, Header, RegionAccess, Request, Version};

use crate::client::{Client, E2BIG, EINVAL, Fixture, memory};
use crate::toy;

fn raw(client: &mut Client, command: u16, size: u32, flags: u32, body: &[u8]) -> u16 {
    let id = client.next_id();
    let mut message = Vec::new();
    message.extend(id.to_ne_bytes());
    message.extend(command.to_ne_bytes());
    message.extend(size.to_ne_bytes());
    message.extend(flags.to_ne_bytes());
    message.extend(0_u32.to_ne_bytes());
    message.extend(body);
    client.send(&message, &[]);
    id
}

fn version(client: &mut Client, body: &[u8]) -> u16 {
    raw(client, 1, 16 + body.len() as u32, 0, body)
}

/// The connection ends with an error reply to message `id`, and others go on.
fn refused(server: &Fixture, mut client: Client, id: u16, errno: u32) {
    let header = client.reply(id).expect("an answer before the end").header;
    assert!(header.flags.error());
    assert_eq!(header.error, errno);
    assert!(client.receive().is_none());
    assert_eq!(server.open().get(toy::ID), toy::ID_VALUE);
}

#[test]
fn the_lower_version_is_answered_within_qemus_limits() {
    let server = Fixture::new();
    for (asked, answered) in [((0, 0), (0, 0)), ((0, 1), (0, 1)), ((0, 7), (0, 1))] {
        let mut client = server.connect();
        let (major, minor) = asked;
        let capabilities = Capabilities { write_multiple: true, ..Capabilities::default() };
        let reply = client.ask(&Request::Version(Version { major, minor, capabilities })).unwrap();
        assert_eq!(reply.body.last(), Some(&0));
        let version = Version::decode(&reply.body).unwrap();
        assert_eq!((version.major, version.minor), answered);
        assert!(version.capabilities.max_msg_fds <= 16 && version.capabilities.max_dma_maps <= 65535);
        assert!(!version.capabilities.write_multiple && version.capabilities.twin_socket.is_none());
        // QEMU has room for a reply as long as its own message, and that holds about 180 bytes of JSON.
        assert!(reply.body.len() < 150);
    }
}

#[test]
fn capabilities_may_be_missing() {
    let server = Fixture::new();
    for data in [&b""[..], b"\0", b"{}\0", b"{\"capabilities\":{\"of the future\":1}}\0"] {
        let mut client = server.connect();
        let id = version(&mut client, &[&[0; 4], data].concat());
        assert!(!client.reply(id).unwrap().header.flags.error());
        assert_eq!(client.get(toy::ID), toy::ID_VALUE);
    }
}

#[test]
fn a_client_that_cannot_say_hello_is_dropped() {
    let server = Fixture::new();
    for body in [
        &b"\0\0\0\0{\"capabilities\":\0"[..],
        b"\0\0\0\0{\"capabilities\":{\"max_msg_fds\":\"x\"}}\0",
        b"\0\0",
    ] {
        let mut client = server.connect();
        let id = version(&mut client, body);
        refused(&server, client, id, EINVAL);
    }
    // Another major version.
    let mut client = server.connect();
    let id = version(&mut client, &[1, 0, 0, 0]);
    refused(&server, client, id, EINVAL);
    // Anything before the version.
    let mut client = server.connect();
    let id = raw(&mut client, 4, 32, 0, &[16, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    refused(&server, client, id, EINVAL);
    // A second version is refused, no more.
    let mut client = server.open();
    assert_eq!(client.ask(&Request::Version(Version::ours())).err(), Some(EINVAL));
    assert_eq!(client.get(toy::ID), toy::ID_VALUE);
}

#[test]
fn impossible_sizes_end_the_connection() {
    let server = Fixture::new();
    for (size, errno) in [(0, EINVAL), (15, EINVAL), ((1 << 20) + 33, E2BIG), (u32::MAX, E2BIG)] {
        let mut client = server.open();
        let id = raw(&mut client, 9, size, 0, &[]);
        refused(&server, client, id, errno);
    }
}

#[test]
fn messages_of_no_known_type_end_the_connection() {
    let server = Fixture::new();
    let mut client = server.open();
    raw(&mut client, 9, 16, 2, &[]);
    assert!(client.receive().is_none_or(|reply| reply.header.flags.error()));
    // A reply that nobody waits for is passed over, and so is what came with it.
    let mut client = server.open();
    raw(&mut client, 11, 20, 1, &[1, 2, 3, 4]);
    assert_eq!(client.get(toy::ID), toy::ID_VALUE);
}

#[test]
fn garbage_hurts_nobody_else() {
    let server = Fixture::new();
    let mut bystander = server.open();
    let mut seed = 0x2545_F491_4F6C_DD1D_u64;
    for _ in 0..64 {
        let mut client = server.connect();
        let garbage: Vec<u8> = (0..512)
            .map(|_| {
                seed ^= seed << 13;
                seed ^= seed >> 7;
                seed ^= seed << 17;
                seed as u8
            })
            .collect();
        // The server may have hung up already.
        let _gone = client.socket.write_all(&garbage);
    }
    assert_eq!(bystander.get(toy::ID), toy::ID_VALUE);
}

#[test]
fn bodies_that_are_too_short_are_refused_and_the_connection_goes_on() {
    let server = Fixture::new();
    let mut client = server.open();
    for command in 2..=10_u16 {
        if command == 6 {
            continue;
        }
        for length in [0_u32, 3, 7] {
            let id = raw(&mut client, command, 16 + length, 0, &[0xFF; 8][..length as usize]);
            let header = client.reply(id).unwrap().header;
            assert!(header.flags.error() && header.error == EINVAL, "command {command}, {length} bytes");
        }
    }
    assert_eq!(client.get(toy::ID), toy::ID_VALUE);
}

#[test]
fn a_message_may_come_byte_by_byte() {
    let server = Fixture::new();
    let mut client = server.open();
    client.socket.set_nonblocking(false).unwrap();
    let mut message = Vec::new();
    let id = client.next_id();
    Request::RegionRead(RegionAccess { region: 0, offset: toy::ID, count: 4 }).encode(id, &mut message);
    for byte in message {
        client.send(&[byte], &[]);
        std::thread::sleep(Duration::from_micros(200));
    }
    assert_eq!(client.reply(id).unwrap().body[16..], toy::ID_VALUE.to_le_bytes());
}

#[test]
fn many_messages_may_come_at_once_and_descriptors_find_theirs() {
    use std::os::fd::AsFd;
    let server = Fixture::new();
    let mut client = server.open();
    let (file, view) = memory(0x1000);
    view.store32(0, 0xBEEF).unwrap();
    let flags = jitney_vfio_user::DmaMapFlags::new().with_read(true).with_write(true);
    let map = |address| Request::DmaMap(jitney_vfio_user::DmaMap { flags, offset: 0, address, size: 0x1000 });
    let read = Request::RegionRead(RegionAccess { region: 0, offset: toy::ID, count: 4 });

    let mut first = Vec::new();
    read.encode(1, &mut first);
    map(0x10_0000).encode(2, &mut first);
    client.send(&first, &[]);
    let mut second = Vec::new();
    map(0x20_0000).encode(3, &mut second);
    read.encode(4, &mut second);
    map(0x30_0000).encode(5, &mut second);
    client.send(&second, &[file.as_fd()]);
    for id in 1..=5 {
        assert!(!client.reply(id).unwrap().header.flags.error());
    }
    // The descriptor belonged to message 3; what 2 and 5 mapped is reached through the client.
    client.memory = vec![0x55; 0x1000];
    client.memory_at = 0x10_0000;
    assert_eq!(client.dma(toy::FROM_HOST, 0x20_0000, 4), toy::DONE);
    assert_eq!(client.asked, 0);
    assert_eq!(client.dma(toy::FROM_HOST, 0x10_0000, 4), toy::DONE);
    client.memory_at = 0x30_0000;
    assert_eq!(client.dma(toy::TO_HOST, 0x30_0000, 4), toy::DONE);
    assert_eq!(client.asked, 2);
    assert_eq!(client.memory[..5], [0x55; 5]);
}

#[test]
fn more_descriptors_than_a_message_may_have_end_the_connection() {
    use std::os::fd::AsFd;
    let server = Fixture::new();
    let mut client = server.open();
    let (file, _) = memory(0x1000);
    let mut message = Vec::new();
    Request::DeviceReset.encode(1, &mut message);
    client.send(&message, &[file.as_fd(); 17]);
    assert!(client.receive().is_none());
    assert_eq!(server.open().get(toy::ID), toy::ID_VALUE);
    assert_eq!(Header::SIZE, 16);
}
