//! An interrupt from the user's own logic, three times.
//!
//!   cargo run --release -- emulate nitefury --socket /tmp/nf.sock --user-interrupt 0@10ms &
//!   JITNEY_CARDS=vfio-user:/tmp/nf.sock target/release/examples/user_interrupt

#![expect(clippy::print_stdout, reason = "it is a program")]

use jitney::prelude::*;
use std::time::Duration;

fn main() -> anyhow::Result<()> {
    let bus = Bus::open()?;
    let xdma = identify(&bus.card("*")?)?.xdma()?;
    let mut interrupt = xdma.user_interrupt(0)?; // leases line 0 and its vector
    for number in 1..=3 {
        anyhow::ensure!(interrupt.wait(Some(Duration::from_secs(5)))?, "no interrupt within 5 s");
        println!("interrupt {number}");
    }
    Ok(())
}
