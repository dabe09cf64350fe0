//! Which processes hold files of VFIO, and so cards.
//!
//! A process that was handed a card's descriptor by another one has only an anonymous file, `[vfio-device]`. Linux 6.18
//! and later say in `/proc/PID/fdinfo` which card it is.

use crate::neighbours::sysfs;
use crate::root::{Root, system};
use jitney_host::accounts;
use jitney_host::{OpenFile, presentable};
use jitney_pci::Address;
use jitney_vfio::Result;
use serde::Serialize;
use std::fmt;
use std::path::Path;
use std::time::UNIX_EPOCH;

/// What the kernel calls the file of a card.
const DEVICE: &str = "anon_inode:[vfio-device]";

/// What is looked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// Every file of VFIO.
    All,
    /// The files that lead to one card, and those that may.
    Card(Address),
}

/// A process that holds files of VFIO.
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Holder {
    /// Its process id.
    pub pid: u32,
    /// The user it runs as.
    pub uid: u32,
    /// That user's name, if `/etc/passwd` has it.
    pub user: Option<String>,
    /// Its executable.
    pub executable: String,
    /// When it started, in seconds since 1970; the kernel does not tell when it opened the file.
    pub since: Option<u64>,
    /// The files: `/dev/vfio/86`, `[vfio-device]`.
    pub files: Vec<String>,
    /// False if it has a card open, and the kernel does not tell which one.
    pub card_is_certain: bool,
}

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "pid {} ({}", self.pid, self.executable)?;
        match &self.user {
            Some(user) => write!(f, ", user {user})"),
            None => write!(f, ", user {})", self.uid),
        }
    }
}

/// What a search has found.
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct Holders {
    /// The processes, in order of their ids.
    pub holders: Vec<Holder>,
    /// How many processes could not be looked into: other users', unless root asks.
    pub hidden: usize,
}

/// A file of VFIO that a process has open.
struct File {
    name: String,
    is_certain: bool,
}

/// Which processes hold what `scope` says.
///
/// # Errors
/// There is no such card, or `/proc` cannot be read.
pub fn who_holds(root: &Root, scope: Scope) -> Result<Holders> {
    let nodes = match scope {
        Scope::All => None,
        Scope::Card(address) => Some((nodes_of(root, address)?, address.to_string())),
    };
    let found = jitney_host::search(root, |pid, open| {
        let mut files = files_of_vfio(root, pid, open);
        if let Some((nodes, address)) = &nodes {
            files.retain(|file| {
                !file.is_certain || nodes.contains(&file.name) || file.name.ends_with(address.as_str())
            });
        }
        (!files.is_empty()).then_some(files)
    });
    let found = found.map_err(|error| system("reading /proc", &error))?;
    let holders = found.processes.into_iter().map(|(process, files)| {
        let card_is_certain = files.iter().any(|file| file.is_certain);
        let mut files: Vec<String> = files.into_iter().map(|file| file.name).collect();
        files.sort();
        files.dedup();
        let since = process.since.and_then(|since| since.duration_since(UNIX_EPOCH).ok());
        Holder {
            pid: process.pid,
            uid: process.uid,
            user: accounts::user_name(root, process.uid),
            executable: process.executable,
            since: since.map(|since| since.as_secs()),
            files,
            card_is_certain,
        }
    });
    Ok(Holders { holders: holders.collect(), hidden: found.hidden })
}

/// The nodes by which the card at `address` is opened.
fn nodes_of(root: &Root, address: Address) -> Result<Vec<String>> {
    let group = sysfs(root).function(address)?.iommu_group;
    let cdev = sysfs(root).cdev(address)?;
    let by_group = group.map(|group| [format!("/dev/vfio/{group}"), format!("/dev/vfio/noiommu-{group}")]);
    let by_device = cdev.map(|node| node.display().to_string());
    Ok(by_group.into_iter().flatten().chain(by_device).collect())
}

