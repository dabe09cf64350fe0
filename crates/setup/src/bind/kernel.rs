//! What the kernel is told, to bind and unbind, and what only it can answer.

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use std::io;
use std::path::Path;

/// The kernel; tests imitate what it does.
pub(super) trait Kernel {
    /// Writes `text` to a file of sysfs, in one call.
    fn write(&self, file: &Path, text: &str) -> io::Result<()>;

    /// Whether somebody has the block device with this node for itself alone: a file system, RAID, a ZFS pool.
    fn is_claimed(&self, node: &Path) -> io::Result<bool>;
}

/// The kernel of this machine.
#[derive(Debug)]
pub(super) struct ThisKernel;

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
