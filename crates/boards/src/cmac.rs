//! 100G Ethernet of UltraScale+: whether the link is up, and what was counted (PG203, "AXI4-Lite Register Space").

use crate::error::Result;
use crate::frame::Frame;
use bitfield_struct::bitfield;
use jitney_designs::Kind;
use jitney_registers::{Block, ReadOnly, ReadWrite, Register, WriteOnly};
use jitney_vfio::{Card, Lease, LeaseRequest};
use serde::Serialize;
use std::sync::Arc;

const CONFIGURATION_TX: Register<u32, ReadWrite> = Register::new(0x00c);
const CONFIGURATION_RX: Register<u32, ReadWrite> = Register::new(0x014);
const CORE_VERSION: Register<u32, ReadOnly> = Register::new(0x024);
/// Latched: what was bad once reads so once more.
const RX_STATUS: Register<RxStatus, ReadOnly> = Register::new(0x204);
const TICK: Register<u32, WriteOnly> = Register::new(0x2b0);
const ENABLE: u32 = 1 << 0;

/// Counters of 48 bits, low word first: name and offset.
const SENT: [(&str, u32); 25] = [
    ("packets", 0x500),
    ("good packets", 0x508),
    ("bytes", 0x510),
    ("good bytes", 0x518),
    ("64 bytes", 0x520),
    ("65 to 127 bytes", 0x528),
    ("128 to 255 bytes", 0x530),
    ("256 to 511 bytes", 0x538),
    ("512 to 1023 bytes", 0x540),
    ("1024 to 1518 bytes", 0x548),
    ("1519 to 1522 bytes", 0x550),
    ("1523 to 1548 bytes", 0x558),
    ("1549 to 2047 bytes", 0x560),
    ("2048 to 4095 bytes", 0x568),
    ("4096 to 8191 bytes", 0x570),
    ("8192 to 9215 bytes", 0x578),
    ("large", 0x580),
    ("small", 0x588),
    ("bad FCS", 0x5b8),
    ("unicast", 0x5d0),
    ("multicast", 0x5d8),
    ("broadcast", 0x5e0),
    ("VLAN", 0x5e8),
    ("pause", 0x5f0),
    ("user pause", 0x5f8),
];
const RECEIVED: [(&str, u32); 34] = [
    ("packets", 0x608),
    ("good packets", 0x610),
    ("bytes", 0x618),
    ("good bytes", 0x620),
    ("64 bytes", 0x628),
    ("65 to 127 bytes", 0x630),
    ("128 to 255 bytes", 0x638),
    ("256 to 511 bytes", 0x640),
    ("512 to 1023 bytes", 0x648),
    ("1024 to 1518 bytes", 0x650),
    ("1519 to 1522 bytes", 0x658),
    ("1523 to 1548 bytes", 0x660),
    ("1549 to 2047 bytes", 0x668),
    ("2048 to 4095 bytes", 0x670),
    ("4096 to 8191 bytes", 0x678),
    ("8192 to 9215 bytes", 0x680),
    ("large", 0x688),
    ("small", 0x690),
    ("undersize", 0x698),
    ("fragment", 0x6a0),
    ("oversize", 0x6a8),
    ("too long", 0x6b0),
    ("jabber", 0x6b8),
    ("bad FCS", 0x6c0),
    ("packet with bad FCS", 0x6c8),
    ("stomped FCS", 0x6d0),
    ("unicast", 0x6d8),
    ("multicast", 0x6e0),
    ("broadcast", 0x6e8),
    ("VLAN", 0x6f0),
    ("pause", 0x6f8),
    ("user pause", 0x700),
    ("length out of range", 0x708),
    ("truncated", 0x710),
];

/// "STAT_RX_STATUS_REG".
#[bitfield(u32)]
struct RxStatus {
    status: bool,
    aligned: bool,
    misaligned: bool,
    alignment_error: bool,
    high_bit_error_rate: bool,
    remote_fault: bool,
    internal_local_fault: bool,
    received_local_fault: bool,
    #[bits(24)]
    __: u32,
}

/// What the receiver sees.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct LinkState {
    /// The link is up.
    pub up: bool,
    /// All lanes are aligned.
    pub aligned: bool,
    /// The partner says that it does not hear this port.
    pub remote_fault: bool,
    /// This port does not hear its partner, or the partner says that of its own.
    pub local_fault: bool,
    /// More bits are wrong than may be.
    pub high_bit_error_rate: bool,
}

/// A counter and what it counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Counter {
    /// What it counts.
    pub name: &'static str,
    /// How often.
    pub count: u64,
}

/// What a port counted since the statistics were last taken.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Statistics {
    /// What it sent.
    pub sent: Vec<Counter>,
    /// What it received.
    pub received: Vec<Counter>,
}

