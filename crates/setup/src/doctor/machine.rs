//! What several checks look at, read once.

use crate::kernel_config::KernelConfig;
use crate::nodes::no_iommu_mode;
use crate::root::{Root, unseen};
use jitney_host::Caller;
use jitney_host::accounts;
use std::io;

/// The machine that is examined.
#[derive(Debug)]
pub(super) struct Machine<'a> {
    pub(super) root: &'a Root,
    /// Who asks; or why that could not be seen.
    pub(super) caller: Result<Caller, String>,
    pub(super) config: Result<KernelConfig, String>,
    /// Words of the kernel's command line.
    pub(super) boot_line: Vec<String>,
    /// How many groups the IOMMU made; 0 if it is off.
    pub(super) groups: Result<usize, String>,
}

impl<'a> Machine<'a> {
    pub(super) fn read(root: &'a Root) -> Self {
        let boot_line = root.text("proc/cmdline").ok().flatten().unwrap_or_default();
        Self {
            root,
            caller: Caller::of(root).map_err(|error| unseen("proc/thread-self", &error)),
            config: KernelConfig::read(root),
            boot_line: boot_line.split_whitespace().map(str::to_owned).collect(),
            groups: groups(root).map_err(|error| unseen("sys/kernel/iommu_groups", &error)),
        }
    }

    pub(super) fn has_iommu(&self) -> bool {
        self.groups.as_ref().is_ok_and(|groups| *groups > 0)
    }

    /// Whether there is no IOMMU and the kernel was told to hand out cards all the same.
    pub(super) fn is_without_iommu(&self) -> bool {
        self.groups == Ok(0) && no_iommu_mode(self.root).unwrap_or(false)
    }

    /// Whether the kernel was started with `argument`.
    pub(super) fn booted_with(&self, argument: &str) -> bool {
        self.boot_line.iter().any(|word| word == argument)
    }

    /// The name of the user who asks, for commands; none for root, who needs none.
    pub(super) fn user(&self) -> Option<String> {
        let uid = self.caller.as_ref().ok()?.uid;
        (uid != 0).then(|| accounts::user_name(self.root, uid).unwrap_or_else(|| uid.to_string()))
    }

    /// Whether a module is loaded or built in, as far as it leaves a trace.
    pub(super) fn has_module(&self, module: &str) -> bool {
        let modules = self.root.text("proc/modules").ok().flatten().unwrap_or_default();
        let is_listed = modules.lines().any(|line| line.split(' ').next() == Some(module));
        is_listed || self.root.exists(format!("sys/module/{module}"))
    }
}

fn groups(root: &Root) -> io::Result<usize> {
    const GROUPS: &str = "sys/kernel/iommu_groups";
    let mut count = 0;
    for group in root.names(GROUPS)? {
        // Without an IOMMU, VFIO makes groups of its own.
        if root.text(format!("{GROUPS}/{group}/name"))?.as_deref() != Some("vfio-noiommu") {
            count += 1;
        }
    }
    Ok(count)
}
