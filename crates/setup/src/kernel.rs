//! What the kernel is told by writing to its files, and what only it can answer.

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::{Duration, Instant};

/// The kernel; tests imitate what it does.
pub(crate) trait Kernel {
    /// Writes `text` to a file of sysfs, in one call.
    fn write(&self, file: &Path, text: &str) -> io::Result<()>;

    /// Whether the caller may write to a file of sysfs; nothing is written.
    fn may_write(&self, file: &Path) -> io::Result<()> {
        std::fs::OpenOptions::new().write(true).open(file).map(drop)
    }

    /// Writes 16 bits to a function's configuration space, which is such a file, in one call.
    fn write_register(&self, config: &Path, offset: u16, value: u16) -> io::Result<()> {
        let file = std::fs::OpenOptions::new().write(true).open(config)?;
        file.write_all_at(&value.to_le_bytes(), offset.into())
    }

    /// What a function's configuration space has now, as far as the caller may see it.
    fn read_config(&self, config: &Path) -> io::Result<Vec<u8>> {
        std::fs::read(config)
    }

    /// Whether somebody has the block device with this node for itself alone: a file system, RAID, a ZFS pool.
    fn is_claimed(&self, node: &Path) -> io::Result<bool>;
}

/// The kernel of this machine.
#[derive(Debug)]
pub(crate) struct ThisKernel;

impl Kernel for ThisKernel {
    fn write(&self, file: &Path, text: &str) -> io::Result<()> {
        // Opened without O_CREAT: a file that is not there is an error, not a new file.
        let mut file = std::fs::OpenOptions::new().write(true).open(file)?;
        io::Write::write_all(&mut file, text.as_bytes())
    }

    /// What mkfs asks, too: O_EXCL without O_CREAT claims a block device, and fails with EBUSY if another one has (open(2)).
    fn is_claimed(&self, node: &Path) -> io::Result<bool> {
        // Without O_NONBLOCK a drive without a medium would be waited for.
        let flags = OFlags::RDONLY | OFlags::EXCL | OFlags::NONBLOCK | OFlags::CLOEXEC;
        match rustix::fs::open(node, flags, Mode::empty()) {
            Ok(_) => Ok(false),
            Err(Errno::BUSY) => Ok(true),
            // It has no node here, or nothing is in it.
            Err(Errno::NOENT | Errno::NXIO | Errno::NOMEDIUM | Errno::NODEV) => Ok(false),
            Err(errno) => Err(errno.into()),
        }
    }
}

/// Asks again and again, for as long as it is patient.
pub(crate) fn wait<T>(
    patience: Duration,
    mut ask: impl FnMut() -> crate::Result<Option<T>>,
) -> crate::Result<Option<T>> {
    const PAUSE: Duration = Duration::from_millis(10);
    let start = Instant::now();
    loop {
        if let Some(answer) = ask()? {
            return Ok(Some(answer));
        }
        if start.elapsed() >= patience {
            return Ok(None);
        }
        std::thread::sleep(PAUSE);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;

    #[test]
    fn a_disk_that_somebody_has_for_himself_is_claimed() {
        let folder = tempfile::tempdir().unwrap();
        let image = folder.path().join("disk");
        std::fs::File::create(&image).unwrap().set_len(1 << 20).unwrap();
        let looped = Command::new("losetup").args(["--find", "--show"]).arg(&image).output();
        let node = match looped {
            Ok(output) if output.status.success() => {
                String::from_utf8(output.stdout).unwrap().trim().to_owned()
            }
            other => {
                println!("skipped: no loop device can be set up here: {other:?}");
                return;
            }
        };
        let node = Path::new(&node);
        let before = ThisKernel.is_claimed(node);
        let open = |flags| rustix::fs::open(node, OFlags::RDONLY | OFlags::CLOEXEC | flags, Mode::empty());
        // Who only reads it does not claim it.
        let reader = open(OFlags::empty()).unwrap();
        let read = ThisKernel.is_claimed(node);
        let claim = open(OFlags::EXCL).unwrap();
        let during = ThisKernel.is_claimed(node);
        drop((reader, claim));
        let after = ThisKernel.is_claimed(node);
        Command::new("losetup").arg("--detach").arg(node).status().unwrap();
        let all = [before, read, during, after].map(Result::unwrap);
        assert_eq!(all, [false, false, true, false]);
        assert!(!ThisKernel.is_claimed(Path::new("/dev/no-such-disk")).unwrap());
    }
}
