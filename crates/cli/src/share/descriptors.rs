//! Open descriptors of processes, from /proc.

use std::path::PathBuf;

/// An open descriptor and what it refers to.
#[derive(Debug, Clone, serde::Serialize, schemars::JsonSchema)]
pub(crate) struct Descriptor {
    pub(crate) number: i32,
    pub(crate) target: String,
}

/// The open descriptors of process `pid`, lowest first. Empty if the process is gone.
pub(crate) fn of(pid: u32) -> Vec<Descriptor> {
    let folder = PathBuf::from(format!("/proc/{pid}/fd"));
    let Ok(entries) = std::fs::read_dir(&folder) else { return Vec::new() };
    let mut descriptors: Vec<Descriptor> = entries
        .filter_map(|entry| {
            let name = entry.ok()?.file_name();
            let number = name.to_str()?.parse().ok()?;
            let target = std::fs::read_link(folder.join(&name)).ok()?.to_string_lossy().into_owned();
            Some(Descriptor { number, target })
        })
        .collect();
    descriptors.sort_by_key(|descriptor| descriptor.number);
    descriptors
}
