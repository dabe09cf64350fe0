//! What this machine says of a card: where it is, what drives it, and who uses it.

use crate::cards::Session;
use crate::held::holders_of;
use jitney_pci::Address;
use jitney_vfio::Identity;
use jitney_vfio::sysfs::Sysfs;
use schemars::JsonSchema;
use serde::Serialize;

/// A card in its machine. An emulated board is in none.
#[derive(Debug, Default, Serialize, JsonSchema)]
pub(super) struct Machine {
    /// The kernel's driver that it is bound to.
    pub(super) driver: Option<String>,
    pub(super) iommu_group: Option<u32>,
    pub(super) numa_node: Option<u32>,
    /// Who uses it besides this command.
    pub(super) users: Vec<String>,
}

impl Machine {
    pub(super) fn of(session: &Session, card: &Identity) -> anyhow::Result<Self> {
        let mut machine = Self { users: clients(session, card)?, ..Self::default() };
        let Ok(address) = card.address.parse::<Address>() else { return Ok(machine) };
        // A machine that does not show its cards says nothing of them.
        if let Ok(function) = Sysfs::default().function(address) {
            machine.driver = function.driver;
            machine.iommu_group = function.iommu_group;
            machine.numa_node = function.numa_node;
        }
        machine.users.extend(holders_of(address));
        Ok(machine)
    }
}

/// The programs that use it under the same broker, each with what it has of it.
fn clients(session: &Session, card: &Identity) -> anyhow::Result<Vec<String>> {
    let own = Some(std::process::id());
    let others = session.bus.usage()?.into_iter().filter(|client| client.pid != own);
    let users = others.filter(|client| client.cards.contains(&card.address)).map(|client| {
        let parts = client.leases.iter().filter(|(address, _)| *address == card.address);
        let parts: Vec<&str> = parts.map(|(_, part)| &**part).collect();
        let process = client.pid.map_or_else(|| "another pid namespace".into(), |pid| format!("pid {pid}"));
        let has = if parts.is_empty() { String::new() } else { format!(" has {}", parts.join(" ")) };
        format!("{process} ({}){has}", client.program)
    });
    Ok(users.collect())
}
