//! The results as JUnit writes them, for what collects the results of tests.

use super::Outcome;
use crate::check::verdict::{Check, Verdict};
use crate::targets::{Came, OnBoard};
use quick_junit::{NonSuccessKind, Report, TestCase, TestCaseStatus, TestSuite};
use std::time::Duration;

pub(super) fn document(boards: &[OnBoard<Outcome>]) -> anyhow::Result<String> {
    let mut report = Report::new("jitney validate");
    for one in boards {
        let mut suite = TestSuite::new(format!("{} {}", one.board, one.card.card));
        match &one.came {
            Came::Result(outcome) => {
                suite.add_test_cases(outcome.checks.iter().map(|check| case(check, &outcome.design)));
            }
            Came::Failure { error } => {
                let mut status = TestCaseStatus::non_success(NonSuccessKind::Error);
                status.set_message(error.what());
                suite.add_test_case(TestCase::new("board", status));
            }
        }
        report.add_test_suite(suite);
    }
    Ok(report.to_string()?)
}

fn case(check: &Check, design: &str) -> TestCase {
    let mut status = match check.verdict {
        Verdict::Passed => TestCaseStatus::success(),
        Verdict::Failed => TestCaseStatus::non_success(NonSuccessKind::Failure),
        Verdict::Skipped => TestCaseStatus::skipped(),
    };
    if check.verdict != Verdict::Passed {
        status.set_message(check.detail.as_str());
    }
    let mut case = TestCase::new(check.name.as_str(), status);
    case.set_classname(design).set_time(Duration::try_from_secs_f64(check.seconds).unwrap_or_default());
    if check.verdict == Verdict::Passed {
        case.set_system_out(check.detail.as_str());
    }
    case
}
