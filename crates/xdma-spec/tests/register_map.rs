//! Every register at its place in the DMA BAR, against the tables of PG195.

use jitney_registers::Register;
use jitney_xdma_spec::{Submodule, block, channel, config, irq, sgdma};

fn at<V, A>(submodule: Submodule, channel: u8, register: Register<V, A>) -> u64 {
    block::offset(submodule, channel) + u64::from(register.offset())
}

#[test]
fn channel_registers() {
    use channel::*;
    let h2c0 = Submodule::H2cChannel;
    assert_eq!(at(h2c0, 0, IDENTIFIER), 0x0000);
    assert_eq!(at(h2c0, 0, CONTROL), 0x0004);
    assert_eq!(at(h2c0, 0, CONTROL_SET), 0x0008);
    assert_eq!(at(h2c0, 0, CONTROL_CLEAR), 0x000c);
    assert_eq!(at(h2c0, 0, STATUS), 0x0040);
    assert_eq!(at(h2c0, 0, STATUS_READ_CLEAR), 0x0044);
    assert_eq!(at(h2c0, 0, COMPLETED_COUNT), 0x0048);
    assert_eq!(at(h2c0, 0, ALIGNMENTS), 0x004c);
    assert_eq!(at(h2c0, 0, WRITEBACK_ADDRESS_LOW), 0x0088);
    assert_eq!(at(h2c0, 0, WRITEBACK_ADDRESS_HIGH), 0x008c);
    assert_eq!(at(h2c0, 0, INTERRUPT_ENABLE), 0x0090);
    assert_eq!(at(h2c0, 0, INTERRUPT_ENABLE_SET), 0x0094);
    assert_eq!(at(h2c0, 0, INTERRUPT_ENABLE_CLEAR), 0x0098);
    assert_eq!(at(h2c0, 0, PERFORMANCE_CONTROL), 0x00c0);
    assert_eq!(at(h2c0, 0, PERFORMANCE_CYCLES_LOW), 0x00c4);
    assert_eq!(at(h2c0, 0, PERFORMANCE_CYCLES_HIGH), 0x00c8);
    assert_eq!(at(h2c0, 0, PERFORMANCE_DATA_LOW), 0x00cc);
    assert_eq!(at(h2c0, 0, PERFORMANCE_DATA_HIGH), 0x00d0);
    assert_eq!(at(h2c0, 0, PERFORMANCE_PENDING_LOW), 0x00d4);
    assert_eq!(at(h2c0, 0, PERFORMANCE_PENDING_HIGH), 0x00d8);
    assert_eq!(at(Submodule::C2hChannel, 3, STATUS), 0x1340);
}

#[test]
fn irq_registers() {
    use irq::*;
    let block = Submodule::Irq;
    assert_eq!(at(block, 0, IDENTIFIER), 0x2000);
    assert_eq!(at(block, 0, USER_ENABLE), 0x2004);
    assert_eq!(at(block, 0, USER_ENABLE_SET), 0x2008);
    assert_eq!(at(block, 0, USER_ENABLE_CLEAR), 0x200c);
    assert_eq!(at(block, 0, CHANNEL_ENABLE), 0x2010);
    assert_eq!(at(block, 0, CHANNEL_ENABLE_SET), 0x2014);
    assert_eq!(at(block, 0, CHANNEL_ENABLE_CLEAR), 0x2018);
    assert_eq!(at(block, 0, USER_REQUEST), 0x2040);
    assert_eq!(at(block, 0, CHANNEL_REQUEST), 0x2044);
    assert_eq!(at(block, 0, USER_PENDING), 0x2048);
    assert_eq!(at(block, 0, CHANNEL_PENDING), 0x204c);
    assert_eq!(at(block, 0, USER_VECTORS), 0x2080);
    assert_eq!(at(block, 0, CHANNEL_VECTORS), 0x20a0);
    assert_eq!(MSIX_TABLE, block::offset(Submodule::MsixTable, 0));
    assert_eq!(MSIX_PENDING, 0x8fe0);
    assert_eq!(MSIX_VECTORS, 32);
}

#[test]
fn config_registers() {
    use config::*;
    let block = Submodule::Config;
    assert_eq!(at(block, 0, IDENTIFIER), 0x3000);
    assert_eq!(at(block, 0, BUS_DEVICE), 0x3004);
    assert_eq!(at(block, 0, PCIE_MAX_PAYLOAD), 0x3008);
    assert_eq!(at(block, 0, PCIE_MAX_READ_REQUEST), 0x300c);
    assert_eq!(at(block, 0, SYSTEM_ID), 0x3010);
    assert_eq!(at(block, 0, MSI_ENABLE), 0x3014);
    assert_eq!(at(block, 0, DATA_WIDTH), 0x3018);
    assert_eq!(at(block, 0, PCIE_CONTROL), 0x301c);
    assert_eq!(at(block, 0, AXI_MAX_PAYLOAD), 0x3040);
    assert_eq!(at(block, 0, AXI_MAX_READ_REQUEST), 0x3044);
    assert_eq!(at(block, 0, WRITE_FLUSH_TIMEOUT), 0x3060);
}

#[test]
fn sgdma_registers() {
    use sgdma::*;
    assert_eq!(at(Submodule::H2cSgdma, 0, IDENTIFIER), 0x4000);
    assert_eq!(at(Submodule::H2cSgdma, 0, FIRST_DESCRIPTOR_LOW), 0x4080);
    assert_eq!(at(Submodule::H2cSgdma, 0, FIRST_DESCRIPTOR_HIGH), 0x4084);
    assert_eq!(at(Submodule::H2cSgdma, 0, FIRST_DESCRIPTOR_ADJACENT), 0x4088);
    assert_eq!(at(Submodule::H2cSgdma, 0, CREDITS), 0x408c);
    assert_eq!(at(Submodule::C2hSgdma, 2, CREDITS), 0x528c);
    let block = Submodule::SgdmaCommon;
    assert_eq!(at(block, 0, common::IDENTIFIER), 0x6000);
    assert_eq!(at(block, 0, common::HALT), 0x6010);
    assert_eq!(at(block, 0, common::HALT_SET), 0x6014);
    assert_eq!(at(block, 0, common::HALT_CLEAR), 0x6018);
    assert_eq!(at(block, 0, common::CREDIT_MODE), 0x6020);
    assert_eq!(at(block, 0, common::CREDIT_MODE_SET), 0x6024);
    assert_eq!(at(block, 0, common::CREDIT_MODE_CLEAR), 0x6028);
}
