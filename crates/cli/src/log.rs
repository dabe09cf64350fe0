//! The log of a process that serves others: nobody who does not read it can hold the process up.
//!
//! A client can provoke lines, and whoever started the process may have given it a pipe that nobody reads. So lines are
//! queued, a thread of its own writes them, and those that find the queue full are left out and counted.

use crate::say::say;
use std::fmt;
use std::io::{self, Write};
use std::sync::{Arc, Condvar, LazyLock, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::fmt::format::{Format, Full, Writer};
use tracing_subscriber::fmt::time::SystemTime;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::registry::LookupSpan;

/// How many bytes may wait to be written: a few thousand lines.
const CAPACITY: usize = 256 << 10;
/// How long the end of the process waits for what is still queued.
const LAST_LINES: Duration = Duration::from_millis(500);

/// How bad it is, as sd-daemon(3) numbers it.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Priority {
    Error,
    Warning,
    Info,
    Debug,
}

impl Priority {
    /// What a line begins with.
    fn mark(self) -> &'static str {
        match self {
            _ if !is_for_journal() => "",
            Self::Error => "<3>",
            Self::Warning => "<4>",
            Self::Info => "<6>",
            Self::Debug => "<7>",
        }
    }
}

impl From<&Level> for Priority {
    fn from(level: &Level) -> Self {
        match *level {
            Level::ERROR => Self::Error,
            Level::WARN => Self::Warning,
            Level::INFO => Self::Info,
            _ => Self::Debug,
        }
    }
}

/// Whether standard error is the journal's: it has the time itself, and wants to know of each line how bad it is.
pub(crate) fn is_for_journal() -> bool {
    static ANSWER: LazyLock<bool> = LazyLock::new(|| {
        let file = rustix::fs::fstat(io::stderr());
        let names = std::env::var("JOURNAL_STREAM").unwrap_or_default();
        file.is_ok_and(|file| format!("{}:{}", file.st_dev, file.st_ino) == names)
    });
    *ANSWER
}

/// Says something to whoever reads standard error.
pub(crate) fn complain(priority: Priority, what: &str) {
    let mark = priority.mark();
    // Each line is one of the journal's.
    say!("{mark}jitney: {}", what.replace('\n', &format!("\n{mark}")));
}

/// How a line of the log looks.
#[derive(Debug, Default)]
pub(crate) struct Lines {
    usual: Format<Full, SystemTime>,
}

impl<S, N> FormatEvent<S, N> for Lines
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, N>,
        mut to: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let usual = self.usual.clone().with_target(false);
        if !is_for_journal() {
            return usual.format_event(context, to, event);
        }
        to.write_str(Priority::from(event.metadata().level()).mark())?;
        usual.without_time().with_level(false).format_event(context, to, event)
    }
}

/// A queue of lines. Clones have one queue.
#[derive(Debug, Clone, Default)]
pub(crate) struct Log(Arc<Queue>);

#[derive(Debug, Default)]
struct Queue {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    lines: Vec<u8>,
    left_out: u64,
    /// No more lines will come.
    ends: bool,
    /// The thread has written all and ended.
    has_ended: bool,
}

impl Log {
    /// Starts the thread that writes to `to`.
    ///
    /// # Errors
    /// There can be no more threads.
    pub(crate) fn start(to: impl Write + Send + 'static) -> io::Result<Self> {
        let log = Self::default();
        let queue = Arc::clone(&log.0);
        thread::Builder::new().name("log".into()).spawn(move || queue.write_all_to(to))?;
        Ok(log)
    }

    /// Waits until what is queued was written, half a second at most. Later lines are left out.
    pub(crate) fn finish(&self) {
        let mut state = self.0.state();
        state.ends = true;
        self.0.changed.notify_all();
        let unwritten = |state: &mut State| !state.has_ended;
        // What nobody reads in that time is lost.
        drop(self.0.changed.wait_timeout_while(state, LAST_LINES, unwritten));
    }
}

/// Each call is one line: `tracing-subscriber` writes an event at once.
impl Write for Log {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let mut state = self.0.state();
        if state.ends || state.lines.len() + line.len() > CAPACITY {
            state.left_out += 1;
        } else {
            state.lines.extend_from_slice(line);
            self.0.changed.notify_all();
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Queue {
    fn state(&self) -> MutexGuard<'_, State> {
        // The state is whole at every moment, so that a thread that panicked has left nothing half done.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn write_all_to(&self, mut to: impl Write) {
        loop {
            let nothing = |state: &mut State| state.lines.is_empty() && !state.ends;
            let waited = self.changed.wait_while(self.state(), nothing);
            let mut state = waited.unwrap_or_else(PoisonError::into_inner);
            if state.lines.is_empty() {
                state.has_ended = true;
                self.changed.notify_all();
                return;
            }
            let mut lines = std::mem::take(&mut state.lines);
            let left_out = std::mem::take(&mut state.left_out);
            drop(state);
            if left_out > 0 {
                let note = format!(
                    "{}WARN {left_out} lines of the log were left out, as nobody read them in time\n",
                    Priority::Warning.mark()
                );
                lines.extend_from_slice(note.as_bytes());
            }
            // There is nobody to tell that the log cannot be written.
            let _ = to.write_all(&lines);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc;
    use std::time::Instant;

    /// Hands on what is written once it is let go on.
    struct Gate(mpsc::Receiver<()>, mpsc::Sender<Vec<u8>>);

    impl Write for Gate {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            // Without a sender it is open.
            let _ = self.0.recv();
            self.1.send(bytes.to_vec()).map_err(io::Error::other)?;
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn lines_that_nobody_reads_hold_up_nobody_and_are_counted() {
        let (open, gate) = mpsc::channel();
        let (written, seen) = mpsc::channel();
        let mut log = Log::start(Gate(gate, written)).unwrap();
        let line = [b'x'; 1024];
        let count = 2 * CAPACITY / line.len();
        for _ in 0..count {
            log.write_all(&line).unwrap();
        }
        drop(open);
        log.finish();
        let text: Vec<u8> = seen.try_iter().flatten().collect();
        let text = String::from_utf8(text).unwrap();
        let whole = text.matches(&"x".repeat(1024)).count();
        let note = format!("WARN {} lines of the log were left out", count - whole);
        assert!(whole >= CAPACITY / line.len() && text.contains(&note), "{whole} of {count}");
    }

    #[test]
    fn the_end_does_not_wait_for_ever() {
        let (_shut, gate) = mpsc::channel();
        let (written, _seen) = mpsc::channel();
        let mut log = Log::start(Gate(gate, written)).unwrap();
        log.write_all(b"a line\n").unwrap();
        let began = Instant::now();
        log.finish();
        assert!(began.elapsed() < Duration::from_secs(30));
    }

    #[test]
    fn what_is_queued_at_the_end_is_written() {
        let (written, seen) = mpsc::channel();
        let (open, gate) = mpsc::channel();
        drop(open);
        let mut log = Log::start(Gate(gate, written)).unwrap();
        for line in ["one\n", "two\n"] {
            log.write_all(line.as_bytes()).unwrap();
        }
        log.finish();
        log.write_all(b"late\n").unwrap();
        let text: Vec<u8> = seen.try_iter().flatten().collect();
        assert_eq!(text, b"one\ntwo\n");
    }
}
