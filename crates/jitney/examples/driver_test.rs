//! Testing your own driver without a card: a fake card in the same process, with registers that you model.
//!
//!   cargo run --example driver_test

#![expect(clippy::print_stdout, reason = "it is a program")]

use jitney::vfio::{Card, DmaRequest, Error, FakeBar, FakeCard, FakeHost};
use std::sync::Arc;

/// The driver under test: a card that adds one to a word in host memory when its address is written to register 0.
struct Incrementer {
    card: Arc<dyn Card>,
}

impl Incrementer {
    fn increment(&self, value: u32) -> Result<u32, Error> {
        let buffer = self.card.dma_buffer(DmaRequest::new(4096).below(u32::MAX.into()))?;
        buffer.write(0, &value.to_le_bytes())?;
        let address = u32::try_from(buffer.iova()).unwrap_or(0);
        self.card.bar(0)?.write32(0, address)?;
        let mut word = [0; 4];
        buffer.read(0, &mut word)?;
        Ok(u32::from_le_bytes(word))
    }
}

/// The model of the card.
struct Model {
    host: FakeHost,
}

impl FakeBar for Model {
    fn read32(&self, _offset: u64) -> u32 {
        0
    }

    fn write32(&self, _offset: u64, value: u32) {
        let mut word = [0; 4];
        // An address that is not mapped is a fault of the driver: a real IOMMU would stop it, too.
        if self.host.read(value.into(), &mut word).is_ok() {
            let next = u32::from_le_bytes(word).wrapping_add(1);
            let _ = self.host.write(value.into(), &next.to_le_bytes());
        }
    }

    fn reset(&self) {}
}

fn main() -> anyhow::Result<()> {
    let host = FakeHost::new();
    let card =
        FakeCard::builder(&host, 0x1234, 0x5678).bar(0, 0x1000, Model { host: host.clone() }).build()?;
    let driver = Incrementer { card };
    anyhow::ensure!(driver.increment(41)? == 42, "the driver does not increment");
    println!("the driver works, and no card was needed");
    Ok(())
}
