//! The config block (PG195, "Config Block Registers (0x3)"): what the IP knows about its link.

use crate::axi::merge;
use crate::function::{Host, InterruptKind};
use jitney_xdma_spec::config::{
    AxiTransferSize, BusDevice, DataWidth, MsiEnable, PcieControl, SYSTEM_ID_DEFAULT, TransferSize,
};
use jitney_xdma_spec::{Identifier, Submodule};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Sizes are codes: 128 bytes, doubled so many times.
fn code(size: u32) -> u8 {
    u8::try_from((size / 128).max(1).ilog2()).unwrap_or(0)
}

/// Offsets of the registers in the block, as patterns.
mod at {
    use jitney_xdma_spec::config;

    pub(super) const IDENTIFIER: u32 = config::IDENTIFIER.offset();
    pub(super) const BUS_DEVICE: u32 = config::BUS_DEVICE.offset();
    pub(super) const PCIE_MAX_PAYLOAD: u32 = config::PCIE_MAX_PAYLOAD.offset();
    pub(super) const PCIE_MAX_READ_REQUEST: u32 = config::PCIE_MAX_READ_REQUEST.offset();
    pub(super) const SYSTEM_ID: u32 = config::SYSTEM_ID.offset();
    pub(super) const MSI_ENABLE: u32 = config::MSI_ENABLE.offset();
    pub(super) const DATA_WIDTH: u32 = config::DATA_WIDTH.offset();
    pub(super) const PCIE_CONTROL: u32 = config::PCIE_CONTROL.offset();
    pub(super) const AXI_MAX_PAYLOAD: u32 = config::AXI_MAX_PAYLOAD.offset();
    pub(super) const AXI_MAX_READ_REQUEST: u32 = config::AXI_MAX_READ_REQUEST.offset();
    pub(super) const WRITE_FLUSH_TIMEOUT: u32 = config::WRITE_FLUSH_TIMEOUT.offset();
}

/// The block.
pub(super) struct ConfigBlock {
    host: Arc<dyn Host>,
    data_width: DataWidth,
    clock_hz: u64,
    written: Mutex<Written>,
}

#[derive(Debug)]
struct Written {
    pcie_control: PcieControl,
    max_payload: u8,
    max_read_request: u8,
    flush_timeout: u32,
}

const RESET: Written = Written {
    pcie_control: PcieControl::RESET,
    max_payload: AxiTransferSize::RESET.programmed(),
    max_read_request: AxiTransferSize::RESET.programmed(),
    flush_timeout: 0,
};

impl ConfigBlock {
    /// The block of a design with an AXI data path of `data_width` bytes (8, 16, 32 or 64) at `clock_hz`.
    pub(super) fn new(host: Arc<dyn Host>, data_width: u32, clock_hz: u64) -> Self {
        let code = u8::try_from((data_width / 8).max(1).ilog2()).unwrap_or(0);
        Self { host, data_width: DataWidth::new().with_code(code), clock_hz, written: Mutex::new(RESET) }
    }

    pub(super) fn reset(&self) {
        *self.written() = RESET;
    }

    /// How long a C2H stream that has begun a descriptor waits for more data; for ever if there is no time (PG195, "Write
    /// Flush Timeout").
    pub(super) fn flush_timeout(&self) -> Option<Duration> {
        let exponent = self.written().flush_timeout;
        let cycles = 1u64 << exponent.min(0x1f);
        (exponent > 0).then(|| Duration::from_nanos(cycles * 1_000_000_000 / self.clock_hz))
    }

    pub(super) fn read(&self, register: u32) -> u32 {
        let sizes = self.host.packet_sizes();
        let (payload, read_request) = (code(sizes.payload), code(sizes.read_request));
        let written = self.written();
        let limited = |programmed: u8, limit: u8| -> u32 {
            AxiTransferSize::new().with_programmed(programmed).with_effective(programmed.min(limit)).into()
        };
        match register {
            at::IDENTIFIER => Identifier::of(Submodule::Config, 0, false).into(),
            at::BUS_DEVICE => BusDevice::new().with_bus(1).into(),
            at::PCIE_MAX_PAYLOAD => TransferSize::new().with_code(payload).into(),
            at::PCIE_MAX_READ_REQUEST => TransferSize::new().with_code(read_request).into(),
            at::SYSTEM_ID => SYSTEM_ID_DEFAULT,
            at::MSI_ENABLE => {
                let kind = self.host.interrupt_kind();
                let msi = MsiEnable::new().with_msi(kind == InterruptKind::Msi);
                msi.with_msix(kind == InterruptKind::MsiX).into()
            }
            at::DATA_WIDTH => self.data_width.into(),
            at::PCIE_CONTROL => written.pcie_control.into(),
            at::AXI_MAX_PAYLOAD => limited(written.max_payload, payload),
            at::AXI_MAX_READ_REQUEST => limited(written.max_read_request, read_request),
            at::WRITE_FLUSH_TIMEOUT => written.flush_timeout,
            _ => 0,
        }
    }

    pub(super) fn write(&self, register: u32, value: u32, lanes: u32) {
        let mut written = self.written();
        let size = AxiTransferSize::from(value).programmed();
        match register {
            at::PCIE_CONTROL => {
                written.pcie_control = (merge(written.pcie_control.into(), value, lanes) & 1).into();
            }
            at::AXI_MAX_PAYLOAD if lanes & 7 != 0 => written.max_payload = size,
            at::AXI_MAX_READ_REQUEST if lanes & 7 != 0 => written.max_read_request = size,
            at::WRITE_FLUSH_TIMEOUT => {
                written.flush_timeout = merge(written.flush_timeout, value, lanes) & 0x1f;
            }
            _ => {}
        }
    }

    fn written(&self) -> MutexGuard<'_, Written> {
        self.written.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
