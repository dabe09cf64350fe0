//! LEDs on a board, which pins of an AXI GPIO drive: to see which board it is.

use crate::axi_gpio::{AxiGpio, Channel};
use crate::board::Board;
use crate::error::{Error, Result};
use crate::frame::Frame;
use jitney_designs::{self as designs, Kind, Pins};
use jitney_vfio::{Card, ErrorKind, Lease, LeaseRequest, Will, WillStep};
use std::sync::Arc;

/// An LED of a board.
#[derive(Debug, Clone)]
pub struct Led {
    what: designs::Led,
    gpio: AxiGpio,
    frame: Frame,
    card: Arc<dyn Card>,
    /// The part that who drives it leases.
    part: String,
}

impl Board {
    /// The LEDs that its boards file knows of, in the order of that.
    ///
    /// # Errors
    /// [`Error::OutsideBar`] if the card's BAR is too small for a GPIO that drives one.
    pub fn leds(&self) -> Result<Vec<Led>> {
        let mut leds = Vec::new();
        let gpios = self.summary().peripherals.iter().filter(|own| own.kind == Kind::AxiGpio).count();
        for index in 0..gpios {
            let frame = match self.peripheral(Kind::AxiGpio, index) {
                Err(Error::OutsideBar { .. }) => continue,
                frame => frame?,
            };
            let part =
                if index == 0 { Kind::AxiGpio.to_string() } else { format!("{}{index}", Kind::AxiGpio) };
            leds.extend(frame.peripheral().leds.iter().map(|what| Led {
                what: what.clone(),
                gpio: AxiGpio::new(frame.clone()),
                frame: frame.clone(),
                card: Arc::clone(self.card()),
                part: part.clone(),
            }));
        }
        Ok(leds)
    }
}

impl Led {
    /// Where it is on the board, if the boards file says so.
    #[must_use]
    pub fn note(&self) -> Option<&str> {
        self.what.note.as_deref()
    }

    /// The right to drive it, with the GPIO that it is on, which is one program's at a time. It goes back to what it was when
    /// that is dropped, and under a broker also if this process is killed. What a pin that is an output was cannot be read (PG144,
    /// "GPIO Data Register"): it goes to what it reads as, which is 0, and so do the other outputs of its channel.
    ///
    /// # Errors
    /// [`ErrorKind::Held`] if somebody else has it, which says who; [`ErrorKind::LinkDown`] if nobody answers.
    pub fn lease(&self) -> Result<LeasedLed> {
        let channel = self.channel();
        let data = self.gpio.data(channel)?;
        let has_direction = self.frame.peripheral().pins.get(channel as usize) != Some(&Pins::Outputs);
        let tristate = has_direction.then(|| self.gpio.tristate(channel)).transpose()?;
        let lease = LeaseRequest::exclusive(self.part.parse()?).with_will(self.will(data, tristate));
        let lease = self.card.lease(lease)?;
        if let Some(tristate) = tristate {
            self.gpio.set_tristate(channel, tristate & !self.mask())?;
        }
        Ok(LeasedLed { led: self.clone(), data, tristate, is_back: false, _lease: lease })
    }

    fn channel(&self) -> Channel {
        if self.what.channel == 2 { Channel::Two } else { Channel::One }
    }

    const fn mask(&self) -> u32 {
        1 << (self.what.bit % 32)
    }

    /// Puts the channel back as it was.
    fn will(&self, data: u32, tristate: Option<u32>) -> Will {
        let own = self.frame.peripheral();
        let at = own.offset + 8 * (self.channel() as u64);
        let direction = tristate.map(|inputs| WillStep::write(own.bar, at + 4, inputs));
        Will(std::iter::once(WillStep::write(own.bar, at, data)).chain(direction).collect())
    }
}

/// An LED that this program drives, until it is dropped.
#[derive(Debug)]
pub struct LeasedLed {
    led: Led,
    data: u32,
    tristate: Option<u32>,
    is_back: bool,
    _lease: Lease,
}

impl LeasedLed {
    /// Switches it on or off.
    ///
    /// # Errors
    /// What writing the register answers.
    pub fn set(&self, on: bool) -> Result<()> {
        let mask = self.led.mask();
        let data = if on { self.data | mask } else { self.data & !mask };
        self.led.gpio.set_data(self.led.channel(), data)
    }

    /// Puts it back as it was, and says how that went; dropping it does the same.
    ///
    /// # Errors
    /// What writing the registers answers; [`ErrorKind::LinkDown`] if the card does not answer any more.
    pub fn restore(mut self) -> Result<()> {
        self.put_back()?;
        self.is_back = true;
        self.led.gpio.data(self.led.channel()).map(drop)
    }

    fn put_back(&self) -> Result<()> {
        self.led.gpio.set_data(self.led.channel(), self.data)?;
        self.tristate.map_or(Ok(()), |tristate| self.led.gpio.set_tristate(self.led.channel(), tristate))
    }
}

impl Drop for LeasedLed {
    fn drop(&mut self) {
        if !self.is_back {
            // A card that does not answer has no LED that is on.
            let _ = self.put_back();
        }
    }
}

impl Board {
    /// Its LED number `index`, from 0 in the order of the boards file.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] if none of that number is known, and as [`leds`](Self::leds).
    pub fn led(&self, index: usize) -> Result<Led> {
        self.leds()?.into_iter().nth(index).ok_or_else(|| {
            let what = format!(
                "no LED {index} is known of the {} of {}",
                self.design().name,
                self.card().identity()
            );
            let remedy =
                "a boards file can say where one is: leds = [{ channel = 2, bit = 1 }] of an axi-gpio";
            jitney_vfio::Error::new(ErrorKind::NotFound, what).with_remedy(remedy).into()
        })
    }
}
