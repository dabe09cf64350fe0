//! The pages: those of docs/ in the order of its SUMMARY.md, by mdBook.

use anyhow::Context;
use mdbook_driver::MDBook;
use mdbook_driver::book::Book;
use mdbook_driver::config::Config;
use mdbook_preprocessor::{Preprocessor, PreprocessorContext};
use std::path::Path;

/// Pages that are written where what they are about is: what repositories show links to there, and the site has a page of its own.
const ELSEWHERE: [(&str, &str); 4] = [
    ("(../lab/README.md", "(lab.md"),
    ("(../python/README.md", "(python.md"),
    ("(../CHANGELOG.md", "(changelog.md"),
    ("(../docs/", "("),
];

const CONFIG: &str = r#"
[book]
title = "jitney"
language = "en"
src = "docs"

[build]
create-missing = false

[output.html]
default-theme = "light"
preferred-dark-theme = "navy"
no-section-label = true
"#;

/// Makes the site in `folder`.
pub(crate) fn build(folder: &Path) -> anyhow::Result<()> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().context("the folder of the repository")?;
    let mut config: Config = CONFIG.parse()?;
    config.build.build_dir = folder.to_owned();
    let mut book = MDBook::load_with_config(root, config)?;
    book.with_preprocessor(PagesElsewhere);
    book.build()
}

/// Leads links to the pages that the site has of what lies elsewhere, and makes text of those to code, which it has not.
struct PagesElsewhere;

/// What begins the path of a file that is no page, as a page beside it names it.
const CODE: [&str; 4] = ["guest/", "kernel/", "src/", "../crates/"];

/// `[text](src/file.rs)` becomes `text`.
fn without_links_to_code(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("](") {
        let target = after.split_once(')');
        match target.filter(|(target, _)| CODE.iter().any(|code| target.starts_with(code))) {
            Some((_, behind)) => {
                let (outside, inside) = before.rsplit_once('[').unwrap_or((before, ""));
                plain.extend([outside, inside]);
                rest = behind;
            }
            None => {
                plain.extend([before, "]("]);
                rest = after;
            }
        }
    }
    plain + rest
}

impl Preprocessor for PagesElsewhere {
    fn name(&self) -> &str {
        "pages-elsewhere"
    }

    fn run(&self, _: &PreprocessorContext, mut book: Book) -> anyhow::Result<Book> {
        book.for_each_chapter_mut(|chapter| {
            for (link, page) in ELSEWHERE {
                chapter.content = chapter.content.replace(link, page);
            }
            chapter.content = without_links_to_code(&chapter.content);
        });
        Ok(book)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_to_code_are_text() {
        let text = "see [`a.rs`](src/a.rs), [b](b.md#x) and [the c (d)](guest/c).";
        assert_eq!(without_links_to_code(text), "see `a.rs`, [b](b.md#x) and the c (d).");
        let text = "see [one](src/a.rs) and [two](b.md).";
        assert_eq!(without_links_to_code(text), "see one and [two](b.md).");
    }
}
