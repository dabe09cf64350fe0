//! The lab as a part of all tests.

use super::parts::{Ran, Wish};
use super::tally::{Skip, Tally};
use crate::instruments::Instruments;
use jitney_lab::{Error, Options, Summary};
use std::io::{self, Write};

pub(crate) const NAME: &str = "lab";

pub(crate) fn run(wish: Wish<'_>) -> anyhow::Result<Ran> {
    let options = Options {
        kernel: wish.kernel.map(str::to_owned),
        test: wish.filter.map(str::to_owned),
        coverage: wish.instruments.map(Instruments::lab),
        // `cargo xtask lab` has all of them.
        short: true,
        ..Options::default()
    };
    let mut report = Report { text: Vec::new(), echo: wish.echo };
    let outcome = jitney_lab::run(&options, &mut report);
    let mut text = String::from_utf8_lossy(&report.text).into_owned();
    let tally = match outcome {
        Ok(Summary { passed, failed, .. }) => Tally { passed, failed, skipped: skips(&text) },
        Err(Error::NoSuchTest { .. }) => Tally::default(),
        Err(error) => match error.lacking() {
            Some(reason) => Tally::skip(NAME, reason),
            None => {
                text += &error.to_string();
                Tally { failed: 1, ..Tally::default() }
            }
        },
    };
    Ok(Ran { tally, text })
}

/// The tests that were skipped. A line with nothing but a name begins a row of the matrix; one that begins with `skip`
/// is `  skip  NAME (1.2 s): REASON`.
fn skips(text: &str) -> Vec<Skip> {
    let mut row = "";
    let mut skips = Vec::new();
    for line in text.lines() {
        if let Some(skip) = line.strip_prefix("  skip  ") {
            let (test, reason) = skip.split_once("): ").unwrap_or((skip, "no reason given"));
            let test = test.split(" (").next().unwrap_or(test);
            skips.push(Skip::new(format!("{NAME} {row}: {test}"), reason));
        } else if !line.is_empty() && !line.contains([' ', ':']) {
            row = line;
        }
    }
    skips
}

/// Keeps what the lab reports, and shows it if that is wished.
struct Report {
    text: Vec<u8>,
    echo: bool,
}

impl Write for Report {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.echo {
            io::stdout().write_all(bytes)?;
        }
        self.text.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        io::stdout().flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn skips_carry_their_row() {
        let text = "small\n  pass  a (0.1 s)\n  skip  b (1.2 s): this kernel (6.1): has no iommufd\nsmall: 1 passed\n";
        assert_eq!(skips(text), [Skip::new("lab small: b", "this kernel (6.1): has no iommufd")]);
    }
}
