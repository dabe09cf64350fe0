//! A fake card whose configuration space answers otherwise.

use jitney_vfio::{
    BarInfo, Card, DmaBuffer, DmaRequest, Error, ErrorKind, FakeCard, Identity, Interrupt, Lease,
    LeaseRequest, Notices, Region, Result, SharedInterrupt, StillUsed, Trap,
};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU16, Ordering};

/// What is the matter with configuration space.
#[derive(Debug, Clone)]
pub(crate) enum Config {
    /// Every access fails.
    Fails(ErrorKind),
    /// Bus mastering stays on.
    StaysMaster,
    /// What the kernel shows of a card that was pulled out: the ids, and a bit of the command register that is its own.
    OnlyIds,
    /// The same from the moment on at which the command register is written.
    Going(Arc<AtomicBool>),
    /// Nothing; this is the command register.
    Command(Arc<AtomicU16>),
}

impl Trap for Config {
    fn read(&self, offset: u64, data: &mut [u8]) -> Result<()> {
        let gone = match self {
            Self::Fails(kind) => return Err(Error::new(*kind, "configuration space does not answer")),
            Self::OnlyIds => true,
            Self::Going(gone) => gone.load(Ordering::Relaxed),
            Self::StaysMaster | Self::Command(_) => false,
        };
        let value: u32 = match (self, offset) {
            (_, 0) => 0x7011_10ee,
            (_, 4) if gone => 0xfbff,
            _ if gone => u32::MAX,
            (Self::Command(command), 4) => command.load(Ordering::Relaxed).into(),
            (_, 4) => 4,
            _ => 0,
        };
        data.copy_from_slice(&value.to_le_bytes()[..data.len()]);
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> Result<()> {
        match self {
            Self::Fails(kind) => return Err(Error::new(*kind, "configuration space does not answer")),
            Self::StaysMaster => {}
            Self::OnlyIds => panic!("a card that is gone was written to"),
            Self::Going(gone) => gone.store(true, Ordering::Relaxed),
            Self::Command(command) => {
                assert_eq!(offset, 4);
                command.store(u16::from_le_bytes(data.try_into().unwrap()), Ordering::Relaxed);
            }
        }
        Ok(())
    }
}

#[derive(Debug)]
pub(crate) struct Wrapped {
    pub(crate) card: Arc<FakeCard>,
    pub(crate) config: Config,
}

impl Card for Wrapped {
    fn identity(&self) -> &Identity {
        self.card.identity()
    }

    fn bars(&self) -> &[BarInfo; 6] {
        self.card.bars()
    }

    fn bar(&self, index: usize) -> Result<Region> {
        self.card.bar(index)
    }

    fn config(&self) -> Result<Region> {
        Ok(Region::new("configuration space", 256, Arc::new(self.config.clone()), None))
    }

    fn dma_buffer(&self, request: DmaRequest) -> Result<DmaBuffer> {
        self.card.dma_buffer(request)
    }

    fn lease(&self, request: LeaseRequest) -> Result<Lease> {
        self.card.lease(request)
    }

    fn vectors(&self) -> Result<u32> {
        self.card.vectors()
    }

    fn interrupt(&self, vector: u16) -> Result<Interrupt> {
        self.card.interrupt(vector)
    }

    fn shared_interrupt(&self, vector: u16, source: u8) -> Result<SharedInterrupt> {
        self.card.shared_interrupt(vector, source)
    }

    fn notices(&self) -> Result<Notices> {
        self.card.notices()
    }

    fn still_used(&self) -> &StillUsed {
        self.card.still_used()
    }

    fn reset(&self) -> Result<()> {
        self.card.reset()
    }
}
