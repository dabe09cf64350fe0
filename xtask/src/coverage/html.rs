//! Counted lines for people: a page for each file, and one that leads to them.
//!
//! LLVM's own pages are of all programs at once, and would show lines as not run that did: see [`Lines::add`].

use super::lcov::{Count, Lines};
use anyhow::Context;
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

const STYLE: &str = "<!doctype html><meta charset=utf-8><style>body{font:14px/1.4 monospace;margin:2em}td{padding:0 1em}\
    pre{margin:0}i{font-style:normal;color:#777;display:inline-block;width:12ch;text-align:right;margin-right:2ch}\
    .ran{background:#e6ffe6}.missed{background:#ffdede}</style>";

/// Writes the pages to `folder` and returns the path of the first.
pub(super) fn write(lines: &Lines, root: &Path, folder: &Path) -> anyhow::Result<PathBuf> {
    fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
    let mut index = format!("{STYLE}<title>jitney: lines that the tests run</title><table>");
    index += "<tr><td>file<td><pre>   lines  missed   covered</pre>";
    for (file, counts) in lines.files() {
        let name = format!("{}.html", file.replace('/', "."));
        let path = root.join(file);
        let source = fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
        save(&folder.join(&name), &page(file, &source, counts))?;
        index += &format!("<tr><td><a href=\"{name}\">{file}</a><td><pre>{}</pre>", Count::of(counts));
    }
    let first = folder.join("index.html");
    save(&first, &index)?;
    Ok(first)
}

/// A file's page: each line with how often it ran, coloured if it holds code.
fn page(file: &str, source: &str, counts: &BTreeMap<usize, u64>) -> String {
    let mut page = format!("{STYLE}<title>{file}</title><h1>{file}</h1><pre>");
    for (number, line) in source.lines().enumerate().map(|(index, line)| (index + 1, line)) {
        let text = line.replace('&', "&amp;").replace('<', "&lt;");
        page += &match counts.get(&number) {
            Some(0) => format!("<i>{number}</i><i>0</i><span class=missed>{text}</span>\n"),
            Some(ran) => format!("<i>{number}</i><i>{ran}</i><span class=ran>{text}</span>\n"),
            None => format!("<i>{number}</i><i></i>{text}\n"),
        };
    }
    page
}

fn save(path: &Path, text: &str) -> anyhow::Result<()> {
    fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_that_ran_and_lines_that_did_not_are_told_apart() {
        let page = page("a.rs", "one\ntwo<T>\n}\n", &BTreeMap::from([(1, 5), (2, 0)]));
        assert!(page.contains("<i>5</i><span class=ran>one</span>"), "{page}");
        assert!(page.contains("<i>0</i><span class=missed>two&lt;T></span>"), "{page}");
        assert!(page.contains("<i>3</i><i></i>}"), "{page}");
    }
}
