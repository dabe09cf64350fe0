//! A file that is written to a flash or an FPGA, or compared with what is in a flash.

use crate::errno::FileError;
use crate::status::Misuse;
use anyhow::{Context, bail};
use jitney_bitstream::{Bitstream, Order, is_for};
use jitney_boards::Board;
use std::fs::File;
use std::io::Read;
use std::path::Path;

/// No flash on such a bus has more, and no FPGA a bitstream as long.
const LARGEST: u64 = 512 << 20;

/// The bytes of a file, and what they are.
#[derive(Debug)]
pub(crate) struct Image {
    pub(crate) name: String,
    file: Vec<u8>,
    pub(crate) bitstream: Bitstream,
}

impl Image {
    /// The file at `path`: a .bit with a header, or anything else as it is.
    pub(crate) fn open(path: &Path) -> anyhow::Result<Self> {
        let name = path.display().to_string();
        let failed = |error| FileError::new(&name, error);
        let file = File::open(path).map_err(failed)?;
        if file.metadata().map_err(failed)?.is_dir() {
            bail!("{name}: EISDIR (Is a directory)");
        }
        let mut bytes = Vec::new();
        file.take(LARGEST + 1).read_to_end(&mut bytes).map_err(failed)?;
        if bytes.len() as u64 > LARGEST {
            bail!("{name} has more than {LARGEST:#x} bytes, which no configuration flash has");
        }
        if bytes.is_empty() {
            bail!("{name} is empty");
        }
        let bitstream = Bitstream::read(&bytes).with_context(|| name.clone())?;
        if bitstream.data.is_empty() {
            bail!("{name} has a header, and nothing behind it");
        }
        Ok(Self { name, file: bytes, bitstream })
    }

    /// What goes to the flash: all of the file but the header of a .bit.
    pub(crate) fn data(&self) -> &[u8] {
        &self.file[self.bitstream.data.clone()]
    }

    /// Why it is not for the FPGA of `board`, or for none, and what became of that: `else_what`.
    pub(crate) fn must_be_for(&self, board: Option<&Board>, else_what: &str) -> Result<(), Misuse> {
        let scan = &self.bitstream.scan;
        let name = &self.name;
        let refuse = |why: String| Err(Misuse(format!("{name} {why}; {else_what}")));
        if scan.sync.is_none() {
            return refuse("is no bitstream: it has no sync word (AA995566h)".into());
        }
        if let Some(order) = scan.order.filter(|order| *order != Order::Straight) {
            return refuse(format!("has {order}: no FPGA takes it so from a flash"));
        }
        let fault = if scan.encrypted { None } else { super::found::fault(scan, false) };
        if let Some(fault) = fault {
            return refuse(format!("is no whole bitstream: {fault}"));
        }
        let Some(board) = board.filter(|board| !board.fpga().is_empty()) else { return Ok(()) };
        let fpga = board.fpga();
        let there = format!("{} has {}", board.name(), fpga.join(" or "));
        if let Some(part) = scan.part().filter(|part| !fpga.iter().any(|own| own == part)) {
            return refuse(format!("is for {part} by its IDCODE, but {there}"));
        }
        let named = self.bitstream.header.as_ref().map(|header| header.part.as_str());
        if let Some(named) = named.filter(|named| !fpga.iter().any(|own| is_for(named, own))) {
            return refuse(format!("is for {named} by its header, but {there}"));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use jitney_bitstream::knows;
    use jitney_boards::Catalogue;

    #[test]
    fn bitstreams_are_told_apart_for_every_board_whose_fpga_is_known() {
        for design in Catalogue::built_in().designs() {
            let variants = design.variants.iter().flat_map(|variant| &variant.fpga);
            for part in design.fpga.iter().chain(variants) {
                assert!(knows(part), "{}: {part}", design.name);
            }
        }
    }
}
