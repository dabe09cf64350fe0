//! The cells of a flash: in memory, or in a file that keeps them.

use rustix::fs::FlockOperation;
use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

/// What an erased byte reads.
const ERASED: u8 = 0xFF;
/// Bytes that are kept, or not, together.
const BLOCK: u32 = 4096;

/// Why a file cannot be a flash.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FlashFileError {
    /// It cannot be read or written, or made.
    #[error("the flash file {}: {error}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system says.
        error: io::Error,
    },
    /// It has another size than the flash.
    #[error(
        "the flash file {} has {found} bytes, but the flash of this board, {part}, has {size}: name another file, \
         or none that is there, to begin with an erased one",
        path.display()
    )]
    Size {
        /// The file.
        path: PathBuf,
        /// Its size in bytes.
        found: u64,
        /// The part.
        part: String,
        /// The part's size in bytes.
        size: u32,
    },
    /// Another board has it.
    #[error("the flash file {} is another board's, which runs", path.display())]
    Busy {
        /// The file.
        path: PathBuf,
    },
}

/// Bytes that are programmed from one to zero, and erased to one.
#[derive(Debug)]
pub(super) enum Cells {
    /// Blocks in which something was programmed, by their number.
    Memory(BTreeMap<u32, Box<[u8; BLOCK as usize]>>),
    /// Byte by byte as the flash has them. What is written is there also if this process is killed.
    File(File),
}

impl Cells {
    /// Erased ones that nobody keeps, which cost nothing.
    pub(super) const fn in_memory() -> Self {
        Self::Memory(BTreeMap::new())
    }

    /// Those in the file at `path`, `size` bytes; erased ones if there is none. `part` is for errors.
    pub(super) fn in_file(path: &Path, part: &str, size: u32) -> Result<Self, FlashFileError> {
        let failed = |error| FlashFileError::Io { path: path.to_owned(), error };
        let open = || OpenOptions::new().read(true).write(true).open(path);
        let file = match open() {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                make_erased(path, size).map_err(failed)?;
                open().map_err(failed)?
            }
            other => other.map_err(failed)?,
        };
        let kind = file.metadata().map_err(failed)?;
        if !kind.is_file() {
            return Err(failed(io::Error::new(io::ErrorKind::InvalidInput, "it is no regular file")));
        }
        if kind.len() != u64::from(size) {
            return Err(FlashFileError::Size {
                path: path.to_owned(),
                found: kind.len(),
                part: part.to_owned(),
                size,
            });
        }
        match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(Self::File(file)),
            Err(rustix::io::Errno::WOULDBLOCK) => Err(FlashFileError::Busy { path: path.to_owned() }),
            Err(errno) => Err(failed(errno.into())),
        }
    }

    /// Reads `data` from `address` on.
    pub(super) fn read(&self, address: u32, data: &mut [u8]) -> io::Result<()> {
        match self {
            Self::File(file) => file.read_exact_at(data, address.into()),
            Self::Memory(blocks) => {
                for (byte, at) in data.iter_mut().zip(address..) {
                    *byte = blocks.get(&(at / BLOCK)).map_or(ERASED, |block| block[(at % BLOCK) as usize]);
                }
                Ok(())
            }
        }
    }

    /// Clears the bits that are clear in `data`, from `address` on.
    pub(super) fn program(&mut self, address: u32, data: &[u8]) -> io::Result<()> {
        match self {
            Self::File(file) => {
                let mut now = vec![0; data.len()];
                file.read_exact_at(&mut now, address.into())?;
                now.iter_mut().zip(data).for_each(|(now, new)| *now &= new);
                file.write_all_at(&now, address.into())
            }
            Self::Memory(blocks) => {
                for (new, at) in data.iter().zip(address..) {
                    let block =
                        blocks.entry(at / BLOCK).or_insert_with(|| Box::new([ERASED; BLOCK as usize]));
                    block[(at % BLOCK) as usize] &= new;
                }
                Ok(())
            }
        }
    }

    /// Erases `length` bytes from `address` on, both multiples of 4 KiB.
    pub(super) fn erase(&mut self, address: u32, length: u32) -> io::Result<()> {
        match self {
            Self::File(file) => {
                let erased = [ERASED; BLOCK as usize];
                let mut blocks = (address..address + length).step_by(BLOCK as usize);
                blocks.try_for_each(|at| file.write_all_at(&erased, at.into()))
            }
            Self::Memory(blocks) => {
                blocks.retain(|block, _| !(address / BLOCK..(address + length) / BLOCK).contains(block));
                Ok(())
            }
        }
    }
}

