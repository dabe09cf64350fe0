//! Cards of this machine that another process has.

use jitney_pci::Address;
use jitney_setup::{Root, Scope, who_holds};
use jitney_vfio::sysfs::Sysfs;

/// Who, beside this process, certainly has the card at `address` open: `held by pid 4211 (/usr/bin/dpdk-testpmd, user
/// anna)`. What cannot be seen is left out: `jitney who` says how much that is.
pub(crate) fn holders_of(address: Address) -> Vec<String> {
    let found = who_holds(&Root::default(), Scope::Card(address)).unwrap_or_default();
    let others = found.holders.iter().filter(|one| one.card_is_certain && one.pid != std::process::id());
    others.map(|holder| format!("held by {holder}")).collect()
}

/// The cards that are bound to vfio-pci and that another process has open, as the end of a sentence.
pub(crate) fn held_cards() -> Option<String> {
    let functions = Sysfs::default().bound_to_vfio().unwrap_or_default();
    let held = functions.iter().filter_map(|function| {
        let holders = holders_of(function.address);
        (!holders.is_empty()).then(|| format!("{} is {}", function.address, holders.join(" and ")))
    });
    let held: Vec<String> = held.collect();
    (!held.is_empty()).then(|| held.join(", "))
}
