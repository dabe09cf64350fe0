//! Is the IOMMU on, and if not, who switches it on: the firmware, the kernel's command line, or a host?

use super::boot_line;
use super::machine::Machine;
use super::report::Check;
use crate::root::unseen;

const NAME: &str = "IOMMU";
const ON_THE_HOST: &str =
    "give it one; QEMU: -machine q35,kernel-irqchip=split -device intel-iommu,intremap=on";

pub(super) fn check(machine: &Machine<'_>) -> Check {
    let units = match machine.root.names("sys/class/iommu") {
        Ok(units) => units,
        Err(error) => return Check::unknown(NAME, unseen("sys/class/iommu", &error)),
    };
    match &machine.groups {
        Err(why) => Check::unknown(NAME, why),
        Ok(0) => off(machine),
        Ok(groups) => {
            let by = if units.is_empty() { String::new() } else { format!(" ({})", units.join(", ")) };
            Check::good(NAME, format!("on{by}, {groups} groups"))
        }
    }
}

fn off(machine: &Machine<'_>) -> Check {
    for argument in ["iommu=off", "intel_iommu=off", "amd_iommu=off"] {
        if machine.booted_with(argument) {
            let what = format!("off: the kernel was started with {argument}");
            return Check::missing(NAME, what, boot_line::remove(machine.root, argument));
        }
    }
    let processor = machine.root.text("proc/cpuinfo").ok().flatten().unwrap_or_default();
    // The firmware describes the IOMMU in a table of ACPI if, and only if, it is switched on there.
    let (switch, table, option) = match () {
        () if processor.contains("GenuineIntel") => ("VT-d", "DMAR", "INTEL_IOMMU"),
        () if processor.contains("AuthenticAMD") => ("AMD-Vi (often called IOMMU)", "IVRS", "AMD_IOMMU"),
        () => {
            let remedy = "switch on the IOMMU (often called SMMU) in the firmware's settings";
            return Check::missing(NAME, "off", remedy);
        }
    };
    let is_virtual = has_flag(&processor, "hypervisor");
    let is_described = machine.root.exists(format!("sys/firmware/acpi/tables/{table}"));
    let is_built = !machine.config.as_ref().is_ok_and(|config| config.lacks(option));
    match (is_described, is_virtual) {
        _ if !is_built => {
            let what = format!("off: this kernel was built without CONFIG_{option}");
            let remedy = "start a kernel that has it, as those of Debian, Ubuntu, RHEL and Fedora";
            match is_virtual && !is_described {
                false => Check::missing(NAME, what, remedy),
                true => Check::missing(
                    NAME,
                    format!("{what}, and this is a virtual machine to which its host gives none"),
                    format!("{remedy}; and on the host {ON_THE_HOST}"),
                ),
            }
        }
        (false, true) => Check::missing(
            NAME,
            "off: this is a virtual machine to which its host gives none",
            format!("on the host {ON_THE_HOST}"),
        ),
        (false, false) => Check::missing(
            NAME,
            format!("off: the firmware does not describe one (no ACPI table {table})"),
            format!("switch on {switch} in the BIOS, usually under CPU, chipset or virtualisation"),
        ),
        (true, _) if table == "DMAR" && !machine.booted_with("intel_iommu=on") => Check::missing(
            NAME,
            "off: the firmware has it on (VT-d), but the kernel does not use it",
            boot_line::add(machine.root, "intel_iommu=on iommu=pt"),
        ),
        (true, _) => Check::missing(
            NAME,
            format!("off, although the firmware and the kernel's command line have it on ({switch})"),
            "see what the kernel says: sudo dmesg | grep -iE 'DMAR|AMD-Vi|IOMMU'",
        ),
    }
}

fn has_flag(processor: &str, flag: &str) -> bool {
    let flags = processor.lines().find(|line| line.starts_with("flags")).unwrap_or_default();
    flags.split_whitespace().any(|word| word == flag)
}
