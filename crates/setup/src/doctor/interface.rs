//! Which interface of the kernel will be used for the cards: the rules of `jitney_vfio::choose_interface`.

use super::machine::Machine;
use super::report::Check;
use crate::neighbours::sysfs;
use crate::nodes::{CONTAINER, IOMMUFD, inside, no_iommu_mode};
use jitney_vfio::sysfs::PciFunction;
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
    let reason = match against_iommufd(machine, cards) {
        Ok(None) => {
            return Check::good(NAME, format!("iommufd: {IOMMUFD} and the cards' own nodes are there"));
        }
        Ok(Some(reason)) => reason,
        Err(why) => return Check::unknown(NAME, why),
    };
    if machine.root.exists(inside(Path::new(CONTAINER))) {
        Check::good(NAME, format!("group and container (type1), as {reason}"))
    } else {
        let what = format!("none: there is no {CONTAINER}, and iommufd cannot be used, as {reason}");
        Check::missing(NAME, what, "sudo modprobe vfio_iommu_type1")
    }
}

/// Why iommufd will not be used; nothing if it will.
fn against_iommufd(machine: &Machine<'_>, cards: &[PciFunction]) -> Result<Option<String>, String> {
    let caller = machine.caller.as_ref().map_err(Clone::clone)?;
    let obstacle = |node: &Path| match machine.root.metadata(inside(node)) {
        Ok(None) => Some(format!("there is no {}", node.display())),
        Ok(Some(metadata)) if caller.may_use(&metadata) => None,
        Ok(Some(_)) | Err(_) => Some(format!("this user cannot open {}", node.display())),
    };
    if let Some(obstacle) = obstacle(Path::new(IOMMUFD)) {
        return Ok(Some(obstacle));
    }
    for card in cards {
        match sysfs(machine.root).cdev(card.address).map_err(|error| error.to_string())? {
            None => return Ok(Some(format!("card {} has no node of its own", card.address))),
            Some(node) => {
                if let Some(obstacle) = obstacle(&node) {
                    return Ok(Some(obstacle));
                }
            }
        }
    }
    Ok(None)
}
