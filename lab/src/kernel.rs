//! Kernels for the guest: one built with all of VFIO in it, and those that Debian's users run.

mod small;
mod stock;

use std::path::{Path, PathBuf};

use crate::Error;
use crate::cache::Cache;
use crate::debian::Debian;

/// Where a kernel comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Source {
    /// Built from the source of this version ("6.12") with `lab/kernel/small.config`: type1, iommufd, cdev and NOIOMMU, no
    /// modules. Debian 13 and its backports have the sources.
    Small(&'static str),
    /// The current kernel of a Debian release, named as its archive names it ("bookworm"); VFIO comes as modules: type1 only.
    Stock(&'static str),
}

/// A kernel in the cache, with the modules that a guest has to load.
#[derive(Debug, Clone)]
pub(crate) struct Kernel {
    folder: PathBuf,
}

impl Kernel {
    pub(crate) fn prepare(source: Source, cache: &Cache, debian: &Debian) -> Result<Self, Error> {
        let folder = match source {
            Source::Small(version) => small::build(version, cache, debian),
            Source::Stock(suite) => stock::fetch(suite, cache, debian),
        }?;
        Ok(Self { folder })
    }

    /// The image that QEMU starts.
    pub(crate) fn image(&self) -> PathBuf {
        self.folder.join(IMAGE)
    }

    /// Modules to load, one after the other.
    pub(crate) fn modules(&self) -> Result<Vec<PathBuf>, Error> {
        let folder = self.folder.join(MODULES);
        if !folder.exists() {
            return Ok(Vec::new());
        }
        files_in(&folder)
    }
}

const IMAGE: &str = "bzImage";

/// Their file names begin with a number: the order of loading.
const MODULES: &str = "modules";

/// The paths in a folder, sorted.
fn files_in(folder: &Path) -> Result<Vec<PathBuf>, Error> {
    let items = std::fs::read_dir(folder).map_err(Error::io("read", folder))?;
    let mut paths = items
        .map(|item| item.map(|item| item.path()))
        .collect::<Result<Vec<_>, _>>()
        .map_err(Error::io("read", folder))?;
    paths.sort_unstable();
    Ok(paths)
}
