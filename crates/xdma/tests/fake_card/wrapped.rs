//! A fake card whose configuration space answers otherwise.

use jitney_vfio::{
    BarInfo, Card, DmaBuffer, DmaRequest, Error, ErrorKind, FakeCard, Identity, Interrupt, Lease,
    LeaseRequest, Notices, Region, Result, Trap,
};
use std::sync::Arc;

/// What is the matter with configuration space.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Config {
    /// Every access fails.
    Fails(ErrorKind),
    /// Bus mastering stays on.
    StaysMaster,
    /// The ids are there, and nothing else: what the kernel shows of a card that was pulled out.
    OnlyIds,
}

impl Trap for Config {
    fn read(&self, offset: u64, data: &mut [u8]) -> Result<()> {
        match (self, offset) {
            (Self::Fails(kind), _) => return Err(Error::new(*kind, "configuration space does not answer")),
            (Self::OnlyIds, 4..) => data.fill(0xff),
            _ => data.copy_from_slice(&[4, 0, 0, 0][..data.len()]),
        }
        Ok(())
    }

    fn write(&self, _offset: u64, _data: &[u8]) -> Result<()> {
        match self {
            Self::Fails(kind) => Err(Error::new(*kind, "configuration space does not answer")),
            Self::StaysMaster | Self::OnlyIds => Ok(()),
        }
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
        Ok(Region::new("configuration space", 256, Arc::new(self.config), None))
    }

    fn dma_buffer(&self, request: DmaRequest) -> Result<DmaBuffer> {
        self.card.dma_buffer(request)
    }

    fn lease(&self, request: LeaseRequest) -> Result<Lease> {
        self.card.lease(request)
    }

    fn interrupt(&self, vector: u16) -> Result<Interrupt> {
        self.card.interrupt(vector)
    }

    fn notices(&self) -> Result<Notices> {
        self.card.notices()
    }

    fn reset(&self) -> Result<()> {
        self.card.reset()
    }
}
