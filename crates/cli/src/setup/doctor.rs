//! `jitney doctor`: what is missing, and the command that mends it.

use super::args::Doctor;
use crate::report::{print_line, print_result};
use crate::status::Status;
use jitney_setup::Root;
use jitney_vfio::sysfs::Sysfs;

pub(crate) fn doctor(args: &Doctor, json: bool) -> anyhow::Result<Status> {
    let card = args.card.map(|card| card.address(&Sysfs::default())).transpose()?;
    let report = jitney_setup::Doctor::new(Root::default()).examine(card);
    if json {
        print_result(&report)?;
    } else {
        print_line(&report.to_string());
        if !report.is_ready() {
            print_line("Emulated boards and clients of a broker need none of this: jitney demo");
        }
    }
    Ok(if report.is_ready() { Status::Passed } else { Status::Failed })
}
