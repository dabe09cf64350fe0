//! Who has the card open?

use super::machine::Machine;
use super::report::Check;
use crate::holders::{Scope, who_holds};
use jitney_vfio::sysfs::PciFunction;

const NAME: &str = "held by";

pub(super) fn check(machine: &Machine<'_>, card: &PciFunction) -> Check {
    let found = match who_holds(machine.root, Scope::Card(card.address)) {
        Ok(found) => found,
        Err(error) => return Check::unknown(NAME, error).of(card.address),
    };
    let listed = |certain: bool| -> Vec<String> {
        let wanted = found.holders.iter().filter(|holder| holder.card_is_certain == certain);
        wanted.map(ToString::to_string).collect()
    };
    let (certain, possible) = (listed(true), listed(false));
    let hidden = match found.hidden {
        0 => String::new(),
        hidden => format!(
            "; {hidden} processes of other users could not be looked into (sudo jitney who {})",
            card.address
        ),
    };
    let check = if !certain.is_empty() {
        let what = format!("{}: others can use it only as its clients{hidden}", certain.join(", "));
        Check::warning(
            NAME,
            what,
            "start programs under one broker (jitney run, jitney broker), or end the holder",
        )
    } else if !possible.is_empty() {
        Check::unknown(
            NAME,
            format!("maybe {}: they have a card open, this or another{hidden}", possible.join(", ")),
        )
    } else if found.hidden > 0 {
        Check::unknown(NAME, format!("nobody who could be seen{hidden}"))
    } else {
        Check::good(NAME, "nobody")
    };
    check.of(card.address)
}
