//! What of this machine depends on a PCI function.

use super::mounts::Mount;
use crate::kernel::Kernel;
use crate::root::{Root, system};
use jitney_pci::Address;
use jitney_vfio::Result;
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::io;
use std::path::PathBuf;

/// Something that would break if the function went to `vfio-pci`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Use {
    /// A block device, or one that is made of it, is mounted.
    Mount {
        /// The block device, as `nvme0n1p2`.
        device: String,
        /// Where.
        place: String,
    },
    /// A block device is swap.
    Swap {
        /// The block device.
        device: String,
    },
    /// A block device is part of another one: RAID, LVM, encryption.
    Part {
        /// The block device.
        device: String,
        /// Of which one.
        of: String,
    },
    /// A block device is claimed by somebody who is not seen otherwise: a ZFS pool, btrfs on several disks, a program.
    Claimed {
        /// The block device.
        device: String,
    },
    /// A block device is open in processes: a virtual machine, a database.
    Open {
        /// The block device.
        device: String,
        /// Which processes.
        by: Vec<String>,
    },
    /// A network interface is up.
    Interface {
        /// Its name.
        name: String,
    },
    /// It shows the console or a desktop.
    Screen {
        /// Which output or frame buffer.
        output: String,
    },
}

impl fmt::Display for Use {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Mount { device, place } => write!(f, "/dev/{device} is mounted on {place}"),
            Self::Swap { device } => write!(f, "/dev/{device} is swap"),
            Self::Part { device, of } => write!(f, "/dev/{device} is part of /dev/{of}"),
            Self::Claimed { device } => {
                write!(
                    f,
                    "somebody has /dev/{device} for himself alone (a ZFS pool, btrfs, a virtual machine)"
                )
            }
            Self::Open { device, by } => write!(f, "/dev/{device} is open in {}", by.join(" and ")),
            Self::Interface { name } => write!(f, "the network interface {name} is up"),
            Self::Screen { output } => write!(f, "{output} shows the console or a desktop"),
        }
    }
}

/// All that uses the function at `address`.
pub(super) fn uses(kernel: &dyn Kernel, root: &Root, address: Address) -> Result<Vec<Use>> {
    let seen = || -> io::Result<Vec<Use>> {
        let folder = root.path(format!("sys/bus/pci/devices/{address}")).canonicalize()?;
        let machine = Machine { kernel, root, folder };
        let mut uses = machine.disks()?;
        uses.extend(machine.interfaces()?);
        uses.extend(machine.screens()?);
        Ok(uses)
    };
    seen().map_err(|error| {
        let denied = error.kind() == io::ErrorKind::PermissionDenied;
        let error = system(format_args!("looking for what uses {address}"), &error);
        match denied {
            true => error.with_remedy("only root may do this: put sudo in front of the command"),
            false => error,
        }
    })
}

struct Machine<'a> {
    kernel: &'a dyn Kernel,
    root: &'a Root,
    /// The function's own folder: what sits behind it is below.
    folder: PathBuf,
}

