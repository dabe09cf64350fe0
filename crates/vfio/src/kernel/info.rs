//! Reading what the kernel answers in a buffer: descriptions with a chain of capabilities behind them
//! (`struct vfio_info_cap_header` in `include/uapi/linux/vfio.h`).
//!
//! The bytes are taken as they come: every offset and every count is checked against what is there.

use serde::{Deserialize, Serialize};
use std::mem::offset_of;
use std::ops::RangeInclusive;
use vfio_bindings::bindings::vfio::{
    VFIO_IOMMU_INFO_CAPS, VFIO_IOMMU_INFO_PGSIZES, VFIO_IOMMU_TYPE1_INFO_CAP_IOVA_RANGE,
    VFIO_IOMMU_TYPE1_INFO_DMA_AVAIL, VFIO_REGION_INFO_CAP_SPARSE_MMAP, VFIO_REGION_INFO_FLAG_CAPS,
    VFIO_REGION_INFO_FLAG_MMAP, VFIO_REGION_INFO_FLAG_READ, VFIO_REGION_INFO_FLAG_WRITE,
    vfio_info_cap_header, vfio_iommu_type1_info, vfio_iommu_type1_info_cap_iova_range,
    vfio_iommu_type1_info_dma_avail, vfio_pci_dependent_device, vfio_pci_hot_reset_info, vfio_region_info,
    vfio_region_info_cap_sparse_mmap,
};

/// An answer that contradicts itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum Malformed {
    #[error("the kernel's answer ends at byte {length}, before the field at {offset}")]
    Short { offset: usize, length: usize },
    #[error("capability {id} at byte {offset} of the kernel's answer does not lead on to a later one")]
    Chain { id: u16, offset: usize },
    #[error("the kernel's answer has the IOVA range {start:#x} to {last:#x} out of order")]
    Range { start: u64, last: u64 },
}

type Result<T> = std::result::Result<T, Malformed>;

/// A region as the kernel describes it.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(super) struct Region {
    /// Size in bytes; 0 if it is not there.
    pub(super) size: u64,
    /// Where it begins in the device's file.
    pub(super) offset: u64,
    flags: u32,
    /// The areas that can be mapped, offset and size of each, if not all of it can be.
    sparse: Option<Vec<(u64, u64)>>,
}

impl Region {
    /// Reads a `vfio_region_info`.
    pub(super) fn parse(answer: &[u8]) -> Result<Self> {
        let mut region = Self {
            size: u64_at(answer, offset_of!(vfio_region_info, size))?,
            offset: u64_at(answer, offset_of!(vfio_region_info, offset))?,
            flags: u32_at(answer, offset_of!(vfio_region_info, flags))?,
            ..Self::default()
        };
        if region.flags & VFIO_REGION_INFO_FLAG_CAPS == 0 {
            return Ok(region);
        }
        let first = u32_at(answer, offset_of!(vfio_region_info, cap_offset))?;
        for capability in capabilities(answer, first) {
            let capability = capability?;
            if u32::from(capability.id) == VFIO_REGION_INFO_CAP_SPARSE_MMAP {
                region.sparse = Some(capability.pairs(
                    offset_of!(vfio_region_info_cap_sparse_mmap, nr_areas),
                    size_of::<vfio_region_info_cap_sparse_mmap>(),
                )?);
            }
        }
        Ok(region)
    }

    /// Whether all of it can be mapped, for loads and stores.
    ///
    /// A kernel that does not let the table of MSI-X vectors be mapped gives sparse areas around it, or no flag. One that
    /// does, since 4.16, gives neither but the capability MSIX_MAPPABLE.
    pub(super) fn mappable(&self) -> bool {
        let needed = VFIO_REGION_INFO_FLAG_MMAP | VFIO_REGION_INFO_FLAG_READ | VFIO_REGION_INFO_FLAG_WRITE;
        let whole = match &self.sparse {
            None => true,
            Some(areas) => areas.contains(&(0, self.size)),
        };
        self.flags & needed == needed && whole && self.size > 0
    }
}

