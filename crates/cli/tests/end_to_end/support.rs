//! Processes of the command under test, in surroundings of their own, and an end to everything that takes too long.

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use std::ffi::OsStr;
use std::io::{BufRead, BufReader, Read};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Nothing that is started here may take longer; what does is killed, and its test fails.
pub(crate) const LIMIT: Duration = Duration::from_secs(60);

/// A machine's surroundings for one test: its own folder for sockets, no cards, no settings.
pub(crate) struct Ground {
    folder: tempfile::TempDir,
}

impl Ground {
    pub(crate) fn new() -> Self {
        start_with_usual_signals();
        // Not in a deep folder: a socket's path has at most 107 bytes.
        let folder = tempfile::Builder::new().prefix("e2e-").tempdir_in("/tmp").unwrap();
        for name in ["run", "tmp", "config"] {
            std::fs::create_dir(folder.path().join(name)).unwrap();
        }
        Self { folder }
    }

    /// A path in the test's own folder.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// The folder in which the command puts its sockets.
    pub(crate) fn runtime(&self) -> PathBuf {
        self.path("run/jitney")
    }

    /// `jitney` with these arguments.
    pub(crate) fn jitney<S: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = S>) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_jitney"));
        for name in
            ["JITNEY_BROKER", "JITNEY_CARDS", "JITNEY_BOARDS", "JITNEY_LOG", "JITNEY_IOMMU", "JITNEY_WAIT"]
        {
            command.env_remove(name);
        }
        command
            .args(args)
            .env("XDG_RUNTIME_DIR", self.path("run"))
            .env("JITNEY_RUN", self.path("system"))
            .env("XDG_CONFIG_HOME", self.path("config"))
            .env("TMPDIR", self.path("tmp"))
            .current_dir(self.folder.path())
            .stdin(Stdio::null());
        command
    }

    /// Runs `jitney` with the words of `line` to its end.
    pub(crate) fn run(&self, line: &str) -> Outcome {
        self.run_args(line.split_whitespace())
    }

    /// Runs `jitney` with `args` to its end.
    pub(crate) fn run_args<S: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = S>) -> Outcome {
        Process::start(self.jitney(args)).wait()
    }

    /// Starts `jitney` with the words of `line`.
    pub(crate) fn start(&self, line: &str) -> Process {
        Process::start(self.jitney(line.split_whitespace()))
    }

    /// Starts an emulated board, `board` with options, and waits until it can be used.
    pub(crate) fn board(&self, board: &str) -> Board {
        let name = format!("board{}.sock", self.sockets());
        let socket = self.path(&name);
        let mut process = self.start(&format!("emulate {board} --socket {}", socket.display()));
        process.wait_for_line("serving ");
        Board { process, socket }
    }

    /// Starts a broker of `cards` at a socket of its own and waits until it can be used.
    pub(crate) fn broker(&self, cards: &[&Board]) -> Broker {
        self.broker_with(cards, "")
    }

    pub(crate) fn broker_with(&self, cards: &[&Board], options: &str) -> Broker {
        let socket = self.path(&format!("broker{}.sock", self.sockets()));
        let cards: Vec<String> = cards.iter().map(|card| format!("--card {}", card.address())).collect();
        let mut process =
            self.start(&format!("broker {} {options} --socket {}", cards.join(" "), socket.display()));
        process.wait_for_line("listening at ");
        Broker { process, socket }
    }

    fn sockets(&self) -> usize {
        let files = std::fs::read_dir(self.folder.path()).unwrap();
        files.filter(|file| file.as_ref().unwrap().path().extension() == Some(OsStr::new("sock"))).count()
    }

    /// Every process that runs with this test's surroundings, in other words: that came of one that it started.
    pub(crate) fn processes(&self) -> Vec<(i32, String)> {
        let own = format!("XDG_RUNTIME_DIR={}", self.path("run").display()).into_bytes();
        let all = std::fs::read_dir("/proc").unwrap();
        let pids = all.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<i32>().ok());
        let ours = pids.filter(|pid| {
            std::fs::read(format!("/proc/{pid}/environ"))
                .is_ok_and(|environ| environ.split(|byte| *byte == 0).any(|variable| variable == own))
        });
        ours.map(|pid| {
            let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            (pid, String::from_utf8_lossy(&line).replace('\0', " "))
        })
        .collect()
    }

    /// What there is of files that the command could leave behind: in its folders, in /tmp and in /dev/shm.
    pub(crate) fn files(&self) -> Vec<PathBuf> {
        let mut found = Vec::new();
        for folder in [self.path("run"), self.path("tmp"), self.path("config")] {
            collect(&folder, &mut found);
        }
        for folder in ["/tmp", "/dev/shm"] {
            let Ok(entries) = std::fs::read_dir(folder) else { continue };
            let paths = entries.filter_map(|entry| Some(entry.ok()?.path()));
            // A lab that runs beside these tests is not theirs.
            let is_ours = |name: &str| name.contains("jitney") && !name.contains("jitney-lab");
            found.extend(paths.filter(|path| is_ours(&path.to_string_lossy())));
        }
        found.sort();
        found
    }

    /// Fails unless all processes of this test are gone, and no files but `before` are there, within a few seconds.
    pub(crate) fn assert_nothing_left(&self, before: &[PathBuf]) {
        eventually("a process is left", || match self.processes() {
            left if left.is_empty() => Ok(()),
            left => Err(format!("{left:?}")),
        });
        let left: Vec<_> = self.files().into_iter().filter(|file| !before.contains(file)).collect();
        // The folder itself may stay: others of the same user use it.
        let left: Vec<_> = left.into_iter().filter(|file| *file != self.runtime()).collect();
        assert!(left.is_empty(), "left behind: {left:?}");
    }
}