impl Machine<'_> {
    /// The devices of a class that are the function's.
    fn below(&self, class: &str) -> io::Result<Vec<String>> {
        let folder = format!("sys/class/{class}");
        let mut names = self.root.names(&folder)?;
        names.retain(|name| {
            let device = self.root.path(&folder).join(name).canonicalize();
            device.is_ok_and(|device| device.starts_with(&self.folder))
        });
        Ok(names)
    }

    fn disks(&self) -> io::Result<Vec<Use>> {
        let mounts = self.mounts()?;
        let swaps = self.root.text("proc/swaps")?.unwrap_or_default();
        let mut uses = Vec::new();
        let mut seen = BTreeSet::new();
        let mut devices: Vec<String> = self.below("block")?;
        devices.extend(
            devices
                .clone()
                .iter()
                .filter_map(|device| shared_name(device))
                .flat_map(|disk| self.parts(&disk)),
        );
        while let Some(device) = devices.pop() {
            if !seen.insert(device.clone()) {
                continue;
            }
            let node = format!("/dev/{device}");
            let number = self.root.text(format!("sys/class/block/{device}/dev"))?;
            for mount in &mounts {
                if mount.source == node || Some(&mount.number) == number.as_ref() {
                    uses.push(Use::Mount { device: device.clone(), place: mount.place.clone() });
                }
            }
            if swaps.lines().any(|line| line.split_whitespace().next() == Some(&node)) {
                uses.push(Use::Swap { device: device.clone() });
            }
            for of in self.root.names(format!("sys/class/block/{device}/holders"))? {
                uses.push(Use::Part { device: device.clone(), of: of.clone() });
                devices.push(of);
            }
        }
        uses.extend(self.claims(&seen, &uses)?);
        uses.extend(self.open(&seen)?);
        Ok(uses)
    }

    /// Those of `devices` that are claimed, for which `known` is no reason: what is mounted, swap or a part is claimed, and
    /// so is the disk of such a partition.
    fn claims(&self, devices: &BTreeSet<String>, known: &[Use]) -> io::Result<Vec<Use>> {
        let is_explained = |device: &str| {
            known.iter().any(|found| match found {
                Use::Mount { device: used, .. }
                | Use::Swap { device: used }
                | Use::Part { device: used, .. } => used.starts_with(device),
                _ => false,
            })
        };
        let mut claims = Vec::new();
        for device in devices.iter().filter(|device| !is_explained(device)) {
            if self.kernel.is_claimed(&self.root.path(format!("dev/{}", file_name(device))))? {
                claims.push(Use::Claimed { device: device.clone() });
            }
        }
        Ok(claims)
    }

    /// Those of `devices` that processes have open, as far as can be seen.
    fn open(&self, devices: &BTreeSet<String>) -> io::Result<Vec<Use>> {
        let mut open: BTreeMap<&String, Vec<String>> = BTreeMap::new();
        let found = jitney_host::search(self.root, |_, files| {
            let has = |device: &&String| {
                let node = PathBuf::from(format!("/dev/{}", file_name(device)));
                files.iter().any(|file| file.target == node)
            };
            let held: Vec<&String> = devices.iter().filter(has).collect();
            (!held.is_empty()).then_some(held)
        })?;
        for (process, held) in found.processes {
            for device in held {
                open.entry(device).or_default().push(format!("pid {} ({})", process.pid, process.executable));
            }
        }
        Ok(open.into_iter().map(|(device, by)| Use::Open { device: device.clone(), by }).collect())
    }

    /// A disk and its partitions.
    fn parts(&self, disk: &str) -> Vec<String> {
        let all = self.root.names("sys/class/block").unwrap_or_default();
        let is_part =
            |name: &String| name == disk || name.strip_prefix(disk).is_some_and(|rest| rest.starts_with('p'));
        all.into_iter().filter(is_part).collect()
    }

    /// What this process sees mounted, and what the first one does: its view is that of the machine.
    fn mounts(&self) -> io::Result<Vec<Mount>> {
        let own = self.root.text("proc/self/mountinfo")?.unwrap_or_default();
        let first = self.root.text("proc/1/mountinfo").ok().flatten().unwrap_or_default();
        let mut mounts: Vec<Mount> = own.lines().chain(first.lines()).filter_map(Mount::parse).collect();
        mounts.sort();
        mounts.dedup();
        Ok(mounts)
    }

    fn interfaces(&self) -> io::Result<Vec<Use>> {
        const IFF_UP: u32 = 1;
        let mut uses = Vec::new();
        for name in self.below("net")? {
            let flags = self.root.text(format!("sys/class/net/{name}/flags"))?.unwrap_or_default();
            let flags = flags.strip_prefix("0x").and_then(|flags| u32::from_str_radix(flags, 16).ok());
            // Flags that make no sense are taken for "up": that refuses, and can be forced.
            if flags.is_none_or(|flags| flags & IFF_UP != 0) {
                uses.push(Use::Interface { name });
            }
        }
        Ok(uses)
    }

    fn screens(&self) -> io::Result<Vec<Use>> {
        let mut uses = Vec::new();
        for output in self.below("drm")? {
            if self.root.text(format!("sys/class/drm/{output}/enabled"))?.as_deref() == Some("enabled") {
                uses.push(Use::Screen { output });
            }
        }
        let mut console = false;
        for terminal in self.root.names("sys/class/vtconsole")? {
            let name = self.root.text(format!("sys/class/vtconsole/{terminal}/name"))?;
            let bound = self.root.text(format!("sys/class/vtconsole/{terminal}/bind"))?;
            console |=
                bound.as_deref() == Some("1") && name.is_some_and(|name| name.contains("frame buffer"));
        }
        if console {
            uses.extend(self.below("graphics")?.into_iter().map(|output| Use::Screen { output }));
        }
        Ok(uses)
    }
}