/// What a container says of its IOMMU.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Iommu {
    /// The page sizes that it maps, one bit each.
    pub(super) page_sizes: u64,
    /// The addresses that can be mapped, ascending; none from kernels before 5.4.
    pub(super) ranges: Option<Vec<RangeInclusive<u64>>>,
    /// How many more maps there can be; none from kernels before 5.10.
    pub(super) available: Option<u32>,
}

impl Iommu {
    /// Reads a `vfio_iommu_type1_info`.
    pub(super) fn parse(answer: &[u8]) -> Result<Self> {
        let flags = u32_at(answer, offset_of!(vfio_iommu_type1_info, flags))?;
        let sizes = u64_at(answer, offset_of!(vfio_iommu_type1_info, iova_pgsizes))?;
        let page_sizes = if flags & VFIO_IOMMU_INFO_PGSIZES != 0 { sizes } else { 0 };
        let mut iommu = Self { page_sizes, ranges: None, available: None };
        if flags & VFIO_IOMMU_INFO_CAPS == 0 {
            return Ok(iommu);
        }
        let first = u32_at(answer, offset_of!(vfio_iommu_type1_info, cap_offset))?;
        for capability in capabilities(answer, first) {
            let capability = capability?;
            match u32::from(capability.id) {
                VFIO_IOMMU_TYPE1_INFO_CAP_IOVA_RANGE => {
                    let ranges = capability.pairs(
                        offset_of!(vfio_iommu_type1_info_cap_iova_range, nr_iovas),
                        size_of::<vfio_iommu_type1_info_cap_iova_range>(),
                    )?;
                    iommu.ranges = Some(ascending(ranges)?);
                }
                VFIO_IOMMU_TYPE1_INFO_DMA_AVAIL => {
                    let field = capability.offset + offset_of!(vfio_iommu_type1_info_dma_avail, avail);
                    iommu.available = Some(u32_at(answer, field)?);
                }
                _ => {}
            }
        }
        Ok(iommu)
    }
}

/// A function that a reset of the bus resets, too.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Dependent {
    /// Its IOMMU group; for a device bound to an iommufd, its id there or a code.
    pub(super) group: u32,
    pub(super) address: Option<jitney_pci::Address>,
}

/// Reads a `vfio_pci_hot_reset_info`: its flags and functions.
pub(super) fn dependents(answer: &[u8]) -> Result<(u32, Vec<Dependent>)> {
    let flags = u32_at(answer, offset_of!(vfio_pci_hot_reset_info, flags))?;
    let count = u32_at(answer, offset_of!(vfio_pci_hot_reset_info, count))?;
    let mut functions = Vec::new();
    for index in 0..count as usize {
        let start = index
            .saturating_mul(size_of::<vfio_pci_dependent_device>())
            .saturating_add(size_of::<vfio_pci_hot_reset_info>());
        let group = u32_at(answer, start)?;
        // Segment in 16 bits, bus and devfn in 8 each.
        let [a, b, bus, devfn] = bytes_at(answer, start.saturating_add(4))?;
        let domain = u32::from(u16::from_ne_bytes([a, b]));
        functions
            .push(Dependent { group, address: jitney_pci::Address::new(domain, bus, devfn >> 3, devfn & 7) });
    }
    Ok((flags, functions))
}

/// Ranges as the kernel gives them, checked to be ranges in order.
pub(super) fn ascending(ranges: Vec<(u64, u64)>) -> Result<Vec<RangeInclusive<u64>>> {
    let mut end = None;
    for &(start, last) in &ranges {
        if start > last || end.is_some_and(|end| start <= end) {
            return Err(Malformed::Range { start, last });
        }
        end = Some(last);
    }
    Ok(ranges.into_iter().map(|(start, last)| start..=last).collect())
}

struct Capability<'a> {
    answer: &'a [u8],
    offset: usize,
    id: u16,
}

