//! What came of a check, and of all checks of a board.

use crate::fit::fit;
use crate::report::Report;
use crate::signals::StopFlag;
use comfy_table::{Table, presets};
use console::Style;
use schemars::JsonSchema;
use serde::Serialize;
use std::time::Instant;

/// How a check ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Verdict {
    Passed,
    Failed,
    /// It does not fit this board or this machine; the detail says why.
    Skipped,
}

impl Verdict {
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Passed => "passed",
            Self::Failed => "FAILED",
            Self::Skipped => "skipped",
        }
    }
}

/// One thing that was checked.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub(crate) struct Check {
    pub(crate) name: String,
    pub(crate) verdict: Verdict,
    /// What was found, or why it was skipped.
    pub(crate) detail: String,
    pub(crate) seconds: f64,
}

/// How a check comes to its end: with what was found, or with the reason why it does not fit.
#[derive(Debug)]
pub(crate) enum Found {
    Good(String),
    Bad(String),
    Unfit(String),
}

/// The checks of a board, one after the other.
#[derive(Debug, Default)]
pub(crate) struct Checks {
    pub(crate) all: Vec<Check>,
    /// Once it is set, what is left is skipped.
    pub(crate) stop: StopFlag,
}

impl Checks {
    /// Does a check. Whatever it fails with, the next one is done.
    pub(crate) fn run(
        &mut self,
        report: &mut Report,
        name: &str,
        check: impl FnOnce(&mut Report) -> anyhow::Result<Found>,
    ) {
        let started = Instant::now();
        let outcome = match self.stop.is_set() {
            true => Ok(Found::Unfit("the user asked to stop".into())),
            false => check(report),
        };
        let (verdict, detail) = match outcome {
            Ok(Found::Good(detail)) => (Verdict::Passed, detail),
            Ok(Found::Bad(detail)) => (Verdict::Failed, detail),
            Ok(Found::Unfit(detail)) => (Verdict::Skipped, detail),
            Err(error) => (Verdict::Failed, format!("{error:#}")),
        };
        report.stop();
        let seconds = started.elapsed().as_secs_f64();
        self.all.push(Check { name: name.into(), verdict, detail, seconds });
    }

    pub(crate) fn any_failed(&self) -> bool {
        self.count(Verdict::Failed) > 0
    }

    pub(crate) fn count(&self, verdict: Verdict) -> usize {
        self.all.iter().filter(|check| check.verdict == verdict).count()
    }

    /// All of them as people read them.
    pub(crate) fn table(&self) -> String {
        let mut table = Table::new();
        fit(table.load_style(presets::NOTHING));
        for check in &self.all {
            let style = match check.verdict {
                Verdict::Passed => Style::new().green(),
                Verdict::Failed => Style::new().red().bold(),
                Verdict::Skipped => Style::new().dim(),
            };
            let verdict = style.apply_to(check.verdict.name()).to_string();
            table.add_row([
                verdict,
                check.name.clone(),
                format!("{:.1} s", check.seconds),
                check.detail.clone(),
            ]);
        }
        let (passed, failed, skipped) =
            (self.count(Verdict::Passed), self.count(Verdict::Failed), self.count(Verdict::Skipped));
        format!("{}\n{passed} passed, {failed} failed, {skipped} skipped", table.trim_fmt())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_fails_does_not_keep_the_next_from_being_done() {
        let mut checks = Checks::default();
        let mut report = Report::new(true);
        checks.run(&mut report, "a", |_| anyhow::bail!("no"));
        checks.run(&mut report, "b", |_| Ok(Found::Good("yes".into())));
        checks.run(&mut report, "c", |_| Ok(Found::Unfit("no c".into())));
        assert!(checks.any_failed() && checks.table().ends_with("1 passed, 1 failed, 1 skipped"));
        assert_eq!(checks.all[0].detail, "no");
    }
}
