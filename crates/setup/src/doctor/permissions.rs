//! May the caller open the nodes of a card?

use super::cards::bind_command;
use super::machine::Machine;
use super::report::Check;
use crate::nodes::{CONTAINER, IOMMUFD, Nodes, inside, is_unsafe};
use crate::root::unseen;
use jitney_host::accounts;
use jitney_host::{Caller, Node};
use jitney_vfio::sysfs::PciFunction;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

const NAME: &str = "permissions";

pub(super) fn check(machine: &Machine<'_>, card: &PciFunction) -> Check {
    look(machine, card).unwrap_or_else(|why| Check::unknown(NAME, why)).of(card.address)
}

/// Whether one of the two ways to the card is open, or why that could not be seen.
fn look(machine: &Machine<'_>, card: &PciFunction) -> Result<Check, String> {
    if !card.bound_to_vfio() {
        return Err("its node is made when it is bound to vfio-pci".to_owned());
    }
    let caller = machine.caller.as_ref().map_err(Clone::clone)?;
    let Some(nodes) = Nodes::of(machine.root, card.address).map_err(|error| error.to_string())? else {
        let node = Nodes::expected(machine.root, card.address);
        let remedy = "sudo udevadm trigger --subsystem-match=vfio; then ls -l /dev/vfio";
        return Ok(Check::missing(NAME, format!("bound to vfio-pci, but there is no {node}"), remedy));
    };
    let by_group = Way::look(machine, caller, CONTAINER, &nodes.group)?;
    let by_device = match &nodes.cdev {
        Some(cdev) => Some(Way::look(machine, caller, IOMMUFD, cdev)?),
        None => None,
    };
    let ways: Vec<Way<'_>> = [Some(by_group), by_device].into_iter().flatten().collect();
    let may_be_used = |way: &&Way<'_>| way.problems().is_empty() && (caller.uid == 0 || !is_unsafe(way.node));
    if let Some(way) = ways.iter().find(may_be_used) {
        return Ok(Check::good(NAME, format!("this user may open {} and {}", way.space, way.node.display())));
    }
    if is_unsafe(&nodes.group) {
        let what = format!("only root may open {}: there is no IOMMU", nodes.group.display());
        return Ok(Check::missing(
            NAME,
            what,
            "sudo jitney broker --iommu noiommu --group, for programs of other users",
        ));
    }
    let problems: Vec<&str> = ways.iter().flat_map(Way::problems).collect();
    let what =
        format!("this user may not open {} (for clients of a broker: not needed)", problems.join(", "));
    Ok(Check::missing(NAME, what, remedy(machine, card, &ways)))
}

/// The two nodes that have to be opened together.
struct Way<'a> {
    space: &'a str,
    space_problem: Option<String>,
    node: &'a Path,
    node_problem: Option<String>,
}

impl<'a> Way<'a> {
    fn look(machine: &Machine<'_>, caller: &Caller, space: &'a str, node: &'a Path) -> Result<Self, String> {
        let space_problem = problem(machine, caller, Path::new(space))?;
        Ok(Self { space, space_problem, node, node_problem: problem(machine, caller, node)? })
    }

    fn problems(&self) -> Vec<&str> {
        [&self.space_problem, &self.node_problem].into_iter().filter_map(Option::as_deref).collect()
    }
}

/// Why the caller may not use a node; nothing if it may.
fn problem(machine: &Machine<'_>, caller: &Caller, node: &Path) -> Result<Option<String>, String> {
    let name = node.display();
    let could_not_be_seen = |error| unseen(&inside(node).display().to_string(), &error);
    let missing = || Some(format!("{name} (not there)"));
    match caller.node(machine.root, node).map_err(could_not_be_seen)? {
        Node::Usable => return Ok(None),
        Node::Missing => return Ok(missing()),
        Node::Unusable => {}
    }
    let Some(metadata) = machine.root.metadata(inside(node)).map_err(could_not_be_seen)? else {
        return Ok(missing());
    };
    let owner =
        accounts::user_name(machine.root, metadata.uid()).unwrap_or_else(|| metadata.uid().to_string());
    let group =
        accounts::group_name(machine.root, metadata.gid()).unwrap_or_else(|| metadata.gid().to_string());
    Ok(Some(format!("{name} (owner {owner}, group {group}, mode {:04o})", metadata.mode() & 0o7777)))
}

/// What opens the first way whose own part of the kernel is there.
fn remedy(machine: &Machine<'_>, card: &PciFunction, ways: &[Way<'_>]) -> String {
    match ways.iter().find(|way| machine.root.exists(inside(Path::new(way.space)))) {
        None => "sudo modprobe vfio_iommu_type1".to_owned(),
        Some(way) if way.node_problem.is_some() => {
            format!("{} (it prints the udev rule that keeps it so)", bind_command(machine, card.address))
        }
        // Whoever has only this file can do nothing with it; systemd's own rules make it so.
        Some(way) if way.space == CONTAINER => format!("sudo chmod 666 {CONTAINER}"),
        Some(way) => {
            let user = machine.user().unwrap_or_else(|| "root".to_owned());
            format!("sudo chown {user} {}", way.space)
        }
    }
}
