//! A machine of a test's own, as far as users, `/run`, `/etc` and `/usr/local/bin` go: a mount namespace in which it is root. The
//! real machine sees nothing of it.

use crate::support::{Board, Ground, Outcome, Process};
use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

pub(crate) const ALICE: u32 = 4731;
pub(crate) const BOB: u32 = 4732;
pub(crate) const CAROL: u32 = 4733;
pub(crate) const JITNEY: u32 = 4730;

/// What it takes, as it is written into files.
const MOUNTS: &str = "
set -e
cp -a /etc etc && mount --bind etc /etc
mount -t tmpfs tmpfs /run
mkdir bin && mount --bind bin /usr/local/bin
echo ready
exec sleep infinity";

/// Hands over a socket as systemd does, starts the broker when somebody connects, and says what it hears of it.
const MANAGER: &str = r#"
import fcntl, os, select, socket, sys, threading, time
program, gid, watchdog = sys.argv[1], int(sys.argv[2]), sys.argv[3]
os.makedirs("/run/jitney", 0o755, exist_ok=True)
listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
listener.bind("/run/jitney/broker.sock")
os.chown("/run/jitney/broker.sock", 0, gid)
os.chmod("/run/jitney/broker.sock", 0o660)
listener.listen(64)
notify = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
notify.bind("/run/notify")
kept = {}
busy = threading.Lock()
def hear():
    count = {}
    while True:
        select.select([notify], [], [])
        with busy:
            said, descriptors, _, _ = socket.recv_fds(notify, 4096, 16)
            lines = said.decode().splitlines()
            fields = dict(line.split("=", 1) for line in lines)
            if "FDSTORE" in fields:
                for old in kept.pop(fields["FDNAME"], []): os.close(old)
                kept[fields["FDNAME"]] = descriptors
                continue
            if "FDSTOREREMOVE" in fields:
                for old in kept.pop(fields["FDNAME"], []): os.close(old)
                continue
            # BARRIER=1 is answered so.
            for descriptor in descriptors: os.close(descriptor)
        for line in lines:
            count[line] = count.get(line, 0) + 1
            print(f"heard {line} ({count[line]})", flush=True)
def all_heard():
    with busy:
        return not select.select([notify], [], [], 0)[0]
threading.Thread(target=hear, daemon=True).start()
print("socket ready", flush=True)
again = False
while True:
    if not again: select.select([listener], [], [])
    while not all_heard(): time.sleep(0.001)
    handed = [("broker", listener.fileno())] + [(name, one) for name, own in kept.items() for one in own]
    child = os.fork()
    if child == 0:
        high = [fcntl.fcntl(descriptor, fcntl.F_DUPFD, 500) for _, descriptor in handed]
        for number, descriptor in enumerate(high, 3):
            os.dup2(descriptor, number)
            os.close(descriptor)
        env = dict(os.environ, LISTEN_FDS=str(len(handed)), LISTEN_PID=str(os.getpid()), FDSTORE="8192",
                   LISTEN_FDNAMES=":".join(name for name, _ in handed), NOTIFY_SOCKET="/run/notify", WATCHDOG_USEC=watchdog)
        os.execve(program, [program, "broker", "--system"], env)
    print(f"started {child}", flush=True)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    print(f"ended {status}", flush=True)
    # As the unit says: what was killed is started again, and so is what leaves its place to another.
    again = status < 0 or status == 75
    if not again:
        while not all_heard(): time.sleep(0.001)
        for own in kept.values():
            for one in own: os.close(one)
        kept.clear()
"#;

pub(crate) struct Machine {
    pub(crate) ground: Ground,
    namespace: Process,
}

