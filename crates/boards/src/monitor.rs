//! Everything on a board that measures, whatever it is.

use crate::board::Board;
use crate::cms::Cms;
use crate::error::Result;
use crate::sensor::Reading;
use crate::sysmon::Sysmon;
use crate::xadc::Xadc;
use jitney_designs::Kind;
use std::sync::Arc;

/// Something on a board that measures: an XADC, the SYSMON of one die, the Alveo card management.
#[derive(Debug, Clone)]
pub struct Monitor {
    name: String,
    source: Source,
}

#[derive(Debug, Clone)]
enum Source {
    Xadc(Xadc),
    Sysmon(Sysmon, u8),
    Cms(Cms),
}

impl Monitor {
    /// What it is called: `xadc`, `sysmon`, or of several dies `sysmon die 1`.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Whether its [readings](Self::readings) only read: all but those of a card management, which has to be started.
    #[must_use]
    pub const fn only_reads(&self) -> bool {
        !matches!(self.source, Source::Cms(_))
    }

    /// What all its sensors say. Nothing that is read changes by it, so it needs no lease and can be done while others use
    /// the board. One thing is written: the firmware of a card management that is in reset is [started](Cms::start).
    ///
    /// # Errors
    /// [`ErrorKind::LinkDown`](jitney_vfio::ErrorKind::LinkDown) if a register reads as all-ones, and what [`Cms::start`]
    /// answers.
    pub fn readings(&self) -> Result<Vec<Reading>> {
        match &self.source {
            Source::Xadc(xadc) => Ok(xadc.readings()?.list()),
            Source::Sysmon(sysmon, die) => Ok(sysmon.die(*die)?.list()),
            Source::Cms(cms) => {
                cms.start()?;
                cms.readings()
            }
        }
    }
}

/// Whether a peripheral of this kind measures something.
const fn measures(kind: Kind) -> bool {
    matches!(kind, Kind::Xadc | Kind::Sysmon | Kind::Cms)
}

impl Board {
    /// Whether there is anything on it that measures.
    #[must_use]
    pub fn has_sensors(&self) -> bool {
        self.summary().peripherals.iter().any(|own| measures(own.kind))
    }

    /// Everything on it that measures, in the order of the catalogue.
    ///
    /// # Errors
    /// [`Error::OutsideBar`](crate::Error::OutsideBar) if the card's BAR is too small for one of them.
    pub fn monitors(&self) -> Result<Vec<Monitor>> {
        let mut monitors = Vec::new();
        for frame in self.peripherals() {
            // What does not fit and measures nothing is none of ours.
            let frame = match frame {
                Err(crate::Error::OutsideBar { kind, .. }) if !measures(kind) => continue,
                frame => frame?,
            };
            let kind = frame.peripheral().kind;
            let name = frame.peripheral().name.clone().unwrap_or_else(|| kind.to_string());
            match kind {
                Kind::Xadc => monitors.push(Monitor { name, source: Source::Xadc(Xadc::new(frame)) }),
                Kind::Sysmon => {
                    let sysmon = Sysmon::new(frame);
                    let dies = sysmon.dies();
                    monitors.extend((0..dies).map(|die| Monitor {
                        name: if dies > 1 { format!("{name} die {die}") } else { name.clone() },
                        source: Source::Sysmon(sysmon.clone(), die),
                    }));
                }
                Kind::Cms => {
                    let cms = Cms::new(frame, Arc::clone(self.card()));
                    monitors.push(Monitor { name, source: Source::Cms(cms) });
                }
                _ => {}
            }
        }
        Ok(monitors)
    }
}
