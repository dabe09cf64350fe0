//! Counted lines: added up from LLVM's exports, and as tables.

use std::collections::BTreeMap;
use std::fmt::{self, Write};
use std::path::Path;

/// How many of a file's lines hold code, and how many of these ran.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Count {
    lines: usize,
    ran: usize,
}

impl Count {
    pub(super) fn of(lines: &BTreeMap<usize, u64>) -> Self {
        Self { lines: lines.len(), ran: lines.values().filter(|ran| **ran > 0).count() }
    }

    fn add(&mut self, other: Self) {
        self.lines += other.lines;
        self.ran += other.ran;
    }

    fn missed(self) -> usize {
        self.lines - self.ran
    }
}

/// `  LINES  MISSED  PERCENT`.
impl fmt::Display for Count {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let percent = 100.0 * self.ran as f64 / self.lines as f64;
        write!(f, "{:>8}{:>8}{percent:>8.1} %", self.lines, self.missed())
    }
}

/// How often each line with code ran, by file (its path below the workspace's root) and number.
#[derive(Debug, Default)]
pub(super) struct Lines(BTreeMap<String, BTreeMap<usize, u64>>);

impl Lines {
    /// Adds what `llvm-cov export --format=lcov` says of one program: `SF:FILE`, then `DA:LINE,COUNT` for each line with code.
    /// Files that are not below `root` are left out.
    ///
    /// One program at a time: of a function that several have, `llvm-cov` would take the first one's word, and where that program
    /// does not use the function the word is zero.
    pub(super) fn add(&mut self, lcov: &str, root: &Path) {
        let mut current = None;
        for line in lcov.lines() {
            if let Some(path) = line.strip_prefix("SF:") {
                let name = Path::new(path).strip_prefix(root).ok();
                current = name.map(|name| name.to_string_lossy().into_owned());
            } else if let (Some(file), Some((line, ran))) = (&current, counted(line)) {
                let count = self.0.entry(file.clone()).or_default().entry(line).or_default();
                *count = ran.max(*count);
            }
        }
    }

    /// Leaves out the lines of tests inside a file; `source` gives a file's text.
    pub(super) fn leave_out_tests(&mut self, source: impl Fn(&str) -> String) {
        for (file, lines) in &mut self.0 {
            let until = code_lines(&source(file));
            lines.retain(|line, _| *line < until);
        }
        self.0.retain(|_, lines| !lines.is_empty());
    }

    /// Each file with its lines.
    pub(super) fn files(&self) -> impl Iterator<Item = (&str, &BTreeMap<usize, u64>)> {
        self.0.iter().map(|(file, lines)| (file.as_str(), lines))
    }

    /// The same in the format that it came in, for editors.
    pub(super) fn to_lcov(&self, root: &Path) -> String {
        let mut text = String::new();
        for (file, lines) in self.files() {
            // Writing to a string cannot fail.
            let _ = writeln!(text, "SF:{}", root.join(file).display());
            lines.iter().for_each(|(line, ran)| text += &format!("DA:{line},{ran}\n"));
            text += "end_of_record\n";
        }
        text
    }

    fn counts(&self) -> impl Iterator<Item = (&str, Count)> {
        self.files().map(|(file, lines)| (file, Count::of(lines)))
    }

    /// A table of crates, with the libraries' and the command's total and that of the whole workspace.
    pub(super) fn by_crate(&self) -> String {
        let mut crates: BTreeMap<(bool, &str), Count> = BTreeMap::new();
        let mut totals = [Count::default(); 2];
        for (file, count) in self.counts() {
            let within = file.strip_prefix("crates/");
            let name = within.unwrap_or(file).split('/').next().unwrap_or_default();
            crates.entry((within.is_none(), name)).or_default().add(count);
            totals[0].add(if within.is_some() { count } else { Count::default() });
            totals[1].add(count);
        }
        let rows = crates.iter().map(|((_, name), count)| (*name, *count));
        table("crate", rows.chain([("all in crates/", totals[0]), ("workspace", totals[1])]))
    }

