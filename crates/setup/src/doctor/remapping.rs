//! Interrupt remapping: without it a card could send any interrupt, so VFIO refuses (`EPERM` from `VFIO_SET_IOMMU`).
//!
//! The kernel says so in its log, which most users cannot read. All can read `/proc/interrupts`: the names of interrupt
//! controllers begin with `IR-` where interrupts are remapped.

use super::boot_line;
use super::machine::Machine;
use super::report::Check;
use crate::root::unseen;

const NAME: &str = "interrupt remapping";
const UNSAFE: &str = "sys/module/vfio_iommu_type1/parameters/allow_unsafe_interrupts";

pub(super) fn check(machine: &Machine<'_>) -> Check {
    if !machine.has_iommu() {
        return Check::unknown(NAME, "it comes with the IOMMU, which is off");
    }
    let interrupts = match machine.root.text("proc/interrupts") {
        Ok(Some(interrupts)) => interrupts,
        Ok(None) => return Check::unknown(NAME, "could not be seen: there is no /proc/interrupts"),
        Err(error) => return Check::unknown(NAME, unseen("proc/interrupts", &error)),
    };
    let mut words = interrupts.split_whitespace();
    if words.clone().any(|word| word.starts_with("IR-")) {
        return Check::good(NAME, "on");
    }
    if !words.any(|word| word.contains("IO-APIC") || word.starts_with("PCI-MSI")) {
        return Check::unknown(
            NAME,
            "could not be seen: /proc/interrupts names no controller that is known here",
        );
    }
    for argument in ["intremap=off", "nointremap"] {
        if machine.booted_with(argument) {
            let what = format!("off: the kernel was started with {argument}");
            return Check::missing(NAME, what, boot_line::remove(machine.root, argument));
        }
    }
    if machine.root.text(UNSAFE).ok().flatten().as_deref() == Some("Y") {
        let what = "off, and VFIO was told to go on without: a card can forge any interrupt";
        return Check::warning(NAME, what, "update the BIOS, or do not give cards to those you do not trust");
    }
    Check::missing(
        NAME,
        "off: VFIO refuses such a machine (EPERM), as a card could forge any interrupt",
        "update the BIOS, look for x2APIC there; if you trust the card and its programs: \
         echo Y | sudo tee /sys/module/vfio_iommu_type1/parameters/allow_unsafe_interrupts",
    )
}