impl Drop for Ground {
    /// Whatever a failed test has left running is ended.
    fn drop(&mut self) {
        for (pid, _) in self.processes() {
            signal(pid, Signal::KILL);
        }
    }
}

/// Where a script starts these tests in the background, its shell has SIGINT and SIGQUIT ignored, and so has everything that they
/// start. A signal that a process handles is at its default again in what it starts (execve(2)), so this one handles it:
/// by ignoring it, as before.
fn start_with_usual_signals() {
    static ONCE: std::sync::Once = std::sync::Once::new();
    ONCE.call_once(|| {
        let status = std::fs::read_to_string("/proc/self/status").unwrap();
        let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:")).unwrap();
        let ignored = u64::from_str_radix(mask.trim(), 16).unwrap();
        for signal in [signal_hook::consts::SIGINT, signal_hook::consts::SIGQUIT, signal_hook::consts::SIGHUP]
        {
            if ignored & (1 << (signal - 1)) != 0 {
                signal_hook::flag::register(signal, Arc::default()).unwrap();
            }
        }
    });
}

fn collect(folder: &Path, into: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            collect(&path, into);
        }
        into.push(path);
    }
}

/// An emulated board in a process of its own.
pub(crate) struct Board {
    pub(crate) process: Process,
    pub(crate) socket: PathBuf,
}

impl Board {
    pub(crate) fn address(&self) -> String {
        format!("vfio-user:{}", self.socket.display())
    }

    /// How many DMA buffers the board has open or mapped.
    pub(crate) fn buffers(&self) -> usize {
        let pid = self.process.pid();
        let descriptors = descriptors(pid).into_iter().map(|(_, target)| target);
        let maps = std::fs::read_to_string(format!("/proc/{pid}/maps")).unwrap_or_default();
        descriptors.chain(maps.lines().map(str::to_owned)).filter(|line| line.contains("jitney-dma")).count()
    }
}

/// A broker in a process of its own.
pub(crate) struct Broker {
    pub(crate) process: Process,
    pub(crate) socket: PathBuf,
}

impl Broker {
    /// The option that makes a program its client.
    pub(crate) fn option(&self) -> String {
        format!("--broker {}", self.socket.display())
    }
}

