//! The memory in which a broker writes down what it does, as a file of records.
//!
//! It is a memfd that somebody else holds as well, so that what was written is there after this process, however it ended. The
//! file has two halves: one in use, which begins with a snapshot and goes on with records, and one in which the next snapshot is
//! written before it comes into use. A process that is killed while it writes leaves a record that does not fit its checksum, and
//! that is where the file ends.

use crc::{CRC_32_ISCSI, Crc};
use jitney_memory::{Memfd, PageSize};
use jitney_vfio::{Error, ErrorKind, Result};
use rustix::fs::FallocateFlags;
use rustix::io::Errno;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// The first page says which half is in use.
const HEAD: u64 = 4096;
/// How much a snapshot and what follows it may take. Memory that nothing was written to costs nothing.
const HALF: u64 = 64 << 20;
/// From so many bytes of records on a new snapshot is due, if they are more than the snapshot as well.
const DUE: u64 = 1 << 20;
/// Length and checksum of a record.
const FRAME: usize = 8;

pub(super) const CHECKSUM: Crc<u32> = Crc::<u32>::new(&CRC_32_ISCSI);

/// A file of records, open for writing.
#[derive(Debug)]
pub(crate) struct LedgerFile {
    memory: OwnedFd,
    /// How many snapshots there were. The half in use follows from it.
    generation: u64,
    /// Bytes of the snapshot, and of all in this half.
    snapshot: u64,
    used: u64,
}

impl LedgerFile {
    /// A new file that begins with `snapshot`.
    pub(crate) fn create(snapshot: &[u8]) -> Result<Self> {
        let memory = Memfd::create("jitney-ledger", HEAD + 2 * HALF, PageSize::Normal)?.into_fd();
        let mut file = Self { memory, generation: 0, snapshot: 0, used: 0 };
        file.begin(snapshot)?;
        Ok(file)
    }

    /// The file that another process has written, its snapshot and the records behind it.
    ///
    /// # Errors
    /// [`ErrorKind::Protocol`] if it has no snapshot; what the system says.
    pub(crate) fn open(memory: OwnedFd) -> Result<(Self, Vec<u8>, Vec<Vec<u8>>)> {
        let mut head = [0; 8];
        read_exactly(&memory, &mut head, 0)?;
        let generation = u64::from_le_bytes(head);
        let mut file = Self { memory, generation, snapshot: 0, used: 0 };
        let none = || Error::new(ErrorKind::Protocol, "the ledger of the broker before has no snapshot");
        if generation == 0 {
            return Err(none());
        }
        let snapshot = file.next()?.ok_or_else(none)?;
        file.snapshot = file.used;
        let mut records = Vec::new();
        while let Some(record) = file.next()? {
            records.push(record);
        }
        // What was left behind by half a write is not to be taken for a record some day.
        let end = file.base() + file.used;
        file.punch(end, HALF - file.used)?;
        Ok((file, snapshot, records))
    }

    /// Adds a record.
    pub(crate) fn append(&mut self, record: &[u8]) -> Result<()> {
        let frame = framed(record);
        if self.used + frame.len() as u64 > HALF {
            return Err(Error::new(ErrorKind::Exhausted, "the broker's ledger is full"));
        }
        self.write(&frame, self.base() + self.used)?;
        self.used += frame.len() as u64;
        Ok(())
    }

    /// Whether it would be shorter as a new snapshot.
    pub(crate) const fn is_long(&self) -> bool {
        let records = self.used - self.snapshot;
        records > DUE && records > self.snapshot
    }

    /// Goes on with a new snapshot, in which everything before is contained.
    pub(crate) fn begin(&mut self, snapshot: &[u8]) -> Result<()> {
        let frame = framed(snapshot);
        if frame.len() as u64 > HALF {
            return Err(Error::new(ErrorKind::Exhausted, "the broker's books do not fit into its ledger"));
        }
        let next = Self::base_of(self.generation + 1);
        self.punch(next, HALF)?;
        self.write(&frame, next)?;
        self.generation += 1;
        self.write(&self.generation.to_le_bytes(), 0)?;
        (self.snapshot, self.used) = (frame.len() as u64, frame.len() as u64);
        Ok(())
    }

    /// Makes it worth nothing: who reads it finds no snapshot.
    pub(crate) fn give_up(&self) -> Result<()> {
        self.write(&[0; 8], 0)
    }

    /// Makes zeroes of so many bytes.
    fn punch(&self, offset: u64, size: u64) -> Result<()> {
        if size == 0 {
            return Ok(());
        }
        let hole = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
        rustix::fs::fallocate(&self.memory, hole, offset, size).map_err(system)
    }

    const fn base(&self) -> u64 {
        Self::base_of(self.generation)
    }

    const fn base_of(generation: u64) -> u64 {
        HEAD + generation % 2 * HALF
    }

    fn write(&self, mut bytes: &[u8], mut offset: u64) -> Result<()> {
        while !bytes.is_empty() {
            match rustix::io::pwrite(&self.memory, bytes, offset) {
                Ok(count) => {
                    bytes = bytes.get(count..).unwrap_or_default();
                    offset += count as u64;
                }
                Err(Errno::INTR) => {}
                Err(errno) => return Err(system(errno)),
            }
        }
        Ok(())
    }