/// The files of VFIO among those that process `pid` has open.
fn files_of_vfio(root: &Root, pid: u32, open: Vec<OpenFile>) -> Vec<File> {
    let of_vfio = open.into_iter().filter_map(|file| {
        let name = file.target.to_string_lossy();
        if name == DEVICE {
            let card = card_of(root, pid, &file.number);
            let name =
                card.as_ref().map_or("[vfio-device]".to_owned(), |card| format!("[vfio-device] {card}"));
            return Some(File { name, is_certain: card.is_some() });
        }
        let is_node = file.target.starts_with("/dev/vfio") || file.target == Path::new(crate::nodes::IOMMUFD);
        is_node.then(|| File { name: presentable(&*name), is_certain: true })
    });
    of_vfio.collect()
}

/// The card that a descriptor leads to, where the kernel tells.
fn card_of(root: &Root, pid: u32, descriptor: &str) -> Option<String> {
    let text = root.text(format!("proc/{pid}/fdinfo/{descriptor}")).ok()??;
    let path = text.lines().find_map(|line| line.strip_prefix("vfio-device-syspath:"))?;
    Some(Path::new(path.trim()).file_name()?.to_string_lossy().into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::imitation::{CARD, Tree, address};

    fn busy() -> Tree {
        let tree = Tree::healthy();
        tree.function("0000:2f:00.0", 0x05_8000, Some("vfio-pci"), Some(87));
        tree.process(
            100,
            "/usr/bin/broker",
            1000,
            &["/dev/vfio/vfio", "/dev/vfio/86", "/dev/null", "/dev/vfio/86"],
        );
        tree.process(200, "/usr/bin/client", 1000, &[DEVICE]);
        tree.process(300, "/usr/bin/other", 1000, &["/dev/vfio/87", "socket:[1]"]);
        tree.process(400, "/bin/sh", 0, &["/dev/null"]);
        tree
    }

    fn pids(found: &Holders) -> Vec<u32> {
        found.holders.iter().map(|holder| holder.pid).collect()
    }

    #[test]
    fn all_that_hold_anything() {
        let found = who_holds(&busy().root, Scope::All).unwrap();
        assert_eq!((pids(&found), found.hidden), (vec![100, 200, 300], 0));
        assert_eq!(found.holders[0].files, ["/dev/vfio/86", "/dev/vfio/vfio"]);
        assert_eq!(found.holders[0].executable, "/usr/bin/broker");
        let ticks = rustix::param::clock_ticks_per_second();
        assert_eq!(found.holders[0].since, Some(1_700_000_000 + 500 / ticks));
    }

    #[test]
    fn those_of_one_card_and_those_that_may_have_it() {
        let tree = busy();
        let found = who_holds(&tree.root, Scope::Card(address(CARD))).unwrap();
        assert_eq!(pids(&found), [100, 200]);
        assert_eq!(found.holders[0].files, ["/dev/vfio/86"]);
        let certain: Vec<bool> = found.holders.iter().map(|holder| holder.card_is_certain).collect();
        assert_eq!(certain, [true, false]);
    }

    #[test]
    fn a_kernel_that_tells_which_card_it_is() {
        let tree = busy();
        tree.file(
            "proc/200/fdinfo/0",
            "pos:\t0\nvfio-device-syspath: /sys/devices/pci0000:00/0000:2f:00.0\n",
        );
        let of_card = |card| pids(&who_holds(&tree.root, Scope::Card(address(card))).unwrap());
        assert_eq!(of_card(CARD), [100]);
        assert_eq!(of_card("0000:2f:00.0"), [200, 300]);
    }

    #[test]
    fn the_node_of_the_newer_interface() {
        let tree = busy();
        tree.file(&format!("{}/vfio-dev/vfio3/dev", crate::imitation::device(CARD)), "511:3");
        tree.process(500, "/usr/bin/modern", 1000, &["/dev/vfio/devices/vfio3", "/dev/iommu"]);
        let found = who_holds(&tree.root, Scope::Card(address(CARD))).unwrap();
        assert_eq!(pids(&found), [100, 200, 500]);
        assert_eq!(found.holders[2].files, ["/dev/vfio/devices/vfio3"]);
    }
}
