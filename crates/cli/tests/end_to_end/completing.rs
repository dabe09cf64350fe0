//! Completion as a user has it: a shell at a terminal loads the script, and the key is pressed.

use crate::support::{Ground, LIMIT, Process};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use std::fs::File;
use std::io::{ErrorKind, Read, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::time::Instant;

/// A shell at a terminal.
struct Terminal {
    shell: Child,
    keyboard: File,
    screen: Receiver<String>,
}

impl Terminal {
    /// Starts `shell` where `jitney` is the command under test; nothing if there is no such shell.
    fn of(ground: &Ground, shell: &str, arguments: &[&str]) -> Option<Self> {
        let ours = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).unwrap();
        grantpt(&ours).unwrap();
        unlockpt(&ours).unwrap();
        let name = ptsname(&ours, Vec::new()).unwrap().into_string().unwrap();
        let its = || Stdio::from(File::options().read(true).write(true).open(&name).unwrap());
        let command = ground.jitney([""]);
        let folder = Path::new(command.get_program()).parent().unwrap();
        let mut started = Command::new(shell);
        started.envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
        started
            .args(arguments)
            .env("PATH", format!("{}:/usr/bin:/bin", folder.display()))
            .envs([("TERM", "dumb"), ("INPUTRC", "/dev/null"), ("HOME", "/nowhere"), ("COLUMNS", "200")])
            .current_dir(ground.path(""))
            .stdin(its())
            .stdout(its())
            .stderr(its());
        let shell = match started.spawn() {
            Ok(shell) => shell,
            Err(error) if error.kind() == ErrorKind::NotFound => return None,
            Err(error) => panic!("{shell}: {error}"),
        };
        let keyboard = File::from(ours);
        let mut reader = keyboard.try_clone().unwrap();
        let (sender, screen) = mpsc::channel();
        std::thread::spawn(move || {
            let mut bytes = [0; 4096];
            while let Ok(count @ 1..) = reader.read(&mut bytes) {
                let _ = sender.send(String::from_utf8_lossy(&bytes[..count]).into_owned());
            }
        });
        Some(Self { shell, keyboard, screen })
    }

    fn types(&mut self, keys: &str) {
        self.keyboard.write_all(keys.as_bytes()).unwrap();
    }

    /// What is shown until `text` is.
    fn shows(&self, text: &str) -> String {
        let since = Instant::now();
        let mut shown = String::new();
        while !shown.contains(text) {
            let left = LIMIT.saturating_sub(since.elapsed());
            match self.screen.recv_timeout(left) {
                Ok(more) => shown += &more,
                Err(_) => panic!("{text:?} is not shown, but {shown:?}"),
            }
        }
        shown
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        let _ = self.shell.kill();
        let _ = self.shell.wait();
    }
}

/// What a user does at a prompt, once the script is loaded.
fn use_it(ground: &Ground, terminal: &mut Terminal) {
    // A board whose name begins so is the only one.
    terminal.types("jitney boards show nitefury-d\t\n");
    terminal.shows("NiteFury_dma_ddr3: ");
    // Of several, what they have in common, and at the second press all of them.
    terminal.types("jitney emulate nitefury --fault hang:c\t\t");
    let shown = terminal.shows("c2h3");
    assert!(shown.contains("c2h0") && !shown.contains("h2c0"), "{shown:?}");
    terminal.types("\x15");
    // A card: its address has a colon, at which bash takes words apart.
    let mut board = ground.start("emulate litefury");
    board.wait_for_line("serving ");
    for start in ["vf", "vfio-user:", "vfio-user:/"] {
        terminal.types(&format!("jitney info {start}\t\n"));
        let shown = terminal.shows("board: LiteFury");
        assert!(shown.contains("jitney/boards/litefury-0.sock"), "{shown:?}");
    }
}

#[test]
fn bash_completes_boards_faults_and_cards() {
    let ground = Ground::new();
    let mut terminal = Terminal::of(&ground, "bash", &["--norc", "--noprofile", "-i"]).unwrap();
    terminal.types("bind 'set bell-style none'; bind 'set show-all-if-ambiguous on'; source <(jitney completions bash); echo lo''aded\n");
    terminal.shows("loaded");
    use_it(&ground, &mut terminal);
}

#[test]
fn zsh_completes_at_the_first_press() {
    let ground = Ground::new();
    let folder = ground.path("functions");
    std::fs::create_dir(&folder).unwrap();
    std::fs::write(folder.join("_jitney"), ground.run("completions zsh").exits(0).out).unwrap();
    let Some(mut terminal) = Terminal::of(&ground, "zsh", &["-f", "-i"]) else {
        return println!("skipped: there is no zsh");
    };
    terminal.types("unsetopt beep zle_bracketed_paste; fpath=(functions $fpath); autoload -U compinit; compinit -D -u; echo lo''aded\n");
    terminal.shows("loaded");
    use_it(&ground, &mut terminal);
}

#[test]
fn fish_completes_boards_and_faults() {
    let ground = Ground::new();
    let jitney = ground.jitney([""]);
    let folder = Path::new(jitney.get_program()).parent().unwrap();
    let asked = "jitney completions fish | source; complete -C 'jitney boards show nitefury-d'; complete -C 'jitney emulate nitefury --fault stall:'";
    let mut fish = Command::new("fish");
    fish.args(["--no-config", "-c", asked]).env("PATH", format!("{}:/usr/bin:/bin", folder.display()));
    fish.env("HOME", ground.path("")).stdin(Stdio::null());
    if Command::new("fish").arg("--version").output().is_err() {
        return println!("skipped: there is no fish");
    }
    let outcome = Process::start(fish).wait().exits(0);
    assert!(outcome.out.contains("nitefury-dma-ddr3\t"), "{outcome}");
    assert!(outcome.out.contains("stall:h2c0\n"), "{outcome}");
}

#[test]
fn a_shell_that_asks_finds_no_card_opened_and_no_broker_started() {
    let ground = Ground::new();
    let before = ground.files();
    let mut asked = ground.jitney(["--", "jitney", "info", ""]);
    asked.envs([("JITNEY_COMPLETE", "bash"), ("_CLAP_COMPLETE_INDEX", "2")]);
    Process::start(asked).wait().exits(0);
    ground.assert_nothing_left(&before);
}

#[test]
fn every_command_has_a_page_in_the_manual() {
    let ground = Ground::new();
    ground.run("manual pages 2026-11-30").exits(0);
    let page = |name: &str| std::fs::read_to_string(ground.path(&format!("pages/{name}.1"))).unwrap();
    assert!(page("jitney").contains("jitney\\-emulate(1)"), "{}", page("jitney"));
    assert!(page("jitney-test-memory").contains(".TH JITNEY-TEST-MEMORY 1 2026-11-30 "));
    assert!(page("jitney-emulate").contains("jitney emulate nitefury"));
    // What is hidden from --help is hidden here.
    assert!(!ground.path("pages/jitney-manual.1").exists());
    if Command::new("man").arg("--version").output().is_err() {
        return println!("skipped: there is no man");
    }
    for entry in std::fs::read_dir(ground.path("pages")).unwrap() {
        let path = entry.unwrap().path();
        let mut man = Command::new("man");
        man.args(["--warnings", "--local-file"]).arg(&path).env("MANPAGER", "cat").env("LC_ALL", "C.UTF-8");
        let outcome = Process::start(man).wait().exits(0);
        assert!(outcome.err.is_empty(), "{}: {outcome}", path.display());
    }
}
