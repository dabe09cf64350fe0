//! Packets through the streams of every design, by registers alone: what the core does, whoever drives it.

use crate::rig::{Emulated, data};
use crate::with_xdma;
use jitney_boards::designs::Stream;
use jitney_boards::{Design, Kind};
use jitney_registers::RegisterSpace;
use jitney_vfio::{DmaBuffer, Region};
use jitney_xdma_spec::{Descriptor, DescriptorControl, Direction, StreamSlot, block, channel, sgdma};
use std::time::{Duration, Instant};

/// Bytes of a packet: whole words of every data path.
const PACKET: usize = 1024;
const LIMIT: Duration = Duration::from_secs(10);
/// CRC-64 of a packet of zeros, from the notes about these designs: of 64 bytes.
const ZEROS_64: u64 = 0x21ab_855a_e9cf_dbfd;

/// One transfer of one channel: its descriptor, its slot and its data, in one buffer.
struct Transfer<'a> {
    registers: &'a Region,
    direction: Direction,
    channel: u8,
    buffer: DmaBuffer,
}

const SLOT: u64 = 0x100;
const DATA: u64 = 0x1000;

impl<'a> Transfer<'a> {
    /// Begins one of `length` bytes, an H2C one with `data`.
    fn begin(
        emulated: &Emulated,
        registers: &'a Region,
        (direction, channel): (Direction, u8),
        length: usize,
        data: &[u8],
    ) -> Self {
        let buffer = emulated.buffer(DATA + 0x1000);
        buffer.write(DATA, data).unwrap();
        let (slot, memory) = (buffer.iova() + SLOT, buffer.iova() + DATA);
        let (source, destination) = match direction {
            Direction::HostToCard => (memory, 0),
            Direction::CardToHost => (slot, memory),
        };
        let control = DescriptorControl::new().with_stop(true).with_completed(true);
        let control = control.with_end_of_packet(direction == Direction::HostToCard);
        let length = u32::try_from(length).unwrap();
        let descriptor = Descriptor { control, length, source, destination, next: 0 };
        buffer.write(0, &descriptor.to_bytes()).unwrap();
        let transfer = Self { registers, direction, channel, buffer };
        let first = transfer.buffer.iova();
        let engine = block::offset(direction.sgdma_block(), channel);
        let put = |register: u32, value: u64| {
            let half = u32::try_from(value & 0xffff_ffff).unwrap();
            registers.write32(engine + u64::from(register), half).unwrap();
        };
        put(sgdma::FIRST_DESCRIPTOR_LOW.offset(), first);
        put(sgdma::FIRST_DESCRIPTOR_HIGH.offset(), first >> 32);
        put(sgdma::FIRST_DESCRIPTOR_ADJACENT.offset(), 0);
        transfer.run(1);
        transfer
    }

    fn run(&self, control: u32) {
        let at = block::offset(self.direction.channel_block(), self.channel);
        self.registers.write32(at + u64::from(channel::CONTROL.offset()), control).unwrap();
    }

    fn is_busy(&self) -> bool {
        let at = block::offset(self.direction.channel_block(), self.channel);
        self.registers.read32(at + u64::from(channel::STATUS.offset())).unwrap() & 1 != 0
    }

    /// Waits until it is done. An H2C one has no data, a C2H one what came and whether a packet ended with it.
    fn end(self) -> (Vec<u8>, bool) {
        let since = Instant::now();
        while self.is_busy() {
            assert!(since.elapsed() < LIMIT, "{}{} hangs", self.direction, self.channel);
            std::thread::yield_now();
        }
        self.run(0);
        if self.direction == Direction::HostToCard {
            return (Vec::new(), false);
        }
        let mut slot = [0; StreamSlot::SIZE];
        self.buffer.read(SLOT, &mut slot).unwrap();
        let slot = StreamSlot::from_bytes(slot);
        assert!(slot.is_valid());
        let mut data = vec![0; slot.length as usize];
        self.buffer.read(DATA, &mut data).unwrap();
        (data, slot.status.end_of_packet())
    }

