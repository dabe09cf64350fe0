//! Was the running kernel built with what VFIO needs?

use super::machine::Machine;
use super::report::Check;

const NAME: &str = "kernel configuration";

pub(super) fn check(machine: &Machine<'_>) -> Check {
    let config = match &machine.config {
        Ok(config) => config,
        Err(why) => return Check::unknown(NAME, why),
    };
    let another = "start a kernel that has it, as those of Debian, Ubuntu, RHEL and Fedora";
    let from = &config.source;
    if config.lacks("VFIO_PCI") {
        return Check::missing(NAME, format!("CONFIG_VFIO_PCI is not set (/{from})"), another);
    }
    let ways = match (config.has_groups(), config.has_devices()) {
        (true, true) => "groups (type1) and iommufd",
        (true, false) => "groups (type1); no iommufd, which is not needed",
        (false, true) => "iommufd; no groups, which are not needed",
        (false, false) => {
            let what = format!(
                "neither CONFIG_VFIO_IOMMU_TYPE1 nor CONFIG_IOMMUFD with CONFIG_VFIO_DEVICE_CDEV is set (/{from})"
            );
            return Check::missing(NAME, what, another);
        }
    };
    Check::good(NAME, format!("VFIO for PCI, {ways} (/{from})"))
}
