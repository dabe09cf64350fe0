//! Which cards there are, who drives them, and who shares their groups.

use super::machine::Machine;
use super::report::Check;
use crate::neighbours::{describe, in_the_way, sysfs};
use jitney_pci::Address;
use jitney_vfio::ErrorKind;
use jitney_vfio::sysfs::PciFunction;

/// The card that is asked about, or those that are bound to VFIO; or else what there is to say instead.
pub(super) fn find(machine: &Machine<'_>, card: Option<Address>) -> Result<Vec<PciFunction>, Check> {
    const NAME: &str = "cards";
    let found = match card {
        Some(address) => sysfs(machine.root).function(address).map(|function| vec![function]),
        None => sysfs(machine.root).bound_to_vfio(),
    };
    match (found, card) {
        (Ok(cards), None) if cards.is_empty() => Err(Check::missing(
            NAME,
            "none is bound to vfio-pci",
            "sudo jitney bind CARD, where CARD is an address such as 0000:2e:00.0 (lspci -D lists them)",
        )),
        (Ok(cards), _) => Ok(cards),
        (Err(error), Some(address)) if error.kind() == ErrorKind::NotFound => {
            let remedy = "lspci -D lists those there are; a card that was just configured: \
                          echo 1 | sudo tee /sys/bus/pci/rescan";
            Err(Check::missing("card", format!("there is no PCI function {address}"), remedy))
        }
        (Err(error), _) => Err(Check::unknown(NAME, error)),
    }
}

/// Whether VFIO has the card.
pub(super) fn driver(machine: &Machine<'_>, card: &PciFunction) -> Check {
    const NAME: &str = "driver";
    let check = match &card.driver {
        Some(driver) if card.bound_to_vfio() => Check::good(NAME, format!("bound to {driver}")),
        driver => {
            let state =
                driver.as_ref().map_or("bound to none".to_owned(), |driver| format!("bound to {driver}"));
            Check::missing(NAME, format!("{state}, not to vfio-pci"), bind_command(machine, card.address))
        }
    };
    check.of(card.address)
}

/// The command that hands a card over.
pub(super) fn bind_command(machine: &Machine<'_>, card: Address) -> String {
    match machine.user() {
        Some(user) => format!("sudo jitney bind {card} --owner {user}"),
        None => format!("jitney bind {card}"),
    }
}

/// Whether the group can be handed out as a whole.
pub(super) fn group(machine: &Machine<'_>, card: &PciFunction) -> Check {
    const NAME: &str = "group";
    let check = match card.iommu_group {
        None if machine.has_iommu() => Check::missing(
            NAME,
            "in no IOMMU group, although the IOMMU is on",
            "put the card in another slot; sudo dmesg | grep -i iommu may say why",
        ),
        None => Check::unknown(NAME, "it gets one when the IOMMU is on"),
        Some(group) => match in_the_way(machine.root, group, card.address) {
            Err(error) => Check::unknown(NAME, error),
            Ok(others) if others.is_empty() => {
                Check::good(NAME, format!("{group}, nothing in it is in the way"))
            }
            Ok(others) => {
                let others: Vec<String> = others.iter().map(describe).collect();
                let what = format!("{group} cannot be used: it also has {}", others.join(", "));
                let command = format!("{} --with-group", bind_command(machine, card.address));
                let remedy = format!("{command}, which takes these too; or put the card in another slot");
                Check::missing(NAME, what, remedy)
            }
        },
    };
    check.of(card.address)
}
