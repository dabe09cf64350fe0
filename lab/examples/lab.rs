//! `cargo run -p jitney-lab --example lab -- [--kernel NAME] [--socket PATH] [--shell] [TEST]`: what `cargo xtask lab` does,
//! and with `--socket` a card that you serve yourself over vfio-user.

use std::process::ExitCode;

use jitney_lab::Card;

fn main() -> Result<ExitCode, Box<dyn std::error::Error>> {
    let mut options = jitney_lab::Options::default();
    let mut shell = false;
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "--kernel" => options.kernel = arguments.next(),
            "--socket" => {
                options.cards.extend(arguments.next().map(|path| Card::VfioUser { socket: path.into() }))
            }
            "--shell" => shell = true,
            _ => options.test = Some(argument),
        }
    }
    if shell {
        jitney_lab::shell(&options)?;
        return Ok(ExitCode::SUCCESS);
    }
    let summary = jitney_lab::run(&options, &mut std::io::stdout())?;
    Ok(if summary.is_success() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
