//! Who is who on the machine.

use crate::root::Root;

/// The name of a user, where `/etc/passwd` has it; those of a directory service are not looked up.
#[must_use]
pub fn user_name(root: &Root, uid: u32) -> Option<String> {
    name_in(root, "etc/passwd", uid)
}

/// The name of a group, where `/etc/group` has it.
#[must_use]
pub fn group_name(root: &Root, gid: u32) -> Option<String> {
    name_in(root, "etc/group", gid)
}

fn name_in(root: &Root, file: &str, id: u32) -> Option<String> {
    let text = root.text(file).ok()??;
    accounts(&text).find(|(_, number)| *number == id).map(|(name, _)| name.to_owned())
}

/// The number of the user that is given by name or number.
#[must_use]
pub fn user_id(root: &Root, name: &str) -> Option<u32> {
    id_in(root, "etc/passwd", name)
}

/// The number of the group that is given by name or number.
#[must_use]
pub fn group_id(root: &Root, name: &str) -> Option<u32> {
    id_in(root, "etc/group", name)
}

/// The first group of a user, and the others that it is in; the group that nobody has if the user is not in `/etc/passwd`.
#[must_use]
pub fn groups_of(root: &Root, uid: u32) -> (u32, Vec<u32>) {
    let users = root.text("etc/passwd").ok().flatten().unwrap_or_default();
    let own = users.lines().find_map(|line| {
        let fields: Vec<&str> = line.split(':').collect();
        let [name, _, number, gid, ..] = fields[..] else { return None };
        (number.parse() == Ok(uid)).then(|| Some((name, gid.parse().ok()?))).flatten()
    });
    let (name, first) = own.unwrap_or(("", u32::MAX));
    let text = root.text("etc/group").ok().flatten().unwrap_or_default();
    let others = text.lines().filter_map(|line| {
        let fields: Vec<&str> = line.split(':').collect();
        let [_, _, gid, members, ..] = fields[..] else { return None };
        members
            .split(',')
            .any(|member| member.trim() == name && !name.is_empty())
            .then(|| gid.parse().ok())?
    });
    (first, others.collect())
}

fn id_in(root: &Root, file: &str, name: &str) -> Option<u32> {
    // The last number is what chown(2) takes for "leave it".
    let number = name.parse().ok().filter(|id| *id != u32::MAX);
    let text = root.text(file).ok().flatten().unwrap_or_default();
    number.or_else(|| accounts(&text).find(|(known, _)| *known == name).map(|(_, id)| id))
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

    #[test]
    fn users_by_name_and_number() {
        let folder = tempfile::tempdir().unwrap();
        let root = &Root::new(folder.path());
        std::fs::create_dir(folder.path().join("etc")).unwrap();
        let users = "root:x:0:0:root:/root:/bin/sh\nalice:x:1000:1000::/home/alice:/bin/sh\nbroken\n";
        std::fs::write(folder.path().join("etc/passwd"), users).unwrap();
        std::fs::write(folder.path().join("etc/group"), "root:x:0:\nfpga:x:990:alice\n").unwrap();
        assert_eq!(user_id(root, "alice"), Some(1000));
        assert_eq!(user_id(root, "4711"), Some(4711));
        assert_eq!(user_id(root, "4294967295"), None);
        assert_eq!(user_id(root, "bob"), None);
        assert_eq!(user_name(root, 1000).as_deref(), Some("alice"));
        assert_eq!(user_name(root, 1001), None);
        assert_eq!(group_id(root, "fpga"), Some(990));
        assert_eq!(group_name(root, 990).as_deref(), Some("fpga"));
        assert_eq!(group_id(root, "alice"), None);
        assert_eq!(groups_of(root, 1000), (1000, vec![990]));
        assert_eq!(groups_of(root, 4), (u32::MAX, vec![]));
    }
}
