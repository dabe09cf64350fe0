//! The files in `/dev` by which programs reach a card.

use crate::neighbours::sysfs;
use crate::root::{Root, system};
use jitney_pci::Address;
use jitney_vfio::Result;
use std::path::{Path, PathBuf};

/// The container of the interface by group.
pub(crate) const CONTAINER: &str = "/dev/vfio/vfio";
/// The other interface's file for address spaces.
pub(crate) const IOMMUFD: &str = "/dev/iommu";

/// The nodes of a card that `vfio-pci` has, as programs name them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Nodes {
    /// `/dev/vfio/86`; `/dev/vfio/noiommu-0` without an IOMMU.
    pub(crate) group: PathBuf,
    /// `/dev/vfio/devices/vfio0`, if the kernel makes such nodes.
    pub(crate) cdev: Option<PathBuf>,
}

impl Nodes {
    /// The nodes of the card at `address`; nothing if they are not there, or not there yet.
    pub(crate) fn of(root: &Root, address: Address) -> Result<Option<Self>> {
        let Some(group) = sysfs(root).function(address)?.iommu_group else { return Ok(None) };
        let cdev = sysfs(root).cdev(address)?;
        let is_missing = |node: &PathBuf| !root.exists(inside(node));
        if cdev.as_ref().is_some_and(is_missing) {
            return Ok(None);
        }
        let names = [format!("/dev/vfio/{group}"), format!("/dev/vfio/noiommu-{group}")];
        let group = names.into_iter().map(PathBuf::from).find(|node| !is_missing(node));
        Ok(group.map(|group| Self { group, cdev }))
    }

    /// The node that is waited for, in words.
    pub(crate) fn expected(root: &Root, address: Address) -> String {
        match sysfs(root).function(address).ok().and_then(|function| function.iommu_group) {
            Some(group) => match sysfs(root).is_unsafe(group) {
                Ok(true) => format!("/dev/vfio/noiommu-{group}"),
                _ => format!("/dev/vfio/{group}"),
            },
            None => format!("the node of {address} in /dev/vfio"),
        }
    }
}

/// Whether a group's node is that of a card without an IOMMU.
pub(crate) fn is_unsafe(node: &Path) -> bool {
    node.file_name().is_some_and(|name| name.to_string_lossy().starts_with("noiommu-"))
}

/// Where a node is below the root: `dev/vfio/86`.
pub(crate) fn inside(node: &Path) -> &Path {
    node.strip_prefix("/").unwrap_or(node)
}

/// What tells the kernel to hand out cards without an IOMMU, below the root.
pub(crate) const NO_IOMMU_SWITCH: &str = "sys/module/vfio/parameters/enable_unsafe_noiommu_mode";

/// Whether the kernel was told to hand out cards without an IOMMU.
pub(crate) fn no_iommu_mode(root: &Root) -> Result<bool> {
    let what = || format!("reading /{NO_IOMMU_SWITCH}");
    let mode = root.text(NO_IOMMU_SWITCH).map_err(|error| system(what(), &error))?;
    Ok(mode.as_deref() == Some("Y"))
}
