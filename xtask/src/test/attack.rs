//! The attack in its short form as a part of all tests; each of its rows is one.

use super::parts::{Ran, Wish};
use super::tally::{Skip, Tally};
use crate::process::{self, Said};
use crate::{attack, workspace};
use anyhow::Context;
use serde_json::Value;
use std::process::Command;

pub(crate) const NAME: &str = "attack";

pub(crate) fn run(wish: Wish<'_>) -> anyhow::Result<Ran> {
    if wish.instruments.is_some() {
        let why = "counting lines changes how long requests take";
        return Ok(Ran { tally: Tally::skip(NAME, why), text: String::new() });
    }
    let Said { success, text } = process::run(&mut workspace::everything(), wish.echo)?;
    if !success {
        return Ok(Ran { tally: Tally { failed: 1, ..Tally::default() }, text });
    }
    let mut program = Command::new(workspace::program(attack::PROGRAM));
    // How long requests took is judged by `cargo xtask attack`: here other things may be at work.
    program.current_dir(workspace::root()).args(["--json", "--untimed"]);
    if let Some(filter) = wish.filter {
        if !attack::rows()?.iter().any(|row| row.contains(filter)) {
            return Ok(Ran::default());
        }
        program.args(["--row", filter]);
    }
    let Said { text, .. } = process::run(&mut program, wish.echo)?;
    let tally = count(&text).unwrap_or(Tally { failed: 1, ..Tally::default() });
    Ok(Ran { tally, text })
}

/// What the rows came to, as the attack's JSON has them. Both outputs are in the text: the JSON ends it.
fn count(text: &str) -> anyhow::Result<Tally> {
    let start = text.find("{\n").context("the attack said nothing about its rows")?;
    let report: Value = serde_json::from_str(&text[start..])?;
    let mut tally = Tally::default();
    for row in report["rows"].as_array().context("no rows")? {
        let name = row["row"].as_str().unwrap_or("?");
        if row["broken"].as_array().is_none_or(|broken| !broken.is_empty()) {
            tally.failed += 1;
        } else if let Some(reason) = row["skipped"].as_str() {
            tally.skipped.push(Skip::new(format!("{NAME}: {name}"), reason));
        } else {
            tally.passed += 1;
        }
    }
    Ok(tally)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_counted_behind_whatever_else_was_said() {
        let text = "attack: a villain: it is over {\"\n{\n \"rows\": [
            {\"row\": \"a\", \"broken\": [], \"skipped\": null},
            {\"row\": \"b\", \"broken\": [\"THE BROKER ENDED\"], \"skipped\": null},
            {\"row\": \"c\", \"broken\": [], \"skipped\": \"it takes root\"}]}";
        let skipped = vec![Skip::new("attack: c", "it takes root")];
        assert_eq!(count(text).unwrap(), Tally { passed: 1, failed: 1, skipped });
        assert!(count("no such program").is_err());
    }
}
