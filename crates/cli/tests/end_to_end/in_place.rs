//! One program behind `--`, which runs as if it had been started in the command's place: signals, stops, descriptors, words.

use crate::support::{Broker, Ground, Process, eventually, in_shell};
use rustix::process::{Pid, Signal, kill_process_group};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{Read, Write};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

const JITNEY: &str = env!("CARGO_BIN_EXE_jitney");

fn run() -> Vec<String> {
    ["run", "--emulate", "nitefury", "--"].map(str::to_owned).into()
}

fn lease(broker: &Broker) -> Vec<String> {
    format!("lease 10ee:7011 {} --", broker.option()).split(' ').map(str::to_owned).collect()
}

/// Says each time that it is told, and ends by itself.
const COUNTS: &str = "trap 'echo told' INT TERM HUP QUIT USR1 USR2 ALRM WINCH; echo ready; n=0; while [ $n -lt 9 ]; do sleep 0.1; n=$((n+1)); done";

#[test]
fn a_signal_reaches_a_program_once_whether_it_was_for_the_group_or_for_the_command() {
    let ground = Ground::new();
    let board = ground.board("nitefury --memory 16M");
    let broker = ground.broker(&[&board]);
    for start in [run(), lease(&broker)] {
        let others = [Signal::QUIT, Signal::USR1, Signal::USR2, Signal::ALARM, Signal::WINCH];
        for number in [Signal::INT, Signal::TERM, Signal::HUP].into_iter().chain(others) {
            for whole in [true, false] {
                let words = start.iter().map(String::as_str).chain(["sh", "-c", COUNTS]);
                let mut process = Process::start(ground.jitney(words));
                process.wait_for_line("ready");
                if whole {
                    kill_process_group(Pid::from_raw(process.pid()).unwrap(), number).unwrap();
                } else {
                    process.signal(number);
                }
                let outcome = process.wait().exits(0);
                let times = outcome.out.matches("told").count();
                assert_eq!(times, 1, "{number:?}, to the group: {whole}: {outcome}");
            }
        }
    }
}

/// Where the descriptors but for the first three lead to, of what `ls -l` says of them.
fn beyond_standard(list: &str) -> Vec<&str> {
    let lines = list.lines().filter_map(|line| line.split_once(" -> "));
    let is_standard = |front: &str| [" 0", " 1", " 2"].iter().any(|number| front.ends_with(number));
    lines.filter(|(front, _)| !is_standard(front)).map(|(_, target)| target).collect()
}

#[test]
fn a_program_inherits_what_the_command_was_started_with_and_nothing_of_its_own() {
    let ground = Ground::new();
    for name in ["three", "five"] {
        std::fs::write(ground.path(name), format!("{name}\n")).unwrap();
    }
    let script = "cat <&3; cat <&5; \"$J\" list | grep -c 10ee:7011; exec ls -l /proc/self/fd";
    let jitney = ground.jitney(run().iter().map(String::as_str).chain(["sh", "-c", script]));
    let mut shell = in_shell(&jitney, "exec \"$@\" 3<three 5<five");
    shell.env("J", JITNEY).current_dir(ground.path("")).stdin(Stdio::null());
    let outcome = Process::start(shell).wait().exits(0);
    assert!(outcome.out.starts_with("three\nfive\n1\n"), "{outcome}");
    // What this test itself was started with comes along. All else: these two, the way to the broker, and the folder that `ls` reads.
    let mut plain = Command::new("sh");
    plain.args(["-c", "exec ls -l /proc/self/fd"]).stdin(Stdio::null());
    let plain = Process::start(plain).wait().exits(0);
    let [open, plain] = [&outcome.out, &plain.out].map(|list| beyond_standard(list));
    let own: Vec<&str> = open.into_iter().filter(|target| !plain.contains(target)).collect();
    let count = |what: &str| own.iter().filter(|target| target.contains(what)).count();
    let counts = (count("three"), count("five"), count("socket:"), own.len());
    assert_eq!(counts, (1, 1, 1, 4), "{outcome}");
}

