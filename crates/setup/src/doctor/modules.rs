//! Is `vfio-pci` loaded or built in, and what it needs with it?

use super::machine::Machine;
use super::report::Check;

const NAME: &str = "modules";

pub(super) fn check(machine: &Machine<'_>) -> Check {
    let is_built = |option| !machine.config.as_ref().is_ok_and(|config| config.lacks(option));
    if !machine.root.exists("sys/bus/pci/drivers/vfio-pci") {
        return match is_built("VFIO_PCI") {
            true => Check::missing(
                NAME,
                "vfio-pci is not loaded",
                "sudo modprobe vfio-pci && echo vfio-pci | sudo tee /etc/modules-load.d/vfio-pci.conf",
            ),
            false => Check::missing(
                NAME,
                "this kernel has no vfio-pci to load",
                "start a kernel that has it, as those of Debian, Ubuntu, RHEL and Fedora",
            ),
        };
    }
    let state = if is_listed(machine) { "loaded" } else { "built in" };
    if machine.has_module("vfio_iommu_type1") {
        Check::good(NAME, format!("vfio-pci is {state}, vfio_iommu_type1 is there"))
    } else if machine.root.exists("dev/iommu") {
        Check::good(NAME, format!("vfio-pci is {state}, and iommufd instead of vfio_iommu_type1"))
    } else if is_built("VFIO_IOMMU_TYPE1") {
        let remedy = "sudo modprobe vfio_iommu_type1";
        Check::missing(NAME, format!("vfio-pci is {state}, but vfio_iommu_type1 is not loaded"), remedy)
    } else {
        Check::missing(
            NAME,
            format!("vfio-pci is {state}, but there is neither vfio_iommu_type1 nor iommufd"),
            "sudo modprobe iommufd",
        )
    }
}

fn is_listed(machine: &Machine<'_>) -> bool {
    let modules = machine.root.text("proc/modules").ok().flatten().unwrap_or_default();
    modules.lines().any(|line| line.starts_with("vfio_pci "))
}
