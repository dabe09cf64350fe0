//! Who is who on the machine, and who asks.

use crate::root::Root;
use std::fs::Metadata;
use std::io;
use std::os::unix::fs::MetadataExt;

/// Bits of a capability set; capabilities(7).
const DAC_OVERRIDE: u64 = 1 << 1;
const IPC_LOCK: u64 = 1 << 14;

/// The process that asks, as its own folder in `proc` describes it.
#[derive(Debug, Clone)]
pub(crate) struct Caller {
    pub(crate) uid: u32,
    gids: Vec<u32>,
    capabilities: u64,
    /// How many bytes it may lock; none if there is no limit.
    pub(crate) memlock: Option<u64>,
}

impl Caller {
    pub(crate) fn of(root: &Root) -> io::Result<Self> {
        let status = root.text("proc/self/status")?.unwrap_or_default();
        let numbers =
            |key| field(&status, key).map(|text| text.split_whitespace().map(str::to_owned).collect());
        let effective = |key| numbers(key).and_then(|all: Vec<String>| all.get(1)?.parse().ok());
        let (Some(uid), Some(gid)) = (effective("Uid:"), effective("Gid:")) else {
            return Err(io::Error::other("/proc/self/status does not say who this is"));
        };
        let mut gids = vec![gid];
        gids.extend(
            numbers("Groups:").unwrap_or_default().iter().filter_map(|gid: &String| gid.parse::<u32>().ok()),
        );
        let capabilities = field(&status, "CapEff:").and_then(|text| u64::from_str_radix(text, 16).ok());
        let limits = root.text("proc/self/limits")?.unwrap_or_default();
        let memlock =
            field(&limits, "Max locked memory").and_then(|text| text.split_whitespace().next()?.parse().ok());
        Ok(Self { uid, gids, capabilities: capabilities.unwrap_or(0), memlock })
    }

    /// Whether it may read and write a file, by the file's owner, group and mode.
    pub(crate) fn may_use(&self, file: &Metadata) -> bool {
        let shift = match () {
            () if self.capabilities & DAC_OVERRIDE != 0 => return true,
            () if file.uid() == self.uid => 6,
            () if self.gids.contains(&file.gid()) => 3,
            () => 0,
        };
        (file.mode() >> shift) & 0o6 == 0o6
    }

    /// Whether the limit on locked memory does not hold for it.
    pub(crate) const fn locks_at_will(&self) -> bool {
        self.capabilities & IPC_LOCK != 0
    }
}

fn field<'a>(text: &'a str, key: &str) -> Option<&'a str> {
    text.lines().find_map(|line| line.strip_prefix(key)).map(str::trim)
}

/// The name of a user, where `/etc/passwd` has it; those of a directory service are not looked up.
pub(crate) fn user_name(root: &Root, uid: u32) -> Option<String> {
    name_in(root, "etc/passwd", uid)
}

/// The name of a group, where `/etc/group` has it.
pub(crate) fn group_name(root: &Root, gid: u32) -> Option<String> {
    name_in(root, "etc/group", gid)
}

fn name_in(root: &Root, file: &str, id: u32) -> Option<String> {
    let text = root.text(file).ok()??;
    accounts(&text).find(|(_, number)| *number == id).map(|(name, _)| name.to_owned())
}

/// The number of the user that is given by name or number.
pub(crate) fn user_id(root: &Root, name: &str) -> Option<u32> {
    // The last number is what chown(2) takes for "leave it".
    let number = name.parse().ok().filter(|uid| *uid != u32::MAX);
    let text = root.text("etc/passwd").ok().flatten().unwrap_or_default();
    number.or_else(|| accounts(&text).find(|(known, _)| *known == name).map(|(_, uid)| uid))
}

/// Names and numbers of a file as passwd(5) and group(5) describe it.
fn accounts(text: &str) -> impl Iterator<Item = (&str, u32)> {
    text.lines().filter_map(|line| {
        let mut fields = line.split(':');
        Some((fields.next()?, fields.nth(1)?.parse().ok()?))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::imitation::Tree;

    #[test]
    fn users_by_name_and_number() {
        let tree = Tree::new();
        tree.file(
            "etc/passwd",
            "root:x:0:0:root:/root:/bin/sh\nalice:x:1000:1000::/home/alice:/bin/sh\nbroken\n",
        );
        assert_eq!(user_id(&tree.root, "alice"), Some(1000));
        assert_eq!(user_id(&tree.root, "4711"), Some(4711));
        assert_eq!(user_id(&tree.root, "4294967295"), None);
        assert_eq!(user_id(&tree.root, "bob"), None);
        assert_eq!(user_name(&tree.root, 1000).as_deref(), Some("alice"));
        assert_eq!(user_name(&tree.root, 1001), None);
    }

    #[test]
    fn the_caller_by_owner_group_mode_and_capability() {
        let tree = Tree::new();
        tree.file("node", "");
        let node = tree.root.metadata("node").unwrap().unwrap();
        let (mine, group) = (node.uid(), node.gid());
        let caller = |uid, gid, capabilities| Caller { uid, gids: vec![gid], capabilities, memlock: None };
        let stranger = caller(mine + 1, group + 1, 0);
        for (mode, owner, member, other) in [
            (0o600, true, false, false),
            (0o660, true, true, false),
            (0o666, true, true, true),
            (0o466, false, true, true),
        ] {
            tree.mode("node", mode);
            let node = tree.root.metadata("node").unwrap().unwrap();
            assert_eq!(caller(mine, group + 1, 0).may_use(&node), owner, "{mode:o}");
            assert_eq!(caller(mine + 1, group, 0).may_use(&node), member, "{mode:o}");
            assert_eq!(stranger.may_use(&node), other, "{mode:o}");
            assert!(caller(mine + 1, group + 1, DAC_OVERRIDE).may_use(&node));
        }
    }

    #[test]
    fn the_caller_is_read_from_proc() {
        let tree = Tree::new();
        tree.caller(1000, 64 << 10);
        let caller = Caller::of(&tree.root).unwrap();
        assert_eq!((caller.uid, caller.memlock, caller.locks_at_will()), (1000, Some(64 << 10), false));
        assert!(caller.gids.contains(&27));
        tree.file(
            "proc/self/limits",
            "Max locked memory         unlimited            unlimited            bytes",
        );
        assert_eq!(Caller::of(&tree.root).unwrap().memlock, None);
        tree.file("proc/self/status", "Name:\tx");
        assert!(Caller::of(&tree.root).is_err());
    }
}
