//! Building a fake card, and the card.

use super::host::FakeHost;
use super::transport::{Bar, FakeBar, FakeTransport};
use crate::address_space::AddressSpace;
use crate::card::Card;
use crate::device::Device;
use crate::dma::{DmaBuffer, DmaRequest};
use crate::error::{Error, ErrorKind, Result};
use crate::identity::{BarInfo, Identity};
use crate::interrupt::Interrupt;
use crate::lease::LeaseRequest;
use crate::leased::Lease;
use crate::notices::Notices;
use crate::open::OpenedSpace;
use crate::opened::OpenedCard;
use crate::owned::OwnedCard;
use crate::owner::Owner;
use crate::region::Region;
use crate::shared_interrupt::SharedInterrupt;
use crate::still_used::StillUsed;
use std::sync::{Arc, Mutex, PoisonError};

/// A card made of a register model. All but the registers is the same code that owns real cards.
#[derive(Debug)]
pub struct FakeCard {
    card: Arc<OwnedCard>,
    granted: Mutex<Vec<LeaseRequest>>,
}

/// What a fake card is going to be.
pub struct FakeBuilder {
    host: FakeHost,
    identity: Identity,
    bars: Vec<(usize, Bar)>,
    vectors: u16,
}

impl FakeCard {
    /// A card with these ids, no BARs and no interrupts, in the machine `host`.
    #[must_use]
    pub fn builder(host: &FakeHost, vendor: u16, device: u16) -> FakeBuilder {
        let identity = Identity {
            address: "fake".into(),
            vendor,
            device,
            subsystem_vendor: 0,
            subsystem_device: 0,
            revision: 0,
            class: 0x05_8000,
        };
        FakeBuilder { host: host.clone(), identity, bars: Vec::new(), vectors: 0 }
    }

    /// The leases that are live, oldest first.
    #[must_use]
    pub fn leases(&self) -> Vec<LeaseRequest> {
        self.card.leases()
    }

    /// Every lease that was granted by [`Card::lease`] since the card was built, with its will, oldest first.
    #[must_use]
    pub fn granted(&self) -> Vec<LeaseRequest> {
        self.granted.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl FakeBuilder {
    /// Gives it another address than `fake`.
    #[must_use]
    pub fn address(mut self, address: impl Into<String>) -> Self {
        self.identity.address = address.into();
        self
    }

    /// Gives it subsystem ids, which are zero otherwise.
    #[must_use]
    pub fn subsystem(mut self, vendor: u16, device: u16) -> Self {
        self.identity.subsystem_vendor = vendor;
        self.identity.subsystem_device = device;
        self
    }

    /// Gives it a revision, which is zero otherwise.
    #[must_use]
    pub fn revision(mut self, revision: u8) -> Self {
        self.identity.revision = revision;
        self
    }

    /// Gives it BAR `index` of `size` bytes, whose registers are `model`.
    #[must_use]
    pub fn bar(mut self, index: usize, size: u64, model: impl FakeBar + 'static) -> Self {
        self.bars.push((index, (size, Box::new(model))));
        self
    }

    /// Gives it this many interrupt vectors (MSI-X).
    #[must_use]
    pub fn vectors(mut self, vectors: u16) -> Self {
        self.vectors = vectors;
        self
    }

    /// The card for a driver.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub fn build(self) -> Result<Arc<FakeCard>> {
        let opened = self.open()?;
        let space = AddressSpace::new(vec![Arc::clone(opened.mapper())]);
        let owner = Owner::of(vec![OpenedSpace { cards: vec![opened], space }])?;
        let card = Arc::clone(&owner.cards()[0]);
        Ok(Arc::new(FakeCard { card, granted: Mutex::default() }))
    }

    /// The card for an owner, with bus mastering off.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`] for a BAR that no card can have: above 5, of no size, or there twice.
    pub fn open(self) -> Result<OpenedCard> {
        let mut bars: [Option<Bar>; 6] = Default::default();
        for (index, bar) in self.bars {
            match bars.get_mut(index) {
                Some(slot @ None) if bar.0 > 0 => *slot = Some(bar),
                _ => {
                    let what = format!("BAR {index} of {:#x} bytes cannot be, or is there already", bar.0);
                    return Err(Error::new(ErrorKind::Invalid, what));
                }
            }
        }
        let address = self.identity.address.clone();
        let (host, identity, vectors) = (self.host.clone(), self.identity, self.vectors);
        let device = Device::new(address, Arc::new(FakeTransport { host, identity, bars, vectors }))?;
        OpenedCard::new(device, Arc::new(self.host))
    }
}

impl Card for FakeCard {
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
        self.card.config()
    }

    fn dma_buffer(&self, request: DmaRequest) -> Result<DmaBuffer> {
        self.card.dma_buffer(request)
    }

    fn lease(&self, request: LeaseRequest) -> Result<Lease> {
        let lease = self.card.lease(request.clone())?;
        self.granted.lock().unwrap_or_else(PoisonError::into_inner).push(request);
        Ok(lease)
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
