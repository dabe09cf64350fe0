//! The udev rules that do at every start of the machine what `bind` does once; udev(7).

use jitney_pci::Address;

/// Where the rules belong.
pub(crate) const FILE: &str = "/etc/udev/rules.d/70-vfio.rules";

/// Rules that hand `functions` to `vfio-pci`, and their nodes to `owner` with `mode`.
///
/// The number of a group can change from start to start, so that its node is recognised by what is in the group.
pub(crate) fn rule(functions: &[Address], owner: Option<&str>, mode: Option<u32>) -> String {
    let mut text = format!("# {FILE}: read by udevadm control --reload, acted on at the next start.\n");
    for function in functions {
        text.push_str(&format!(
            "ACTION==\"add\", SUBSYSTEM==\"pci\", KERNEL==\"{function}\", ATTR{{driver_override}}=\"vfio-pci\", \
             RUN{{builtin}}+=\"kmod load vfio-pci\", RUN+=\"/bin/sh -c 'echo %k > /sys/bus/pci/drivers_probe'\"\n"
        ));
    }
    let mut rights = String::new();
    if let Some(owner) = owner {
        rights.push_str(&format!(", OWNER=\"{owner}\""));
    }
    if let Some(mode) = mode {
        rights.push_str(&format!(", MODE=\"{mode:04o}\""));
    }
    if rights.is_empty() {
        return text;
    }
    for function in functions {
        text.push_str(&format!(
            "SUBSYSTEM==\"vfio\", TEST==\"/sys/kernel/iommu_groups/%k/devices/{function}\"{rights}\n\
             SUBSYSTEM==\"vfio-dev\", KERNELS==\"{function}\"{rights}\n"
        ));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::imitation::{CARD, address};

    #[test]
    fn a_rule_with_and_without_rights() {
        let plain = rule(&[address(CARD)], None, None);
        assert!(plain.contains("KERNEL==\"0000:2e:00.0\", ATTR{driver_override}=\"vfio-pci\""), "{plain}");
        assert!(plain.contains("RUN{builtin}+=\"kmod load vfio-pci\""), "{plain}");
        assert_eq!(plain.lines().count(), 2);
        let mine = rule(&[address(CARD)], Some("alice"), Some(0o600));
        assert!(
            mine.contains(
                "SUBSYSTEM==\"vfio\", TEST==\"/sys/kernel/iommu_groups/%k/devices/0000:2e:00.0\", OWNER=\"alice\", MODE=\"0600\""
            ),
            "{mine}"
        );
    }
}
