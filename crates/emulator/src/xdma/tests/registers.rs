//! Registers without a transfer.

use super::rig::*;
use crate::axi::Peripheral;
use jitney_xdma_spec::{Direction, channel, irq, sgdma};

const HALT: u64 = 0x6010;
const CREDIT_MODE: u64 = 0x6020;
const CREDITS: u64 = 0x408c;

#[test]
fn identifiers_tell_the_channels_that_are_there() {
    let rig = Rig::channels(2, 1);
    let read: Vec<_> = [0x0000, 0x0100, 0x0200, 0x1000, 0x1100, 0x2000, 0x3000, 0x4100, 0x5000, 0x6000]
        .map(|offset| rig.read(offset))
        .to_vec();
    assert_eq!(
        read,
        [
            0x1fc0_0006,
            0x1fc0_0106,
            0,
            0x1fc1_0006,
            0,
            0x1fc2_0006,
            0x1fc3_0006,
            0x1fc4_0106,
            0x1fc5_0006,
            0x1fc6_0006
        ]
    );
    for shared in [0x2000, 0x3000, 0x6000] {
        assert_eq!(rig.read(shared + 0x300), rig.read(shared), "shared blocks repeat");
    }
    for nothing in [0x7000, 0x9000, 0xf000, 0x0400, 0x0f00, 0x5300] {
        rig.write(nothing, u32::MAX);
        assert_eq!(rig.read(nothing), 0);
    }
    assert_eq!(rig.get(H2C0, channel::ALIGNMENTS), jitney_xdma_spec::Alignments::ANY);
}

#[test]
fn addresses_read_back_all_their_bits() {
    let rig = Rig::new();
    for offset in [0x0088, 0x008c, 0x1088, 0x108c, 0x4080, 0x4084, 0x5080, 0x5084] {
        for value in [u32::MAX, 0, 0xaaaa_aaaa, 0x5555_5555] {
            rig.write(offset, value);
            assert_eq!(rig.read(offset), value, "{offset:#x}");
        }
    }
    rig.write(0x4088, u32::MAX);
    assert_eq!(rig.read(0x4088), 0x3f);
    rig.core.write(0x4080, 0x1200, 0xff00);
    assert_eq!(rig.read(0x4080), 0x5555_1255, "a byte alone");
}

/// What a driver's reset test does, halted so that nothing is fetched.
#[test]
fn a_reset_takes_everything_back() {
    let rig = Rig::new();
    rig.write(0x6014, 1);
    rig.write(0x0004, 0x00ff_fe38);
    rig.write(0x0008, 1);
    assert_eq!(rig.read(0x0004), 0x00ff_fe39);
    assert_eq!(rig.status(H2C0), 1, "there is work");
    let written =
        [0x0088, 0x0090, 0x00c0, 0x2004, 0x2010, 0x2080, 0x20a0, 0x3060, 0x4080, 0x4088, 0x6010, 0x6020];
    for offset in written {
        rig.write(offset, 0x0101_0101);
        assert_ne!(rig.read(offset), 0, "{offset:#x}");
    }
    rig.write(CREDITS, 5);
    assert_eq!(rig.read(CREDITS), 5);

    rig.core.reset();
    for offset in written.into_iter().chain([0x0004, 0x0040, 0x0048, CREDITS]) {
        assert_eq!(rig.read(offset), 0, "{offset:#x}");
    }
}

/// The test that pins down what credits are: only counted in credit mode, added to by a write, up to 1023.
#[test]
fn credits_add_up_in_credit_mode_alone() {
    let rig = Rig::new();
    rig.write(0x6014, 1);
    rig.write(0x0008, 1);
    for increment in 1..=1022 {
        rig.write(CREDITS, 7);
        rig.write(0x6024, 1);
        assert_eq!(rig.read(CREDITS), 0);
        let mut sum = 0;
        while sum < 1023 {
            let step = increment.min(1023 - sum);
            rig.write(CREDITS, step);
            sum += step;
            assert_eq!(rig.read(CREDITS), sum);
        }
        rig.write(0x6028, 1);
        assert_eq!(rig.read(CREDITS), 0);
    }
    rig.write(0x000c, 1);
    assert_eq!((rig.read(HALT), rig.read(CREDIT_MODE)), (1, 0));
    rig.write(0x6018, 1);
    assert_eq!(rig.read(HALT), 0);
    assert_eq!(rig.status(H2C0), 0);
}