    /// The record that begins where the last one ended, if it is whole.
    fn next(&mut self) -> Result<Option<Vec<u8>>> {
        let start = self.base() + self.used;
        let left = HALF - self.used;
        let mut frame = [0; FRAME];
        if left < FRAME as u64 {
            return Ok(None);
        }
        read_exactly(&self.memory, &mut frame, start)?;
        let [a, b, c, d, e, f, g, h] = frame;
        let (length, checksum) = (u32::from_le_bytes([a, b, c, d]), u32::from_le_bytes([e, f, g, h]));
        if length == 0 || u64::from(length) > left - FRAME as u64 {
            return Ok(None);
        }
        let mut record = vec![0; usize::try_from(length).unwrap_or(0)];
        read_exactly(&self.memory, &mut record, start + FRAME as u64)?;
        if CHECKSUM.checksum(&record) != checksum {
            return Ok(None);
        }
        self.used += FRAME as u64 + u64::from(length);
        Ok(Some(record))
    }
}

impl AsFd for LedgerFile {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.memory.as_fd()
    }
}

fn framed(record: &[u8]) -> Vec<u8> {
    let length = u32::try_from(record.len()).unwrap_or(u32::MAX);
    let mut frame = Vec::with_capacity(FRAME + record.len());
    frame.extend_from_slice(&length.to_le_bytes());
    frame.extend_from_slice(&CHECKSUM.checksum(record).to_le_bytes());
    frame.extend_from_slice(record);
    frame
}

fn read_exactly(memory: &OwnedFd, mut buffer: &mut [u8], mut offset: u64) -> Result<()> {
    while !buffer.is_empty() {
        match rustix::io::pread(memory, &mut *buffer, offset) {
            Ok(0) => {
                return Err(Error::new(ErrorKind::Protocol, "the ledger of the broker before is cut short"));
            }
            Ok(count) => {
                buffer = buffer.get_mut(count..).unwrap_or_default();
                offset += count as u64;
            }
            Err(Errno::INTR) => {}
            Err(errno) => return Err(system(errno)),
        }
    }
    Ok(())
}

fn system(errno: Errno) -> Error {
    Error::from_errno(errno, "the broker's ledger")
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn reopened(file: &LedgerFile) -> (LedgerFile, Vec<u8>, Vec<Vec<u8>>) {
        LedgerFile::open(rustix::io::dup(file).unwrap()).unwrap()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        /// Whoever reads it finds what was written, whatever was cut off in the middle of a write.
        #[test]
        fn what_was_written_is_read(
            steps in prop::collection::vec((any::<bool>(), prop::collection::vec(any::<u8>(), 1..200)), 1..40),
            // Of zeroes the first part is all, where nothing was written before.
            torn in prop::collection::vec(1..=u8::MAX, 1..40),
            kept in 0..40_usize,
        ) {
            let mut file = LedgerFile::create(b"first").unwrap();
            let (mut snapshot, mut records) = (b"first".to_vec(), Vec::new());
            for (begins, bytes) in steps {
                if begins {
                    file.begin(&bytes).unwrap();
                    (snapshot, records) = (bytes, Vec::new());
                } else {
                    file.append(&bytes).unwrap();
                    records.push(bytes);
                }
            }
            // The start of a record, and no more of it.
            let frame = framed(&torn);
            let part = &frame[..kept.min(frame.len() - 1)];
            file.write(part, file.base() + file.used).unwrap();
            let (mut again, found, behind) = reopened(&file);
            prop_assert_eq!(&found, &snapshot);
            prop_assert_eq!(&behind, &records);
            // And it goes on where that was.
            again.append(b"more").unwrap();
            let (_, _, behind) = reopened(&again);
            prop_assert_eq!(behind.last().map(Vec::as_slice), Some(&b"more"[..]));
        }
    }

    /// A snapshot that was being written when the process was killed is not looked at.
    #[test]
    fn a_snapshot_counts_when_it_is_whole() {
        let mut file = LedgerFile::create(b"first").unwrap();
        file.append(b"one").unwrap();
        file.write(&framed(b"second"), LedgerFile::base_of(file.generation + 1)).unwrap();
        assert_eq!(reopened(&file).1, b"first");
        file.give_up().unwrap();
        let error = LedgerFile::open(rustix::io::dup(&file).unwrap()).unwrap_err();
        assert!(error.to_string().contains("no snapshot"), "{error}");
    }

    #[test]
    fn it_is_long_when_there_is_more_behind_the_snapshot_than_in_it() {
        let mut file = LedgerFile::create(&vec![1; 2 << 20]).unwrap();
        let record = vec![2; 1 << 16];
        for _ in 0..32 {
            assert!(!file.is_long());
            file.append(&record).unwrap();
        }
        file.append(&record).unwrap();
        assert!(file.is_long());
        file.begin(b"short").unwrap();
        assert!(!file.is_long());
        let mut count = 0;
        while file.append(&vec![3; 1 << 20]).is_ok() {
            count += 1;
        }
        assert_eq!(count, 63, "it is full some day, and says so");
    }
}