/// Makes the file at `path` an erased flash: all of it or nothing, also if this process is killed.
fn make_erased(path: &Path, size: u32) -> io::Result<()> {
    let name = path.file_name().ok_or(io::ErrorKind::InvalidInput)?;
    let mut part = name.to_owned();
    part.push(format!(".{}.part", std::process::id()));
    let part = path.with_file_name(part);
    let fill = || {
        let mut file = OpenOptions::new().write(true).create(true).truncate(true).open(&part)?;
        let erased = vec![ERASED; 1 << 20];
        let mut left = size as usize;
        while left > 0 {
            let now = left.min(erased.len());
            file.write_all(&erased[..now])?;
            left -= now;
        }
        // Not over a file that somebody else has made meanwhile.
        fs::hard_link(&part, path)
    };
    let made = fill();
    // If it is not there, that is what failed.
    let _ = fs::remove_file(&part);
    match made {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(cells: &Cells, address: u32) -> [u8; 4] {
        let mut data = [0; 4];
        cells.read(address, &mut data).unwrap();
        data
    }

    #[test]
    fn cells_are_programmed_to_zero_and_erased_to_one_wherever_they_are() {
        let folder = tempfile::tempdir().unwrap();
        let file = Cells::in_file(&folder.path().join("flash"), "part", 1 << 20).unwrap();
        for mut cells in [Cells::in_memory(), file] {
            assert_eq!(read(&cells, 0xFFFC), [0xFF; 4]);
            cells.program(0x0FFE, &[0x0F, 0xF0, 0x55, 0xAA]).unwrap();
            cells.program(0x0FFE, &[0xFE, 0xFF, 0x0F, 0xFF]).unwrap();
            assert_eq!(read(&cells, 0x0FFE), [0x0E, 0xF0, 0x05, 0xAA]);
            cells.erase(0x1000, 0x1000).unwrap();
            assert_eq!(read(&cells, 0x0FFE), [0x0E, 0xF0, 0xFF, 0xFF]);
        }
    }

    #[test]
    fn a_file_keeps_them_and_is_one_boards() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("flash");
        let mut cells = Cells::in_file(&path, "part", 1 << 20).unwrap();
        cells.program(5, &[0x12]).unwrap();
        let busy = Cells::in_file(&path, "part", 1 << 20).unwrap_err().to_string();
        assert!(busy.contains("another board's"), "{busy}");
        drop(cells);
        let again = Cells::in_file(&path, "part", 1 << 20).unwrap();
        assert_eq!(read(&again, 4), [0xFF, 0x12, 0xFF, 0xFF]);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "nothing beside it");
    }

    #[test]
    fn a_file_that_cannot_be_one_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("flash");
        fs::write(&path, [0; 5]).unwrap();
        let size = Cells::in_file(&path, "s25fl256s", 1 << 20).unwrap_err().to_string();
        assert!(size.contains("has 5 bytes") && size.contains("s25fl256s, has 1048576"), "{size}");
        assert_eq!(fs::read(&path).unwrap().len(), 5, "it is left alone");
        for wrong in [folder.path().to_owned(), folder.path().join("no/where"), "/dev/null".into()] {
            let error = Cells::in_file(&wrong, "part", 1 << 20).unwrap_err().to_string();
            assert!(error.contains(&*wrong.to_string_lossy()), "{error}");
        }
    }
}
