//! Another user's socket where a user's broker or boards would be: `jitney list` of that user says nothing to it.

use super::Play;
use crate::round::{PLAY_LIMIT, Round};
use crate::stage::Stage;
use crate::villain::Role;
use anyhow::Context;
use rustix::fs::{Gid, Uid, chown};
use rustix::net::{
    AddressFamily, RecvFlags, SocketAddrUnix, SocketFlags, SocketType, accept, bind, listen, recv,
    socket_with,
};
use std::fs::{self, DirBuilder, Permissions};
use std::os::unix::fs::{DirBuilderExt, PermissionsExt, symlink};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

pub(super) const PLAYS: &[(&str, Play)] = &[("squat", play)];

const VICTIM: u32 = 61_234;
const SQUATTER: u32 = 61_235;

/// A way to squat.
struct Case {
    what: &'static str,
    /// What the victim's XDG_RUNTIME_DIR is.
    runtime: Option<PathBuf>,
    /// The folder that the squatter's sockets are in.
    folder: PathBuf,
}

pub(super) fn row(round: &Round<'_>) -> anyhow::Result<()> {
    if !rustix::process::getuid().is_root() {
        round.skip("it takes root to be two users");
        return Ok(());
    }
    let ground = tempfile::Builder::new().prefix("jitney-squat-").tempdir()?;
    fs::set_permissions(ground.path(), Permissions::from_mode(0o755))?;
    let cases = cases(ground.path())?;
    let jitney = ground.path().join("jitney");
    fs::copy(&round.arena.place.jitney, &jitney).context("copying jitney")?;
    for case in &cases {
        for (name, kind) in [("broker.sock", "packets"), ("boards/nitefury-0.sock", "stream")] {
            let word = format!("{kind}:{}", case.folder.join(name).display());
            let mut squatter = round.start(&Role { word, user: Some(SQUATTER), ..round.role("squat", 1) })?;
            squatter.wait_until_ready(PLAY_LIMIT)?;
            let mut list = round.arena.place.jitney();
            let mut command = std::process::Command::new(&jitney);
            command.arg("list").uid(VICTIM).gid(VICTIM).current_dir("/");
            std::mem::swap(&mut command, &mut list);
            match &case.runtime {
                Some(runtime) => list.env("XDG_RUNTIME_DIR", runtime),
                None => list.env_remove("XDG_RUNTIME_DIR"),
            };
            for variable in ["JITNEY_BROKER", "JITNEY_CARDS"] {
                list.env_remove(variable);
            }
            let mut child = list.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn()?;
            // It waits for nobody for long.
            let since = std::time::Instant::now();
            while child.try_wait()?.is_none() {
                if since.elapsed() > Duration::from_secs(10) {
                    round.broken(format!("{}: jitney list did not end in 10 s", case.what));
                    child.kill()?;
                }
                std::thread::sleep(Duration::from_millis(10));
            }
            std::thread::sleep(Duration::from_millis(50));
            squatter.kill()?;
            for what in &squatter.told.broken {
                round.broken(format!("{}: {what}", case.what));
            }
            round.did(1);
        }
    }
    let past = PathBuf::from(format!("/tmp/jitney-{VICTIM}"));
    // This program made it.
    fs::remove_dir_all(&past).with_context(|| format!("removing {}", past.display()))
}

fn cases(ground: &Path) -> anyhow::Result<Vec<Case>> {
    let folder = |path: PathBuf, owner: u32, mode: u32| -> anyhow::Result<PathBuf> {
        DirBuilder::new().recursive(true).create(&path).with_context(|| path.display().to_string())?;
        fs::set_permissions(&path, Permissions::from_mode(mode))?;
        chown(&path, Some(Uid::from_raw(owner)), Some(Gid::from_raw(owner)))?;
        Ok(path)
    };
    let past = folder(format!("/tmp/jitney-{VICTIM}").into(), SQUATTER, 0o755)?;
    let mut cases = vec![Case { what: "no XDG_RUNTIME_DIR", runtime: None, folder: past }];
    let runtime = folder(ground.join("theirs"), SQUATTER, 0o755)?;
    let inner = folder(runtime.join("jitney"), SQUATTER, 0o755)?;
    cases.push(Case { what: "a runtime folder of another user", runtime: Some(runtime), folder: inner });
    let runtime = folder(ground.join("mixed"), VICTIM, 0o755)?;
    let inner = folder(runtime.join("jitney"), SQUATTER, 0o755)?;
    cases.push(Case { what: "another user's folder in one's own", runtime: Some(runtime), folder: inner });
    let runtime = folder(ground.join("open"), VICTIM, 0o777)?;
    let inner = folder(runtime.join("jitney"), VICTIM, 0o777)?;
    folder(inner.join("boards"), VICTIM, 0o777)?;
    cases.push(Case { what: "a folder that everybody can write to", runtime: Some(runtime), folder: inner });
    let runtime = folder(ground.join("link"), VICTIM, 0o755)?;
    let elsewhere = folder(ground.join("elsewhere"), SQUATTER, 0o755)?;
    symlink(&elsewhere, runtime.join("jitney"))?;
    cases.push(Case { what: "a link to another user's folder", runtime: Some(runtime), folder: elsewhere });
    Ok(cases)
}

/// Listens where it should not, and says who said something.
fn play(stage: &Stage) -> anyhow::Result<()> {
    let (kind, path) = stage.word.split_once(':').context("what to listen at")?;
    let kind = if kind == "packets" { SocketType::SEQPACKET } else { SocketType::STREAM };
    let path = Path::new(path);
    let folder = path.parent().context("a folder")?;
    if !folder.exists() {
        DirBuilder::new().mode(0o755).create(folder)?;
    }
    if path.exists() {
        fs::remove_file(path)?;
    }
    let socket = socket_with(AddressFamily::UNIX, kind, SocketFlags::CLOEXEC, None)?;
    bind(&socket, &SocketAddrUnix::new(path)?).with_context(|| path.display().to_string())?;
    fs::set_permissions(path, Permissions::from_mode(0o777))?;
    listen(&socket, 8)?;
    stage.ready();
    loop {
        let peer = accept(&socket)?;
        let mut bytes = [0; 64];
        if let Ok((size, _)) = recv(&peer, &mut bytes, RecvFlags::empty())
            && size > 0
        {
            stage.broken(format!("it was told {:x?}", &bytes[..size]));
        }
    }
}
