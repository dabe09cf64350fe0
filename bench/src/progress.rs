//! Progress, on a terminal only.

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// Shows which round of what is measured, until it is dropped.
#[derive(Debug)]
pub(crate) struct Progress(ProgressBar);

impl Progress {
    pub(crate) fn new(what: &str, rounds: usize) -> Self {
        let style = ProgressStyle::with_template("{msg} {wide_bar} {pos} of {len}");
        let bar = ProgressBar::with_draw_target(Some(rounds as u64), ProgressDrawTarget::stderr())
            .with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
            .with_message(what.to_owned());
        // Drawn between rounds only: a thread that ticks would be measured, too.
        bar.tick();
        Self(bar)
    }

    pub(crate) fn advance(&self) {
        self.0.inc(1);
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}