/// The open descriptors of a process and what they refer to.
pub(crate) fn descriptors(pid: i32) -> Vec<(i32, String)> {
    let Ok(entries) = std::fs::read_dir(format!("/proc/{pid}/fd")) else { return Vec::new() };
    entries
        .filter_map(|entry| {
            let path = entry.ok()?.path();
            let number = path.file_name()?.to_str()?.parse().ok()?;
            Some((number, std::fs::read_link(&path).ok()?.to_string_lossy().into_owned()))
        })
        .collect()
}

pub(crate) fn signal(pid: i32, signal: Signal) {
    // That it is gone already is no matter here: what happens then is what the test looks at.
    let _ = kill_process(Pid::from_raw(pid).unwrap(), signal);
}

/// The same command as the arguments of a shell's script.
pub(crate) fn in_shell(command: &Command, script: &str) -> Command {
    let mut shell = Command::new("sh");
    shell.args(["-c", script, "sh"]).arg(command.get_program()).args(command.get_args());
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => shell.env(name, value),
            None => shell.env_remove(name),
        };
    }
    shell
}

/// Waits until `check` is content, some seconds at most.
pub(crate) fn eventually(what: &str, mut check: impl FnMut() -> Result<(), String>) {
    let since = Instant::now();
    while let Err(why) = check() {
        assert!(since.elapsed() < Duration::from_secs(5), "{what}: {why}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// A process with everything that it prints. It is killed when this is dropped.
pub(crate) struct Process {
    child: Child,
    line: String,
    since: Instant,
    out: Stream,
    err: Stream,
}

/// How a process ended and what it said.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) line: String,
    pub(crate) status: ExitStatus,
    pub(crate) out: String,
    pub(crate) err: String,
    pub(crate) time: Duration,
}

struct Stream {
    text: Arc<Mutex<String>>,
    reader: JoinHandle<()>,
}

impl Stream {
    fn of(source: impl Read + Send + 'static) -> Self {
        let text = Arc::new(Mutex::new(String::new()));
        let into = Arc::clone(&text);
        let reader = std::thread::spawn(move || {
            let mut source = BufReader::new(source);
            let mut line = Vec::new();
            while matches!(source.read_until(b'\n', &mut line), Ok(1..)) {
                into.lock().unwrap().push_str(&String::from_utf8_lossy(&line));
                line.clear();
            }
        });
        Self { text, reader }
    }

    fn text(&self) -> String {
        self.text.lock().unwrap().clone()
    }

    /// All of it, once nobody writes to it any more.
    fn end(&self, since: Instant, line: &str) -> String {
        while !self.reader.is_finished() {
            assert!(since.elapsed() < LIMIT, "{line}: its output does not end: {}", self.text());
            std::thread::sleep(Duration::from_millis(1));
        }
        self.text()
    }
}

impl Process {
    pub(crate) fn start(mut command: Command) -> Self {
        let words = std::iter::once(command.get_program()).chain(command.get_args());
        let words: Vec<_> = words.map(|word| word.to_string_lossy().into_owned()).collect();
        let line = words.join(" ");
        command.stdout(Stdio::piped()).stderr(Stdio::piped()).process_group(0);
        let mut child = command.spawn().unwrap_or_else(|error| panic!("{line}: {error}"));
        let (out, err) = (child.stdout.take().unwrap(), child.stderr.take().unwrap());
        Self { child, line, since: Instant::now(), out: Stream::of(out), err: Stream::of(err) }
    }

    pub(crate) fn pid(&self) -> i32 {
        self.child.id().cast_signed()
    }

    pub(crate) fn signal(&self, number: Signal) {
        signal(self.pid(), number);
    }

    /// Whether it still runs.
    pub(crate) fn runs(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    /// Waits until it has printed a line that contains `text`, and returns that line.
    pub(crate) fn wait_for_line(&mut self, text: &str) -> String {
        loop {
            let out = self.out.text();
            // Only whole lines: the rest of it may be what matters.
            let mut lines = out.split_inclusive('\n').filter(|line| line.ends_with('\n'));
            if let Some(line) = lines.find(|line| line.contains(text)) {
                return line.trim_end().to_owned();
            }
            let alive = self.runs();
            let said = || format!("{}\n{out}{}", self.line, self.err.text());
            assert!(alive, "it ended before it said {text:?}: {}", said());
            assert!(self.since.elapsed() < LIMIT, "it does not say {text:?}: {}", said());
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    /// What it has said on its standard error so far.
    pub(crate) fn complained(&self) -> String {
        self.err.text()
    }

    /// What it has printed so far.
    pub(crate) fn said(&self) -> String {
        self.out.text()
    }

    /// Waits for its end.
    pub(crate) fn wait(self) -> Outcome {
        self.wait_at_most(LIMIT)
    }

    /// Waits for its end, which has to come within `limit` from now.
    pub(crate) fn wait_at_most(mut self, limit: Duration) -> Outcome {
        let asked = Instant::now();
        let status = loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                break status;
            }
            if asked.elapsed() > limit {
                let (out, err) = (self.out.text(), self.err.text());
                panic!("{} has not ended within {limit:?}: {out}{err}", self.line);
            }
            std::thread::sleep(Duration::from_millis(1));
        };
        let time = self.since.elapsed();
        let (out, err) = (self.out.end(asked, &self.line), self.err.end(asked, &self.line));
        let outcome = Outcome { line: self.line.clone(), status, out, err, time };
        assert!(!outcome.err.contains("panicked") && !outcome.out.contains("panicked"), "{outcome}");
        outcome
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It has ended already, or the test has failed or has no more use for it.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Outcome {
    /// Fails unless the exit status is `status`.
    pub(crate) fn exits(self, status: i32) -> Self {
        assert_eq!(self.status.code(), Some(status), "{self}");
        self
    }

    /// Fails unless a signal ended it.
    pub(crate) fn dies_of(self, signal: Signal) -> Self {
        assert_eq!(self.status.signal(), Some(signal.as_raw()), "{self}");
        self
    }

    /// Fails unless its standard output contains `text`.
    pub(crate) fn says(self, text: &str) -> Self {
        assert!(self.out.contains(text), "it does not say {text:?}: {self}");
        self
    }

    /// Fails unless its standard error contains `text`.
    pub(crate) fn complains(self, text: &str) -> Self {
        assert!(self.err.contains(text), "it does not complain {text:?}: {self}");
        self
    }

    /// The result that it prints for programs.
    pub(crate) fn json(&self) -> Value {
        let last = self.json_lines().pop().unwrap_or_else(|| panic!("it prints nothing: {self}"));
        last.get("result").unwrap_or_else(|| panic!("there is no result: {self}")).clone()
    }

    /// The error that it prints for programs.
    pub(crate) fn json_error(&self) -> Value {
        let last = self.json_lines().pop().unwrap_or_else(|| panic!("it prints nothing: {self}"));
        last.get("error").unwrap_or_else(|| panic!("there is no error: {self}")).clone()
    }

    /// Its standard output, each line of which has to be as `jitney schema` says.
    pub(crate) fn json_lines(&self) -> Vec<Value> {
        self.out.lines().map(json_line).collect()
    }
}

/// A line for programs, which has to be as `jitney schema` says.
pub(crate) fn json_line(line: &str) -> Value {
    static SCHEMA: std::sync::OnceLock<jsonschema::Validator> = std::sync::OnceLock::new();
    let schema = SCHEMA.get_or_init(|| {
        let output = Command::new(env!("CARGO_BIN_EXE_jitney")).arg("schema").output().unwrap();
        jsonschema::validator_for(&serde_json::from_slice(&output.stdout).unwrap()).unwrap()
    });
    let value = serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
    let command = &serde_json::from_str::<Value>(line).unwrap()["command"];
    assert!(schema.is_valid(&value), "not as `jitney schema {command}` has it: {line}");
    value
}

impl std::fmt::Display for Outcome {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}\n{} after {:?}\n{}{}", self.line, self.status, self.time, self.out, self.err)
    }
}
