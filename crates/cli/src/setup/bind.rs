//! `jitney bind` and `jitney unbind`: a card goes to vfio-pci, and back to its own driver.

use super::args::{Bind, Unbind};
use crate::report::{print_line, print_result};
use crate::status::Status;
use jitney_setup::{BindOptions, Root};
use jitney_vfio::sysfs::Sysfs;
use std::path::PathBuf;

pub(crate) fn bind(args: &Bind, json: bool) -> anyhow::Result<Status> {
    let address = args.card.address(&Sysfs::default())?;
    let options = BindOptions {
        owner: args.owner.clone(),
        mode: args.mode,
        force: args.force,
        with_group: args.with_group,
        persist: args.persist,
        ..BindOptions::default()
    };
    let bound = jitney_setup::bind(&Root::default(), address, &options)?;
    if json {
        print_result(&bound)?;
        return Ok(Status::Passed);
    }
    print_line(&format!(
        "vfio-pci has {}; programs open {}",
        bound.functions.join(" and "),
        bound.node.display()
    ));
    if let Some(cdev) = &bound.cdev {
        print_line(&format!("or, with iommufd, {}", cdev.display()));
    }
    if bound.without_iommu {
        print_line(
            "UNSAFE: there is no IOMMU; the card, and every program that uses it, can overwrite all of this machine's \
             memory. Only root opens it, by name: --iommu noiommu",
        );
    }
    if bound.persisted.is_empty() {
        print_line("To have it so after every start: the same with --persist");
    } else {
        print_line(&format!("It is so after every start, by {}", listed(&bound.persisted)));
    }
    print_line(&format!("Next: jitney doctor {address}; jitney info --card {address}"));
    Ok(Status::Passed)
}

pub(crate) fn unbind(args: &Unbind, json: bool) -> anyhow::Result<Status> {
    let (root, sysfs) = (Root::default(), Sysfs::default());
    let address = args.card.address(&sysfs)?;
    let is_gone = args.forget && sysfs.function(address).is_err();
    let give_back = if args.forget { jitney_setup::forget } else { jitney_setup::unbind };
    let released = give_back(&root, address)?;
    if json {
        print_result(&released)?;
        return Ok(Status::Passed);
    }
    match released.driver {
        None if is_gone => print_line(&format!("{address} is not there")),
        Some(driver) => print_line(&format!("{driver} has {address} again")),
        None => print_line(&format!("{address} is free: the kernel has no driver of its own for it")),
    }
    match (&released.forgotten[..], args.forget) {
        ([], true) => print_line("Nothing was written for it"),
        ([], false) => {}
        (files, _) => print_line(&format!("Nothing binds it at the next start: removed {}", listed(files))),
    }
    Ok(Status::Passed)
}

fn listed(files: &[PathBuf]) -> String {
    files.iter().map(|file| file.display().to_string()).collect::<Vec<_>>().join(", ")
}
