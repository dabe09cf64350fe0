//! A large DMA buffer for which no huge pages were reserved, beside one of reserved ones, by both of the kernel's interfaces; and
//! the first pass over it.
//!
//! Nothing but the kernel, and the IOMMU that QEMU emulates, works on either.

use crate::figure::{Bar, Figure, Unit};
use crate::rounds::{Rounds, timed};
use crate::rows::{Wish, first_pass};
use anyhow::{Context, ensure};
use jitney_memory::{HugePool, PageSize};
use jitney_vfio::{CardAddress, DmaBuffer, DmaRequest, IommuInterface, OpenOptions, Owner};
use std::cell::Cell;

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

/// What forbids large pages for memory for which none were reserved.
const CHOICE: &str = "/sys/kernel/mm/transparent_hugepage/shmem_enabled";
const DENY: &str = "deny";
/// The kernel's default: only who asks has them.
const NEVER: &str = "never";

/// All buffers are made and freed; the time is that of making them. For the detail there is also one for which the kernel may
/// have no large pages.
fn mapped(owner: &Owner, name: &str, wish: Wish) -> anyhow::Result<Figure> {
    let free = HugePool::of(PageSize::Huge2M).free;
    ensure!(free >= SIZE >> 21, "{free} huge pages are free");
    let large = Cell::new(0);
    let make = |pages, choice| {
        std::fs::write(CHOICE, choice).with_context(|| format!("writing to {CHOICE}"))?;
        let mut made = None;
        let time = timed(|| {
            made = Some(owner.dma_buffer(DmaRequest::new(SIZE).of(pages))?);
            anyhow::Ok(())
        })?;
        let buffer = made.context("a buffer that was made")?;
        let on_large_pages = buffer.on_large_pages()?;
        match choice {
            DENY => ensure!(on_large_pages == 0, "large pages that were forbidden"),
            _ if pages == PageSize::Normal => large.set(on_large_pages),
            _ => {}
        }
        buffer.free()?;
        Ok(time)
    };
    let rounds = Rounds::measure(
        "large DMA buffers on a real kernel",
        wish.rounds(8),
        [&mut || make(PageSize::Normal, NEVER), &mut || make(PageSize::Huge2M, NEVER), &mut || {
            make(PageSize::Normal, DENY)
        }],
    )?;
    std::fs::write(CHOICE, NEVER).with_context(|| format!("writing to {CHOICE}"))?;
    let each = [0, 1, 2].map(|side| format!("{:.0}", rounds.seconds(side) * 1e3));
    let [collapsed, reserved, normal] = each;
    Ok(Figure {
        what: format!("a DMA buffer of 1 GiB, {name}: nothing reserved ÷ huge pages reserved"),
        measured: rounds.ratio(0, 1),
        unit: Unit::Ratio,
        bar: Bar::AtMost(3.0),
        detail: format!(
            "{collapsed} and {reserved} ms; {} MiB on large pages; {normal} ms where those are forbidden",
            large.get() >> 20
        ),
    })
}
