//! What sits behind the DMA: memories at several addresses, and what is no memory.

use super::rig::*;
use crate::axi::{AddressMap, AxiError, AxiTarget, BURST, CardMemory, NoAnswer};
use jitney_xdma_spec::{ChannelControl, channel};
use std::sync::{Arc, Mutex};

const OUT: u64 = BASE + (1 << 20);
const IN: u64 = BASE + (8 << 20);
const SIZE: usize = 0x8000;

/// Bytes that are reached by bursts only; where they end is a refusal.
#[derive(Default)]
struct Bursts {
    bytes: Mutex<Vec<u8>>,
    /// Address and length of every burst.
    seen: Mutex<Vec<(u64, usize)>>,
}

impl Bursts {
    fn new() -> Arc<Self> {
        Arc::new(Self { bytes: Mutex::new(vec![0; SIZE]), seen: Mutex::default() })
    }

    fn note(&self, address: u64, length: usize) -> Result<std::ops::Range<usize>, AxiError> {
        self.seen.lock().unwrap().push((address, length));
        let range = address as usize..address as usize + length;
        if range.end > SIZE { Err(AxiError::Slave) } else { Ok(range) }
    }
}

impl AxiTarget for Bursts {
    fn read(&self, address: u64, data: &mut [u8]) -> Result<(), AxiError> {
        let range = self.note(address, data.len())?;
        data.copy_from_slice(&self.bytes.lock().unwrap()[range]);
        Ok(())
    }

    fn write(&self, address: u64, data: &[u8]) -> Result<(), AxiError> {
        let range = self.note(address, data.len())?;
        self.bytes.lock().unwrap()[range].copy_from_slice(data);
        Ok(())
    }
}

#[test]
fn what_is_no_memory_is_reached_by_bursts() {
    let target = Bursts::new();
    let rig = Rig::over(target.clone());
    let data = pattern(1, 10_000);
    rig.host.set_bytes(OUT + 3, &data);
    assert_eq!(rig.run(H2C0, &[(OUT + 3, 0x7ff, 10_000)]), 0);
    let bursts = std::mem::take(&mut *target.seen.lock().unwrap());
    assert_eq!(bursts, [(0x7ff, 0x801), (0x1000, 0x1000), (0x2000, 10_000 - 0x1801)]);
    assert!(target.bytes.lock().unwrap()[0x7ff..][..10_000] == data[..]);
    assert_eq!(target.bytes.lock().unwrap()[0x7fe], 0);
    assert_eq!(rig.run(C2H0, &[(0x7ff, IN, 10_000)]), 0);
    assert!(rig.host.bytes(IN, 10_000) == data);
    assert!(target.seen.lock().unwrap().iter().all(|(at, length)| at % BURST + *length as u64 <= BURST));
}

#[test]
fn one_address_takes_a_burst_for_every_beat() {
    let target = Bursts::new();
    let rig = Rig::over(target.clone());
    rig.set(H2C0, channel::CONTROL, ChannelControl::new().with_non_incrementing(true));
    rig.list(BASE, &[(OUT, 0x100, 40)]);
    rig.set_addresses(H2C0, BASE, 0);
    rig.set(H2C0, channel::CONTROL_SET, ChannelControl::new().with_run(true));
    rig.wait_idle(H2C0);
    assert_eq!(*target.seen.lock().unwrap(), [(0x100, 16), (0x100, 16), (0x100, 8)]);
}

#[test]
fn what_a_target_answers_becomes_the_channels_error() {
    let mut map = AddressMap::new();
    map.add(0, SIZE as u64 + 0x1000, "bursts", Bursts::new()).unwrap();
    let rig = Rig::over(Arc::new(map));
    let end = SIZE as u64;
    assert_eq!(rig.run(H2C0, &[(OUT, end - 16, 16)]), 0);
    // Slave: bits 15 and 10. Decode: bits 14 and 9.
    assert_eq!(rig.run(H2C0, &[(OUT, end - 16, 32)]), 1 << 15);
    assert_eq!(rig.run(C2H0, &[(end, IN, 4)]), 1 << 10);
    assert_eq!(rig.run(H2C0, &[(OUT, end + 0x1000, 4)]), 1 << 14);
    assert_eq!(rig.run(C2H0, &[(u64::MAX - 3, IN, 16)]), 1 << 9, "the end of the address space");
}

#[test]
fn a_target_that_does_not_answer_hangs_its_channel_until_a_reset() {
    let mut map = AddressMap::new();
    map.add(0, 0x1000, "block RAM", Arc::new(CardMemory::new(0x1000).unwrap())).unwrap();
    map.add(0x1000, 0x1000, "nothing", Arc::new(NoAnswer)).unwrap();
    let rig = Rig::over(Arc::new(map));
    rig.list(BASE, &[(OUT, 0xff0, 32)]);
    rig.start(H2C0, BASE, BASE + 0x8000);
    std::thread::sleep(std::time::Duration::from_millis(20));
    rig.clear_run(H2C0);
    assert_eq!((rig.status(H2C0), rig.host.word(BASE + 0x8000)), (1, 0));
    assert_eq!(rig.run(C2H0, &[(0, IN, 32)]), 0, "the other channel goes on");
    use crate::axi::Peripheral;
    rig.core.reset();
    assert_eq!(rig.run(H2C0, &[(OUT, 0, 32)]), 0);
}

#[test]
fn one_descriptor_may_cross_several_memories() {
    let memory = |size| Arc::new(CardMemory::new(size).unwrap());
    let (low, bursts, high) = (memory(0x3000), Bursts::new(), memory(0x2000));
    let mut map = AddressMap::new();
    map.add(0x10_0000_0000, 0x3000, "DDR", low.clone()).unwrap();
    map.add(0x10_0000_3000, SIZE as u64, "bursts", bursts.clone()).unwrap();
    map.add(0x10_0000_3000 + SIZE as u64, 0x2000, "HBM", high.clone()).unwrap();
    let rig = Rig::over(Arc::new(map));
    let data = pattern(2, 0x3000 + SIZE + 0x2000);
    rig.host.set_bytes(OUT, &data);
    assert_eq!(rig.run(H2C0, &[(OUT, 0x10_0000_0000, data.len() as u32)]), 0);
    let mut bytes = vec![0; 0x2000];
    high.read(0, &mut bytes).unwrap();
    assert!(bytes == data[0x3000 + SIZE..]);
    assert!(*bursts.bytes.lock().unwrap() == data[0x3000..][..SIZE]);
    assert_eq!(rig.run(C2H0, &[(0x10_0000_0000, IN, data.len() as u32)]), 0);
    assert!(rig.host.bytes(IN, data.len()) == data);
    assert_eq!(rig.run(C2H0, &[(0, IN, 16)]), 1 << 9, "nothing is below");
}