impl Machine {
    /// One with users alice and bob of group jitney, and carol; nothing, and why, where there can be none.
    pub(crate) fn new() -> Result<Self, &'static str> {
        if !rustix::process::geteuid().is_root() {
            return Err("only root can make a mount namespace and be several users");
        }
        let has = |program: &str| Command::new(program).arg("--version").output().is_ok();
        if !["unshare", "nsenter", "setpriv", "python3"].into_iter().all(has) {
            return Err("this takes unshare, nsenter, setpriv and python3");
        }
        let ground = Ground::new();
        for (name, mode) in [("", 0o755), ("tmp", 0o1777)] {
            std::fs::set_permissions(ground.path(name), Permissions::from_mode(mode)).unwrap();
        }
        let mut command = Command::new("unshare");
        command.args(["--mount", "--propagation", "private", "sh", "-c", MOUNTS]);
        command.current_dir(ground.path("")).env("XDG_RUNTIME_DIR", ground.path("run"));
        let mut namespace = Process::start(command);
        namespace.wait_for_line("ready");
        let machine = Self { ground, namespace };
        machine.add(
            "etc/passwd",
            "alice:x:4731:4731::/:/bin/sh\nbob:x:4732:4732::/:/bin/sh\ncarol:x:4733:4733::/:/bin/sh\n",
        );
        machine.add("etc/group", "alice:x:4731:\nbob:x:4732:\ncarol:x:4733:\n");
        Ok(machine)
    }

    /// With a group jitney that alice and bob are in.
    pub(crate) fn with_members(self) -> Self {
        self.add("etc/group", "jitney:x:4730:alice,bob\n");
        self
    }

    fn add(&self, file: &str, lines: &str) {
        let path = self.ground.path(file);
        let text = std::fs::read_to_string(&path).unwrap();
        // A group that the machine has already would be found first.
        let text: String = text
            .lines()
            .filter(|line| !line.starts_with("jitney:"))
            .map(|line| format!("{line}\n"))
            .collect();
        std::fs::write(path, text + lines).unwrap();
    }

    /// Writes a file below its `/etc/jitney`.
    pub(crate) fn configure(&self, name: &str, text: &str) {
        let folder = self.ground.path("etc/jitney");
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::write(folder.join(name), text).unwrap();
    }

    /// A command in there, as root.
    pub(crate) fn command(&self, program: impl AsRef<Path>, args: &[&str]) -> Command {
        let mut jitney = self.ground.jitney([""; 0]);
        jitney.env_remove("JITNEY_RUN");
        let mut command = Command::new("nsenter");
        for (name, value) in jitney.get_envs() {
            match value {
                Some(value) => command.env(name, value),
                None => command.env_remove(name),
            };
        }
        command
            .arg(format!("--mount=/proc/{}/ns/mnt", self.namespace.pid()))
            .arg("--")
            .arg(program.as_ref())
            .args(args);
        command.current_dir(self.ground.path("")).stdin(std::process::Stdio::null());
        command
    }

    /// `jitney` as a user who is in these groups.
    pub(crate) fn start(&self, uid: u32, groups: &[u32], line: &str) -> Process {
        let groups = match groups {
            [] => "--clear-groups".to_owned(),
            groups => format!("--groups={}", groups.iter().map(u32::to_string).collect::<Vec<_>>().join(",")),
        };
        let id = uid.to_string();
        let mut args = vec!["--reuid", &id, "--regid", &id, &groups, env!("CARGO_BIN_EXE_jitney")];
        args.extend(line.split_whitespace());
        Process::start(self.command("setpriv", &args))
    }

    pub(crate) fn run(&self, uid: u32, groups: &[u32], line: &str) -> Outcome {
        self.start(uid, groups, line).wait()
    }

    /// Starts what stands in for systemd here, and waits until clients find its socket. The broker has `board`.
    pub(crate) fn manager(&self, watchdog_usec: &str) -> Process {
        let group = JITNEY.to_string();
        let args = ["-c", MANAGER, env!("CARGO_BIN_EXE_jitney"), &group, watchdog_usec];
        let mut manager = Process::start(self.command("python3", &args));
        manager.wait_for_line("socket ready");
        manager
    }

    /// Has the broker of all users own `board`, and what `more` says.
    pub(crate) fn configure_for(&self, board: &Board, more: &str) {
        self.configure("config.toml", &format!("cards = [\"{}\"]\n{more}\n", board.address()));
    }
}
