//! What `pytest -q -rs` says, in numbers.

use super::python::NAME;
use super::tally::{Skip, Tally};

/// Counts the tests: the last line has how many, and a line for each reason to skip has where.
pub(super) fn count(text: &str) -> Tally {
    let mut tally = Tally::default();
    for line in text.lines() {
        if let Some((count, skip)) = skipped(line) {
            tally.skipped.extend(std::iter::repeat_n(skip, count));
        }
        // Others begin or end their runs, too; the last is this one's.
        if let Some([passed, failed]) = counts(line) {
            (tally.passed, tally.failed) = (passed, failed);
        }
    }
    tally
}

/// `SKIPPED [2] tests/test_x.py:7: REASON`.
fn skipped(line: &str) -> Option<(usize, Skip)> {
    let (count, rest) = line.strip_prefix("SKIPPED [")?.split_once("] ")?;
    let (place, reason) = rest.split_once(": ")?;
    Some((count.parse().ok()?, Skip::new(format!("{NAME}: {place}"), reason)))
}

/// `1 failed, 49 passed, 2 skipped, 1 error in 29.81s (0:00:29)`: how many passed, and failed or could not be run.
fn counts(line: &str) -> Option<[usize; 2]> {
    let (counts, time) = line.rsplit_once(" in ")?;
    time.split(' ').next()?.strip_suffix('s')?.parse::<f64>().ok()?;
    let mut found = [0, 0];
    for count in counts.split(", ") {
        let (number, what) = count.split_once(' ')?;
        let number: usize = number.parse().ok()?;
        match what {
            "passed" => found[0] += number,
            "failed" | "error" | "errors" => found[1] += number,
            _ => {}
        }
    }
    Some(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passed_failed_and_skipped_are_told_apart() {
        let text = "..s.F   [100%]\n\
            SKIPPED [2] tests/test_streams.py:12: there is no command jitney: name it by JITNEY_COMMAND\n\
            FAILED tests/test_x.py::test_a - assert 1 in 2\n\
            1 failed, 49 passed, 2 skipped, 2 errors in 129.81s (0:02:09)\n";
        let skip = Skip::new(
            "python: tests/test_streams.py:12",
            "there is no command jitney: name it by JITNEY_COMMAND",
        );
        let expected = Tally { passed: 49, failed: 3, skipped: vec![skip.clone(), skip] };
        assert_eq!(count(text), expected);
    }

    #[test]
    fn nonsense_counts_nothing() {
        for text in ["", "1 passed in time", "no tests ran in 0.01s", "many passed in 1s", "SKIPPED [x] a: b"]
        {
            assert_eq!(count(text), Tally::default(), "{text}");
        }
    }
}
