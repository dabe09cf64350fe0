//! Two threads of one program, or two programs, want the same part of a card: the second waits in line, and is told for whom.
//!
//!   cargo run --release -- run --emulate nitefury -- target/release/examples/wait_in_line

#![expect(clippy::print_stdout, reason = "it is a program")]

use jitney::prelude::*;
use std::time::{Duration, Instant};

fn main() -> anyhow::Result<()> {
    let first = Bus::open()?;
    // Any name will do that all who want the same thing agree upon.
    let part: Part = "my-filter".parse()?;
    let held = first.card("*")?.lease(LeaseRequest::exclusive(part.clone()))?;

    // Another connection to the broker is another program to it.
    let second = Bus::open()?;
    let card = second.card("*")?;
    if let Err(error) = card.lease(LeaseRequest::exclusive(part.clone())) {
        println!("refused at once: {error}");
    }
    let release = std::thread::spawn(move || {
        std::thread::sleep(Duration::from_millis(300));
        drop(held);
    });
    let since = Instant::now();
    let _lease = card.lease(LeaseRequest::exclusive(part).waiting(Duration::from_secs(10)))?;
    println!("granted after {:?}", since.elapsed());
    anyhow::ensure!(release.join().is_ok(), "the other thread panicked");
    Ok(())
}