impl Statistics {
    /// A counter of what was received, by its name.
    #[must_use]
    pub fn received(&self, name: &str) -> Option<u64> {
        self.received.iter().find(|counter| counter.name == name).map(|counter| counter.count)
    }

    /// A counter of what was sent, by its name.
    #[must_use]
    pub fn sent(&self, name: &str) -> Option<u64> {
        self.sent.iter().find(|counter| counter.name == name).map(|counter| counter.count)
    }
}

/// A port of 100G Ethernet.
#[derive(Debug, Clone)]
pub struct Cmac {
    frame: Frame,
    card: Arc<dyn Card>,
    /// The part that who changes it leases.
    part: String,
}

impl Cmac {
    /// Number `index` of its kind, in `frame` of `card`.
    pub(crate) fn new(frame: Frame, card: Arc<dyn Card>, index: usize) -> Self {
        let kind = Kind::Cmac.to_string();
        let part = if index == 0 { kind } else { format!("{kind}{index}") };
        Self { frame, card, part }
    }

    /// The version of the core: major and minor.
    ///
    /// # Errors
    /// [`ErrorKind::LinkDown`](jitney_vfio::ErrorKind::LinkDown) if a register reads as all-ones, here and in what follows.
    pub fn version(&self) -> Result<[u8; 2]> {
        let [_, _, major, minor] = self.frame.sane(CORE_VERSION)?.to_be_bytes();
        Ok([major, minor])
    }

    /// The right to change it and to take its statistics, which is one program's at a time: taking them begins them anew, and
    /// reading the state of the link forgets what was.
    ///
    /// # Errors
    /// [`ErrorKind::Held`](jitney_vfio::ErrorKind::Held) if somebody else has it, which says who.
    pub fn lease(&self) -> Result<LeasedCmac> {
        let lease = self.card.lease(LeaseRequest::exclusive(self.part.parse()?))?;
        Ok(LeasedCmac { cmac: self.clone(), _lease: lease })
    }
}

/// A port that this program may change, until it is dropped. It stays as it is then.
#[derive(Debug)]
pub struct LeasedCmac {
    cmac: Cmac,
    _lease: Lease,
}

impl LeasedCmac {
    /// Switches receiver and transmitter on or off.
    ///
    /// # Errors
    /// As [`Cmac::version`].
    pub fn enable(&self, receiver: bool, transmitter: bool) -> Result<()> {
        for (register, on) in [(CONFIGURATION_RX, receiver), (CONFIGURATION_TX, transmitter)] {
            let word = self.cmac.frame.sane(register)?;
            let word = if on { word | ENABLE } else { word & !ENABLE };
            self.registers().write(register, word)?;
        }
        Ok(())
    }

    /// What the receiver sees now.
    ///
    /// # Errors
    /// As [`Cmac::version`].
    pub fn link(&self) -> Result<LinkState> {
        // The first read has what was since the last one.
        self.cmac.frame.sane(RX_STATUS)?;
        let status = self.cmac.frame.sane(RX_STATUS)?;
        Ok(LinkState {
            up: status.status(),
            aligned: status.aligned(),
            remote_fault: status.remote_fault(),
            local_fault: status.internal_local_fault() || status.received_local_fault(),
            high_bit_error_rate: status.high_bit_error_rate(),
        })
    }

    /// What was counted since this was last called, by whomever.
    ///
    /// # Errors
    /// As [`Cmac::version`].
    pub fn take_statistics(&self) -> Result<Statistics> {
        self.registers().write(TICK, 1)?;
        let all = |counters: &[(&'static str, u32)]| {
            counters.iter().map(|(name, offset)| self.counter(name, *offset)).collect::<Result<Vec<_>>>()
        };
        Ok(Statistics { sent: all(&SENT)?, received: all(&RECEIVED)? })
    }

    fn counter(&self, name: &'static str, offset: u32) -> Result<Counter> {
        let low: Register<u32, ReadOnly> = Register::new(offset);
        // The upper word has 16 bits, so that all-ones is no count.
        let high = self.cmac.frame.sane(low.nth(1, 4))?;
        let low = self.registers().read(low)?;
        Ok(Counter { name, count: u64::from(high & 0xffff) << 32 | u64::from(low) })
    }

    fn registers(&self) -> Block<&Frame> {
        Block::new(&self.cmac.frame, 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn no_two_counters_share_a_register() {
        let offsets: BTreeSet<u32> = SENT.iter().chain(&RECEIVED).map(|(_, offset)| *offset).collect();
        assert_eq!(offsets.len(), SENT.len() + RECEIVED.len());
        assert!(offsets.iter().all(|offset| offset.is_multiple_of(8)));
        for (counters, first, last) in [(&SENT[..], 0x500, 0x5f8), (&RECEIVED[..], 0x608, 0x710)] {
            assert_eq!((counters.first().unwrap().1, counters.last().unwrap().1), (first, last));
        }
    }
}
