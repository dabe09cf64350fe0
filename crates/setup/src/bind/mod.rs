//! Handing a PCI function to `vfio-pci`, and giving it back.
//!
//! What is written, and in which order, is in the kernel's documentation of `driver_override`, `unbind` and
//! `drivers_probe` (ABI/testing/sysfs-bus-pci). A function that could not be handed over is put back as it was.

mod function;
pub(crate) mod in_use;
mod mounts;
mod replug;

#[cfg(test)]
mod tests;

pub use in_use::Use;
pub use replug::Replug;

use crate::error::{Error, Result};
use crate::holders::{self, Scope};
use crate::kernel::{Kernel, ThisKernel, wait};
use crate::neighbours::{in_the_way, sysfs};
use crate::nodes::{self, Nodes};
use crate::persist::{self, Wanted};
use crate::root::{Root, system};
use crate::udev;
use function::Function;
use jitney_host::accounts;
use jitney_pci::Address;
use jitney_vfio::ErrorKind;
use jitney_vfio::sysfs::PciFunction;
use serde::Serialize;
use std::fs::Permissions;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::PathBuf;
use std::time::Duration;

/// How to hand a function over.
#[derive(Debug, Clone)]
pub struct BindOptions {
    /// The user that the node is to belong to, by name or number; as the system makes it if none.
    pub owner: Option<String>,
    /// The mode of the node, as `0o660`; as the system makes it if none.
    pub mode: Option<u32>,
    /// Take the function even from what uses it.
    pub force: bool,
    /// Hand over the other functions of the IOMMU group too.
    pub with_group: bool,
    /// Write files, so that it is the same after every start of the machine.
    pub persist: bool,
    /// How long to wait for the driver and for the node.
    pub patience: Duration,
}

impl Default for BindOptions {
    fn default() -> Self {
        let patience = Duration::from_secs(5);
        Self { owner: None, mode: None, force: false, with_group: false, persist: false, patience }
    }
}

/// A function that `vfio-pci` has.
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Bound {
    /// The functions that `vfio-pci` was given: the card, and with it others of its group.
    pub functions: Vec<String>,
    /// The node that programs open: `/dev/vfio/86`.
    pub node: PathBuf,
    /// Whether there is no IOMMU between the card and the machine's memory: programs have to ask for that by name, and to
    /// be root's.
    pub without_iommu: bool,
    /// The node of the newer interface, if the kernel has it: `/dev/vfio/devices/vfio0`.
    pub cdev: Option<PathBuf>,
    /// What, as a file in `/etc/udev/rules.d`, does the same at every start of the machine.
    pub udev_rule: String,
    /// The files that were written so that it is the same after every start of the machine.
    pub persisted: Vec<PathBuf>,
}

/// A function that was given back.
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Released {
    /// The driver that took it; none if the kernel has none for it, as for most FPGA boards.
    pub driver: Option<String>,
    /// The files that `bind` had written for it, and that were removed.
    pub forgotten: Vec<PathBuf>,
}

/// Hands the function at `address` to `vfio-pci` and waits for its node. One that `vfio-pci` has already only gets the
/// owner and mode. Needs root.
///
/// # Errors
/// [`Error::InUse`] unless forced, [`Error::SharedGroup`] unless asked to take the group too, [`Error::NoGroup`],
/// [`Error::NoDriver`], [`Error::Refused`], [`Error::NoNode`], [`Error::NoUser`], [`Error::System`], and, if files are to be
/// written, [`Error::NotOurs`] where there are others' and [`Error::OddUser`]. All is then as it
/// was; if that could not be done, [`Error::NotRestored`] says so.
pub fn bind(root: &Root, address: Address, options: &BindOptions) -> Result<Bound> {
    bind_through(&ThisKernel, root, address, options)
}

/// Takes the function at `address` from `vfio-pci`, and lets the kernel give it to its own driver. Needs root.
///
/// # Errors
/// [`Error::Held`] if a process has it open: the kernel would wait for that process. [`Error::System`] as in [`bind`].
pub fn unbind(root: &Root, address: Address) -> Result<Released> {
    unbind_through(&ThisKernel, root, address)
}

/// The same as [`unbind`], and removes the files that [`bind`] has written for the card. It need not be there any more. Needs root.
///
/// # Errors
/// As [`unbind`]; [`Error::NotOurs`] if one of the files is somebody else's now. In both cases all is as it was.
pub fn forget(root: &Root, address: Address) -> Result<Released> {
    forget_through(&ThisKernel, root, address)
}

fn bind_through(kernel: &dyn Kernel, root: &Root, address: Address, options: &BindOptions) -> Result<Bound> {
    let function = sysfs(root).function(address)?;
    let owner = match &options.owner {
        Some(name) => {
            Some(accounts::user_id(root, name).ok_or_else(|| Error::NoUser { name: name.clone() })?)
        }
        None => None,
    };
    if options.persist {
        persist::check_owner(options.owner.as_deref())?;
        persist::check(root, address)?;
    }
    let candidates = candidates(root, &function, options)?;
    if !options.force {
        for address in &candidates {
            let uses = in_use::uses(kernel, root, *address)?;
            if !uses.is_empty() {
                return Err(Error::InUse { address: *address, uses });
            }
        }
    }

    let mut taken = Vec::new();
    let attempt = take_all(kernel, root, &candidates, &mut taken, options)
        .and_then(|()| settle(root, address, owner, options))
        .and_then(|nodes| Ok((nodes, for_good(root, address, options)?)));
    let (nodes, (udev_rule, persisted)) = match attempt {
        Ok(done) => done,
        Err(failure) => return Err(put_back(kernel, taken, failure)),
    };
    let functions: Vec<Address> = if candidates.is_empty() { vec![address] } else { candidates };
    Ok(Bound {
        udev_rule,
        persisted,
        functions: functions.iter().map(Address::to_string).collect(),
        without_iommu: nodes::is_unsafe(&nodes.group),
        node: nodes.group,
        cdev: nodes.cdev,
    })
}

