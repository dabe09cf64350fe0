//! The guest's file system: busybox, our own programs, kernel modules and the tests, as one archive.
//!
//! It is not compressed: a guest under software emulation takes longer to unpack it than QEMU does to read all of it.

use std::collections::BTreeSet;
use std::fs;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::Error;
use crate::cache::Cache;
use crate::cpio::Archive;
use crate::debian::Debian;
use crate::kernel::Kernel;
use crate::programs::Built;
use crate::progress::Step;
use crate::suites::{SUITES, Test};

/// The program that is the guest's shell and most of its commands.
pub(crate) fn fetch_busybox(cache: &Cache, debian: &Debian) -> Result<PathBuf, Error> {
    let package = "busybox-static";
    let folder = cache.entry("busybox", package, |shop| {
        let archive = debian.archive(shop)?;
        let _step = Step::start("fetching busybox");
        archive.unpack(&[package], shop.entry)
    })?;
    Ok(folder.join("usr/bin/busybox"))
}

/// What a guest does when it is up.
pub(crate) enum Task<'a> {
    /// Runs tests, one after the other.
    Tests(&'a [Test]),
    /// Runs a script, and kills it after some time.
    Script { text: &'a str, limit: Duration },
    /// Gives a prompt.
    Shell,
}

/// What a script that is no test is called.
pub(crate) const SCRIPT: &str = "script";

/// Packs the file system for one boot into `target`. `says` are files of its folder `lab` that tell
/// it what is wanted.
pub(crate) fn pack(
    target: &Path,
    busybox: &Path,
    kernel: &Kernel,
    built: &Built,
    task: Task<'_>,
    says: &[(&str, &str)],
) -> Result<(), Error> {
    let mut members = vec![
        Member::folder("bin"),
        Member::folder("usr"),
        Member::folder("usr/bin"),
        Member::folder("lab"),
        Member::folder("lab/modules"),
        Member::folder("lab/tests"),
        Member::text("init", include_str!("../guest/init")),
        Member::text("lab/lib.sh", include_str!("../guest/lib.sh")),
        Member::copy("bin/busybox".to_owned(), busybox)?,
    ];
    for module in kernel.modules()? {
        let name = module.file_name().unwrap_or_default().to_string_lossy().into_owned();
        members.push(Member::copy(format!("lab/modules/{name}"), &module)?);
    }
    members.extend(folders_of(&built.libraries).iter().map(|folder| Member::folder(folder)));
    for library in &built.libraries {
        members.push(Member::copy(in_guest(library), library)?);
    }
    for program in &built.programs {
        members.push(Member::copy(format!("usr/bin/{}", program.name), &program.path)?);
    }
    let scripts: Vec<_> = match task {
        Task::Tests(tests) => tests.iter().map(|test| (test.name, test.script, test.limit)).collect(),
        Task::Script { text, limit } => vec![(SCRIPT, text, limit)],
        Task::Shell => {
            members.push(Member::text("lab/shell", ""));
            let tests = SUITES.iter().flat_map(|suite| suite.tests);
            tests.map(|test| (test.name, test.script, test.limit)).collect()
        }
    };
    let list: String =
        scripts.iter().map(|(name, _, limit)| format!("{name} {}\n", limit.as_secs())).collect();
    members.push(Member::text("lab/tests.list", &list));
    members
        .extend(scripts.iter().map(|(name, script, _)| Member::text(&format!("lab/tests/{name}"), script)));
    members.extend(says.iter().map(|(name, text)| Member::text(&format!("lab/{name}"), text)));
    write_archive(target, &members).map_err(Error::io("write", target))
}

/// The path of a file in the archive that has the same path in the guest as here.
fn in_guest(path: &Path) -> String {
    path.to_string_lossy().trim_start_matches('/').to_owned()
}

/// The folders that files are in, each behind the one that it is in.
fn folders_of<'a>(files: impl IntoIterator<Item = &'a PathBuf>) -> BTreeSet<String> {
    let folders = files.into_iter().flat_map(|file| file.ancestors().skip(1)).map(in_guest);
    folders.filter(|folder| !folder.is_empty()).collect()
}

/// One file or folder of the archive.
struct Member {
    path: String,
    content: Option<Vec<u8>>,
}

impl Member {
    fn folder(path: &str) -> Self {
        Self { path: path.to_owned(), content: None }
    }

    fn text(path: &str, content: &str) -> Self {
        Self { path: path.to_owned(), content: Some(content.as_bytes().to_vec()) }
    }

    fn copy(path: String, from: &Path) -> Result<Self, Error> {
        Ok(Self { path, content: Some(fs::read(from).map_err(Error::io("read", from))?) })
    }
}

fn write_archive(target: &Path, members: &[Member]) -> std::io::Result<()> {
    let file = fs::File::create(target)?;
    let mut archive = Archive::new(BufWriter::new(file));
    for member in members {
        match &member.content {
            Some(content) => archive.file(&member.path, 0o755, content)?,
            None => archive.directory(&member.path)?,
        }
    }
    archive.finish()?.flush()
}
