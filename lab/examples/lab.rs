//! `cargo run -p jitney-lab --example lab -- [--kernel NAME] [--socket PATH] [--shell] [TEST]`: what `cargo xtask lab` does,
//! and with `--socket` a card that you serve yourself over vfio-user.

use std::io::{self, Write};
use std::process::ExitCode;

use jitney_lab::{Card, Error, Options, run, shell};

fn main() -> ExitCode {
    match lab() {
        Ok(code) => code,
        Err(error) => {
            // Where standard error is closed, the exit status still tells.
            let _ = writeln!(io::stderr(), "lab: {error}");
            ExitCode::FAILURE
        }
    }
}

fn lab() -> Result<ExitCode, Error> {
    let mut options = Options::default();
    let mut prompt = false;
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "--kernel" => options.kernel = arguments.next(),
            "--socket" => {
                options.cards.extend(arguments.next().map(|path| Card::VfioUser { socket: path.into() }))
            }
            "--shell" => prompt = true,
            _ => options.test = Some(argument),
        }
    }
    if prompt {
        shell(&options)?;
        return Ok(ExitCode::SUCCESS);
    }
    let summary = run(&options, &mut io::stdout())?;
    Ok(if summary.is_success() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
