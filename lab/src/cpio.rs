//! The archive that a kernel unpacks as its first file system: cpio, "new ASCII" format
//! (Documentation/driver-api/early-userspace/buffer-format.rst in the kernel's source).

use std::io::{self, Write};

/// Types of a file, as in `st_mode`.
const DIRECTORY: u32 = 0o040_000;
const REGULAR: u32 = 0o100_000;

/// Writes an archive, file after file. A folder must come before what it holds.
pub(crate) struct Archive<W> {
    out: W,
    inode: u32,
}

impl<W: Write> Archive<W> {
    pub(crate) fn new(out: W) -> Self {
        Self { out, inode: 0 }
    }

    /// Adds a folder, which root owns and everybody may read. `path` has no leading slash.
    pub(crate) fn directory(&mut self, path: &str) -> io::Result<()> {
        self.member(path, DIRECTORY | 0o755, &[])
    }

    /// Adds a file with its content; `mode` holds the permission bits.
    pub(crate) fn file(&mut self, path: &str, mode: u32, content: &[u8]) -> io::Result<()> {
        self.member(path, REGULAR | mode, content)
    }

    /// Ends the archive and gives back what it was written to.
    pub(crate) fn finish(mut self) -> io::Result<W> {
        self.member("TRAILER!!!", 0, &[])?;
        Ok(self.out)
    }

    /// A header of thirteen 8-digit numbers, the path with a zero byte, the content; the last two each filled up to 4 bytes.
    fn member(&mut self, path: &str, mode: u32, content: &[u8]) -> io::Result<()> {
        let too_big =
            |_| io::Error::new(io::ErrorKind::FileTooLarge, format!("{path} does not fit a cpio archive"));
        let size = u32::try_from(content.len()).map_err(too_big)?;
        let path_size = u32::try_from(path.len() + 1).map_err(too_big)?;
        self.inode += 1;
        let links = if mode & DIRECTORY == DIRECTORY { 2 } else { 1 };
        let (owner, group, time, device) = (0, 0, 0, [0; 4]);
        write!(self.out, "070701")?;
        for field in [self.inode, mode, owner, group, links, time, size]
            .into_iter()
            .chain(device)
            .chain([path_size, 0])
        {
            write!(self.out, "{field:08x}")?;
        }
        self.out.write_all(path.as_bytes())?;
        self.out.write_all(&[0])?;
        self.pad(HEADER + path.len() + 1)?;
        self.out.write_all(content)?;
        self.pad(content.len())
    }

    fn pad(&mut self, written: usize) -> io::Result<()> {
        self.out.write_all(&[0; 3][..written.next_multiple_of(4) - written])
    }
}

/// Bytes of a member's header.
const HEADER: usize = 6 + 13 * 8;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_small_archive_byte_for_byte() {
        let mut archive = Archive::new(Vec::new());
        archive.file("a", 0o644, b"xy").unwrap();
        let bytes = archive.finish().unwrap();
        let header = "070701000000010000 81a4".replace(' ', "")
            + "0000000000000000"
            + "00000001"
            + "00000000"
            + "00000002"
            + "00000000000000000000000000000000"
            + "00000002"
            + "00000000";
        assert_eq!(&bytes[..HEADER], header.as_bytes());
        assert_eq!(&bytes[HEADER..HEADER + 6], b"a\0xy\0\0");
        assert!(bytes[HEADER + 6..].starts_with(b"070701"));
        assert_eq!(bytes.len() % 4, 0);
    }

    #[test]
    fn members_begin_at_multiples_of_four() {
        for length in 0..9 {
            let mut archive = Archive::new(Vec::new());
            archive.directory(&"d".repeat(length + 1)).unwrap();
            archive.file("f", 0o755, &vec![7; length]).unwrap();
            let bytes = archive.finish().unwrap();
            let starts =
                bytes.windows(6).enumerate().filter(|(_, window)| window == b"070701").map(|(at, _)| at);
            let starts: Vec<_> = starts.collect();
            assert_eq!(starts.len(), 3);
            assert!(starts.iter().all(|at| at % 4 == 0), "{starts:?}");
        }
    }
}
