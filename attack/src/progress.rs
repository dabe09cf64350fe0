//! Progress, on a terminal only.

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// Shows which row it is at, until it is dropped.
#[derive(Debug)]
pub(crate) struct Progress(ProgressBar);

impl Progress {
    pub(crate) fn new(rows: usize) -> Self {
        let style = ProgressStyle::with_template("{msg} {wide_bar} {pos} of {len}");
        let bar = ProgressBar::with_draw_target(Some(rows as u64), ProgressDrawTarget::stderr())
            .with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
        // Drawn between rows only: a thread that ticks would be measured, too.
        bar.tick();
        Self(bar)
    }

    pub(crate) fn at(&self, what: &str) {
        self.0.set_message(what.to_owned());
    }

    pub(crate) fn advance(&self) {
        self.0.inc(1);
    }

    /// Says something above the bar.
    pub(crate) fn suspend(&self, say: impl FnOnce()) {
        self.0.suspend(say);
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}
