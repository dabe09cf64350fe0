//! What `cargo test -- --show-output` says, in numbers.
//!
//! A test that cannot run here prints a line `skipped: REASON` and returns. The test harness takes that for a pass; here it is
//! counted as what it is.

use super::tally::{Skip, Tally};
use std::collections::BTreeMap;

/// Counts the tests in cargo's output, in which both of its outputs are mixed in order.
pub(crate) fn count(text: &str) -> Tally {
    let mut tally = Tally::default();
    let mut program = String::new();
    let mut test = String::new();
    let mut skipped: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for line in text.lines() {
        if let Some(name) = test_program(line) {
            program = name;
        } else if let Some(name) =
            line.strip_prefix("---- ").and_then(|rest| rest.split(" stdout ----").next())
        {
            test = format!("{program}: {name}");
        } else if let Some(reason) = line.trim_start().strip_prefix("skipped: ") {
            let reasons = skipped.entry(test.clone()).or_default();
            if !reasons.iter().any(|other| other == reason) {
                reasons.push(reason.to_owned());
            }
        } else if let Some((name, reason)) = ignored(line) {
            tally.skipped.push(Skip::new(format!("{program}: {name}"), reason));
        } else if let Some([passed, failed]) = result(line) {
            let after_all = std::mem::take(&mut skipped);
            tally.passed += passed.saturating_sub(after_all.len());
            tally.failed += failed;
            tally.skipped.extend(after_all.into_iter().map(|(test, reasons)| Skip { test, reasons }));
        }
    }
    tally
}

/// `Running tests/memfd.rs (target/debug/deps/memfd-0123456789abcdef)`, `Doc-tests jitney_iova`.
fn test_program(line: &str) -> Option<String> {
    let line = line.trim_start();
    if let Some(library) = line.strip_prefix("Doc-tests ") {
        return Some(library.to_owned());
    }
    let path = line.strip_prefix("Running ")?.strip_suffix(')')?.rsplit_once(" (")?.1;
    let file = path.rsplit('/').next()?;
    Some(file.rsplit_once('-').map_or(file, |(name, _hash)| name).to_owned())
}

/// `test NAME ... ignored, REASON`.
fn ignored(line: &str) -> Option<(&str, &str)> {
    let (name, outcome) = line.strip_prefix("test ")?.split_once(" ... ignored")?;
    Some((name, outcome.strip_prefix(", ").unwrap_or("ignored")))
}

/// `test result: ok. 5 passed; 0 failed; 1 ignored; …`.
fn result(line: &str) -> Option<[usize; 2]> {
    let counts = line.strip_prefix("test result: ")?.split_once(". ")?.1;
    let mut words =
        counts.split("; ").map(|count| count.split(' ').next().and_then(|word| word.parse().ok()));
    Some([words.next()??, words.next()??])
}

#[cfg(test)]
mod tests {
    use super::*;

    const OUTPUT: &str = "\
     Running unittests src/lib.rs (target/debug/deps/jitney_memory-0123456789abcdef)

running 3 tests
test a ... ok
test b ... ok
test late ... ignored, needs a card

successes:

---- a stdout ----
skipped: no huge pages of 2 MiB
skipped: no huge pages of 1 GiB
skipped: no huge pages of 2 MiB


successes:
    a
    b

test result: ok. 2 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.00s

     Running tests/other.rs (/tmp/target/debug/deps/other-0123456789abcdef)
test result: FAILED. 10 passed; 2 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.00s

   Doc-tests jitney_iova
test crates/iova/src/lib.rs - (line 3) ... ignored
test result: ok. 4 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.00s
";

    #[test]
    fn passed_failed_ignored_and_skipped_are_told_apart() {
        let huge = ["no huge pages of 2 MiB", "no huge pages of 1 GiB"].map(str::to_owned);
        let expected = Tally {
            passed: 1 + 10 + 4,
            failed: 2,
            skipped: vec![
                Skip::new("jitney_memory: late", "needs a card"),
                Skip { test: "jitney_memory: a".into(), reasons: huge.to_vec() },
                Skip::new("jitney_iova: crates/iova/src/lib.rs - (line 3)", "ignored"),
            ],
        };
        assert_eq!(count(OUTPUT), expected);
    }

    #[test]
    fn nonsense_counts_nothing() {
        for text in ["", "test result: ok", "test result: ok. many passed; 0 failed", "Running )", "---- x"] {
            assert_eq!(count(text), Tally::default(), "{text}");
        }
    }
}
