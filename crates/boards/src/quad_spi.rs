//! AXI Quad SPI: a master of the bus that a configuration flash is on (PG153, "Register Space").

use crate::error::Result;
use crate::flash::{Flash, FlashError};
use crate::frame::Frame;
use bitfield_struct::bitfield;
use jitney_registers::{ReadOnly, ReadWrite, Register, RegisterSpace, WriteOnly};
use jitney_vfio::{Card, Lease, LeaseRequest};
use std::sync::Arc;
use std::time::{Duration, Instant};

const SOFT_RESET: Register<u32, WriteOnly> = Register::new(0x40);
const CONTROL: Register<Control, ReadWrite> = Register::new(0x60);
const STATUS: Register<Status, ReadOnly> = Register::new(0x64);
const TRANSMIT: Register<u32, WriteOnly> = Register::new(0x68);
const RECEIVE: Register<u32, ReadOnly> = Register::new(0x6c);
const SLAVE_SELECT: Register<u32, ReadWrite> = Register::new(0x70);
/// One less than how many bytes were received and not read.
const RECEIVED: Register<u32, ReadOnly> = Register::new(0x78);

/// What written to the soft reset register resets the core.
const RESET_KEY: u32 = 0x0a;
/// The first slave, active low.
const FIRST_SLAVE: u32 = !1;
const NO_SLAVE: u32 = u32::MAX;
/// How deep FIFOs can be (PG153, "FIFO Depth").
const DEPTHS: [usize; 2] = [16, 256];
/// A FIFO of bytes at the slowest clock that there is, a 2048th of the AXI clock, takes a small part of it.
const NO_PROGRESS: Duration = Duration::from_secs(1);

/// "SPI Control Register".
#[bitfield(u32)]
struct Control {
    loopback: bool,
    enable: bool,
    master: bool,
    polarity: bool,
    phase: bool,
    reset_transmit: bool,
    reset_receive: bool,
    /// The slave select register decides about the lines.
    manual_select: bool,
    inhibit: bool,
    lsb_first: bool,
    #[bits(22)]
    __: u32,
}

/// "SPI Status Register".
#[bitfield(u32)]
struct Status {
    receive_empty: bool,
    receive_full: bool,
    transmit_empty: bool,
    transmit_full: bool,
    mode_fault: bool,
    not_selected: bool,
    clock_mode_error: bool,
    slave_mode_error: bool,
    bit_order_error: bool,
    loopback_error: bool,
    command_error: bool,
    #[bits(21)]
    __: u32,
}

impl Status {
    const fn has_error(self) -> bool {
        self.mode_fault()
            || self.clock_mode_error()
            || self.slave_mode_error()
            || self.bit_order_error()
            || self.loopback_error()
            || self.command_error()
    }
}

/// The core as a master of clock mode 0 that selects by hand.
fn master() -> Control {
    Control::new().with_enable(true).with_master(true).with_manual_select(true)
}

/// The part of a card that who uses the bus leases.
const PART: &str = "quad-spi";

/// The AXI Quad SPI of a board.
///
/// ```no_run
/// # fn f(board: &jitney_boards::Board) -> Result<(), jitney_boards::Error> {
/// let flash = board.quad_spi()?.lease()?.flash()?; // nobody else uses the bus while it lives
/// let mut start = [0; 4096];
/// flash.read(0, &mut start)?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
pub struct QuadSpi {
    frame: Frame,
    card: Arc<dyn Card>,
}

impl QuadSpi {
    /// The one in `frame` of `card`.
    pub(crate) fn new(frame: Frame, card: Arc<dyn Card>) -> Self {
        Self { frame, card }
    }

    /// The same with the right to use its bus, which is one program's at a time. The core is reset, and how deep its FIFOs
    /// are is found by filling one.
    ///
    /// # Errors
    /// [`ErrorKind::Held`](jitney_vfio::ErrorKind::Held) if somebody else has it, which says who;
    /// [`FlashError::NoCore`] if what is there does not behave like an AXI Quad SPI.
    pub fn lease(self) -> Result<LeasedSpi> {
        let lease = self.card.lease(LeaseRequest::exclusive(PART.parse()?))?;
        let place = format!("the quad-spi of {}", self.card.identity());
        let mut spi = LeasedSpi { frame: self.frame, place, depth: 0, _lease: lease };
        spi.depth = spi.find_depth()?;
        spi.reset()?;
        Ok(spi)
    }
}

/// An AXI Quad SPI whose bus this program has, until it is dropped.
#[derive(Debug)]
pub struct LeasedSpi {
    frame: Frame,
    /// In errors.
    place: String,
    /// Of either FIFO, in bytes.
    depth: usize,
    _lease: Lease,
}

impl LeasedSpi {
    /// The flash on its bus, identified.
    ///
    /// # Errors
    /// [`FlashError`], which says what does not answer as it should.
    pub fn flash(self) -> Result<Flash> {
        Flash::identify(self)
    }

