//! May this process open a node of `/dev`?

use crate::caller::Caller;
use crate::root::Root;
use rustix::fs::{Access, AtFlags, CWD};
use rustix::io::Errno;
use std::io;
use std::path::Path;

/// Whether a process could use a node of `/dev`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Node {
    /// It may read and write it.
    Usable,
    /// It may not.
    Unusable,
    /// There is no such node.
    Missing,
}

/// What the node at `path` is to this process, as the kernel says, so that access control lists count.
#[must_use]
pub fn node(path: &Path) -> Node {
    let wanted = Access::READ_OK | Access::WRITE_OK;
    // Not access(2), which asks for the real user and not for the one that will open it.
    match rustix::fs::accessat(CWD, path, wanted, AtFlags::EACCESS) {
        Ok(()) => Node::Usable,
        Err(Errno::NOENT | Errno::NOTDIR) => Node::Missing,
        Err(_) => Node::Unusable,
    }
}

impl Caller {
    /// What the node that programs call `path` (`/dev/vfio/86`) is to this caller on the machine below `root`: as [`node`]
    /// on this one, and by owner, group and mode where one is imitated.
    ///
    /// # Errors
    /// It could not be seen: a folder above it is closed.
    pub fn node(&self, root: &Root, path: &Path) -> io::Result<Node> {
        let inside = path.strip_prefix("/").unwrap_or(path);
        Ok(match root.metadata(inside)? {
            None => Node::Missing,
            Some(_) if root.is_this_machine() => node(&root.path(inside)),
            Some(metadata) if self.may_use(&metadata) => Node::Usable,
            Some(_) => Node::Unusable,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn of_this_machine_as_the_kernel_says() {
        let of = |path: &str| node(Path::new(path));
        assert_eq!(of("/dev/null"), Node::Usable);
        assert_eq!(of("/dev/no-such-node"), Node::Missing);
        assert_eq!(of("/dev/null/below"), Node::Missing);
        let root = Root::default();
        let caller = Caller::of(&root).unwrap();
        assert_eq!(caller.node(&root, Path::new("/dev/null")).unwrap(), Node::Usable);
        assert_eq!(caller.node(&root, Path::new("/dev/no-such-node")).unwrap(), Node::Missing);
    }

    #[test]
    fn of_an_imitated_machine_by_mode() {
        let folder = tempfile::tempdir().unwrap();
        let root = Root::new(folder.path());
        let caller = Caller {
            capabilities: 0,
            uid: u32::MAX,
            gids: Vec::new(),
            ..Caller::of(&Root::default()).unwrap()
        };
        fs::create_dir(folder.path().join("dev")).unwrap();
        let path = folder.path().join("dev/node");
        fs::write(&path, "").unwrap();
        for (mode, expected) in [(0o600, Node::Unusable), (0o666, Node::Usable)] {
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            assert_eq!(caller.node(&root, Path::new("/dev/node")).unwrap(), expected);
        }
        assert_eq!(caller.node(&root, Path::new("/dev/other")).unwrap(), Node::Missing);
    }
}