/// What a block device is called in `/dev`: sysfs has `!` for a `/`.
fn file_name(device: &str) -> String {
    device.replace('!', "/")
}

/// The disk that programs see of a path to an NVMe name space: `nvme0c1n1` is one way to `nvme0n1`, which is below no
/// PCI function.
fn shared_name(path: &str) -> Option<String> {
    let (subsystem, rest) = path.strip_prefix("nvme")?.split_once('c')?;
    let (_, name_space) = rest.split_once('n')?;
    Some(format!("nvme{subsystem}n{name_space}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::imitation::{Tree, address};
    use std::path::Path;

    const DISK: &str = "0000:03:00.0";

    fn disk(class: u32) -> Tree {
        let tree = Tree::new();
        tree.function(DISK, class, Some("a-driver"), Some(7));
        tree
    }

    /// A kernel in which these nodes are claimed.
    struct Claimed<'a>(&'a [&'a str]);

    impl Kernel for Claimed<'_> {
        fn write(&self, file: &Path, _text: &str) -> io::Result<()> {
            unreachable!("nobody writes to {}", file.display())
        }

        fn is_claimed(&self, node: &Path) -> io::Result<bool> {
            Ok(self.0.iter().any(|claimed| node.ends_with(claimed)))
        }
    }

    fn said(tree: &Tree) -> Vec<String> {
        said_with(tree, &[])
    }

    fn said_with(tree: &Tree, claimed: &[&str]) -> Vec<String> {
        uses(&Claimed(claimed), &tree.root, address(DISK)).unwrap().iter().map(Use::to_string).collect()
    }

    #[test]
    fn a_disk_of_a_pool_or_of_a_virtual_machine() {
        let tree = disk(0x01_0601);
        for (name, number) in [("sda", "8:0"), ("sda1", "8:1"), ("sda2", "8:2"), ("cciss!c0d0", "8:3")] {
            tree.below(DISK, "block", name, &[("dev", number)]);
        }
        let claim = |device: &str| {
            format!("somebody has /dev/{device} for himself alone (a ZFS pool, btrfs, a virtual machine)")
        };
        assert_eq!(said_with(&tree, &["dev/sda2"]), [claim("sda2")]);
        assert_eq!(said_with(&tree, &["dev/cciss/c0d0"]), [claim("cciss!c0d0")]);
        // What is mounted is claimed anyway, and so is the disk that it is on.
        tree.file("proc/self/mountinfo", "22 1 8:1 / /data rw - ext4 /dev/sda1 rw\n");
        assert_eq!(said_with(&tree, &["dev/sda", "dev/sda1"]), ["/dev/sda1 is mounted on /data"]);
        assert_eq!(
            said_with(&tree, &["dev/sda", "dev/sda1", "dev/sda2"]),
            ["/dev/sda1 is mounted on /data".to_owned(), claim("sda2")]
        );
        tree.without("proc/self/mountinfo");
        tree.process(77, "/usr/bin/qemu-system-x86_64", 0, &["/dev/sda", "/dev/null"]);
        assert_eq!(said(&tree), ["/dev/sda is open in pid 77 (/usr/bin/qemu-system-x86_64)"]);
    }

    #[test]
    fn a_disk_by_number_by_name_and_as_swap() {
        let tree = disk(0x01_0802);
        tree.below(DISK, "block", "nvme0n1", &[("dev", "259:0")]);
        tree.below(DISK, "block", "nvme0n1p1", &[("dev", "259:1")]);
        tree.below(DISK, "block", "nvme0n1p2", &[("dev", "259:2")]);
        tree.below(DISK, "block", "nvme0n1p3", &[("dev", "259:3")]);
        assert_eq!(said(&tree), [""; 0]);
        tree.file(
            "proc/self/mountinfo",
            "22 1 259:1 / /boot\\040of\\040it rw - ext4 /dev/root rw\n\
             23 1 0:41 / / rw shared:1 - btrfs /dev/nvme0n1p2 rw\n\
             24 1 8:1 / /other rw - ext4 /dev/sda1 rw\nnonsense\n",
        );
        tree.file("proc/swaps", "Filename Type Size Used Priority\n/dev/nvme0n1p3 partition 8 0 -2\n");
        let mut uses = said(&tree);
        uses.sort();
        assert_eq!(
            uses,
            [
                "/dev/nvme0n1p1 is mounted on /boot of it",
                "/dev/nvme0n1p2 is mounted on /",
                "/dev/nvme0n1p3 is swap"
            ]
        );
    }

    #[test]
    fn a_disk_below_lvm() {
        let tree = disk(0x01_0601);
        tree.below(DISK, "block", "sda", &[("dev", "8:0"), ("holders/dm-0", "")]);
        tree.folder("sys/devices/virtual/block/dm-0");
        tree.file("sys/devices/virtual/block/dm-0/dev", "254:0");
        tree.link("sys/class/block/dm-0", "../../devices/virtual/block/dm-0");
        tree.file("proc/self/mountinfo", "22 1 254:0 / /home rw - ext4 /dev/mapper/vg-home rw\n");
        assert_eq!(said(&tree), ["/dev/sda is part of /dev/dm-0", "/dev/dm-0 is mounted on /home"]);
    }

    #[test]
    fn an_nvme_disk_that_hides_behind_its_subsystem() {
        let tree = disk(0x01_0802);
        tree.below(DISK, "block", "nvme0c1n1", &[("dev", "259:9")]);
        for (name, number) in [("nvme0n1", "259:0"), ("nvme0n1p1", "259:1"), ("nvme0n10", "259:2")] {
            tree.file(&format!("sys/devices/virtual/{name}/dev"), number);
            tree.link(&format!("sys/class/block/{name}"), &format!("../../devices/virtual/{name}"));
        }
        let mounted =
            "22 1 259:1 / / rw - ext4 /dev/nvme0n1p1 rw\n23 1 259:2 / /x rw - ext4 /dev/nvme0n10 rw\n";
        tree.file("proc/self/mountinfo", mounted);
        assert_eq!(said(&tree), ["/dev/nvme0n1p1 is mounted on /"]);
    }

    #[test]
    fn an_interface_that_is_up_and_one_that_is_not() {
        let tree = disk(0x02_0000);
        tree.below(DISK, "net", "eth0", &[("flags", "0x1003")]);
        tree.below(DISK, "net", "eth1", &[("flags", "0x1002")]);
        assert_eq!(said(&tree), ["the network interface eth0 is up"]);
    }

    #[test]
    fn a_screen() {
        let tree = disk(0x03_0000);
        tree.below(DISK, "graphics", "fb0", &[]);
        tree.below(DISK, "drm", "card0-DP-1", &[("enabled", "disabled")]);
        assert_eq!(said(&tree), [""; 0]);
        tree.file("sys/class/vtconsole/vtcon1/name", "(M) frame buffer device");
        tree.file("sys/class/vtconsole/vtcon1/bind", "1");
        assert_eq!(said(&tree), ["fb0 shows the console or a desktop"]);
        tree.file("sys/class/drm/card0-DP-1/enabled", "enabled");
        assert_eq!(said(&tree).len(), 2);
    }
}
