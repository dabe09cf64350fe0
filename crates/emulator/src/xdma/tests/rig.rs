//! A core and its host, used as a driver does by registers.

use super::super::{Interface, Xdma, XdmaConfig};
pub(super) use super::fake_host::*;
use crate::axi::{AxiTarget, CardMemory, Peripheral};
use crate::fault::Faults;
use crate::stream::{StreamSink, StreamSource};
use jitney_registers::Register;
use jitney_xdma_spec::{
    Alignments, ChannelControl, ChannelStatus, Descriptor, DescriptorControl, Direction, block, channel,
    sgdma,
};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Card memory: no power of two.
pub(super) const CARD: u64 = 0x12_8000;

/// A core and its host.
pub(super) struct Rig {
    pub(super) core: Xdma,
    pub(super) host: Arc<FakeHost>,
    pub(super) faults: Arc<Faults>,
}

fn memory() -> Arc<dyn AxiTarget> {
    Arc::new(CardMemory::new(CARD).unwrap())
}

pub(super) const H2C0: Channel = Channel(Direction::HostToCard, 0);
pub(super) const C2H0: Channel = Channel(Direction::CardToHost, 0);

/// A channel by direction and number.
#[derive(Clone, Copy)]
pub(super) struct Channel(pub(super) Direction, pub(super) u8);

impl Rig {
    /// One channel each way, MSI-X.
    pub(super) fn new() -> Self {
        Self::with(|_| {})
    }

    pub(super) fn with(change: impl FnOnce(&mut XdmaConfig)) -> Self {
        Self::build(Interface::MemoryMapped { h2c: 1, c2h: 1, target: memory() }, change)
    }

    /// A core with something else than memory behind its DMA.
    pub(super) fn over(target: Arc<dyn AxiTarget>) -> Self {
        Self::build(Interface::MemoryMapped { h2c: 1, c2h: 1, target }, |_| {})
    }

    /// A core with so many channels over memory.
    pub(super) fn channels(h2c: u8, c2h: u8) -> Self {
        Self::build(Interface::MemoryMapped { h2c, c2h, target: memory() }, |_| {})
    }

    pub(super) fn build(interface: Interface, change: impl FnOnce(&mut XdmaConfig)) -> Self {
        let mut config = XdmaConfig {
            interface,
            data_width: 16,
            alignments: Alignments::ANY,
            link: None,
            strict_adjacency: false,
            user_interrupts: Vec::new(),
            clock_hz: 125_000_000,
            user_lines: 16,
        };
        change(&mut config);
        let (host, faults) = (FakeHost::new(), Arc::new(Faults::default()));
        let core = Xdma::new(config, host.clone(), faults.clone()).unwrap();
        Self { core, host, faults }
    }

    /// A core with streams.
    pub(super) fn streams(h2c: Vec<Arc<dyn StreamSink>>, c2h: Vec<Arc<dyn StreamSource>>) -> Self {
        Self::build(Interface::Stream { h2c, c2h }, |_| {})
    }

    pub(super) fn read(&self, offset: u64) -> u32 {
        self.core.read(u32::try_from(offset).unwrap())
    }

    pub(super) fn write(&self, offset: u64, value: u32) {
        self.core.write(u32::try_from(offset).unwrap(), value, u32::MAX);
    }

    pub(super) fn get<V: From<u32>, A>(&self, of: Channel, register: Register<V, A>) -> V {
        self.read(of.register(register)).into()
    }

    pub(super) fn set<V: Into<u32>, A>(&self, of: Channel, register: Register<V, A>, value: V) {
        self.write(of.register(register), value.into());
    }

    pub(super) fn status(&self, of: Channel) -> u32 {
        self.get(of, channel::STATUS).into()
    }

    /// Puts descriptors from `at` on, each with `next` to the one behind it, the last with STOP and COMPLETED.
    pub(super) fn list(&self, at: u64, transfers: &[(u64, u64, u32)]) {
        for (index, &(source, destination, length)) in transfers.iter().enumerate() {
            let here = at + 32 * index as u64;
            let last = index + 1 == transfers.len();
            let control = DescriptorControl::new().with_stop(last).with_completed(last);
            let next = if last { 0 } else { here + 32 };
            self.host.set_bytes(here, &Descriptor { control, length, source, destination, next }.to_bytes());
        }
    }

