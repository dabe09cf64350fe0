//! What a large DMA buffer gets for which no huge pages were reserved.

use super::machine::Machine;
use super::report::Check;

const NAME: &str = "large pages";
const FOLDER: &str = "sys/kernel/mm/transparent_hugepage";

/// The first kernel that puts memory on large pages when it is asked to (`MADV_COLLAPSE`).
const SINCE: (u32, u32) = (6, 1);

/// Blocks of free memory are counted by powers of two of normal pages; 2 MiB are 512.
const ORDER: usize = 9;

pub(super) fn check(machine: &Machine<'_>) -> Check {
    if machine.is_without_iommu() {
        return Check::good(NAME, "of no use without an IOMMU: every buffer is made of huge pages");
    }
    let small =
        |why: &str| format!("buffers are on pages of 4 KiB, which take longer to map and to reach: {why}");
    let reserve = "ask for buffers of huge pages (--buffer huge), and reserve them: see 'huge pages'";
    let release = machine.root.text("proc/sys/kernel/osrelease").ok().flatten().unwrap_or_default();
    match version(&release) {
        None => return Check::unknown(NAME, format!("'{release}' is no version of a kernel")),
        Some(version) if version < SINCE => {
            let (major, minor) = SINCE;
            return Check::warning(NAME, small(&format!("Linux {release}, before {major}.{minor}")), reserve);
        }
        Some(_) => {}
    }
    // The word in brackets is the one that holds.
    match machine.root.text(format!("{FOLDER}/shmem_enabled")) {
        Err(error) => return Check::unknown(NAME, crate::root::unseen(FOLDER, &error)),
        Ok(None) => {
            return Check::warning(
                NAME,
                small("the kernel was built without CONFIG_TRANSPARENT_HUGEPAGE"),
                reserve,
            );
        }
        Ok(Some(choice)) if choice.contains("[deny]") => {
            return Check::warning(
                NAME,
                small(&format!("/{FOLDER}/shmem_enabled says deny")),
                format!("echo never | sudo tee /{FOLDER}/shmem_enabled"),
            );
        }
        Ok(Some(_)) => {}
    }
    let what =
        "buffers of 2 MiB and more are put on pages of 2 MiB as they are mapped, without a reservation";
    match machine.root.text("proc/buddyinfo").ok().flatten().map(|text| free_large(&text)) {
        Some(0) => Check::warning(
            NAME,
            format!("{what}; but no free memory is in one piece now"),
            "echo 1 | sudo tee /proc/sys/vm/compact_memory",
        ),
        Some(pages) => Check::good(NAME, format!("{what}; {} MiB are free for that now", pages * 2)),
        None => Check::good(NAME, what),
    }
}

/// The first two numbers of a release, as `6.1.0-18-amd64`.
fn version(release: &str) -> Option<(u32, u32)> {
    let mut numbers = release.split(['.', '-']).map(str::parse);
    Some((numbers.next()?.ok()?, numbers.next()?.ok()?))
}

/// Pages of 2 MiB in the free blocks of `/proc/buddyinfo`: for each zone, how many there are of each order.
fn free_large(text: &str) -> u64 {
    let zone = |line: &str| -> u64 {
        // "Node 0, zone   Normal", then the counts.
        let counts = line.split_ascii_whitespace().skip(4);
        let pages = counts.enumerate().skip(ORDER).filter_map(|(order, count)| {
            let count = count.parse::<u64>().ok()?;
            count.checked_shl(u32::try_from(order - ORDER).ok()?)
        });
        pages.sum()
    };
    text.lines().map(zone).sum()
}
