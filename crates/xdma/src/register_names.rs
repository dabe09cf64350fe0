//! The registers of an XDMA by name: `h2c0.control`, `irq.user_enable`, as PG195 and `jitney_xdma_spec` call them.

use crate::identify::Xdma;
use jitney_xdma_spec::Direction;
use jitney_xdma_spec::block::{Submodule, decode, offset};
use jitney_xdma_spec::{channel, config, irq, sgdma};

/// Name and offset of each register of a block.
type Registers = &'static [(&'static str, u32)];

const CHANNEL: Registers = &[
    ("identifier", channel::IDENTIFIER.offset()),
    ("control", channel::CONTROL.offset()),
    ("control_set", channel::CONTROL_SET.offset()),
    ("control_clear", channel::CONTROL_CLEAR.offset()),
    ("status", channel::STATUS.offset()),
    ("status_read_clear", channel::STATUS_READ_CLEAR.offset()),
    ("completed_count", channel::COMPLETED_COUNT.offset()),
    ("alignments", channel::ALIGNMENTS.offset()),
    ("writeback_address_low", channel::WRITEBACK_ADDRESS_LOW.offset()),
    ("writeback_address_high", channel::WRITEBACK_ADDRESS_HIGH.offset()),
    ("interrupt_enable", channel::INTERRUPT_ENABLE.offset()),
    ("interrupt_enable_set", channel::INTERRUPT_ENABLE_SET.offset()),
    ("interrupt_enable_clear", channel::INTERRUPT_ENABLE_CLEAR.offset()),
    ("performance_control", channel::PERFORMANCE_CONTROL.offset()),
    ("performance_cycles_low", channel::PERFORMANCE_CYCLES_LOW.offset()),
    ("performance_cycles_high", channel::PERFORMANCE_CYCLES_HIGH.offset()),
    ("performance_data_low", channel::PERFORMANCE_DATA_LOW.offset()),
    ("performance_data_high", channel::PERFORMANCE_DATA_HIGH.offset()),
];

const SGDMA: Registers = &[
    ("identifier", sgdma::IDENTIFIER.offset()),
    ("first_descriptor_low", sgdma::FIRST_DESCRIPTOR_LOW.offset()),
    ("first_descriptor_high", sgdma::FIRST_DESCRIPTOR_HIGH.offset()),
    ("first_descriptor_adjacent", sgdma::FIRST_DESCRIPTOR_ADJACENT.offset()),
    ("credits", sgdma::CREDITS.offset()),
];

const COMMON: Registers = &[
    ("identifier", sgdma::common::IDENTIFIER.offset()),
    ("halt", sgdma::common::HALT.offset()),
    ("halt_set", sgdma::common::HALT_SET.offset()),
    ("halt_clear", sgdma::common::HALT_CLEAR.offset()),
    ("credit_mode", sgdma::common::CREDIT_MODE.offset()),
    ("credit_mode_set", sgdma::common::CREDIT_MODE_SET.offset()),
    ("credit_mode_clear", sgdma::common::CREDIT_MODE_CLEAR.offset()),
];

const IRQ: Registers = &[
    ("identifier", channel::IDENTIFIER.offset()),
    ("user_enable", irq::USER_ENABLE.offset()),
    ("user_enable_set", irq::USER_ENABLE_SET.offset()),
    ("user_enable_clear", irq::USER_ENABLE_CLEAR.offset()),
    ("channel_enable", irq::CHANNEL_ENABLE.offset()),
    ("channel_enable_set", irq::CHANNEL_ENABLE_SET.offset()),
    ("channel_enable_clear", irq::CHANNEL_ENABLE_CLEAR.offset()),
    ("user_request", irq::USER_REQUEST.offset()),
    ("channel_request", irq::CHANNEL_REQUEST.offset()),
    ("user_pending", irq::USER_PENDING.offset()),
    ("channel_pending", irq::CHANNEL_PENDING.offset()),
    ("user_vectors0", irq::USER_VECTORS.offset()),
    ("user_vectors1", irq::USER_VECTORS.nth(1, 4).offset()),
    ("user_vectors2", irq::USER_VECTORS.nth(2, 4).offset()),
    ("user_vectors3", irq::USER_VECTORS.nth(3, 4).offset()),
    ("channel_vectors0", irq::CHANNEL_VECTORS.offset()),
    ("channel_vectors1", irq::CHANNEL_VECTORS.nth(1, 4).offset()),
];

const CONFIG: Registers = &[
    ("identifier", channel::IDENTIFIER.offset()),
    ("bus_device", config::BUS_DEVICE.offset()),
    ("pcie_max_payload", config::PCIE_MAX_PAYLOAD.offset()),
    ("pcie_max_read_request", config::PCIE_MAX_READ_REQUEST.offset()),
    ("system_id", config::SYSTEM_ID.offset()),
    ("msi_enable", config::MSI_ENABLE.offset()),
    ("data_width", config::DATA_WIDTH.offset()),
    ("pcie_control", config::PCIE_CONTROL.offset()),
    ("axi_max_payload", config::AXI_MAX_PAYLOAD.offset()),
    ("axi_max_read_request", config::AXI_MAX_READ_REQUEST.offset()),
    ("write_flush_timeout", config::WRITE_FLUSH_TIMEOUT.offset()),
];

impl Xdma {
    /// Its registers, by the channels that it has: name, and offset in its BAR, in the order of the offsets. Names are as
    /// `h2c0.control`, `sgdma-c2h1.credits`, `irq.user_enable`.
    #[must_use]
    pub fn registers(&self) -> Vec<(String, u64)> {
        let channels = Direction::ALL.into_iter().flat_map(|way| self.channels(way)).flat_map(|channel| {
            let (way, index) = (channel.direction, channel.index);
            [
                (channel.to_string(), way.channel_block(), index, CHANNEL),
                (format!("sgdma-{channel}"), way.sgdma_block(), index, SGDMA),
            ]
        });
        let shared = [
            ("irq".to_owned(), Submodule::Irq, 0, IRQ),
            ("config".to_owned(), Submodule::Config, 0, CONFIG),
            ("sgdma".to_owned(), Submodule::SgdmaCommon, 0, COMMON),
        ];
        let mut registers: Vec<(String, u64)> = channels
            .chain(shared)
            .flat_map(|(block, submodule, channel, registers)| {
                let start = offset(submodule, channel);
                let named = move |(name, offset): &(&str, u32)| {
                    (format!("{block}.{name}"), start + u64::from(*offset))
                };
                registers.iter().map(named)
            })
            .collect();
        registers.sort_by_key(|(_, offset)| *offset);
        registers
    }
}

/// The channel that the register at `offset` of an XDMA's BAR belongs to, as the driver leases it: `h2c0`. Nothing for what
/// all channels share.
#[must_use]
pub fn channel_at(offset: u64) -> Option<String> {
    let location = decode(offset)?;
    location.submodule.direction().map(|direction| format!("{direction}{}", location.channel))
}

/// Whether reading the register at `offset` of an XDMA's BAR changes it.
#[must_use]
pub fn changes_when_read(offset: u64) -> bool {
    decode(offset).is_some_and(|location| {
        [Submodule::H2cChannel, Submodule::C2hChannel].contains(&location.submodule)
            && location.register == channel::STATUS_READ_CLEAR.offset()
    })
}