    /// A table of files, those with the most lines that did not run first.
    pub(super) fn by_file(&self) -> String {
        let mut files: Vec<_> = self.counts().collect();
        files.sort_by_key(|(_, count)| std::cmp::Reverse(count.missed()));
        table("file", files.into_iter())
    }
}

fn table<'a>(what: &str, rows: impl Iterator<Item = (&'a str, Count)>) -> String {
    let rows: Vec<_> = rows.collect();
    let width = rows.iter().map(|(name, _)| name.len()).max().unwrap_or_default();
    let mut text = format!("{what:width$}{:>8}{:>8}{:>10}\n", "lines", "missed", "covered");
    for (name, count) in rows {
        // Writing to a string cannot fail.
        let _ = writeln!(text, "{name:width$}{count}");
    }
    text
}

/// `DA:LINE,COUNT`.
fn counted(line: &str) -> Option<(usize, u64)> {
    let (line, count) = line.strip_prefix("DA:")?.split_once(',')?;
    Some((line.parse().ok()?, count.parse().ok()?))
}

/// The line at which the tests begin, which stand at the end of a file.
fn code_lines(source: &str) -> usize {
    let lines: Vec<_> = source.lines().collect();
    let tests =
        |pair: &[&str]| pair[0] == "#[cfg(test)]" && pair[1].starts_with("mod ") && pair[1].ends_with('{');
    lines.windows(2).position(tests).map_or(usize::MAX, |before| before + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    const LCOV: &str = "\
SF:/w/crates/iova/src/lib.rs
FN:1,x
DA:1,5
DA:2,0
DA:4,7
DA:5,0
end_of_record
SF:/w/lab/src/run.rs
DA:1,0
DA:2,18446744073709551615
LF:2
end_of_record
SF:/elsewhere/crates/x/src/lib.rs
DA:1,1
end_of_record
";

    fn lines() -> Lines {
        let mut lines = Lines::default();
        lines.add(LCOV, Path::new("/w"));
        lines.leave_out_tests(|file| match file {
            "crates/iova/src/lib.rs" => "a\nb\n\n#[cfg(test)]\nmod tests {\n".to_owned(),
            _ => "#[cfg(test)]\nmod tests;\n".to_owned(),
        });
        lines
    }

    #[test]
    fn tests_and_other_people_s_files_do_not_count() {
        let half = Count { lines: 2, ran: 1 };
        let expected = [("crates/iova/src/lib.rs", half), ("lab/src/run.rs", half)];
        assert_eq!(lines().counts().collect::<Vec<_>>(), expected);
    }

    #[test]
    fn a_line_ran_if_it_ran_in_any_program() {
        let mut all = lines();
        all.add("SF:/w/lab/src/run.rs\nDA:1,3\nDA:2,0\n", Path::new("/w"));
        assert_eq!(all.counts().last(), Some(("lab/src/run.rs", Count { lines: 2, ran: 2 })));
        let mut again = Lines::default();
        again.add(&all.to_lcov(Path::new("/w")), Path::new("/w"));
        assert_eq!(again.0, all.0);
    }

    #[test]
    fn crates_come_before_tools_and_both_are_summed() {
        let table = lines().by_crate();
        let words: Vec<Vec<_>> = table.lines().map(|line| line.split_whitespace().collect()).collect();
        assert_eq!(words[1], ["iova", "2", "1", "50.0", "%"]);
        assert_eq!(words[2][0], "lab");
        assert_eq!(words[3], ["all", "in", "crates/", "2", "1", "50.0", "%"]);
        assert_eq!(words[4], ["workspace", "4", "2", "50.0", "%"]);
    }

    #[test]
    fn nonsense_counts_nothing() {
        for text in ["", "DA:1,1", "SF:/w/a\nDA:x,1\nDA:1\n"] {
            let mut lines = Lines::default();
            lines.add(text, Path::new("/w"));
            assert!(lines.0.is_empty(), "{text}");
        }
    }
}
