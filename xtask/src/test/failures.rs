//! Which tests failed, by name and with the first words of why, for the last lines of a long report.

use super::attack;
use serde_json::Value;

/// The most that are named of one part: whoever broke more than that sees it anyway.
const MOST: usize = 20;

/// The most characters of why something failed.
const LONGEST: usize = 300;

/// The names of what failed in the part `name`, which said `text`; the part itself, and the last that it said, if it names none.
pub(crate) fn failures(name: &str, text: &str) -> Vec<String> {
    let mut row = "";
    let mut found: Vec<String> = Vec::new();
    let mut lines = text.lines().peekable();
    while let Some(line) = lines.next() {
        if let Some(test) = line.strip_prefix("test ").and_then(|rest| rest.strip_suffix(" ... FAILED")) {
            found.push(test.to_owned() + &why(text, test));
        } else if let Some(test) = line.strip_prefix("  FAIL  ") {
            // What the test said is below, further to the right.
            let said = lines.peek().filter(|said| said.starts_with("        ")).map(|said| short(said));
            let test = test.split(" (").next().unwrap_or(test);
            found.push(format!("{row}: {test}{}", said.unwrap_or_default()));
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
        // A task of ours says what failed, and may add what somebody else's log had.
        let own = text.lines().rfind(|line| line.starts_with("xtask: "));
        let last = own.or_else(|| text.lines().rfind(|line| !line.trim().is_empty()));
        return vec![name.to_owned() + &last.map(short).unwrap_or_default()];
    }
    let more = found.len().saturating_sub(MOST);
    found.truncate(MOST);
    let mut named: Vec<String> = found.into_iter().map(|test| format!("{name}: {test}")).collect();
    if more > 0 {
        named.push(format!("{name}: and {more} more"));
    }
    named
}

/// What a test of Rust's panicked with: the line after the one that says where.
fn why(text: &str, test: &str) -> String {
    let Some((_, said)) = text.split_once(&format!("---- {test} stdout ----")) else { return String::new() };
    let own = said.split("\n---- ").next().unwrap_or(said);
    own.lines().skip_while(|line| !line.contains(" panicked at ")).nth(1).map(short).unwrap_or_default()
}

/// Why, to be put behind a name.
fn short(line: &str) -> String {
    let line = line.trim();
    let cut = line.char_indices().nth(LONGEST).map_or(line.len(), |(index, _)| index);
    format!(": {}{}", &line[..cut], if cut < line.len() { "…" } else { "" })
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
        let output = "---- a::c stdout ----\nabout to\n\nthread 'a::c' panicked at x.rs:1:2:\nno such card\n\n---- a::d stdout ----\n";
        assert_eq!(failures("tests", &format!("{libtest}{output}")), ["tests: a::c: no such card"]);
        let lab = "small\n  pass  a (0.1 s)\nsmall-7.3\n  FAIL  b (1.2 s)\n        it says: FAIL\n  FAIL  c (1.2 s)\n";
        assert_eq!(failures("lab", lab), ["lab: small-7.3: b: it says: FAIL", "lab: small-7.3: c"]);
        let pytest = "FAILED tests/test_x.py::test_y - AssertionError: no\n1 failed, 2 passed in 1.00s\n";
        assert_eq!(failures("python", pytest), ["python: tests/test_x.py::test_y"]);
        let attack = "building {\n{\n \"rows\": [{\"row\": \"a\", \"broken\": []}, {\"row\": \"b\", \"broken\": [\"no\"]}]}";
        let last = r#"attack: "rows": [{"row": "a", "broken": []}, {"row": "b", "broken": ["no"]}]}"#;
        assert_eq!(failures("attack", attack), [last], "the first brace is none of the report's");
        let attack = attack.trim_start_matches("building {\n");
        assert_eq!(failures("attack", attack), ["attack: b: no"]);
        assert_eq!(failures("lints", "warning: x\nerror: unused\n\n"), ["lints: error: unused"]);
        assert_eq!(failures("lints", &"é".repeat(400)), [format!("lints: {}…", "é".repeat(300))]);
        assert_eq!(failures("lints", ""), ["lints"]);
        let task = "packing\nxtask: Debian trixie: ls: not there\nthe journal: a\nb\n";
        assert_eq!(failures("packages", task), ["packages: xtask: Debian trixie: ls: not there"]);
        let many = "test x ... FAILED\n".repeat(30);
        assert_eq!(failures("tests", &many).last().unwrap(), "tests: and 10 more");
    }
}