    /// How many bytes either FIFO holds.
    #[must_use]
    pub const fn fifo_depth(&self) -> usize {
        self.depth
    }

    /// What it is called in errors: `the quad-spi of 0000:2e:00.0 (10ee:7011)`.
    pub(crate) fn place(&self) -> &str {
        &self.place
    }

    /// Selects the device, sends it `send`, receives all of `receive` and deselects it.
    ///
    /// # Errors
    /// [`FlashError::Command`] if the core does not let `send` through, because it was generated for flashes that do not have the
    /// command of its first byte; [`FlashError::Core`] if the core finds another error or stands still. It is reset then.
    pub fn transaction(&self, send: &[u8], receive: &mut [u8]) -> Result<()> {
        let done = self.transfer(send, receive);
        let stopped = done.as_ref().err().is_some_and(crate::Error::is_of_the_bus);
        if stopped {
            self.reset()?
        } else {
            self.end()?
        }
        done
    }

    /// As a master with empty FIFOs and nothing selected.
    fn reset(&self) -> Result<()> {
        self.write(SOFT_RESET, RESET_KEY)?;
        self.end()
    }

    fn end(&self) -> Result<()> {
        self.control(master().with_inhibit(true))?;
        self.write(SLAVE_SELECT, NO_SLAVE)
    }

    fn find_depth(&self) -> Result<usize> {
        self.reset()?;
        let mut depth = 0;
        while !self.frame.sane(STATUS)?.transmit_full() && depth <= DEPTHS[1] {
            self.write(TRANSMIT, 0)?;
            depth += 1;
        }
        if DEPTHS.contains(&depth) {
            return Ok(depth);
        }
        let what = match depth {
            0 => "its FIFO is full after a reset".to_owned(),
            depth if depth > DEPTHS[1] => format!("its FIFO takes more than {} bytes", DEPTHS[1]),
            depth => format!("its FIFO takes {depth} bytes, not 16 or 256"),
        };
        Err(FlashError::NoCore { at: self.place.clone(), what }.into())
    }

    fn transfer(&self, send: &[u8], receive: &mut [u8]) -> Result<()> {
        let paused = master().with_inhibit(true);
        let total = send.len() + receive.len();
        let mut done = 0;
        while done < total {
            let batch = self.depth.min(total - done);
            // Only while nothing moves, and what came back for bytes that were sent is not worth a read.
            self.control(paused.with_reset_receive(true).with_reset_transmit(done == 0))?;
            for place in done..done + batch {
                self.write(TRANSMIT, send.get(place).copied().unwrap_or(0).into())?;
            }
            if done == 0 {
                self.write(SLAVE_SELECT, FIRST_SLAVE)?;
            }
            self.control(master())?;
            self.wait(batch, send.first().copied().unwrap_or(0))?;
            if done + batch > send.len() {
                for place in done..done + batch {
                    let [byte, ..] = self.frame.read32(RECEIVE.offset().into())?.to_le_bytes();
                    if let Some(slot) = place.checked_sub(send.len()).and_then(|place| receive.get_mut(place))
                    {
                        *slot = byte;
                    }
                }
            }
            done += batch;
        }
        Ok(())
    }

    /// Until `batch` bytes are out, and as many in. That the transmit FIFO is empty says less: the last byte is under way then.
    fn wait(&self, batch: usize, command: u8) -> Result<()> {
        let mut since = Instant::now();
        let mut last = 0;
        loop {
            let status: Status = self.frame.sane(STATUS)?;
            if status.command_error() {
                return Err(FlashError::Command { at: self.place.clone(), command }.into());
            }
            if status.has_error() {
                return Err(self.failed(format!("reports an error, its status is {:#x}", u32::from(status))));
            }
            let received = if status.receive_empty() {
                0
            } else {
                usize::try_from(self.frame.sane(RECEIVED)?).unwrap_or(usize::MAX).saturating_add(1)
            };
            if received >= batch {
                return Ok(());
            }
            if received != last {
                (last, since) = (received, Instant::now());
            } else if since.elapsed() > NO_PROGRESS {
                return Err(self.failed(format!("stands still after {received} of {batch} bytes")));
            }
        }
    }

    fn failed(&self, what: String) -> crate::Error {
        FlashError::Core { at: self.place.clone(), what }.into()
    }

    fn control(&self, control: Control) -> Result<()> {
        self.write(CONTROL, control)
    }

    fn write<V: Into<u32>, A>(&self, register: Register<V, A>, value: V) -> Result<()> {
        self.frame.write32(register.offset().into(), value.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bits_are_where_the_product_guide_has_them() {
        assert_eq!(u32::from(master().with_inhibit(true)), 0x186);
        assert_eq!(u32::from(master().with_reset_receive(true).with_reset_transmit(true)), 0xe6);
        assert!(Status::from(1 << 10).command_error() && Status::from(1 << 7).has_error());
        assert!(!Status::from(0x25).has_error());
    }
}
