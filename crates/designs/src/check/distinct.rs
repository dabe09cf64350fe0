//! No card can be two designs, and no name means two.

use super::{Check, Complaint, ensure};
use crate::design::Design;
use crate::place::KeyPath;

/// Checks that no card can be both `design`, which is at `at`, and `earlier`, and that they have no name in common.
pub(crate) fn check_distinct(design: &Design, at: &KeyPath, earlier: &Design) -> Check {
    if let Some(name) = design.names().find(|name| earlier.is_named(name)) {
        let message = format!("there is a design {name:?} already");
        return Err(Complaint { key: at.clone().key("name"), message });
    }
    ensure(
        !same_card(design, earlier),
        || at.clone().key("pci"),
        || {
            format!(
                "a card with these ids could be {:?} too; tell them apart by subsystem or revisions",
                earlier.name
            )
        },
    )
}

fn same_card(a: &Design, b: &Design) -> bool {
    let ids = a.pci.iter().any(|one| b.pci.iter().any(|other| one.overlaps(*other)));
    let subsystem = match (a.subsystem, b.subsystem) {
        (Some(one), Some(other)) => one.overlaps(other),
        _ => true,
    };
    let revision = a.revisions.is_empty()
        || b.revisions.is_empty()
        || a.revisions.iter().any(|revision| b.revisions.contains(revision));
    ids && subsystem && revision
}
