//! The I2C buses of boards.

pub(crate) mod dump;
pub(crate) mod place;
pub(crate) mod read;
pub(crate) mod scan;

use crate::args::OneCard;
use crate::boards::catalogue;
use crate::cards::Session;
use crate::contract::CardName;
use crate::status::{Misuse, Status};
use clap::{Args, Subcommand};
use jitney_boards::designs::I2cDevice;
use jitney_boards::iic::LeasedIic;
use jitney_boards::{Error, Iic, identify_in};

#[derive(Debug, Subcommand)]
pub(crate) enum I2c {
    /// Which addresses a device answers at, and what is known to be there.
    Scan(scan::Scan),
    /// Read bytes from a device.
    Read(read::Read),
    /// What the devices say that are known: memory modules, EEPROMs, regulators.
    Dump(dump::Dump),
}

pub(crate) fn i2c(command: &I2c, json: bool) -> anyhow::Result<Status> {
    match command {
        I2c::Scan(scan) => scan::scan(scan, json),
        I2c::Read(read) => read::read(read, json),
        I2c::Dump(dump) => dump::dump(dump, json),
    }
}

/// Which bus of which card.
#[derive(Debug, Args)]
pub(crate) struct OneBus {
    #[command(flatten)]
    pub(crate) card: OneCard,
    /// Which I2C bus of the card, from 0.
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub(crate) bus: usize,
}

/// A bus that nobody else may use meanwhile.
pub(crate) struct OpenBus {
    // In this order: the lease is given back before the card is closed.
    pub(crate) bus: LeasedIic,
    pub(crate) card: CardName,
    _session: Session,
}

impl OpenBus {
    pub(crate) fn of(args: &OneBus) -> anyhow::Result<Self> {
        let (session, card) = Session::open_card(&args.card)?;
        let board = identify_in(&catalogue(&args.card.source.emulate)?, &card)?;
        let iic = match board.iic(args.bus) {
            Err(error @ Error::NoPeripheral { .. }) => return Err(Misuse(error.to_string()).into()),
            iic => iic?,
        };
        Ok(Self { bus: iic.lease()?, card: CardName::of(&*card), _session: session })
    }

    pub(crate) fn iic(&self) -> &Iic {
        self.bus.iic()
    }

    /// What the boards file says is at an address.
    pub(crate) fn known(&self, address: u8) -> Option<&I2cDevice> {
        self.iic().known().iter().find(|device| device.address == address)
    }
}

/// A device of a boards file in words: `spd-ddr3 (the DDR3 module)`.
pub(crate) fn words(device: &I2cDevice) -> String {
    match &device.note {
        Some(note) => format!("{} ({note})", device.device),
        None => device.device.to_string(),
    }
}
