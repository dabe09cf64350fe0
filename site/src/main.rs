//! `cargo run -p jitney-site -- [FOLDER]`: makes a site of the pages in docs/, and fails if a link of it leads nowhere.

mod links;
mod pages;

use anyhow::ensure;
use clap::Parser;
use std::path::PathBuf;
use std::process::ExitCode;

/// Makes a site of the pages in docs/, and looks at every link of it.
#[derive(Debug, Parser)]
struct Options {
    /// Where it goes: what is there is replaced.
    #[arg(default_value = "target/site")]
    folder: PathBuf,
}

#[expect(clippy::print_stdout, clippy::print_stderr, reason = "it is a program")]
fn main() -> ExitCode {
    match run(&Options::parse()) {
        Ok(said) => {
            println!("{said}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("jitney-site: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(options: &Options) -> anyhow::Result<String> {
    let folder = std::path::absolute(&options.folder)?;
    pages::build(&folder)?;
    let found = links::look(&folder)?;
    ensure!(found.broken.is_empty(), "links that lead nowhere:\n  {}", found.broken.join("\n  "));
    Ok(format!("{} pages in {}, {} links", found.pages, folder.display(), found.links))
}
