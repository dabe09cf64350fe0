//! On a machine with several NUMA nodes: is it known which one the card is near to?

use super::machine::Machine;
use super::report::Check;
use crate::neighbours::sysfs;
use jitney_vfio::sysfs::PciFunction;

const NAME: &str = "NUMA node";

pub(super) fn check(machine: &Machine<'_>, card: &PciFunction) -> Check {
    let nodes = match sysfs(machine.root).numa_nodes() {
        Ok(nodes) => nodes,
        Err(error) => return Check::unknown(NAME, error).of(card.address),
    };
    let listed: Vec<String> = nodes.iter().map(u32::to_string).collect();
    let listed = listed.join(", ");
    let address = card.address;
    let check = match card.numa_node {
        _ if nodes.len() < 2 => Check::good(NAME, "the machine has one"),
        Some(node) => Check::good(
            NAME,
            format!(
                "{node} of {listed}; DMA buffers are taken there, and programs are best run there: numactl --cpunodebind={node}"
            ),
        ),
        None => Check::warning(
            NAME,
            format!("unknown, of {listed}; DMA buffers are taken anywhere, and are slower on the far side"),
            format!(
                "update the BIOS, which has to tell; until then, with the node N whose slot the board's manual shows: echo N | \
                 sudo tee /sys/bus/pci/devices/{address}/numa_node"
            ),
        ),
    };
    check.of(address)
}
