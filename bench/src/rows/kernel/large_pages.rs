//! A large DMA buffer for which no huge pages were reserved, beside one of reserved ones, by both of the kernel's interfaces; and
//! the first pass over it.
//!
//! Nothing but the kernel, and the IOMMU that QEMU emulates, works on either.

use crate::figure::{Bar, Figure, Unit};
use crate::rounds::{Rounds, timed};
use crate::rows::{Wish, first_pass};
use anyhow::ensure;
use jitney_memory::{HugePool, PageSize};
use jitney_vfio::{CardAddress, DmaBuffer, DmaRequest, IommuInterface, OpenOptions, Owner};

/// What the guest has huge pages for.
const SIZE: u64 = 1 << 30;

/// Smaller, as all of it is gone over by an emulated processor.
const PASS: u64 = 128 << 20;

const INTERFACES: [(IommuInterface, &str); 2] =
    [(IommuInterface::Group, "type1"), (IommuInterface::Iommufd, "iommufd")];

pub(super) fn measure(card: &CardAddress, wish: Wish) -> anyhow::Result<Vec<Figure>> {
    let mut figures = Vec::new();
    for (iommu, name) in INTERFACES {
        let options = OpenOptions { iommu, ..OpenOptions::default() };
        let owner = Owner::open_with(std::slice::from_ref(card), options)?;
        figures.push(mapped(&owner, name, wish)?);
        let what = format!("first pass over a new DMA buffer of 128 MiB, {name}");
        let make = || Ok(owner.dma_buffer(PASS)?);
        figures.push(first_pass::figure(&what, PASS, make, DmaBuffer::free, wish)?);
    }
    Ok(figures)
}

/// Both buffers are made and freed; the time is that of making them.
fn mapped(owner: &Owner, name: &str, wish: Wish) -> anyhow::Result<Figure> {
    let free = HugePool::of(PageSize::Huge2M).free;
    ensure!(free >= SIZE >> 21, "{free} huge pages are free");
    let mut large = 0;
    let mut make = |pages| {
        let mut buffer = None;
        let time = timed(|| {
            buffer = Some(owner.dma_buffer(DmaRequest::new(SIZE).of(pages))?);
            anyhow::Ok(())
        })?;
        if let Some(buffer) = buffer {
            if pages == PageSize::Normal {
                large = buffer.on_large_pages()?;
            }
            buffer.free()?;
        }
        Ok(time)
    };
    let make = std::cell::RefCell::new(&mut make);
    let rounds = Rounds::measure(
        "large DMA buffers on a real kernel",
        wish.rounds(8),
        [&mut || make.borrow_mut()(PageSize::Normal), &mut || make.borrow_mut()(PageSize::Huge2M)],
    )?;
    Ok(Figure {
        what: format!("a DMA buffer of 1 GiB, {name}: nothing reserved ÷ huge pages reserved"),
        measured: rounds.ratio(0, 1),
        unit: Unit::Ratio,
        bar: Bar::AtMost(3.0),
        detail: format!(
            "{:.0} and {:.0} ms; {} MiB on large pages",
            rounds.seconds(0) * 1e3,
            rounds.seconds(1) * 1e3,
            large >> 20
        ),
    })
}