#[test]
fn credits_end_at_1023_and_with_run() {
    let rig = Rig::new();
    rig.write(0x6010, 1);
    rig.write(0x6020, 1);
    rig.write(0x0008, 1);
    rig.write(CREDITS, 1000);
    rig.write(CREDITS, 1000);
    assert_eq!(rig.read(CREDITS), sgdma::MAX_CREDITS);
    rig.write(0x000c, 1);
    assert_eq!(rig.read(CREDITS), 0);
}

#[test]
fn the_common_block_has_one_bit_for_each_channel() {
    let rig = Rig::channels(2, 4);
    for base in [HALT, CREDIT_MODE] {
        rig.write(base, u32::MAX);
        assert_eq!(rig.read(base), 0x000f_0003, "channels that are not there have no bit");
        rig.write(base + 8, 0x0001_0001);
        assert_eq!(rig.read(base), 0x000e_0002);
        rig.write(base + 4, 0x0001_0000);
        assert_eq!(rig.read(base), 0x000f_0002);
        rig.core.write(u32::try_from(base).unwrap(), 0, 0xffff);
        assert_eq!(rig.read(base), 0x000f_0000);
    }
}

/// Two processes that drive a channel each set and clear its bit at the same time.
#[test]
fn each_writer_gets_its_own_bit_of_the_common_block() {
    let rig = Rig::channels(2, 2);
    let common = |base: u64, offset: u32| u32::try_from(base).unwrap() + offset;
    for base in [HALT, CREDIT_MODE] {
        std::thread::scope(|scope| {
            for bit in [1, 1 << 1, 1 << 16, 1 << 17] {
                let core = &rig.core;
                scope.spawn(move || {
                    for round in 0..20_000 {
                        core.write(common(base, 4), bit, u32::MAX);
                        assert_eq!(core.read(common(base, 0)) & bit, bit, "{base:#x}: set in round {round}");
                        core.write(common(base, 8), bit, u32::MAX);
                        assert_eq!(
                            core.read(common(base, 0)) & bit,
                            0,
                            "{base:#x}: cleared in round {round}"
                        );
                    }
                });
            }
        });
    }
}

#[test]
fn masks_and_vectors_keep_what_there_is() {
    let rig = Rig::channels(1, 2);
    let block = 0x2000;
    let at = |offset: u32| block + u64::from(offset);
    rig.write(at(irq::CHANNEL_ENABLE.offset()), u32::MAX);
    assert_eq!(rig.read(at(irq::CHANNEL_ENABLE.offset())), 0b111);
    rig.write(at(irq::CHANNEL_ENABLE_CLEAR.offset()), 0b010);
    assert_eq!(rig.read(at(irq::CHANNEL_ENABLE.offset())), 0b101);
    rig.write(at(irq::USER_ENABLE_SET.offset()), u32::MAX);
    assert_eq!(rig.read(at(irq::USER_ENABLE.offset())), 0xffff);
    for offset in [0x80, 0x8c, 0xa0, 0xa4] {
        rig.write(at(offset), 0xffff_ff04);
        assert_eq!(rig.read(at(offset)), 0x1f1f_1f04);
    }
    rig.write(H2C0.register(channel::INTERRUPT_ENABLE), u32::MAX);
    assert_eq!(u32::from(rig.get(H2C0, channel::INTERRUPT_ENABLE)), 0x00ff_fe7e);
    rig.write(H2C0.register(channel::INTERRUPT_ENABLE_CLEAR), 0x7e);
    assert_eq!(u32::from(rig.get(H2C0, channel::INTERRUPT_ENABLE)), 0x00ff_fe00);
}

#[test]
fn a_card_can_have_channels_one_way_only() {
    let rig = Rig::channels(0, 1);
    assert_eq!(rig.read(0x0000), 0);
    assert_eq!(rig.read(Channel(Direction::CardToHost, 0).register(channel::IDENTIFIER)), 0x1fc1_0006);
}

#[test]
fn the_config_block_describes_the_link_and_keeps_what_software_wants() {
    let rig = Rig::new();
    let read = |register: u64| rig.read(0x3000 + register);
    assert_eq!((read(0x00), read(0x10), read(0x14)), (0x1fc3_0006, 0xff01, 2));
    // Data path, PCIe payload, AXI payload and read request.
    assert_eq!((read(0x18), read(0x08), read(0x40), read(0x44)), (1, 1, 0x15, 0x25));
    rig.write(0x3040, 0);
    rig.write(0x3060, 0xffff_fff3);
    rig.write(0x301c, 0xffff_fffe);
    assert_eq!((read(0x40), read(0x60), read(0x1c)), (0, 0x13, 0));
    rig.core.reset();
    assert_eq!((read(0x40), read(0x60), read(0x1c)), (0x15, 0, 1));
}