impl Capability<'_> {
    /// A list of two numbers of 64 bits each: their count is at `count`, they themselves are at `list`.
    fn pairs(&self, count: usize, list: usize) -> Result<Vec<(u64, u64)>> {
        let count = u32_at(self.answer, self.offset.saturating_add(count))? as usize;
        let list = self.offset.saturating_add(list);
        let end = count.saturating_mul(16).saturating_add(list);
        if end > self.answer.len() {
            return Err(Malformed::Short { offset: end, length: self.answer.len() });
        }
        (0..count)
            .map(|index| {
                let at = list + index * 16;
                Ok((u64_at(self.answer, at)?, u64_at(self.answer, at + 8)?))
            })
            .collect()
    }
}

/// The capabilities from offset `first` on; 0 ends the chain. One that does not lead forward ends it with an error.
fn capabilities(answer: &[u8], first: u32) -> impl Iterator<Item = Result<Capability<'_>>> {
    let mut next = first as usize;
    std::iter::from_fn(move || {
        if next == 0 {
            return None;
        }
        let offset = std::mem::take(&mut next);
        let header = || {
            let [low, high] = bytes_at(answer, offset)?;
            let id = u16::from_ne_bytes([low, high]);
            let field = offset.saturating_add(offset_of!(vfio_info_cap_header, next));
            Ok((id, u32_at(answer, field)? as usize))
        };
        Some(header().and_then(|(id, following)| {
            if following != 0 && following <= offset {
                return Err(Malformed::Chain { id, offset });
            }
            next = following;
            Ok(Capability { answer, offset, id })
        }))
    })
}

fn bytes_at<const N: usize>(answer: &[u8], offset: usize) -> Result<[u8; N]> {
    let bytes = answer.get(offset..).and_then(|rest| rest.first_chunk());
    bytes.copied().ok_or(Malformed::Short { offset, length: answer.len() })
}

fn u32_at(answer: &[u8], offset: usize) -> Result<u32> {
    bytes_at(answer, offset).map(u32::from_ne_bytes)
}

