//! NiteFury and LiteFury with the image that they are sold with, "Project-0": one XDMA channel each way to all of the
//! DDR3, sensors, flash and identification.

use super::design::{CLASS_RAM, Design, Request, XILINX};
use super::{BoardError, Model};
use crate::axi::{Gpio, GpioChannel, Image, QuadSpi, Xadc};
use std::sync::Arc;

pub(super) const NITEFURY: Model = Model {
    name: "nitefury",
    summary: "NiteFury II with its factory image (Project-0): XDMA 1+1, 1 GiB DDR3",
    info: "\
10ee:7011, subsystem 0000:0000
BAR0  128 KiB: GPIO 0x0000 (board id \"NITE\", version), GPIO 0x1000, GPIO 0x2000 (LED), XADC 0x3000, Quad SPI 0x10000
BAR2   64 KiB: XDMA, memory mapped, 1 channel each way
Memory: 1 GiB at 0, another size by option
Revision: the version word; 2 (default) is the factory image, 3 and more a rebuilt one, whose XADC runs a sequence",
    build: |request| build(&request, u32::from_be_bytes(*b"NITE"), 1 << 30),
};

pub(super) const LITEFURY: Model = Model {
    name: "litefury",
    summary: "LiteFury with its factory image (Project-0): XDMA 1+1, 512 MiB DDR3",
    info: "\
10ee:7011, subsystem 0000:0000
BAR0  128 KiB: GPIO 0x0000 (board id \"LITE\", version), GPIO 0x1000, GPIO 0x2000 (LED), XADC 0x3000, Quad SPI 0x10000
BAR2   64 KiB: XDMA, memory mapped, 1 channel each way
Memory: 512 MiB at 0, another size by option
Revision: the version word; 2 (default) is the factory image, 3 and more a rebuilt one, whose XADC runs a sequence",
    build: |request| build(&request, u32::from_be_bytes(*b"LITE"), 512 << 20),
};

/// Sub-class "other memory controller".
const CLASS_OTHER_MEMORY: [u8; 3] = [CLASS_RAM[0], 0x80, 0x00];
/// Version of the image that boards are sold with, and the first of the rebuilt ones.
const FACTORY_VERSION: u32 = 2;
const FIRST_REBUILT_VERSION: u32 = 3;
/// Vivado's default for the device serial number capability.
const SERIAL: u64 = 0x0000_0001_0100_0A35;

fn build(request: &Request<'_>, id: u32, memory: u64) -> Result<Design, BoardError> {
    let version = request.options.revision.unwrap_or(FACTORY_VERSION);
    let image = if version < FIRST_REBUILT_VERSION { Image::Factory } else { Image::Sequenced };

    let mut design = Design::new([XILINX, 0x7011, 0, 0], CLASS_OTHER_MEMORY);
    design.description.serial = Some(SERIAL);
    let identification = Gpio::new("id", GpioChannel::inputs(id), Some(GpioChannel::inputs(version)));
    let spare = Gpio::new("spare", GpioChannel::programmable(), Some(GpioChannel::programmable()));
    let led = Gpio::new("led", GpioChannel::programmable(), Some(GpioChannel::outputs()));
    design.add_peripherals(
        0,
        0x2_0000,
        false,
        [
            (0x0_0000, "GPIO 0", Arc::new(identification) as _),
            (0x0_1000, "GPIO 1", Arc::new(spare) as _),
            (0x0_2000, "GPIO 2", Arc::new(led) as _),
            (0x0_3000, "XADC", Arc::new(Xadc::new(image)) as _),
            (0x1_0000, "Quad SPI", Arc::new(QuadSpi::default()) as _),
        ],
    )?;
    let channels = request.channels(1, &[1])?;
    design.add_xdma(2, request, channels, request.memory(memory)?)?;
    Ok(design)
}
