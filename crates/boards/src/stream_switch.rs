//! The AXI4-Stream switch: which stream from the host goes to which stream to the host (PG085, "Control Register Routing").

use crate::error::{Error, Result};
use crate::frame::Frame;
use jitney_registers::{ReadWrite, Register, RegisterSpace};
use jitney_vfio::{Card, ErrorKind, Lease, LeaseRequest};
use std::sync::Arc;

/// Control: bit 1 has the switch take over the routes that were written.
const CONTROL: Register<u32, ReadWrite> = Register::new(0x00);
const COMMIT: u32 = 1 << 1;
/// The route to each master port, four bytes apart: the slave port in bits 3:0, or bit 31 for none.
const ROUTES: u64 = 0x40;
const DISABLED: u32 = 1 << 31;
const SLAVE: u32 = 0xf;

/// The part of a card that who changes routes leases.
const PART: &str = "stream-switch";

/// The switch of a board. Its slave ports are the H2C channels and its master ports the C2H channels, by number.
///
/// ```no_run
/// # fn f(board: &jitney_boards::Board) -> Result<(), jitney_boards::Error> {
/// let switch = board.stream_switch()?.lease()?; // nobody else changes routes while it lives
/// switch.set_routes(&[Some(1), Some(0)])?; // what H2C 1 sends arrives at C2H 0, and the other way round
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
pub struct StreamSwitch {
    frame: Frame,
    card: Arc<dyn Card>,
}

impl StreamSwitch {
    /// The one in `frame` of `card`.
    pub(crate) fn new(frame: Frame, card: Arc<dyn Card>) -> Self {
        Self { frame, card }
    }

    /// How many ports it has on either side.
    #[must_use]
    pub fn ports(&self) -> u8 {
        self.frame.peripheral().ports
    }

    /// Which H2C channel feeds each C2H channel, in the order of these; nothing where none does. After a reset none does.
    ///
    /// # Errors
    /// [`ErrorKind::LinkDown`](jitney_vfio::ErrorKind::LinkDown) if it reads as all-ones.
    pub fn routes(&self) -> Result<Vec<Option<u8>>> {
        (0..self.ports()).map(|port| self.route(port)).collect()
    }

    fn route(&self, port: u8) -> Result<Option<u8>> {
        let offset = ROUTES + 4 * u64::from(port);
        let word = self.frame.read32(offset)?;
        if word == u32::MAX {
            return Err(self.frame.link_down(u32::try_from(offset).unwrap_or(u32::MAX)));
        }
        let slave = u8::try_from(word & SLAVE).unwrap_or(u8::MAX);
        Ok((word & DISABLED == 0).then_some(slave))
    }

    /// The same switch with the right to change its routes, which is one program's at a time.
    ///
    /// # Errors
    /// [`ErrorKind::Held`](jitney_vfio::ErrorKind::Held) if somebody else has it, which says who.
    pub fn lease(self) -> Result<LeasedSwitch> {
        let lease = self.card.lease(LeaseRequest::exclusive(PART.parse()?))?;
        Ok(LeasedSwitch { switch: self, _lease: lease })
    }
}

/// A switch whose routes this program may change, until it is dropped. They stay as they are then.
#[derive(Debug)]
pub struct LeasedSwitch {
    switch: StreamSwitch,
    _lease: Lease,
}

impl LeasedSwitch {
    /// The switch.
    #[must_use]
    pub const fn switch(&self) -> &StreamSwitch {
        &self.switch
    }

    /// Has each C2H channel fed by the H2C channel that `routes` names at its place, or by none. Nothing is written if that
    /// is so already: the switch restarts when it is told, and packets that are under way wait for some clocks.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`](jitney_vfio::ErrorKind::Invalid) if there are not as many as ports, a port is not there, or one feeds
    /// two channels, which a switch cannot; or that nobody answers.
    pub fn set_routes(&self, routes: &[Option<u8>]) -> Result<()> {
        self.check(routes)?;
        if self.switch.routes()? == routes {
            return Ok(());
        }
        for (offset, route) in (ROUTES..).step_by(4).zip(routes) {
            self.switch.frame.write32(offset, route.map_or(DISABLED, u32::from))?;
        }
        self.switch.frame.write32(CONTROL.offset().into(), COMMIT)
    }

    fn check(&self, routes: &[Option<u8>]) -> Result<()> {
        let (card, ports) = (self.switch.card.identity(), usize::from(self.switch.ports()));
        let refused = |why: String| {
            let what = format!("the stream-switch of {card} has no such routes: {why}");
            let remedy = format!("it has {ports} ports on either side, counted from 0");
            Err(Error::from(jitney_vfio::Error::new(ErrorKind::Invalid, what).with_remedy(remedy)))
        };
        if routes.len() != ports {
            return refused(format!("{} were given", routes.len()));
        }
        for (place, slave) in routes.iter().enumerate().filter_map(|(place, slave)| Some((place, (*slave)?)))
        {
            if usize::from(slave) >= ports {
                return refused(format!("C2H {place} from H2C {slave}"));
            }
            if routes[..place].contains(&Some(slave)) {
                return refused(format!("H2C {slave} would feed two channels"));
            }
        }
        Ok(())
    }
}
