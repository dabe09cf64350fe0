//! A page for people: everything in one file, so that it can be sent.

use super::{Outcome, failed};
use crate::check::verdict::{Check, Verdict};
use crate::targets::{Came, OnBoard};
use std::fmt;

/// What was found on several boards.
pub(super) struct Page<'a> {
    pub(super) boards: &'a [OnBoard<Outcome>],
}

const STYLE: &str = "\
body{font:15px/1.45 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem;color:#1b1f24;background:#fff;\
overflow-wrap:anywhere}\
h1{font-size:1.5rem}h2{font-size:1.15rem;margin-top:2rem}small{font-weight:400}.sum{color:#57606a}\
table{border-collapse:collapse;width:100%}td{padding:.3rem .6rem;border-bottom:1px solid #d8dee4;vertical-align:top}\
td:nth-child(2){min-width:12rem}td:nth-child(3){text-align:right;white-space:nowrap}.v{font-weight:600;white-space:nowrap}\
.passed{color:#1a7f37}.failed{color:#cf222e}.skipped{color:#6e7781}svg{max-width:100%;height:auto;margin-top:1rem}\
@media(prefers-color-scheme:dark){body{color:#e6edf3;background:#0d1117}td,tr{border-color:#30363d!important}\
.sum,.skipped{color:#9da7b1}.passed{color:#3fb950}.failed{color:#ff7b72}svg{background:#fff;border-radius:.4rem}}\
@media(max-width:40rem){tr{display:grid;grid-template-columns:auto 1fr auto;padding:.4rem 0;border-bottom:1px solid #d8dee4}\
td{border:0;padding:0 .4rem 0 0}td:nth-child(2){min-width:0}td:nth-child(4){grid-column:1/4}}";

/// A page that is sent on fetches nothing, whatever is in it.
const POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'";

impl fmt::Display for Page<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bad = self.boards.iter().filter(|one| failed(one)).count();
        let sum = match bad {
            0 => format!("{} tested, all is well", boards(self.boards.len())),
            _ => format!("{bad} of {} failed", boards(self.boards.len())),
        };
        write!(
            f,
            "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"/><meta name=\"viewport\" \
             content=\"width=device-width\"/><meta http-equiv=\"Content-Security-Policy\" content=\"{POLICY}\"/>\
             <title>jitney validate: {sum}</title><style>{STYLE}</style></head><body>\
             <h1>jitney validate</h1><p class=\"sum\">{sum}</p>"
        )?;
        for one in self.boards {
            write!(
                f,
                "<h2>{} <small>{} ({})</small></h2>",
                Text(&one.board),
                Text(&one.card.card),
                Text(&one.card.id)
            )?;
            match &one.came {
                Came::Failure { error } => write!(f, "<p class=\"failed\">{}</p>", Text(error.what()))?,
                Came::Result(outcome) => {
                    write!(f, "<p class=\"sum\">design {}</p><table>", Text(&outcome.design))?;
                    outcome.checks.iter().try_for_each(|check| row(f, check))?;
                    f.write_str("</table>")?;
                    // They are made here, of numbers and names.
                    outcome.pictures.iter().try_for_each(|picture| f.write_str(picture))?;
                }
            }
        }
        f.write_str("</body></html>\n")
    }
}

fn boards(count: usize) -> String {
    if count == 1 { "1 board".into() } else { format!("{count} boards") }
}

fn row(f: &mut fmt::Formatter<'_>, check: &Check) -> fmt::Result {
    let class = match check.verdict {
        Verdict::Passed => "passed",
        Verdict::Failed => "failed",
        Verdict::Skipped => "skipped",
    };
    write!(
        f,
        "<tr><td class=\"v {class}\">{class}</td><td>{}</td><td>{:.1} s</td><td>{}</td></tr>",
        Text(&check.name),
        check.seconds,
        Text(&check.detail)
    )
}

/// Text as a page has it.
struct Text<'a>(&'a str);

impl fmt::Display for Text<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.chars().try_for_each(|c| match c {
            '<' => f.write_str("&lt;"),
            '>' => f.write_str("&gt;"),
            '&' => f.write_str("&amp;"),
            '"' => f.write_str("&quot;"),
            c if c.is_control() => f.write_str(" "),
            c => write!(f, "{c}"),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::contract::CardName;

    #[test]
    fn what_a_board_says_is_text() {
        let check = Check {
            name: "<script>".into(),
            verdict: Verdict::Failed,
            detail: "a & \"b\"\u{1b}[0m".into(),
            seconds: 1.0,
        };
        let outcome = Outcome {
            design: "d".into(),
            checks: vec![check],
            failed: true,
            pictures: vec!["<svg/>".into()],
        };
        let card = CardName { card: "vfio-user:/tmp/<x>".into(), id: "10ee:7011".into() };
        let page =
            Page { boards: &[OnBoard { card, board: "B".into(), came: Came::Result(outcome) }] }.to_string();
        assert!(page.contains("&lt;script&gt;") && !page.contains("<script>"), "{page}");
        assert!(page.contains("a &amp; &quot;b&quot; [0m") && page.contains("1 of 1 board failed"), "{page}");
    }
}
