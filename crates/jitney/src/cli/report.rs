//! What a test says: lines for people with a progress bar below, or one JSON value for programs.

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde::Serialize;
use std::io::Write;
use std::time::Duration;

/// Where a command's results go.
#[derive(Debug)]
pub(crate) struct Report {
    json: bool,
    bar: ProgressBar,
}

impl Report {
    pub(crate) fn new(json: bool) -> Self {
        Self { json, bar: ProgressBar::hidden() }
    }

    /// Shows progress towards `total` bytes, on a terminal only.
    pub(crate) fn start(&mut self, what: &str, total: u64) {
        let style = ProgressStyle::with_template(
            "{msg} {wide_bar} {binary_bytes} of {binary_total_bytes}, {binary_bytes_per_sec}, {eta} left",
        );
        self.bar = ProgressBar::with_draw_target(Some(total), ProgressDrawTarget::stderr())
            .with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
            .with_message(what.to_owned());
        self.bar.enable_steady_tick(Duration::from_millis(200));
    }

    /// Some more bytes are done.
    pub(crate) fn advance(&self, bytes: u64) {
        self.bar.inc(bytes);
    }

    /// A line for people.
    pub(crate) fn line(&self, line: impl AsRef<str>) {
        if !self.json {
            self.bar.suspend(|| print_line(line.as_ref()));
        }
    }

    /// The result for programs. Ends the progress bar.
    pub(crate) fn finish(&self, result: &impl Serialize) -> anyhow::Result<()> {
        self.bar.finish_and_clear();
        if self.json {
            print_line(&serde_json::to_string(result)?);
        }
        Ok(())
    }
}

impl Drop for Report {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}

/// Prints a line. If nobody reads any more, as in `jitney list | head -1`, the command ends there.
pub(crate) fn print_line(line: &str) {
    let mut out = std::io::stdout().lock();
    if writeln!(out, "{line}").and_then(|()| out.flush()).is_err() {
        #[expect(clippy::exit, reason = "there is nobody left to tell")]
        std::process::exit(super::status::Status::Failed as i32);
    }
}
