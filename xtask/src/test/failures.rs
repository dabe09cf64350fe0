//! Which tests failed, by name, for the last lines of a long report.

use super::attack;
use serde_json::Value;

/// The most that are named of one part: whoever broke more than that sees it anyway.
const MOST: usize = 20;

/// The names of what failed in the part `name`, which said `text`; the part itself if it does not say.
pub(crate) fn failures(name: &str, text: &str) -> Vec<String> {
    let mut row = "";
    let mut found: Vec<String> = Vec::new();
    for line in text.lines() {
        if let Some(test) = line.strip_prefix("test ").and_then(|rest| rest.strip_suffix(" ... FAILED")) {
            found.push(test.to_owned());
        } else if let Some(test) = line.strip_prefix("  FAIL  ") {
            found.push(format!("{row}: {}", test.split(" (").next().unwrap_or(test)));
        } else if let Some(test) = line.strip_prefix("FAILED ") {
            // pytest's last lines.
            found.push(test.split(" - ").next().unwrap_or(test).to_owned());
        } else if !line.is_empty() && !line.contains([' ', ':']) {
            // The lab's rows.
            row = line;
        }
    }
    if name == attack::NAME {
        found.extend(broken_rows(text).unwrap_or_default());
    }
    if found.is_empty() {
        return vec![name.to_owned()];
    }
    let more = found.len().saturating_sub(MOST);
    found.truncate(MOST);
    let mut named: Vec<String> = found.into_iter().map(|test| format!("{name}: {test}")).collect();
    if more > 0 {
        named.push(format!("{name}: and {more} more"));
    }
    named
}

/// The attack's rows that broke something, and what.
fn broken_rows(text: &str) -> Option<Vec<String>> {
    let report: Value = serde_json::from_str(text.get(text.find("{\n")?..)?).ok()?;
    let rows = report["rows"].as_array()?.iter();
    let broken = rows.filter_map(|row| {
        let first = row["broken"].as_array()?.first()?;
        Some(format!("{}: {}", row["row"].as_str()?, first.as_str().unwrap_or("?")))
    });
    Some(broken.collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_of_test_is_named() {
        let libtest = "running 2 tests\ntest a::b ... ok\ntest a::c ... FAILED\n";
        assert_eq!(failures("tests", libtest), ["tests: a::c"]);
        let lab = "small\n  pass  a (0.1 s)\nsmall-7.3\n  FAIL  b (1.2 s)\n        it says: FAIL\n";
        assert_eq!(failures("lab", lab), ["lab: small-7.3: b"]);
        let pytest = "FAILED tests/test_x.py::test_y - AssertionError: no\n1 failed, 2 passed in 1.00s\n";
        assert_eq!(failures("python", pytest), ["python: tests/test_x.py::test_y"]);
        let attack = "building {\n{\n \"rows\": [{\"row\": \"a\", \"broken\": []}, {\"row\": \"b\", \"broken\": [\"no\"]}]}";
        assert_eq!(failures("attack", attack), ["attack"], "the first brace is none of the report's");
        let attack = attack.trim_start_matches("building {\n");
        assert_eq!(failures("attack", attack), ["attack: b: no"]);
        assert_eq!(failures("lints", "error: unused\n"), ["lints"]);
        let many = "test x ... FAILED\n".repeat(30);
        assert_eq!(failures("tests", &many).last().unwrap(), "tests: and 10 more");
    }
}
