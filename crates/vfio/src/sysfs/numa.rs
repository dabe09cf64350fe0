//! NUMA: which nodes the machine has, and near which one cards are.

use super::{Directory, PciFunction, Sysfs, misread, unreadable};
use crate::error::Result;
use std::io;

impl Sysfs {
    /// The NUMA nodes of the machine, ascending; none if the kernel knows of no such thing.
    ///
    /// # Errors
    /// A folder that cannot be read.
    pub fn numa_nodes(&self) -> Result<Vec<u32>> {
        let directory = self.root.join("devices/system/node");
        let entries = match std::fs::read_dir(&directory) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries.map_err(|error| unreadable(&directory, &error))?,
        };
        let mut nodes = Vec::new();
        for entry in entries {
            let name = entry.map_err(|error| unreadable(&directory, &error))?.file_name();
            let number = name.to_str().and_then(|name| name.strip_prefix("node"));
            nodes.extend(number.and_then(|number| number.parse::<u32>().ok()));
        }
        nodes.sort_unstable();
        Ok(nodes)
    }

    /// The node that memory for `functions` is best taken from: the one that all of them are on. None if they are on several, if
    /// the kernel does not know, or if the machine has no more than one.
    pub(crate) fn common_node(&self, functions: &[PciFunction]) -> Option<u32> {
        let node = functions.first()?.numa_node?;
        let in_common = functions.iter().all(|function| function.numa_node == Some(node));
        let nodes =
            self.numa_nodes().inspect_err(|error| tracing::debug!(%error, "memory is taken anywhere"));
        (in_common && nodes.is_ok_and(|nodes| nodes.len() > 1)).then_some(node)
    }
}

impl Directory<'_> {
    /// What `numa_node` says, where -1 is what the kernel does not know.
    pub(super) fn numa_node(&self) -> Result<Option<u32>> {
        let Some(text) = self.text_if_any("numa_node")? else { return Ok(None) };
        match text.parse::<i32>() {
            Ok(number) => Ok(u32::try_from(number).ok()),
            Err(_) => Err(misread(&self.path.join("numa_node"), &text)),
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::sysfs::fake::Machine;
    use std::fs;

    const ADDRESSES: [&str; 3] = ["0000:01:00.0", "0000:02:00.0", "0000:81:00.0"];

    #[test]
    fn memory_is_taken_where_all_cards_are() {
        let machine = Machine::new();
        for (address, node) in ADDRESSES.iter().zip(["0", "0", "1"]) {
            fs::write(machine.add(address, None, None).join("numa_node"), format!("{node}\n")).unwrap();
        }
        let sysfs = machine.sysfs();
        let functions = sysfs.functions().unwrap();
        assert!(sysfs.numa_nodes().unwrap().is_empty());
        assert_eq!(sysfs.common_node(&functions[..2]), None, "there is nothing to choose from");
        machine.nodes(1);
        assert_eq!(sysfs.common_node(&functions[..2]), None);
        machine.nodes(2);
        assert_eq!(sysfs.numa_nodes().unwrap(), [0, 1]);
        assert_eq!(sysfs.common_node(&functions[..2]), Some(0));
        assert_eq!(sysfs.common_node(&functions[2..]), Some(1));
        assert_eq!(sysfs.common_node(&functions), None, "they are on two");
        assert_eq!(sysfs.common_node(&[]), None);
    }

    #[test]
    fn a_node_may_be_unknown_and_is_a_number() {
        let machine = Machine::new();
        machine.nodes(2);
        let file = machine.add(ADDRESSES[0], None, None).join("numa_node");
        let read = || machine.sysfs().functions().map(|functions| functions[0].numa_node);
        assert_eq!(read().unwrap(), None);
        fs::write(&file, "-1\n").unwrap();
        assert_eq!(read().unwrap(), None);
        fs::write(&file, "1\n").unwrap();
        assert_eq!(read().unwrap(), Some(1));
        fs::write(&file, "near\n").unwrap();
        assert!(read().unwrap_err().to_string().contains("0000:01:00.0/numa_node"));
    }
}
