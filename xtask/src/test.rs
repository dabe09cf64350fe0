//! `cargo xtask test`: everything that has to be right.

mod attack;
mod c;
mod failures;
mod lab;
mod libtest;
mod packages;
mod parts;
mod pytest;
mod python;
mod scenarios;
mod tally;

use clap::Args;
use clap::builder::PossibleValuesParser;
use failures::failures;
pub(crate) use parts::Wish;
use parts::{PARTS, Part, Ran};
use std::io::Write;
use std::process::ExitCode;
use std::time::{Duration, Instant};
use tally::Tally;

/// What takes minutes and needs the net once, and is left out with `--no-lab`.
const LONG: [&str; 2] = [lab::NAME, packages::NAME];

pub(crate) const HELP: &str = "\
Examples:
  cargo xtask test              everything; of the lab all rows but `small`, which `cargo xtask lab` has
  cargo xtask test --no-lab     without real kernels: minutes less
  cargo xtask test lease        the tests with \"lease\" in their name, here and in the lab

A test that cannot run here says why and is counted as skipped. Exit status: 0 all passed, 1
something failed, or nothing was tested, or with --fail-on-skip something was skipped that every
machine without a card can run.";

#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Without the lab, and without packages in empty systems.
    #[arg(long)]
    no_lab: bool,
    /// Fail if anything is skipped that needs neither a card nor reserved huge pages.
    #[arg(long)]
    fail_on_skip: bool,
    /// Only the part of this name.
    #[arg(long, value_name = "NAME", value_parser = PossibleValuesParser::new(PARTS.iter().map(|part| part.name)))]
    part: Option<String>,
    /// Show what each part says, not only that of those that fail.
    #[arg(long, short)]
    verbose: bool,
    /// Only tests with this in their name, and no other checks.
    filter: Option<String>,
}

/// A part that is over.
struct Done {
    name: &'static str,
    time: Duration,
    tally: Tally,
    /// What failed, by name.
    failures: Vec<String>,
}

pub(crate) fn run(options: &Options) -> anyhow::Result<ExitCode> {
    let wish =
        Wish { filter: options.filter.as_deref(), echo: options.verbose, kernel: None, instruments: None };
    let chosen = |part: &Part| {
        (wish.filter.is_none() || part.has_names)
            && !(options.no_lab && LONG.contains(&part.name))
            && options.part.as_ref().is_none_or(|name| name == part.name)
    };
    let success = run_parts(wish, chosen, options.fail_on_skip)?;
    Ok(if success { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Runs the parts that consist of tests, without other checks. Says whether something was tested and nothing failed.
pub(crate) fn run_only_tests(wish: Wish<'_>, no_lab: bool) -> anyhow::Result<bool> {
    run_parts(wish, |part| part.has_names && !(no_lab && part.name == lab::NAME), false)
}

/// Runs some of the parts, and says how it went.
fn run_parts(wish: Wish<'_>, chosen: impl Fn(&Part) -> bool, fail_on_skip: bool) -> anyhow::Result<bool> {
    let chosen = PARTS.iter().filter(|part| chosen(part));
    let done = chosen.map(|part| carry_out(part, wish)).collect::<Result<Vec<_>, _>>()?;
    print_table(&done);
    let (mut total, mut failures) = (Tally::default(), Vec::new());
    for part in done {
        total.add(part.tally);
        failures.extend(part.failures);
    }
    let unexpected = print_skips(&total, fail_on_skip);
    // Last, where whoever sees only the end of this finds it.
    failures.iter().for_each(|test| println!("FAILED {test}"));
    if total.passed == 0 && total.failed == 0 {
        println!("nothing was tested");
    }
    println!("{} passed, {} failed, {} skipped", total.passed, total.failed, total.skipped.len());
    Ok(total.failed == 0 && total.passed > 0 && (unexpected == 0 || !fail_on_skip))
}

/// Runs a part and says how it went. What cannot be run at all has failed; the others go on.
fn carry_out(part: &Part, wish: Wish<'_>) -> anyhow::Result<Done> {
    print!("{} … {}", part.name, if wish.echo { "\n" } else { "" });
    std::io::stdout().flush()?;
    let start = Instant::now();
    let ran = (part.run)(wish).unwrap_or_else(|error| Ran {
        tally: Tally { failed: 1, ..Tally::default() },
        text: format!("{error:#}\n"),
    });
    let time = start.elapsed();
    let verdict = if ran.tally.failed > 0 { "FAILED" } else { "ok" };
    println!("{verdict} ({:.1} s)", time.as_secs_f64());
    if ran.tally.failed > 0 && !wish.echo {
        println!("{}", ran.text.trim_end());
    }
    let failures = match ran.tally.failed {
        0 => Vec::new(),
        _ => failures(part.name, &ran.text),
    };
    Ok(Done { name: part.name, time, tally: ran.tally, failures })
}

fn print_table(done: &[Done]) {
    println!("\n{:30}{:>10}{:>9}{:>9}{:>9}", "", "time", "passed", "failed", "skipped");
    for Done { name, time, tally, .. } in done {
        let count = |count: usize| if count > 0 { count.to_string() } else { "-".to_owned() };
        let [passed, failed, skipped] = [tally.passed, tally.failed, tally.skipped.len()].map(count);
        println!("{name:30}{:>8.1} s{passed:>9}{failed:>9}{skipped:>9}", time.as_secs_f64());
    }
    println!();
}

/// Says what was skipped and why, and returns how much of it was not to be expected.
fn print_skips(total: &Tally, fail: bool) -> usize {
    for skip in &total.skipped {
        let mark = if fail && !skip.is_expected() { "SKIPPED" } else { "skipped" };
        println!("{mark} {}: {}", skip.test, skip.reasons.join("; "));
    }
    let unexpected = total.skipped.iter().filter(|skip| !skip.is_expected()).count();
    if fail && unexpected > 0 {
        println!("{unexpected} of them could have run on this kind of machine, and --fail-on-skip was given");
    }
    unexpected
}
