//! Tells whoever waits what is being waited for, on standard error.

use std::io::{self, IsTerminal, Write};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

/// One step that takes longer than a second. On a terminal it is a line that counts the time and goes away; the time it took
/// is written when it is over, everywhere.
pub(crate) struct Step {
    what: String,
    started: Instant,
    spinner: Option<ProgressBar>,
}

impl Step {
    /// Begins a step. `what` reads as "fetching …".
    pub(crate) fn start(what: impl Into<String>) -> Self {
        let what = what.into();
        let spinner = if io::stderr().is_terminal() {
            let spinner = ProgressBar::new_spinner().with_message(what.clone());
            if let Ok(style) = ProgressStyle::with_template("{spinner} {msg} {elapsed}") {
                spinner.set_style(style);
            }
            spinner.enable_steady_tick(Duration::from_millis(200));
            Some(spinner)
        } else {
            say(&format!("{what} …"));
            None
        };
        Self { what, started: Instant::now(), spinner }
    }
}

impl Drop for Step {
    fn drop(&mut self) {
        if let Some(spinner) = &self.spinner {
            spinner.finish_and_clear();
        }
        say(&format!("{}: {:.1} s", self.what, self.started.elapsed().as_secs_f64()));
    }
}

/// Progress is a courtesy: when standard error is closed, the work goes on.
fn say(line: &str) {
    let _ = writeln!(io::stderr(), "lab: {line}");
}
