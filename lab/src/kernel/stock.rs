//! The kernels of Debian's releases, with the modules that the lab's guest loads.

use std::fs;
use std::path::{Path, PathBuf};

use super::{IMAGE, MODULES, files_in};
use crate::Error;
use crate::cache::{Cache, Workshop, read};
use crate::command::output;
use crate::debian::Debian;
use crate::progress::Step;
use crate::tools::Tools;

/// What the guest needs: VFIO, and the driver that an NVMe is taken from.
const WANTED: [&str; 3] = ["vfio_iommu_type1", "vfio_pci", "nvme"];

/// Returns the entry that holds the image and the modules.
pub(super) fn fetch(suite: &str, cache: &Cache, debian: &Debian) -> Result<PathBuf, Error> {
    let (name, ingredients) = (format!("kernel-{suite}"), WANTED.join(" "));
    if let Some(there) = cache.existing(&name, &ingredients) {
        return Ok(there);
    }
    let tools = Tools::fetch(cache, debian)?;
    cache.entry(&name, &ingredients, |shop| {
        let archive = debian.archive(shop)?;
        let _step = Step::start(format!("fetching the kernel of {suite}"));
        let package = archive.kernel_package(suite)?;
        archive.unpack(&[&package], shop.scratch)?;
        let release = package.trim_start_matches("linux-image-");
        let image = shop.scratch.join("boot").join(format!("vmlinuz-{release}"));
        fs::copy(&image, shop.entry.join(IMAGE)).map_err(Error::io("copy", &image))?;
        copy_modules(shop, release, &tools)
    })
}

/// A package has no list of which module needs which: installing it would make that, with the same tool as here.
fn copy_modules(shop: &Workshop<'_>, release: &str, tools: &Tools) -> Result<(), Error> {
    let base = shop.scratch;
    join_lib_folders(base)?;
    let mut depmod = tools.command("depmod");
    depmod.arg("-b").arg(base).arg(release);
    output(&mut depmod, "to list the kernel's modules")?;
    let folder = base.join("lib/modules").join(release);
    let (dependencies, built_in) =
        (read(&folder.join("modules.dep"))?, read(&folder.join("modules.builtin"))?);
    let order = load_order(&dependencies, &built_in, &WANTED).map_err(|name| Error::Missing {
        what: format!("module {name}"),
        place: folder.join("modules.dep").display().to_string(),
    })?;
    let target = shop.entry.join(MODULES);
    fs::create_dir(&target).map_err(Error::io("make", &target))?;
    for (number, path) in order.iter().enumerate() {
        let file = path.rsplit('/').next().unwrap_or(path);
        let from = folder.join(path);
        fs::copy(&from, target.join(format!("{number:02}-{file}"))).map_err(Error::io("copy", &from))?;
    }
    let packed: Vec<_> =
        files_in(&target)?.into_iter().filter(|path| path.extension().is_some_and(|e| e == "xz")).collect();
    if packed.is_empty() {
        return Ok(());
    }
    output(tools.command("xz").arg("--decompress").args(packed), "to unpack kernel modules").map(drop)
}

/// Debian 12 puts modules into /lib, Debian 13 into /usr/lib, and depmod looks into one of them.
fn join_lib_folders(base: &Path) -> Result<(), Error> {
    let (lib, usr_lib) = (base.join("lib"), base.join("usr/lib"));
    let (link, to) = if lib.exists() { (usr_lib, "../lib") } else { (lib, "usr/lib") };
    std::os::unix::fs::symlink(to, &link).map_err(Error::io("make the link", &link))
}

/// The files to load, in order, from `modules.dep`: each line names a module and then all that it needs, the first to be
/// loaded last. Gives back the name of a module that the kernel neither has nor can load.
fn load_order<'a>(
    dependencies: &'a str,
    built_in: &str,
    wanted: &[&'a str],
) -> Result<Vec<&'a str>, &'a str> {
    let mut order = Vec::new();
    for name in wanted {
        let lines = dependencies.lines().filter_map(|line| line.split_once(':'));
        let Some((module, needs)) = lines.into_iter().find(|(path, _)| is_module(path, name)) else {
            if built_in.lines().any(|path| is_module(path, name)) {
                continue;
            }
            return Err(name);
        };
        for path in needs.split_whitespace().rev().chain([module]) {
            if !order.contains(&path) {
                order.push(path);
            }
        }
    }
    Ok(order)
}

/// File names have hyphens or underscores as their authors liked; module names have underscores.
fn is_module(path: &str, name: &str) -> bool {
    let file = path.rsplit('/').next().unwrap_or(path);
    file.split('.').next().is_some_and(|stem| stem.replace('-', "_") == name)
}

#[cfg(test)]
mod tests {
    use super::*;

    const DEPENDENCIES: &str = "\
kernel/vfio/vfio.ko.xz:
kernel/vfio/vfio_iommu_type1.ko.xz: kernel/vfio/vfio.ko.xz
kernel/vfio/pci/vfio-pci.ko.xz: kernel/vfio/pci/vfio-pci-core.ko.xz kernel/vfio/vfio.ko.xz kernel/irq.ko.xz
kernel/irq.ko.xz:
";

    #[test]
    fn what_is_needed_comes_first_and_once() {
        let order =
            load_order(DEPENDENCIES, "kernel/nvme.ko\n", &["vfio_iommu_type1", "vfio_pci", "nvme"]).unwrap();
        assert_eq!(
            order,
            [
                "kernel/vfio/vfio.ko.xz",
                "kernel/vfio/vfio_iommu_type1.ko.xz",
                "kernel/irq.ko.xz",
                "kernel/vfio/pci/vfio-pci-core.ko.xz",
                "kernel/vfio/pci/vfio-pci.ko.xz"
            ]
        );
    }

    #[test]
    fn a_module_that_is_nowhere_is_named() {
        assert_eq!(load_order(DEPENDENCIES, "", &["vfio_pci", "nvme"]), Err("nvme"));
    }
}
