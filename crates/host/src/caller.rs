//! Who asks: the running thread, and what it may do.

use crate::root::Root;
use std::fs::Metadata;
use std::io;
use std::os::unix::fs::MetadataExt;

/// Bits of a capability set; capabilities(7).
const DAC_OVERRIDE: u64 = 1 << 1;
const IPC_LOCK: u64 = 1 << 14;

/// The folder of the running thread: capabilities are the thread's, not the process's.
const FOLDER: &str = "proc/thread-self";

/// The thread that asks, as its own folder in `/proc` describes it (proc_pid_status(5), proc_pid_limits(5)).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caller {
    /// Its effective user.
    pub uid: u32,
    /// Its effective group and the supplementary ones.
    pub gids: Vec<u32>,
    /// Its effective capabilities, as a set of bits.
    pub capabilities: u64,
    /// How many bytes of memory its process may lock (RLIMIT_MEMLOCK); none if there is no limit. Whether it holds for
    /// this thread is [`memlock`](Self::memlock).
    pub memlock_limit: Option<u64>,
    /// How many bytes its process has locked or pinned, as far as it can tell: iommufd counts for all processes of a
    /// user together.
    pub locked: u64,
    /// The signals that it ignores, as a set of bits; bit 0 is signal 1.
    pub ignored_signals: u64,
}

impl Caller {
    /// Who runs this, on the machine below `root`.
    ///
    /// # Errors
    /// What reading says; that the files do not say who this is.
    pub fn of(root: &Root) -> io::Result<Self> {
        let status = root.text(format!("{FOLDER}/status"))?.unwrap_or_default();
        let limits = root.text(format!("{FOLDER}/limits"))?.unwrap_or_default();
        Self::read(&status, &limits)
            .ok_or_else(|| io::Error::other(format!("/{FOLDER}/status does not say who this is")))
    }

    fn read(status: &str, limits: &str) -> Option<Self> {
        let field = |key| field(status, key).unwrap_or_default();
        let numbers = |key| field(key).split_whitespace().filter_map(|text| text.parse::<u32>().ok());
        let bits = |key| u64::from_str_radix(field(key), 16).unwrap_or(0);
        let kilobytes = |key| {
            let number = field(key).strip_suffix(" kB").and_then(|text| text.trim().parse::<u64>().ok());
            number.unwrap_or(0).saturating_mul(1024)
        };
        // The real one, the effective one, the saved one, and that for files.
        let effective = |key| numbers(key).nth(1);
        Some(Self {
            uid: effective("Uid:")?,
            gids: effective("Gid:").into_iter().chain(numbers("Groups:")).collect(),
            capabilities: bits("CapEff:"),
            memlock_limit: self::field(limits, "Max locked memory")
                .and_then(|text| text.split_whitespace().next()?.parse().ok()),
            locked: kilobytes("VmLck:").max(kilobytes("VmPin:")),
            ignored_signals: bits("SigIgn:"),
        })
    }

    /// How many bytes of memory it may lock; none if there is no limit, or none that holds for it.
    #[must_use]
    pub fn memlock(&self) -> Option<u64> {
        self.memlock_limit.filter(|_| !self.locks_at_will())
    }

    /// Whether the limit on locked memory does not hold for it.
    #[must_use]
    pub const fn locks_at_will(&self) -> bool {
        self.capabilities & IPC_LOCK != 0
    }

    /// Whether it ignores `signal`, as whoever started it may have asked for.
    #[must_use]
    pub fn ignores(&self, signal: i32) -> bool {
        let bit = u32::try_from(signal).ok().and_then(|signal| signal.checked_sub(1));
        bit.is_some_and(|bit| self.ignored_signals.checked_shr(bit).unwrap_or(0) & 1 != 0)
    }

    /// Whether it may read and write a file, by the file's owner, group and mode. Access control lists are not looked at.
    #[must_use]
    pub fn may_use(&self, file: &Metadata) -> bool {
        let shift = match () {
            () if self.capabilities & DAC_OVERRIDE != 0 => return true,
            () if file.uid() == self.uid => 6,
            () if self.gids.contains(&file.gid()) => 3,
            () => 0,
        };
        (file.mode() >> shift) & 0o6 == 0o6
    }
}

fn field<'a>(text: &'a str, key: &str) -> Option<&'a str> {
    text.lines().find_map(|line| line.strip_prefix(key)).map(str::trim)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    const STATUS: &str = "Name:\tx\nUid:\t0\t1000\t0\t1000\nGid:\t0\t100\t0\t100\nGroups:\t27 30 \nVmLck:\t    1024 kB\n\
                          VmPin:\t       0 kB\nSigIgn:\t0000000000000003\nCapEff:\t0000000000000000\n";
    const LIMITS: &str =
        "Limit   Soft Limit  Hard Limit  Units\nMax locked memory   8388608   8388608   bytes\n";

    #[test]
    fn what_the_files_say() {
        let caller = Caller::read(STATUS, LIMITS).unwrap();
        assert_eq!((caller.uid, &caller.gids[..]), (1000, &[100, 27, 30][..]));
        assert_eq!((caller.memlock(), caller.locked), (Some(8 << 20), 1 << 20));
        assert!(caller.ignores(1) && caller.ignores(2) && !caller.ignores(3));
        assert!(!caller.ignores(0) && !caller.ignores(-1) && !caller.ignores(100));
        let unlimited = LIMITS.replace("8388608", "unlimited");
        assert_eq!(Caller::read(STATUS, &unlimited).unwrap().memlock(), None);
        assert_eq!(Caller::read("Name:\tx", LIMITS), None);
    }

    #[test]
    fn who_may_lock_any_amount_has_no_limit() {
        let status = STATUS.replace("CapEff:\t0000000000000000", "CapEff:\t0000000000004000");
        let caller = Caller::read(&status, LIMITS).unwrap();
        assert!(caller.locks_at_will());
        assert_eq!((caller.memlock(), caller.memlock_limit), (None, Some(8 << 20)));
    }

    #[test]
    fn this_very_thread() {
        let caller = Caller::of(&Root::default()).unwrap();
        assert_eq!(caller.uid, rustix::process::geteuid().as_raw());
        assert_eq!(
            caller.memlock_limit,
            rustix::process::getrlimit(rustix::process::Resource::Memlock).current
        );
        // The runtime of Rust ignores SIGPIPE.
        assert!(caller.ignores(13));
        let nowhere = tempfile::tempdir().unwrap();
        assert!(Caller::of(&Root::new(nowhere.path())).is_err());
    }

    #[test]
    fn by_owner_group_mode_and_capability() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("node");
        fs::write(&path, "").unwrap();
        let node = fs::metadata(&path).unwrap();
        let (mine, group) = (node.uid(), node.gid());
        let caller = |uid, gid, capabilities| Caller {
            uid,
            gids: vec![gid],
            capabilities,
            ..Caller::read(STATUS, LIMITS).unwrap()
        };
        let stranger = caller(mine + 1, group + 1, 0);
        for (mode, owner, member, other) in [
            (0o600, true, false, false),
            (0o660, true, true, false),
            (0o666, true, true, true),
            (0o466, false, true, true),
        ] {
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            let node = fs::metadata(&path).unwrap();
            assert_eq!(caller(mine, group + 1, 0).may_use(&node), owner, "{mode:o}");
            assert_eq!(caller(mine + 1, group, 0).may_use(&node), member, "{mode:o}");
            assert_eq!(stranger.may_use(&node), other, "{mode:o}");
            assert!(caller(mine + 1, group + 1, DAC_OVERRIDE).may_use(&node));
        }
    }
}
