//! What a test says: lines for people with a progress bar below, or one JSON value for programs.

use super::contract;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde::Serialize;
use std::io::Write;
use std::time::Duration;

/// Where a command's results go.
#[derive(Debug)]
pub(crate) struct Report {
    json: bool,
    /// Whether standard output has something else on it.
    beside: bool,
    bar: ProgressBar,
}

impl Report {
    pub(crate) fn new(json: bool) -> Self {
        Self { json, beside: false, bar: ProgressBar::hidden() }
    }

    /// For a part of something larger that says itself what came of it: progress is shown, lines are not.
    pub(crate) fn quiet() -> Self {
        Self::new(true)
    }

    /// Of a command whose standard output is data: its results go to standard error.
    pub(crate) fn beside_data(json: bool) -> Self {
        contract::stdout_is_data();
        Self { json, beside: true, bar: ProgressBar::hidden() }
    }

    /// Shows progress towards `total` bytes, on a terminal only.
    pub(crate) fn start(&mut self, what: &str, total: u64) {
        self.prepare(what, Some(total));
        self.show();
    }

    /// Shows progress towards `total` steps, on a terminal only.
    pub(crate) fn start_steps(&mut self, what: &str, total: u64) {
        let style = ProgressStyle::with_template("{msg} {wide_bar} {pos} of {len}, {eta} left");
        self.bar = ProgressBar::with_draw_target(Some(total), ProgressDrawTarget::hidden())
            .with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
            .with_message(what.to_owned());
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
    }

    /// Shows progress from now on, on a terminal only.
    pub(crate) fn show(&self) {
        self.bar.set_draw_target(ProgressDrawTarget::stderr());
        self.bar.enable_steady_tick(Duration::from_millis(200));
    }

    /// Shows progress no more.
    pub(crate) fn stop(&self) {
        self.bar.finish_and_clear();
    }

    /// Some more bytes are done.
    pub(crate) fn advance(&self, bytes: u64) {
        self.bar.inc(bytes);
    }

    /// A line for people.
    pub(crate) fn line(&self, line: impl AsRef<str>) {
        if !self.json {
            self.bar.suspend(|| self.print(line.as_ref()));
        }
    }

    /// What went wrong, on standard error.
    pub(crate) fn complain(&self, text: impl AsRef<str>) {
        self.bar.suspend(|| eprintln!("jitney: {}", text.as_ref()));
    }

    /// The result for programs. Ends the progress bar.
    pub(crate) fn finish(&self, result: &impl Serialize) -> anyhow::Result<()> {
        self.stop();
        if self.json {
            self.print(&contract::result(result)?);
        }
        Ok(())
    }

    fn print(&self, line: &str) {
        if self.beside { eprintln!("{line}") } else { print_line(line) }
    }
}

impl Drop for Report {
    fn drop(&mut self) {
        self.stop();
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
    let mut out = std::io::stdout().lock();
    if writeln!(out, "{line}").and_then(|()| out.flush()).is_err() {
        #[expect(clippy::exit, reason = "there is nobody left to tell")]
        std::process::exit(super::status::Status::Failed.number().into());
    }
}