    /// As [`list`](Self::list), with `Nxt_adj` as PG195 has it: blocks of `block`, the first one's length in the register.
    pub(super) fn adjacent_list(&self, of: Channel, at: u64, transfers: &[(u64, u64, u32)], block: usize) {
        self.list(at, transfers);
        let in_block = |index: usize| block.min(transfers.len() - index / block * block);
        for index in 0..transfers.len() {
            let here = at + 32 * index as u64;
            let mut descriptor = Descriptor::from_bytes(self.host.bytes(here, 32)[..].try_into().unwrap());
            let behind = in_block(index) - index % block - 1;
            let adjacent = match behind {
                0 if index + 1 < transfers.len() => in_block(index + 1) - 1,
                0 => 0,
                behind => behind - 1,
            };
            descriptor.control.set_next_adjacent(adjacent as u8);
            self.host.set_bytes(here, &descriptor.to_bytes());
        }
        self.write(of.sgdma(sgdma::FIRST_DESCRIPTOR_ADJACENT), in_block(0) as u32 - 1);
    }

    /// Points a channel at its first descriptor and sets RUN, polled, with the write-back word at `writeback`.
    pub(super) fn start(&self, of: Channel, first: u64, writeback: u64) {
        self.set_addresses(of, first, writeback);
        self.set(of, channel::CONTROL, ChannelControl::polled(of.0));
        self.set(of, channel::CONTROL_SET, ChannelControl::new().with_run(true));
    }

    pub(super) fn set_addresses(&self, of: Channel, first: u64, writeback: u64) {
        self.write(of.sgdma(sgdma::FIRST_DESCRIPTOR_LOW), first as u32);
        self.write(of.sgdma(sgdma::FIRST_DESCRIPTOR_HIGH), (first >> 32) as u32);
        self.set(of, channel::WRITEBACK_ADDRESS_LOW, writeback as u32);
        self.set(of, channel::WRITEBACK_ADDRESS_HIGH, (writeback >> 32) as u32);
    }

    pub(super) fn clear_run(&self, of: Channel) {
        self.set(of, channel::CONTROL_CLEAR, ChannelControl::new().with_run(true));
    }

    /// Waits until BUSY is clear, as long as a driver does; the status then.
    pub(super) fn wait_idle(&self, of: Channel) -> ChannelStatus {
        self.wait_until("idle", || {
            let status: ChannelStatus = self.get(of, channel::STATUS);
            (!status.busy()).then_some(status)
        })
    }

    /// Runs a list to its end and clears RUN; the status at the end.
    pub(super) fn run(&self, of: Channel, transfers: &[(u64, u64, u32)]) -> u32 {
        self.list(BASE, transfers);
        self.start(of, BASE, BASE + 0x8000);
        let status = self.wait_idle(of);
        self.clear_run(of);
        status.into()
    }

    pub(super) fn wait_until<T>(&self, what: &str, mut look: impl FnMut() -> Option<T>) -> T {
        let deadline = Instant::now() + Duration::from_secs(5);
        loop {
            if let Some(seen) = look() {
                return seen;
            }
            assert!(Instant::now() < deadline, "not {what} after five seconds");
            std::thread::yield_now();
        }
    }
}

impl Channel {
    pub(super) fn register<V, A>(self, register: Register<V, A>) -> u64 {
        block::offset(self.0.channel_block(), self.1) + u64::from(register.offset())
    }

    pub(super) fn sgdma<V, A>(self, register: Register<V, A>) -> u64 {
        block::offset(self.0.sgdma_block(), self.1) + u64::from(register.offset())
    }
}

/// Bytes that differ from place to place.
pub(super) fn pattern(seed: u32, length: usize) -> Vec<u8> {
    let mut word = seed;
    let mut next = || {
        word = word.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (word >> 24) as u8
    };
    (0..length).map(|_| next()).collect()
}
