//! Identification of FPGA boards, and drivers for their peripherals.
//!
//! [`identify`] looks a card up in the [`Catalogue`] by its PCI ids and, where those are not enough, by a word in a
//! register or the channels of its XDMA. The [`Board`] that it returns knows where everything is:
//!
//! ```no_run
//! use jitney_boards::{Board, Error, axi_gpio, identify};
//! use jitney_vfio::Card;
//! use std::sync::Arc;
//!
//! fn look_at(card: Arc<dyn Card>) -> Result<(), Error> {
//!     let board: Board = identify(&card)?;
//!     println!("{}, version {:?}, memory {:?}", board.name(), board.version(), board.memory());
//!
//!     let readings = board.xadc()?.readings()?;
//!     println!("{:.1} °C, VCCINT {:.2} V", readings.temperature.now, readings.vccint.now);
//!
//!     board.gpio(2)?.set_data(axi_gpio::Channel::Two, 2)?; // the M.2 LED of a NiteFury
//!     let h2c = board.xdma()?.h2c(0)?;
//!     Ok(())
//! }
//! ```
//!
//! A board that the catalogue does not have is described in a file, see [`designs::catalogue`]; [`probe`] finds an
//! XDMA on a card that is not described at all. Peripherals that this crate has no type for are reached through
//! their [`Frame`].
//!
//! # What it is not for
//! It knows nothing of processes, and takes any [`Card`](jitney_vfio::Card): the owner's, a broker client's or a fake
//! one. It takes leases only where two programs would disturb each other: messages to a card management, an I2C bus, the routes
//! of a switch, a flash. Of Ethernet there is the state of the link and the statistics of CMAC; QDMA is in the catalogue and has no
//! driver here.

#![forbid(unsafe_code)]

mod alarms;
pub mod axi_gpio;
mod board;
pub mod cmac;
pub mod cms;
pub mod ddr_status;
pub mod dna;
mod error;
pub mod flash;
mod frame;
mod identify;
pub mod iic;
mod led;
mod monitor;
pub mod pmbus;
mod quad_spi;
mod sensor;
pub mod spd;
mod stream_switch;
pub mod sysmon;
pub mod user_access;
pub mod xadc;

pub use axi_gpio::AxiGpio;
pub use board::{Board, Summary};
pub use cmac::Cmac;
pub use cms::Cms;
pub use ddr_status::{DdrState, DdrStatus};
pub use dna::Dna;
pub use error::{Error, Result};
pub use flash::{Flash, FlashError, FlashPart};
pub use frame::Frame;
pub use identify::{identify, identify_in, ids, probe};
pub use iic::Iic;
pub use jitney_designs::{
    self as designs, Catalogue, Design, Dma, DmaIp, IdPattern, IdWord, Interface, Kind, Link, Memory,
    MemoryKind, Peripheral, Variant,
};
pub use jitney_registers::RegisterSpace;
pub use led::{LeasedLed, Led};
pub use monitor::Monitor;
pub use quad_spi::{LeasedSpi, QuadSpi};
pub use sensor::{Quantity, Reading, Tracked};
pub use stream_switch::{LeasedSwitch, StreamSwitch};
pub use sysmon::Sysmon;
pub use user_access::UserAccess;
pub use xadc::Xadc;
