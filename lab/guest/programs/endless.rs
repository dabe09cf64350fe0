//! A transfer that never ends by itself: channel h2c0 of an XDMA, with a descriptor whose next one is itself. Whoever is
//! killed while it runs is certain to be killed in the middle of a transfer.

use jitney_registers::{Block, RegisterSpace};
use jitney_xdma_spec::descriptor::MAGIC;
use jitney_xdma_spec::{
    ChannelControl, Descriptor, DescriptorControl, Direction, Submodule, block, channel, sgdma,
};
use std::fmt;

/// Bytes of the memory that is read again and again. The descriptor is in its first page.
pub(crate) const BYTES: u64 = 2 << 20;
const DATA: u32 = 4096;

/// What the registers of the channel say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct State {
    pub(crate) run: bool,
    pub(crate) busy: bool,
    /// How often the descriptor was carried out.
    pub(crate) completed: u32,
    /// A register that keeps what is written to it until the card is reset.
    pub(crate) writeback_address: u32,
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { run, busy, completed, writeback_address } = self;
        write!(f, "run {run}, busy {busy}, completed {completed}, write-back address {writeback_address:#x}")
    }
}

/// Channel h2c0 of the XDMA in a BAR.
pub(crate) struct Engine<S>(pub(crate) S);

impl<S: RegisterSpace> Engine<S> {
    fn channel(&self) -> Block<&S> {
        Block::new(&self.0, block::offset(Direction::HostToCard.channel_block(), 0))
    }

    pub(crate) fn state(&self) -> Result<State, S::Error> {
        let channel = self.channel();
        Ok(State {
            run: channel.read(channel::CONTROL)?.run(),
            busy: channel.read(channel::STATUS)?.busy(),
            completed: channel.read(channel::COMPLETED_COUNT)?,
            writeback_address: channel.read(channel::WRITEBACK_ADDRESS_LOW)?,
        })
    }

    /// Starts the engine on memory that begins with [`descriptor`]'s bytes and that the card finds at `iova`.
    pub(crate) fn start(&self, iova: u64) -> Result<(), S::Error> {
        let registers = Block::new(&self.0, block::offset(Direction::HostToCard.sgdma_block(), 0));
        registers.write_pair(sgdma::FIRST_DESCRIPTOR_LOW, sgdma::FIRST_DESCRIPTOR_HIGH, iova)?;
        registers.write(sgdma::FIRST_DESCRIPTOR_ADJACENT, 0)?;
        let common = Block::new(&self.0, block::offset(Submodule::SgdmaCommon, 0));
        common.write(sgdma::common::HALT_CLEAR, sgdma::ChannelSet::ALL)?;
        self.channel().write(channel::CONTROL, ChannelControl::new().with_run(true))
    }
}

/// What stops the engine, as an offset in the BAR and a value.
pub(crate) fn stopping() -> (u64, u32) {
    let base = block::offset(Direction::HostToCard.channel_block(), 0);
    let offset = base + u64::from(channel::CONTROL_CLEAR.offset());
    (offset, ChannelControl::new().with_run(true).into_bits())
}

/// The descriptor for memory of [`BYTES`] at `iova`, to be written to its start.
pub(crate) fn descriptor(iova: u64) -> [u8; 32] {
    let length = u32::try_from(BYTES).unwrap_or(u32::MAX) - DATA;
    let control = DescriptorControl::new().with_magic(MAGIC);
    Descriptor { control, length, source: iova + u64::from(DATA), destination: 0, next: iova }.to_bytes()
}
