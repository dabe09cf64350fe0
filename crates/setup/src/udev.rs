//! The udev rules that do at every start of the machine what `bind` does once; udev(7).

use jitney_pci::Address;
use jitney_vfio::sysfs::PciFunction;

/// Where the rules of a card belong, below the root.
pub(crate) fn file(card: Address) -> String {
    format!("etc/udev/rules.d/70-jitney-{card}.rules")
}

/// Rules that hand `functions` to `vfio-pci`, and their nodes to `owner` with `mode`.
///
/// A function is meant by where it sits and by what it is: addresses move when cards are added, and another card that then sits there
/// is left alone. The number of a group can change from start to start, so that its node is recognised by what is in the group. The
/// owner is set by chown: udev of systemd 258 leaves out every rule whose `OWNER` is a person.
pub(crate) fn rule(functions: &[PciFunction], owner: Option<&str>, mode: Option<u32>) -> String {
    let mut text = String::new();
    for function in functions {
        let PciFunction { address, vendor, device, .. } = function;
        text.push_str(&format!(
            "ACTION==\"add\", SUBSYSTEM==\"pci\", KERNEL==\"{address}\", ATTR{{vendor}}==\"{vendor:#06x}\", \
             ATTR{{device}}==\"{device:#06x}\", ATTR{{driver_override}}=\"vfio-pci\", \
             RUN{{builtin}}+=\"kmod load vfio-pci\", RUN+=\"/bin/sh -c 'echo %k > /sys/bus/pci/drivers_probe'\"\n"
        ));
    }
    let mut rights = String::new();
    if let Some(mode) = mode {
        rights.push_str(&format!(", MODE=\"{mode:04o}\""));
    }
    if let Some(owner) = owner {
        rights.push_str(&format!(", RUN+=\"/bin/chown {owner} $env{{DEVNAME}}\""));
    }
    if rights.is_empty() {
        return text;
    }
    for PciFunction { address, .. } in functions {
        text.push_str(&format!(
            "ACTION!=\"remove\", SUBSYSTEM==\"vfio\", TEST==\"/sys/kernel/iommu_groups/%k/devices/{address}\"{rights}\n\
             ACTION!=\"remove\", SUBSYSTEM==\"vfio-dev\", KERNELS==\"{address}\"{rights}\n"
        ));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::imitation::{CARD, Tree, address};
    use crate::neighbours::sysfs;

    #[test]
    fn a_rule_with_and_without_rights() {
        let tree = Tree::healthy();
        let function = [sysfs(&tree.root).function(address(CARD)).unwrap()];
        let plain = rule(&function, None, None);
        let card = "KERNEL==\"0000:2e:00.0\", ATTR{vendor}==\"0x10ee\", ATTR{device}==\"0x7011\", ATTR{driver_override}=\"vfio-pci\"";
        assert!(plain.contains(card), "{plain}");
        assert!(plain.contains("RUN{builtin}+=\"kmod load vfio-pci\""), "{plain}");
        assert_eq!(plain.lines().count(), 1);
        let mine = rule(&function, Some("alice"), Some(0o600));
        assert!(
            mine.contains(
                "SUBSYSTEM==\"vfio\", TEST==\"/sys/kernel/iommu_groups/%k/devices/0000:2e:00.0\", MODE=\"0600\", \
                 RUN+=\"/bin/chown alice $env{DEVNAME}\""
            ),
            "{mine}"
        );
    }
}
