//! How much memory may be locked, and are there huge pages?

use super::machine::Machine;
use super::report::Check;
use crate::root::unseen;
use std::io;

const LOCKED: &str = "memlock";
const HUGE: &str = "huge pages";
const HUGE_FOLDER: &str = "sys/kernel/mm/hugepages";

/// A buffer of 1 GiB each way, as a test of all of a card's memory takes.
const NEED: u64 = 2 << 30;

/// The limit on locked memory: all that is mapped for cards counts, from the process that maps it or, with iommufd, from
/// its user.
pub(super) fn locked(machine: &Machine<'_>) -> Check {
    let caller = match &machine.caller {
        Ok(caller) => caller,
        Err(why) => return Check::unknown(LOCKED, why),
    };
    let limit = match caller.memlock() {
        _ if caller.locks_at_will() => return Check::good(LOCKED, "no limit (root, or CAP_IPC_LOCK)"),
        None => return Check::good(LOCKED, "no limit"),
        Some(limit) => limit,
    };
    let (has, needs) = (human(limit), human(NEED));
    if limit >= NEED {
        return Check::good(LOCKED, format!("limit {has}, two buffers of 1 GiB need {needs}"));
    }
    let user = machine.user().unwrap_or_else(|| "root".to_owned());
    Check::missing(
        LOCKED,
        format!("limit {has}, two buffers of 1 GiB need {needs} (for clients of a broker: not needed)"),
        format!(
            "echo '{user} - memlock unlimited' | sudo tee /etc/security/limits.d/70-vfio.conf, then log in again; \
             in a systemd unit: LimitMEMLOCK=infinity"
        ),
    )
}

/// Huge pages, of every size that the machine has.
pub(super) fn huge_pages(machine: &Machine<'_>) -> Check {
    let sizes = match sizes(machine) {
        Ok(sizes) => sizes,
        Err(error) => return Check::unknown(HUGE, unseen(HUGE_FOLDER, &error)),
    };
    if sizes.is_empty() {
        return Check::warning(
            HUGE,
            "this kernel has none; only buffers of huge pages need them",
            "use buffers of normal pages (the default)",
        );
    }
    let listed: Vec<String> = sizes
        .iter()
        .map(|size| format!("{} of {} pages of {} free", size.free, size.total, human(size.bytes)))
        .collect();
    if sizes.iter().any(|size| size.free > 0) {
        return Check::good(HUGE, listed.join(", "));
    }
    const RESERVE: &str =
        "echo vm.nr_hugepages=1024 | sudo tee /etc/sysctl.d/70-vfio.conf && sudo sysctl --system";
    let listed = listed.join(", ");
    match machine.is_without_iommu() {
        true => {
            Check::missing(HUGE, format!("{listed}; without an IOMMU every buffer is made of them"), RESERVE)
        }
        false => Check::warning(HUGE, format!("{listed}; only buffers of huge pages need them"), RESERVE),
    }
}

struct Size {
    bytes: u64,
    total: u64,
    free: u64,
}

fn sizes(machine: &Machine<'_>) -> io::Result<Vec<Size>> {
    let mut sizes = Vec::new();
    for name in machine.root.names(HUGE_FOLDER)? {
        let Some(kib) = name.strip_prefix("hugepages-").and_then(|name| name.strip_suffix("kB")) else {
            continue;
        };
        let bytes = kib.parse::<u64>().unwrap_or(0).saturating_mul(1024);
        let count = |file| -> io::Result<u64> {
            let text = machine.root.text(format!("{HUGE_FOLDER}/{name}/{file}"))?;
            Ok(text.and_then(|text| text.parse().ok()).unwrap_or(0))
        };
        sizes.push(Size { bytes, total: count("nr_hugepages")?, free: count("free_hugepages")? });
    }
    sizes.sort_by_key(|size| size.bytes);
    Ok(sizes)
}

/// A size in the largest unit that divides it: `64 KiB`.
fn human(bytes: u64) -> String {
    for (shift, unit) in [(30, "GiB"), (20, "MiB"), (10, "KiB")] {
        if bytes >= 1 << shift && bytes.is_multiple_of(1 << shift) {
            return format!("{} {unit}", bytes >> shift);
        }
    }
    format!("{bytes} bytes")
}
