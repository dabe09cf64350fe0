//! What a test says: lines for people with a progress bar below, or one JSON value for programs. Where there is no terminal
//! for a bar, a line now and then says how far it is.

use super::contract;
use super::errno::explained;
use super::say::{say, to_stdout};
use super::size::human;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde::Serialize;
use std::cell::Cell;
use std::io::IsTerminal;
use std::time::{Duration, Instant};

/// How often a line says how far it is.
const PERIOD: Duration = Duration::from_secs(10);

/// Where a command's results go.
#[derive(Debug)]
pub(crate) struct Report {
    json: bool,
    /// Whether it is for a part of something larger, that says what came of it.
    quiet: bool,
    /// Whether standard output has something else on it.
    beside: bool,
    bar: ProgressBar,
    /// What is counted: bytes, or steps.
    counts_bytes: bool,
    /// When it was said last how far it is, or that began; nothing if that is said by a bar, or to nobody.
    told: Option<Cell<Instant>>,
}

impl Report {
    pub(crate) fn new(json: bool) -> Self {
        let told = (!json && !std::io::stderr().is_terminal()).then(|| Cell::new(Instant::now()));
        Self { json, quiet: false, beside: false, bar: ProgressBar::hidden(), counts_bytes: true, told }
    }

    /// For a part of what this one is for, which says itself what came of it: progress is shown, lines are not.
    pub(crate) fn quiet(&self) -> Self {
        let mut part = Self::new(self.json);
        part.quiet = true;
        part
    }

    /// Of a command whose standard output is data: its results go to standard error.
    pub(crate) fn beside_data(json: bool) -> Self {
        contract::stdout_is_data();
        let mut own = Self::new(json);
        own.beside = true;
        own
    }

    /// Shows progress towards `total` bytes.
    pub(crate) fn start(&mut self, what: &str, total: u64) {
        self.prepare(what, Some(total));
        self.show();
    }

    /// Shows progress towards `total` steps.
    pub(crate) fn start_steps(&mut self, what: &str, total: u64) {
        let style = ProgressStyle::with_template("{msg} {wide_bar} {pos} of {len}, {eta} left");
        self.bar = ProgressBar::with_draw_target(Some(total), ProgressDrawTarget::hidden())
            .with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
            .with_message(what.to_owned());
        self.begin(false);
        self.show();
    }

    /// Measures progress, whose total may not be known, to [`show`](Self::show) it later.
    pub(crate) fn prepare(&mut self, what: &str, total: Option<u64>) {
        let style = ProgressStyle::with_template(match total {
            Some(_) => {
                "{msg} {wide_bar} {binary_bytes} of {binary_total_bytes}, {binary_bytes_per_sec}, {eta} left"
            }
            None => "{msg} {spinner} {binary_bytes}, {binary_bytes_per_sec}",
        });
        self.bar = ProgressBar::with_draw_target(total, ProgressDrawTarget::hidden())
            .with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
            .with_message(what.to_owned());
        self.begin(true);
    }

    fn begin(&mut self, counts_bytes: bool) {
        self.counts_bytes = counts_bytes;
        if let Some(told) = &self.told {
            told.set(Instant::now());
        }
    }

    /// Shows progress from now on, if standard error is a terminal.
    pub(crate) fn show(&self) {
        self.bar.set_draw_target(ProgressDrawTarget::stderr());
        self.bar.enable_steady_tick(Duration::from_millis(200));
    }

    /// Shows progress no more.
    pub(crate) fn stop(&self) {
        self.bar.finish_and_clear();
    }

    /// Some more bytes, or steps, are done.
    pub(crate) fn advance(&self, more: u64) {
        self.bar.inc(more);
        if let Some(told) = &self.told
            && told.get().elapsed() >= PERIOD
        {
            told.set(Instant::now());
            let length = self.bar.length();
            say!("jitney: {}", so_far(&self.bar.message(), self.bar.position(), length, self.counts_bytes));
        }
    }

    /// A line for people.
    pub(crate) fn line(&self, line: impl AsRef<str>) {
        if !self.json && !self.quiet {
            self.bar.suspend(|| self.print(line.as_ref()));
        }
    }

    /// What went wrong, on standard error.
    pub(crate) fn complain(&self, text: impl AsRef<str>) {
        self.bar.suspend(|| say!("jitney: {}", text.as_ref()));
    }

    /// The result for programs. Ends the progress bar.
    pub(crate) fn finish(&self, result: &impl Serialize) -> anyhow::Result<()> {
        self.stop();
        if self.json && !self.quiet {
            self.print(&contract::result(result)?);
        }
        Ok(())
    }

    fn print(&self, line: &str) {
        if self.beside { say!("{line}") } else { print_line(line) }
    }
}

impl Drop for Report {
    fn drop(&mut self) {
        self.stop();
    }
}

/// How far something is, in words.
fn so_far(what: &str, done: u64, total: Option<u64>, counts_bytes: bool) -> String {
    let amount = |amount: u64| if counts_bytes { human(amount) } else { amount.to_string() };
    match total {
        Some(total) => format!("{what}: {} of {}", amount(done), amount(total)),
        None => format!("{what}: {}", amount(done)),
    }
}

/// Prints the result of a command for programs.
pub(crate) fn print_result(result: &impl Serialize) -> anyhow::Result<()> {
    print_line(&contract::result(result)?);
    Ok(())
}

/// Prints for programs something that happened before there is a result.
pub(crate) fn print_event(event: &impl Serialize) -> anyhow::Result<()> {
    print_line(&contract::event(event)?);
    Ok(())
}

/// Prints a line. If nobody reads any more, as in `jitney list | head -1`, the command ends there.
pub(crate) fn print_line(line: &str) {
    print_bytes(format!("{line}\n").as_bytes());
}

/// The same of what need not be one line.
pub(crate) fn print_bytes(bytes: &[u8]) {
    if let Err(error) = to_stdout(bytes) {
        end_unread(&error);
    }
}

/// Ends the command, whose standard output cannot be written.
pub(crate) fn end_unread(error: &std::io::Error) -> ! {
    // That a reader has had enough is no news to whoever started it.
    if error.kind() != std::io::ErrorKind::BrokenPipe {
        say!("jitney: standard output: {}", explained(error));
    }
    #[expect(clippy::exit, reason = "there is nobody left to tell")]
    std::process::exit(super::status::Status::Failed.number().into());
}

/// Prints a line for a program that goes on also if nobody reads any more.
pub(crate) fn print_if_read(line: &str) {
    // There is nobody left to tell.
    let _ = to_stdout(format!("{line}\n").as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn how_far_it_is_in_words() {
        assert_eq!(so_far("saving", 12 << 20, Some(64 << 20), true), "saving: 12 MiB of 64 MiB");
        assert_eq!(so_far("measuring", 3, Some(24), false), "measuring: 3 of 24");
        assert_eq!(so_far("playing", 4096, None, true), "playing: 4 KiB");
    }
}