#[test]
fn the_words_of_a_program_may_be_any_bytes() {
    let ground = Ground::new();
    let board = ground.board("nitefury --memory 16M");
    let broker = ground.broker(&[&board]);
    let odd = OsString::from_vec(vec![b'a', 0xff, b'b']);
    for start in [run(), lease(&broker)] {
        let script = "printf '%s' \"$1\" > words";
        let words = start.iter().map(String::as_str).chain(["sh", "-c", script, "sh"]).map(OsStr::new);
        ground.run_args(words.chain([odd.as_os_str()])).exits(0);
        assert_eq!(std::fs::read(ground.path("words")).unwrap(), odd.as_bytes());
    }
}

/// A shell at a terminal.
struct Terminal {
    shell: Child,
    keys: File,
    seen: Arc<Mutex<String>>,
}

impl Terminal {
    fn start(ground: &Ground) -> Self {
        let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
        grantpt(&master).unwrap();
        unlockpt(&master).unwrap();
        let path = ptsname(&master, Vec::new()).unwrap();
        let side = File::options().read(true).write(true).open(OsStr::from_bytes(path.to_bytes())).unwrap();
        let jitney = ground.jitney(["list"]);
        let mut shell = Command::new("setsid");
        shell.args(["--ctty", "bash", "--norc", "--noprofile", "-i"]).env("PS1", "$ ").env("J", JITNEY);
        shell.envs(jitney.get_envs().filter_map(|(name, value)| Some((name, value?))));
        shell.stdin(side.try_clone().unwrap()).stdout(side.try_clone().unwrap()).stderr(side);
        let shell = shell.spawn().unwrap();
        let keys = File::from(master);
        let seen = Arc::new(Mutex::new(String::new()));
        let (mut screen, into) = (keys.try_clone().unwrap(), Arc::clone(&seen));
        std::thread::spawn(move || {
            let mut bytes = [0; 4096];
            // It ends with the shell.
            while let Ok(count @ 1..) = screen.read(&mut bytes) {
                into.lock().unwrap().push_str(&String::from_utf8_lossy(&bytes[..count]));
            }
        });
        Self { shell, keys, seen }
    }

    /// Types a line, and waits until `text` has come since.
    fn enter(&mut self, line: &str, text: &str) {
        self.seen.lock().unwrap().clear();
        self.keys.write_all(line.as_bytes()).unwrap();
        self.keys.write_all(b"\n").unwrap();
        eventually(line, || {
            let seen = self.seen.lock().unwrap();
            seen.contains(text).then_some(()).ok_or_else(|| seen.clone())
        });
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        // It has ended already, or its test has failed.
        let _ = self.shell.kill();
        let _ = self.shell.wait();
    }
}

#[test]
fn a_shell_that_is_suspended_gives_the_terminal_back_and_goes_on_with_it() {
    let ground = Ground::new();
    let board = ground.board("nitefury --memory 16M");
    let broker = ground.broker(&[&board]);
    for start in [run(), lease(&broker)] {
        let mut terminal = Terminal::start(&ground);
        // What is typed is echoed: what is looked for is not in it.
        terminal.enter(&format!("\"$J\" {} bash --norc --noprofile -i", start.join(" ")), "bash");
        std::thread::sleep(Duration::from_millis(500));
        terminal.enter("echo inner-$((40+2))", "inner-42");
        for round in 0..2 {
            terminal.enter("suspend", "Stopped");
            terminal.enter("echo outer-$((50+2))", "outer-52");
            terminal.enter("fg", "bash");
            std::thread::sleep(Duration::from_millis(200));
            terminal.enter(&format!("echo again-$((60+{round}))"), &format!("again-6{round}"));
        }
        terminal.enter("exit 12", "exit");
        std::thread::sleep(Duration::from_millis(300));
        terminal.enter("echo status-$?", "status-12");
    }
}
