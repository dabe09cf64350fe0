//! A broker that has less of something than its clients ask for: who asked hears it, and the rest go on.

use crate::support::{Board, Broker, Ground, Process, in_shell};
use jitney::Bus;
use jitney::vfio::{DmaRequest, LeaseRequest, Will, WillStep};
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, connect, socket_with};
use rustix::process::{Pid, Resource, Rlimit, prlimit};
use std::os::fd::OwnedFd;
use std::time::Duration;

/// A broker of an emulated board, started by a shell after `limit`.
fn limited(ground: &Ground, limit: &str) -> (Board, Broker) {
    limited_with(ground, limit, "")
}

fn limited_with(ground: &Ground, limit: &str, options: &str) -> (Board, Broker) {
    let board = ground.board("nitefury --memory 64M");
    let socket = ground.path("broker.sock");
    let line = format!("broker --card {} --socket {} {options}", board.address(), socket.display());
    let command = ground.jitney(line.split_whitespace());
    let mut process = Process::start(in_shell(&command, &format!("{limit}; exec \"$@\"")));
    process.wait_for_line("listening at ");
    (board, Broker { process, socket })
}

/// The kernel does not refuse a longer file but kills who makes one, with SIGXFSZ.
#[test]
fn a_limit_on_files_ends_no_broker() {
    let ground = Ground::new();
    // In blocks of 512 bytes.
    let (_board, broker) = limited(&ground, "ulimit -f 2048");
    let bus = Bus::options().broker(&broker.socket).open().unwrap();
    let small = bus.dma_buffer(DmaRequest::new(1 << 20)).unwrap();
    let error = bus.dma_buffer(DmaRequest::new(2 << 20)).unwrap_err().to_string();
    assert!(error.contains("EFBIG") && error.contains("ulimit -f"), "{error}");
    drop(small);
    ground.run(&format!("test ddr --size 256K --passes 1 {}", broker.option())).exits(0);
}

/// Bytes of address space of a process.
fn address_space(pid: i32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmSize:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() << 10
}

/// An allocation that fails would end it.
#[test]
fn a_broker_without_memory_takes_nothing_on_and_goes_on() {
    let ground = Ground::new();
    let (_board, broker) = limited(&ground, "ulimit -v 4000000");
    let open = || Bus::options().broker(&broker.socket).open();
    let bystander = open().unwrap();
    let kept = bystander.card("*").unwrap();
    let buffer = kept.dma_buffer(DmaRequest::new(4096)).unwrap();
    let pid = broker.process.pid();
    let limit = Rlimit { current: Some(address_space(pid) + (5 << 20)), maximum: Some(4_000_000 << 10) };
    prlimit(Pid::from_raw(pid), Resource::As, limit).unwrap();

    let step = WillStep::write(0, 0, 0);
    let will = Will(vec![step; Will::MAX_STEPS]);
    let mut programs = Vec::new();
    let mut program = |number: u32| -> jitney::vfio::Result<()> {
        let bus = open()?;
        let card = bus.card("*")?;
        let mut leases = Vec::new();
        let outcome = (0..50).try_for_each(|part| {
            let part = format!("part-{number}-{part}").parse().unwrap();
            leases.push(card.lease(LeaseRequest { will: will.clone(), ..LeaseRequest::exclusive(part) })?);
            Ok(())
        });
        programs.push((leases, card, bus));
        outcome
    };
    let refused = (0..80).find_map(|number| program(number).err());
    let error = refused.expect("what it may have was enough for all").to_string();
    assert!(error.contains("ENOMEM") && error.contains("ulimit -v"), "{error}");

    // Who has something has it, and gives it back.
    buffer.write(0, &[1; 16]).unwrap();
    drop((buffer, programs));
    ground.run(&format!("test ddr --size 256K --passes 1 {}", broker.option())).exits(0);
}

/// How long a process has run.
fn processor_time(pid: i32) -> Duration {
    let threads = std::fs::read_dir(format!("/proc/{pid}/task")).unwrap().filter_map(|thread| {
        let schedule = std::fs::read_to_string(thread.ok()?.path().join("schedstat")).ok()?;
        schedule.split(' ').next()?.parse::<u64>().ok()
    });
    Duration::from_nanos(threads.sum())
}

/// Who waits outside is heard again and again.
#[test]
fn a_broker_without_descriptors_does_not_spin_and_lets_people_in_when_it_has_some() {
    for options in ["", "--exit-when-idle 30s", "--on-demand --exit-when-idle 30s"] {
        let ground = Ground::new();
        let (_board, broker) = limited_with(&ground, "ulimit -n 24", options);
        let idle: Vec<_> = (0..30).filter_map(|_| idle_connection(&broker)).collect();
        std::thread::sleep(Duration::from_millis(300));
        let before = processor_time(broker.process.pid());
        std::thread::sleep(Duration::from_secs(1));
        let spent = processor_time(broker.process.pid()) - before;
        assert!(spent < Duration::from_millis(300), "{options}: {spent:?} of a second");
        drop(idle);
        ground.run(&format!("test ddr --size 256K --passes 1 {}", broker.option())).exits(0);
    }
}

fn idle_connection(broker: &Broker) -> Option<OwnedFd> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None).ok()?;
    connect(&socket, &SocketAddrUnix::new(&broker.socket).ok()?).ok()?;
    Some(socket)
}
