//! Clients that are killed in the middle of transfers, again and again.

use crate::support::{Ground, eventually};
use rustix::process::Signal;
use std::time::{Duration, SystemTime};

/// Marsaglia's xorshift64: enough to choose moments with.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % limit
    }
}

#[test]
fn nothing_of_a_killed_client_is_left_and_its_channel_is_free_at_once() {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap();
    let seed = std::env::var("JITNEY_TEST_SEED").ok().map(|seed| seed.parse().unwrap());
    let seed = seed.unwrap_or(u64::from(since.subsec_nanos()) | 1);
    println!("the moments are those of JITNEY_TEST_SEED={seed}");
    let mut random = Random(seed);

    let ground = Ground::new();
    let (board, other) = (ground.board("nitefury --memory 64M"), ground.board("tef1001-dma-blkram"));
    let broker = ground.broker(&[&board, &other]);
    let option = broker.option();
    let mut bystander = ground.start(&format!("time blkram --transfers 100000 {option}"));
    bystander.wait_for_line("Testing");
    let bus = jitney::Bus::options().broker(&broker.socket).open().unwrap();
    let only = format!("--only {}", board.address());

    for round in 0..25 {
        let mut victim = ground.start(&format!("test ddr --size 16M --passes 100000 {only} {option}"));
        // Some die while they set up, most in the middle of transfers.
        if round % 5 > 0 {
            victim.wait_for_line("pass 1 of");
        }
        std::thread::sleep(Duration::from_micros(random.below(60_000)));
        victim.signal(Signal::KILL);
        let pid = victim.pid().cast_unsigned();
        victim.wait().dies_of(Signal::KILL);
        // At once: the very next program gets the channel, and its transfers are right.
        ground.run(&format!("test ddr --size 256K --passes 2 {only} {option}")).exits(0);
        let usage = bus.usage().unwrap();
        assert!(usage.iter().all(|client| client.pid != Some(pid)), "round {round}: {usage:?}");
        assert_eq!(usage.len(), 2, "round {round}: this test and the bystander, {usage:?}");
        assert!(bystander.runs(), "round {round}");
    }
    let (own, total) = {
        let usage = bus.usage().unwrap();
        let own = usage.iter().find(|client| client.pid == Some(std::process::id())).unwrap().buffers;
        (own, usage.iter().map(|client| client.buffers).sum::<u32>())
    };
    assert_eq!((own, total), (0, 4), "the bystander has two buffers and two rings");
    assert!(board.buffers() > 0, "every card of the space sees the bystander's buffers");
    bystander.signal(Signal::KILL);
    bystander.wait();
    for board in [&board, &other] {
        eventually("buffers are left", || match board.buffers() {
            0 => Ok(()),
            left => Err(left.to_string()),
        });
    }
    let broker_memory = crate::support::descriptors(broker.process.pid());
    let left: Vec<_> = broker_memory.iter().filter(|(_, target)| target.contains("memfd:")).collect();
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn a_client_that_is_killed_while_it_waits_for_much_memory_leaves_none_of_it() {
    let ground = Ground::new();
    let board = ground.board("nitefury");
    let broker = ground.broker(&[&board]);
    let bus = jitney::Bus::options().broker(&broker.socket).open().unwrap();
    for delay in [0, 2, 5, 9, 14] {
        let victim = ground.start(&format!("test ddr --size 16M --passes 1 {}", broker.option()));
        std::thread::sleep(Duration::from_millis(delay));
        victim.signal(Signal::KILL);
        victim.wait();
    }
    eventually("clients are left", || match bus.usage().unwrap().len() {
        1 => Ok(()),
        left => Err(left.to_string()),
    });
    assert_eq!(board.buffers(), 0);
    // Nothing of it counts against who is still there.
    let much = jitney::vfio::DmaRequest::new(3 << 30).below(u32::MAX.into());
    drop(bus.dma_buffer(much).unwrap());
}
