//! The development tasks: `cargo xtask --help` lists them.

#![forbid(unsafe_code)]
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "this is what a developer sees")]

mod attack;
mod bench;
mod c;
mod coverage;
mod deny;
mod dist;
mod fuzz;
mod instruments;
mod lab;
mod mutants;
mod process;
mod semver;
mod test;
mod tools;
mod workspace;

use clap::{Parser, Subcommand};
use std::process::ExitCode;

/// What a developer of jitney does besides building it.
#[derive(Debug, Parser)]
#[command(bin_name = "cargo xtask", max_term_width = 110)]
struct Options {
    #[command(subcommand)]
    task: Task,
}

#[derive(Debug, Subcommand)]
enum Task {
    /// Check everything: formatting, lints, tests, documentation, fuzz targets, and the lab.
    #[command(after_help = test::HELP)]
    Test(test::Options),
    /// Attack a broker in every way that a client can, with well-behaved clients beside it.
    #[command(after_help = attack::HELP)]
    Attack(attack::Options),
    /// Measure how fast things are, each as a ratio, and compare with the bars.
    #[command(after_help = bench::HELP)]
    Bench(bench::Options),
    /// Make the header of the C library anew of its source.
    Header,
    /// Build the C library and install it.
    #[command(after_help = c::install::HELP)]
    InstallC(c::install::Options),
    /// Say which lines the tests run, in all of their processes.
    #[command(after_help = coverage::HELP)]
    Coverage(coverage::Options),
    /// Say whether what others wrote may be used: licences and sources.
    #[command(after_help = deny::HELP)]
    Deny,
    /// Make the packages and archives that are handed out.
    #[command(after_help = dist::HELP)]
    Dist(dist::Options),
    /// Feed decoders and state machines with what nobody would send.
    #[command(after_help = fuzz::HELP)]
    Fuzz(fuzz::Options),
    /// Test on real kernels in a virtual machine; lab/README.md says more.
    #[command(after_help = lab::HELP)]
    Lab(lab::Options),
    /// Change one line after the other and see that a test notices.
    #[command(after_help = mutants::HELP)]
    Mutants(mutants::Options),
    /// Say whether what the library offers is still what it offered.
    #[command(after_help = semver::HELP)]
    Semver(semver::Options),
}

fn main() -> ExitCode {
    let outcome = match Options::parse().task {
        Task::Test(options) => test::run(&options),
        Task::Attack(options) => attack::run(&options),
        Task::Bench(options) => bench::run(&options),
        Task::Header => c::header::renew().map(|()| ExitCode::SUCCESS),
        Task::InstallC(options) => c::install::run(&options),
        Task::Coverage(options) => coverage::run(&options),
        Task::Deny => deny::run(),
        Task::Dist(options) => dist::run(&options),
        Task::Fuzz(options) => fuzz::run(&options),
        Task::Lab(options) => lab::run(options),
        Task::Mutants(options) => mutants::run(&options),
        Task::Semver(options) => semver::run(&options),
    };
    outcome.unwrap_or_else(|error| {
        eprintln!("xtask: {error:#}");
        ExitCode::FAILURE
    })
}
