//! A reader of a ring whose memory somebody else writes as they like: it finds blocks, says what is wrong, and never reads beyond one.

#![no_main]

use jitney_memory::{Access, Memfd, PageSize, for_others};
use jitney_ring::{Next, Reader, Shape, Writer};
use jitney_vfio::{DmaBuffer, DmaPlace, DmaView, Handed, Keeper, Result};
use libfuzzer_sys::arbitrary::{self, Arbitrary};
use libfuzzer_sys::fuzz_target;
use std::sync::Arc;
use std::time::Duration;

#[derive(Debug, Arbitrary)]
enum Step {
    Put(u8, bool),
    Read,
    /// A reader that comes now.
    Come,
    /// A word of the header.
    Spoil(u8, u64),
    /// A word of the header, by a little.
    Bump(u8, i8),
}

#[derive(Debug)]
struct Nobody;

impl Keeper for Nobody {
    fn take_back(&self, _: Handed) -> Result<()> {
        Ok(())
    }
}

fuzz_target!(|steps: Vec<Step>| {
    let shape = Shape::new(4, 64).expect("a good shape");
    let size = shape.request().rounded_size().expect("a size");
    let memory = Memfd::create("ring", size, PageSize::Normal).expect("memory");
    let place = DmaPlace { iova: 0, size };
    let buffer = DmaBuffer::new(memory, place, Arc::new(Nobody)).expect("a buffer");
    let shared = for_others(buffer.memory(), Access::ReadOnly).expect("a descriptor");
    let come = || Reader::new(DmaView::new(&shared, place, 0, Arc::new(Nobody)).expect("a view"));
    let mut writer = Writer::new(&buffer, shape).expect("a ring");
    let mut reader = come().expect("a good ring");
    for step in steps {
        match step {
            Step::Put(length, ends) => {
                writer.put(&[7; 64][..usize::from(length % 65)], ends).expect("it fits")
            }
            Step::Read => {
                let most = reader.shape().block_size();
                if let Ok(Next::Block(mut block)) = reader.next(Duration::ZERO) {
                    assert!(block.len() <= most);
                    let mut bytes = vec![0; block.len()];
                    let _ = block.read(0, &mut bytes);
                }
            }
            Step::Come => {
                if let Ok(new) = come() {
                    reader = new;
                }
            }
            Step::Spoil(word, value) => {
                buffer.view().store_release64(u64::from(word % 40) * 8, value).expect("in bounds");
            }
            Step::Bump(word, by) => {
                let offset = u64::from(word % 40) * 8;
                let value = buffer.view().load_acquire64(offset).expect("in bounds");
                buffer
                    .view()
                    .store_release64(offset, value.wrapping_add_signed(by.into()))
                    .expect("in bounds");
            }
        }
    }
});
