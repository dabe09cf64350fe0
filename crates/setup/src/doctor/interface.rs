//! Which interface of the kernel will be used for the cards.

use super::machine::Machine;
use super::report::Check;
use crate::neighbours::sysfs;
use crate::nodes::{CONTAINER, inside, no_iommu_mode};
use jitney_host::Node;
use jitney_vfio::sysfs::PciFunction;
use jitney_vfio::{Choice, IommuInterface, choose_interface};
use std::path::Path;

const NAME: &str = "interface";

pub(super) fn check(machine: &Machine<'_>, cards: &[PciFunction]) -> Check {
    if !cards.iter().any(PciFunction::bound_to_vfio) {
        return Check::unknown(NAME, "it is chosen when a card is bound to vfio-pci");
    }
    if !machine.has_iommu() {
        return match no_iommu_mode(machine.root) {
            Ok(true) => Check::missing(
                NAME,
                "none but noiommu, by which cards and programs can write to all of the machine's memory",
                "switch the IOMMU on (see above); or, unsafe, as root and by name: --iommu noiommu",
            ),
            Ok(false) => Check::missing(NAME, "none, as the IOMMU is off", "switch the IOMMU on (see above)"),
            Err(error) => Check::unknown(NAME, error),
        };
    }
    let choice = match choice(machine, cards) {
        Ok(choice) => choice,
        Err(why) => return Check::unknown(NAME, why),
    };
    let reason = choice.reason;
    if choice.interface == IommuInterface::Iommufd {
        Check::good(NAME, format!("iommufd: {reason}"))
    } else if machine.root.exists(inside(Path::new(CONTAINER))) {
        Check::good(NAME, format!("group and container (type1), as {reason}"))
    } else {
        let what = format!("none: there is no {CONTAINER}, and iommufd cannot be used, as {reason}");
        Check::missing(NAME, what, "sudo modprobe vfio_iommu_type1")
    }
}

fn choice(machine: &Machine<'_>, cards: &[PciFunction]) -> Result<Choice, String> {
    let caller = machine.caller.as_ref().map_err(Clone::clone)?;
    let node = |path: &Path| caller.node(machine.root, path).unwrap_or(Node::Unusable);
    let addresses: Vec<_> = cards.iter().map(|card| card.address).collect();
    choose_interface(IommuInterface::Auto, &addresses, &sysfs(machine.root), node)
        .map_err(|error| error.to_string())
}
