//! Packets of any length, cut up in any way.

use super::rig::*;
use super::streams::*;
use crate::stream::Fifo;
use jitney_xdma_spec::{Descriptor, DescriptorControl};
use proptest::prelude::*;
use std::sync::Arc;

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// However packets lie in descriptors on either side, they arrive as they were sent.
    #[test]
    fn packets_of_any_length_arrive_in_buffers_of_any_length(
        packets in proptest::collection::vec(1u32..2000, 1..12),
        cut in 1u32..64,
        beats in 1u32..64,
        capacity in 1usize..5000,
    ) {
        let (cut, buffer) = (16 * cut, 16 * beats);
        let fifo = Arc::new(Fifo::new(capacity));
        let rig = Rig::streams(vec![fifo.clone()], vec![fifo]);
        let total: u32 = packets.iter().sum();
        let data = pattern(total, total as usize);
        rig.host.set_bytes(OUT, &data);

        let buffers: u32 = packets.iter().map(|length| length.div_ceil(buffer)).sum();
        prop_assume!(buffers < 380);
        for index in 0..u64::from(buffers) {
            let at = C2H_LIST + 32 * index;
            let control = DescriptorControl::new().with_stop(index + 1 == u64::from(buffers));
            let (source, destination) = (SLOTS + 8 * index, IN + (index << 10));
            let descriptor = Descriptor { control, length: buffer, source, destination, next: at + 32 };
            rig.host.set_bytes(at, &descriptor.to_bytes());
        }
        rig.start(C2H0, C2H_LIST, C2H_WORD);
        let pieces = packets.iter().flat_map(|length| {
            (0..length.div_ceil(cut)).map(move |piece| {
                let left = length - piece * cut;
                (left.min(cut), left <= cut)
            })
        });
        // A list of descriptors has room for 128.
        let mut sent = 0;
        for pieces in pieces.collect::<Vec<_>>().chunks(100) {
            send_from(&rig, H2C0, OUT + sent, pieces);
            sent += pieces.iter().map(|(length, _)| u64::from(*length)).sum::<u64>();
            prop_assert_eq!(u32::from(rig.wait_idle(H2C0)), 0);
            rig.clear_run(H2C0);
        }
        prop_assert_eq!(u32::from(rig.wait_idle(C2H0)), 0);

        let (mut came, mut lengths, mut length) = (Vec::new(), Vec::new(), 0);
        for index in 0..u64::from(buffers) {
            let (bytes, last) = slot(&rig, index).unwrap();
            came.extend(rig.host.bytes(IN + (index << 10), bytes as usize));
            length += bytes;
            if last {
                lengths.push(std::mem::take(&mut length));
            }
        }
        prop_assert_eq!(lengths, packets);
        prop_assert!(came == data);
    }
}
