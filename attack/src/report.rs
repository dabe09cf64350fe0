//! The table of what came of each row.

use crate::trial::{Alone, Outcome, alone_in_words, time};
use comfy_table::{CellAlignment, Table, presets};
use serde_json::{Value, json};

/// A line as it comes.
pub(crate) fn line(outcome: &Outcome) -> String {
    let mark = match outcome {
        Outcome { skipped: Some(why), .. } if outcome.broken.is_empty() => {
            return format!("  skip  {} ({:.1} s): {why}", outcome.row, outcome.seconds);
        }
        outcome if outcome.passed() => "pass",
        _ => "FAIL",
    };
    let mut text = format!("  {mark}  {} ({:.1} s)", outcome.row, outcome.seconds);
    for note in &outcome.notes {
        text += &format!("\n        {note}");
    }
    for broken in &outcome.broken {
        text += &format!("\n        {}", broken.replace('\n', "\n          "));
    }
    text
}

/// All of it.
pub(crate) fn table(alone: &Alone, outcomes: &[Outcome]) -> String {
    let mut text = String::from("alone, one in a hundred takes longer than\n");
    for (place, act, count, p99) in alone_in_words(alone) {
        text += &format!("  {:10} {:14} {:>9}  ({count} times)\n", place.name(), act.name(), time(p99));
    }
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    table.set_header(["row", "rounds", "worst request", "took", "÷ p99 alone", "bare message", "verdict"]);
    for outcome in outcomes {
        let verdict = match outcome {
            outcome if !outcome.broken.is_empty() => "FAIL".to_owned(),
            Outcome { skipped: Some(_), .. } => "skipped".to_owned(),
            Outcome { trials: 1, .. } => "ok".to_owned(),
            Outcome { trials, .. } => format!("ok at trial {trials}"),
        };
        let (what, took, ratio) = match outcome.slowest.first() {
            Some(slow) => (
                format!("{} on the {}", slow.act.name(), slow.place.name()),
                time(slow.worst),
                format!("{:.1}", slow.ratio),
            ),
            None => Default::default(),
        };
        table.add_row([
            outcome.row.to_owned(),
            outcome.rounds.to_string(),
            what,
            took,
            ratio,
            time(outcome.machine),
            verdict,
        ]);
    }
    for column in [1, 3, 4, 5] {
        if let Some(column) = table.column_mut(column) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    text + "\n" + &table.trim_fmt() + "\n"
}

pub(crate) fn json(alone: &Alone, outcomes: &[Outcome], seed: u64) -> Value {
    let alone: Vec<_> = alone_in_words(alone)
        .into_iter()
        .map(|(place, act, count, p99)| json!({ "place": place, "act": act, "count": count, "p99": p99 }))
        .collect();
    json!({ "seed": seed, "alone": alone, "rows": outcomes })
}