    /// Whether nothing comes, which is then abandoned.
    fn ends_silent(self) -> bool {
        std::thread::sleep(Duration::from_millis(20));
        let silent = self.is_busy();
        self.run(0);
        let since = Instant::now();
        while self.is_busy() && since.elapsed() < LIMIT {
            std::thread::yield_now();
        }
        silent && !self.is_busy()
    }
}

/// What the packets of one H2C channel become on a C2H channel.
fn expected(stream: Stream, packet: &[u8]) -> Option<Vec<u8>> {
    match stream {
        Stream::Loopback | Stream::Crossed => Some(packet.to_vec()),
        // The packet is of zeros.
        Stream::Crc64 => Some(ZEROS_64.to_le_bytes().to_vec()),
        Stream::FixedData | Stream::None => None,
    }
}

#[test]
fn every_stream_brings_what_its_design_says() {
    let mut tested = 0;
    for design in with_xdma(|design| design.dma.unwrap().has_streams()) {
        let emulated = Emulated::new(&design.name);
        let registers = emulated.card.bar(design.dma.unwrap().bar.into()).unwrap();
        let has_switch = route(&design, &emulated);
        let stream = if has_switch { Stream::Crossed } else { design.dma.unwrap().stream.unwrap() };
        let [sinks, sources] = [design.dma.unwrap().h2c, design.dma.unwrap().c2h].map(|own| own.unwrap_or(1));
        for sink in 0..sinks {
            let source = if stream == Stream::Crossed { sink ^ 1 } else { sink };
            let zeros = [0; 64];
            let pattern = data(PACKET, sink);
            let packet = if stream == Stream::Crc64 { &zeros[..] } else { &pattern };
            let begin = |direction, channel, length, data: &[u8]| {
                Transfer::begin(&emulated, &registers, (direction, channel), length, data)
            };
            let sent = begin(Direction::HostToCard, sink, packet.len(), packet);
            if source < sources {
                let received = begin(Direction::CardToHost, source, 4096, &[]);
                match expected(stream, packet) {
                    Some(expected) => {
                        assert!(received.end() == (expected, true), "{} h2c{sink}", design.name)
                    }
                    None if stream == Stream::FixedData => {
                        let (bytes, ended) = received.end();
                        assert!(bytes.len() == 4096 && !ended && bytes.iter().any(|byte| *byte != 0));
                        assert_eq!(bytes[..16], bytes[16..32], "constant data");
                    }
                    None => assert!(received.ends_silent(), "{}", design.name),
                }
                tested += 1;
            }
            sent.end();
        }
    }
    assert!(tested > 50, "{tested} pairs of channels");
}

/// Crosses the routes of the design's switch, if there is one (PG085, "Control Register Routing").
fn route(design: &Design, emulated: &Emulated) -> bool {
    let Ok(switch) = emulated.board().peripheral(Kind::StreamSwitch, 0) else { return false };
    for master in 0..u32::from(switch.peripheral().ports) {
        assert_eq!(switch.read32((0x40 + 4 * master).into()).unwrap(), 1 << 31, "{}: disabled", design.name);
        switch.write32((0x40 + 4 * master).into(), master ^ 1).unwrap();
    }
    switch.write32(0, 2).unwrap();
    true
}

#[test]
fn the_first_revision_of_the_loopback_designs_has_no_switch_and_is_crossed() {
    let emulated = Emulated::with("NiteFury_dma_stream_loopback", 0);
    assert!(emulated.board().peripheral(Kind::StreamSwitch, 0).is_err());
    let registers = emulated.card.bar(2).unwrap();
    let begin = |direction, channel, data: &[u8]| {
        Transfer::begin(&emulated, &registers, (direction, channel), 512, data)
    };
    let sent = begin(Direction::HostToCard, 1, &[7; 512]);
    assert_eq!(begin(Direction::CardToHost, 0, &[]).end(), (vec![7; 512], true));
    sent.end();
}
