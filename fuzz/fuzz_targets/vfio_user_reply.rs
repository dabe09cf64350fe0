//! A client reads a reply, of which it knows what was asked, and a request for its memory: one byte to choose, then
//! the body.

#![no_main]

use jitney_vfio_user::{
    Command, DeviceInfo, DmaAccess, DmaRequest, DmaUnmap, IrqInfo, RegionAccess, RegionInfoReply,
    RegionQuery, Version,
};
use libfuzzer_sys::fuzz_target;

fn region_info(body: &[u8]) {
    if let Ok(RegionInfoReply::Complete(info)) = RegionQuery::new(0).info(body) {
        assert!(info.sparse.iter().flatten().all(|area| area.offset + area.size <= info.size));
    }
}

fuzz_target!(|input: &[u8]| {
    let Some((choice, body)) = input.split_first() else { return };
    let region = RegionAccess { region: 0, offset: 0, count: 64 };
    let memory = DmaAccess { address: 0, count: 64 };
    match choice % 12 {
        0 => drop(Version::decode(body).map(|version| Version::ours().accept(&version))),
        1 => drop(DeviceInfo::decode(body)),
        2 => drop(IrqInfo::decode(0, body)),
        3 => drop(DmaUnmap::decode(body)),
        4 => region_info(body),
        // Behind a good fixed part of 32 bytes, so that the list of capabilities is reached at all.
        11 => {
            let words = [32 + body.len() as u32, 0xf, 0, 32, 0x1_0000, 0, 0, 0];
            let mut reply: Vec<u8> = words.into_iter().flat_map(u32::to_ne_bytes).collect();
            reply.extend_from_slice(body);
            region_info(&reply);
        }
        5 => drop(region.data(body).map(|data| assert!(data.len() <= 64))),
        6 => drop(region.written(body).map(|count| assert!(count <= 64))),
        7 => drop(memory.data(body).map(|data| assert!(data.len() <= 64))),
        8 => drop(memory.written(body).map(|count| assert!(count <= 64))),
        9 => drop(DmaRequest::decode(Command::DmaRead.number(), body)),
        _ => drop(DmaRequest::decode(Command::DmaWrite.number(), body)),
    }
});