fn u64_at(answer: &[u8], offset: usize) -> Result<u64> {
    bytes_at(answer, offset).map(u64::from_ne_bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use vfio_bindings::bindings::vfio::VFIO_REGION_INFO_CAP_MSIX_MAPPABLE;

    fn words(words: &[u32]) -> Vec<u8> {
        words.iter().flat_map(|word| word.to_ne_bytes()).collect()
    }

    fn pairs(pairs: &[(u64, u64)]) -> Vec<u8> {
        pairs.iter().flat_map(|(a, b)| [a.to_ne_bytes(), b.to_ne_bytes()].concat()).collect()
    }

    /// A capability's header and count, as words: version 1.
    fn header(id: u32, next: u32, count: u32) -> Vec<u8> {
        words(&[id | 1 << 16, next, count, 0])
    }

    fn region(flags: u32, capabilities: &[u8]) -> Vec<u8> {
        let fixed = words(&[0, flags, 0, 32, 0x1_0000, 0, 0, 2]);
        [fixed, capabilities.to_vec()].concat()
    }

    const ALL: u32 = 7;

    #[test]
    fn a_plain_bar_is_mappable() {
        let found = Region::parse(&region(ALL, &[])).unwrap();
        assert_eq!((found.size, found.offset, found.mappable()), (0x1_0000, 2 << 32, true));
        assert!(!Region::parse(&region(VFIO_REGION_INFO_FLAG_READ, &[])).unwrap().mappable());
    }

    #[test]
    fn a_bar_with_the_table_of_vectors_is_mappable_if_the_kernel_says_so() {
        let says = header(VFIO_REGION_INFO_CAP_MSIX_MAPPABLE, 0, 0);
        assert!(Region::parse(&region(ALL | 8, &says)).unwrap().mappable());

        let around =
            [header(VFIO_REGION_INFO_CAP_SPARSE_MMAP, 0, 2), pairs(&[(0, 0x8000), (0x9000, 0x7000)])]
                .concat();
        let found = Region::parse(&region(ALL | 8, &around)).unwrap();
        assert_eq!(found.sparse, Some(vec![(0, 0x8000), (0x9000, 0x7000)]));
        assert!(!found.mappable());

        let whole = [header(VFIO_REGION_INFO_CAP_SPARSE_MMAP, 0, 1), pairs(&[(0, 0x1_0000)])].concat();
        assert!(Region::parse(&region(ALL | 8, &whole)).unwrap().mappable());
    }

    #[test]
    fn an_intel_machine_s_ranges_are_read() {
        let ranges = [(0, 0xfedf_ffff), (0xfef0_0000, 0x7f_ffff_ffff)];
        let second = 24 + 16 + 32;
        let answer = [
            words(&[0, 3, 0x4020_1000, 0, 24, 0]),
            header(VFIO_IOMMU_TYPE1_INFO_CAP_IOVA_RANGE, second, 2),
            pairs(&ranges),
            words(&[VFIO_IOMMU_TYPE1_INFO_DMA_AVAIL | 1 << 16, 0, 65535]),
        ]
        .concat();
        let iommu = Iommu::parse(&answer).unwrap();
        assert_eq!(iommu.page_sizes, 0x4020_1000);
        assert_eq!(iommu.ranges, Some(vec![0..=0xfedf_ffff, 0xfef0_0000..=0x7f_ffff_ffff]));
        assert_eq!(iommu.available, Some(65535));
    }

    #[test]
    fn a_chain_that_leads_back_is_refused() {
        for next in [32, 8, 31] {
            let answer = region(ALL | 8, &header(VFIO_REGION_INFO_CAP_MSIX_MAPPABLE, next, 0));
            assert_eq!(Region::parse(&answer), Err(Malformed::Chain { id: 3, offset: 32 }));
        }
    }

    #[test]
    fn a_list_longer_than_the_answer_is_refused() {
        for count in [1, 0x1000_0000, u32::MAX] {
            let answer = region(ALL | 8, &header(VFIO_REGION_INFO_CAP_SPARSE_MMAP, 0, count));
            assert!(matches!(Region::parse(&answer), Err(Malformed::Short { .. })), "{count}");
        }
    }

    #[test]
    fn ranges_out_of_order_are_refused() {
        for wrong in [[(5, 4), (6, 7)], [(0, 9), (9, 10)], [(5, 6), (0, 1)]] {
            assert!(matches!(ascending(wrong.to_vec()), Err(Malformed::Range { .. })));
        }
        assert_eq!(ascending(vec![(0, u64::MAX)]), Ok(vec![0..=u64::MAX]));
    }

    #[test]
    fn functions_on_a_bus_are_read() {
        let answer =
            [words(&[0, 2, 2]), words(&[7]), vec![0, 0, 0x2e, 0x01], words(&[8]), vec![1, 0, 0x01, 0xf8]]
                .concat();
        let (flags, found) = dependents(&answer).unwrap();
        let found: Vec<_> = found.iter().map(|one| (one.group, one.address.unwrap().to_string())).collect();
        assert_eq!((flags, found), (2, vec![(7, "0000:2e:00.1".to_owned()), (8, "0001:01:1f.0".to_owned())]));
        assert!(dependents(&words(&[0, 0, u32::MAX])).is_err());
    }

    proptest! {
        #[test]
        fn no_answer_panics(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = Region::parse(&bytes);
            let _ = Iommu::parse(&bytes);
            let _ = dependents(&bytes);
        }

        /// Random bytes hardly ever make a chain, so this one begins well.
        #[test]
        fn no_chain_panics_or_goes_on_for_ever(
            links in prop::collection::vec((0..6_u32, 0..300_u32, any::<u32>(), any::<u64>()), 0..12),
            first in 0..64_u32,
        ) {
            let mut answer = words(&[0, 0xf, 0, first, 0x1000, 0, first, 0]);
            for (id, next, count, more) in links {
                answer.extend(words(&[id, next, count % 9]));
                answer.extend(more.to_ne_bytes());
            }
            let steps = capabilities(&answer, first).count();
            prop_assert!(steps <= answer.len());
            let _ = Region::parse(&answer);
            let _ = Iommu::parse(&answer);
        }
    }
}