/// The functions to be handed over; none if `vfio-pci` has the one that was asked for.
fn candidates(root: &Root, function: &PciFunction, options: &BindOptions) -> Result<Vec<Address>> {
    let address = function.address;
    if !root.exists("sys/bus/pci/drivers/vfio-pci") {
        return Err(Error::NoDriver);
    }
    let Some(group) = function.iommu_group else {
        return if nodes::no_iommu_mode(root)? { Ok(vec![address]) } else { Err(Error::NoGroup { address }) };
    };
    let neighbours = in_the_way(root, group, address)?;
    if !options.with_group && !neighbours.is_empty() {
        return Err(Error::SharedGroup { address, group, neighbours });
    }
    let card = (!function.bound_to_vfio()).then_some(address);
    Ok(card.into_iter().chain(neighbours.iter().map(|neighbour| neighbour.address)).collect())
}

/// Hands over one function after the other; `taken` has those that have to be put back if something fails.
fn take_all<'a>(
    kernel: &'a dyn Kernel,
    root: &'a Root,
    candidates: &[Address],
    taken: &mut Vec<Function<'a>>,
    options: &BindOptions,
) -> Result<()> {
    for address in candidates {
        let function = Function::remember(root, *address)?;
        taken.push(function.clone());
        function.hand_over(kernel)?;
        wait(options.patience, || Ok(function.driver()?.filter(|driver| driver == "vfio-pci")))?
            .ok_or(Error::Refused { address: *address })?;
    }
    Ok(())
}

/// Waits for the node, and gives it its owner and mode.
fn settle(root: &Root, address: Address, owner: Option<u32>, options: &BindOptions) -> Result<Nodes> {
    let patience = options.patience;
    let nodes = wait(patience, || Ok(Nodes::of(root, address)?))?
        .ok_or_else(|| Error::NoNode { node: Nodes::expected(root, address), seconds: patience.as_secs() })?;
    for node in [Some(&nodes.group), nodes.cdev.as_ref()].into_iter().flatten() {
        let file = root.path(nodes::inside(node));
        if let Some(owner) = owner {
            chown(&file, Some(owner), None)
                .map_err(|error| system(format_args!("giving {} to user {owner}", node.display()), &error))?;
        }
        if let Some(mode) = options.mode {
            std::fs::set_permissions(&file, Permissions::from_mode(mode))
                .map_err(|error| system(format_args!("setting the mode of {}", node.display()), &error))?;
        }
    }
    Ok(nodes)
}

/// The rules that do the same at every start, and the files that were written if that is wanted.
fn for_good(root: &Root, card: Address, options: &BindOptions) -> Result<(String, Vec<PathBuf>)> {
    let function = sysfs(root).function(card)?;
    let mut functions = vec![function.clone()];
    if let Some(group) = function.iommu_group.filter(|_| options.with_group) {
        // Those that vfio-pci has had before, too: the rules are the same however often they are made.
        let of_group = |other: &PciFunction| {
            other.address != card && other.iommu_group == Some(group) && other.bound_to_vfio()
        };
        functions.extend(sysfs(root).functions()?.into_iter().filter(of_group));
    }
    let owner = options.owner.as_deref();
    let rule = udev::rule(&functions, owner, options.mode);
    let written =
        if options.persist { persist::write(root, Wanted { card, rule: &rule, owner })? } else { Vec::new() };
    Ok((rule, written))
}

/// Puts functions back as they were, the last one first, and says what failed.
fn put_back(kernel: &dyn Kernel, taken: Vec<Function<'_>>, mut failure: Error) -> Error {
    for function in taken.iter().rev() {
        if let Err(restoring) = function.put_back(kernel) {
            let (failed, restoring) = (Box::new(failure), Box::new(restoring));
            failure = Error::NotRestored { failure: failed, address: function.address(), restoring };
        }
    }
    failure
}

fn forget_through(kernel: &dyn Kernel, root: &Root, address: Address) -> Result<Released> {
    persist::check(root, address)?;
    let mut released = match sysfs(root).function(address) {
        Err(error) if error.kind() == ErrorKind::NotFound => Released { driver: None, forgotten: Vec::new() },
        _ => unbind_through(kernel, root, address)?,
    };
    released.forgotten = persist::forget(root, address)?;
    Ok(released)
}

fn unbind_through(kernel: &dyn Kernel, root: &Root, address: Address) -> Result<Released> {
    let before = sysfs(root).function(address)?;
    if before.bound_to_vfio() {
        let seen = holders::who_holds(root, Scope::Card(address))?;
        let holders: Vec<_> = seen.holders.into_iter().filter(|holder| holder.card_is_certain).collect();
        if !holders.is_empty() {
            return Err(Error::Held { address, holders });
        }
    }
    let function = Function::remember(root, address)?;
    if let Err(failure) = function.give_back(kernel) {
        return Err(put_back(kernel, vec![function], failure));
    }
    Ok(Released { driver: function.driver()?, forgotten: Vec::new() })
}
