//! What a transfer consists of: pieces of buffers, and the descriptors that they take. Pure but for the buffers that it keeps.

use crate::plan::{Chunk, Plan};
use jitney_vfio::DmaBuffer;
use std::ops::Range;

/// Some bytes of a buffer, and where they are on the card.
#[derive(Debug, Clone)]
pub struct Piece {
    /// The buffer; a transfer keeps it.
    pub buffer: DmaBuffer,
    /// Which of its bytes.
    pub range: Range<u64>,
    /// Card address of the first byte; without a meaning for a stream.
    pub card_address: u64,
}

impl Piece {
    /// `range` of `buffer`, in bytes from its start, and the card's memory from `card_address` on.
    #[must_use]
    pub fn new(buffer: &DmaBuffer, range: Range<u64>, card_address: u64) -> Self {
        Self { buffer: buffer.clone(), range, card_address }
    }
}

/// The pieces of a transfer, planned; gives out their descriptors in order.
#[derive(Debug)]
pub(crate) struct Work {
    first: Part,
    /// Empty for most, which then takes no memory of its own.
    rest: Vec<Part>,
    /// Parts that have nothing more to give out.
    over: usize,
}

#[derive(Debug)]
struct Part {
    plan: Plan,
    buffer: DmaBuffer,
}

impl Work {
    /// One piece.
    pub(crate) fn new(plan: Plan, buffer: DmaBuffer) -> Self {
        Self { first: Part { plan, buffer }, rest: Vec::new(), over: 0 }
    }

    /// One more, behind those that are there. Nothing was given out so far.
    pub(crate) fn push(&mut self, plan: Plan, buffer: DmaBuffer) {
        self.rest.push(Part { plan, buffer });
    }

    fn parts(&self) -> impl Iterator<Item = &Part> {
        std::iter::once(&self.first).chain(&self.rest)
    }

    fn part(&mut self, index: usize) -> Option<&mut Part> {
        match index.checked_sub(1) {
            None => Some(&mut self.first),
            Some(index) => self.rest.get_mut(index),
        }
    }

    /// Bytes of all of it.
    pub(crate) fn bytes(&self) -> u64 {
        self.parts().map(|part| part.plan.bytes()).sum()
    }

    /// Descriptors of all of it.
    pub(crate) fn descriptors(&self) -> u64 {
        self.parts().map(|part| part.plan.all_descriptors()).sum()
    }

    /// Bytes that its first `descriptors` move.
    pub(crate) fn bytes_of_first(&self, descriptors: u64) -> u64 {
        let mut left = descriptors;
        let bytes = self.parts().map(|part| {
            let own = left.min(part.plan.all_descriptors());
            left -= own;
            part.plan.bytes_of_first(own)
        });
        bytes.sum()
    }

    /// The next descriptor, and whether it is the last.
    pub(crate) fn next(&mut self) -> Option<(Chunk, bool)> {
        loop {
            let over = self.over;
            let part = self.part(over)?;
            let Some(chunk) = part.plan.next() else {
                self.over += 1;
                continue;
            };
            let last = part.plan.descriptors() == 0 && over == self.rest.len();
            return Some((chunk, last));
        }
    }

    /// Gives out again what comes behind its first `descriptors`.
    pub(crate) fn go_back_to(&mut self, descriptors: u64) {
        let mut left = descriptors;
        self.over = 0;
        for part in std::iter::once(&mut self.first).chain(&mut self.rest) {
            let own = left.min(part.plan.all_descriptors());
            left -= own;
            part.plan.go_back_to(own);
        }
    }

    /// What the engine may access for it.
    pub(crate) fn into_buffers(self) -> impl Iterator<Item = DmaBuffer> {
        std::iter::once(self.first).chain(self.rest).map(|part| part.buffer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::{Limits, Transfer, plan};
    use jitney_vfio::{Card, FakeCard, FakeHost};
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn every_piece_is_given_out_once_and_in_order_and_from_anywhere_again(
            lengths in prop::collection::vec(1..5000_u64, 1..6), longest in 100..2000_u32, back in 0..300_u64
        ) {
            let card = FakeCard::builder(&FakeHost::new(), 0x10ee, 0x7011).build().unwrap();
            let buffer = card.dma_buffer(4096.into()).unwrap();
            let limits = Limits::ANY.at_most(longest);
            let plans: Vec<Plan> = lengths
                .iter()
                .enumerate()
                .map(|(at, &length)| {
                    let host = at as u64 * 0x1_0000;
                    plan(Transfer { host, card: host + 7, length }, &limits).unwrap()
                })
                .collect();
            let expected: Vec<Chunk> = plans.iter().cloned().flatten().collect();
            let mut work = Work::new(plans[0].clone(), buffer.clone());
            plans[1..].iter().for_each(|plan| work.push(plan.clone(), buffer.clone()));
            prop_assert_eq!(work.bytes(), lengths.iter().sum::<u64>());
            prop_assert_eq!(work.descriptors(), expected.len() as u64);
            for back in [0, back.min(expected.len() as u64)] {
                work.go_back_to(back);
                let before = usize::try_from(back).unwrap();
                let bytes: u64 = expected[..before].iter().map(|chunk| u64::from(chunk.length)).sum();
                prop_assert_eq!(work.bytes_of_first(back), bytes);
                for (index, chunk) in expected.iter().enumerate().skip(before) {
                    prop_assert_eq!(work.next(), Some((*chunk, index + 1 == expected.len())));
                }
                prop_assert_eq!(work.next(), None);
                prop_assert_eq!(work.descriptors(), expected.len() as u64, "whatever was given out");
            }
        }
    }
}
