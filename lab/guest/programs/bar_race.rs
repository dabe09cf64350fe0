//! Four processes map the same BAR for the first time at once: what the kernel makes of it when somebody opened the card
//! by hand, and when jitney did.
//!
//! `bar_race ADDRESS ROUNDS naive|group|iommufd` prints in how many rounds a process met `EBUSY`. In kernels 4.18 to 6.x
//! `vfio_pci_core_mmap` sets a BAR up at its first map, without a lock. The card is opened again for each round, since its
//! last close undoes that.

#![expect(clippy::print_stdout, clippy::print_stderr, reason = "it tells what it does")]

#[expect(dead_code, reason = "it is for other programs, too")]
mod by_hand;

use by_hand::{ByHand, Result, map_bar};
use jitney_vfio::sysfs::Sysfs;
use jitney_vfio::{CardAddress, OpenOptions, open_all_with};
use rustix::io::Errno;
use rustix::time::{ClockId, clock_gettime};
use std::os::fd::OwnedFd;
use std::process::{Command, ExitCode, Stdio};
use std::time::Duration;

const PROCESSES: usize = 4;
/// How long the processes of a round have to start.
const START: Duration = Duration::from_millis(60);
/// What a child ends with that met `EBUSY`.
const BUSY: u8 = 16;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let outcome = match words[..] {
        ["child", bar, size, moment] => child(bar, size, moment),
        [address, rounds, way] => race(address, rounds, way),
        _ => Err("bar_race ADDRESS ROUNDS naive|group|iommufd".into()),
    };
    outcome.unwrap_or_else(|error| {
        eprintln!("bar_race: {error}");
        ExitCode::FAILURE
    })
}

fn now() -> Result<Duration> {
    Ok(Duration::try_from(clock_gettime(ClockId::Monotonic))?)
}

/// Maps a BAR of the card that is its standard input, at the moment that is given in nanoseconds.
fn child(bar: &str, size: &str, moment: &str) -> Result<ExitCode> {
    let (bar, size): (u64, usize) = (bar.parse()?, size.parse()?);
    let moment = Duration::from_nanos(moment.parse()?);
    while now()? < moment {
        std::hint::spin_loop();
    }
    match map_bar(std::io::stdin(), bar, size) {
        Ok(_) => Ok(ExitCode::SUCCESS),
        Err(error) if error.errno() == Some(Errno::BUSY) => Ok(ExitCode::from(BUSY)),
        Err(error) => Err(error.into()),
    }
}

fn race(address: &str, rounds: &str, way: &str) -> Result<ExitCode> {
    let rounds: u32 = rounds.parse()?;
    let function = Sysfs::default().function(address.parse()?)?;
    let bar = function.bars.iter().position(|&size| size > 0).ok_or("the card has no BAR")?;
    let mut busy = 0;
    for _ in 0..rounds {
        let group = function.iommu_group.ok_or("the card has no IOMMU group")?;
        let failed = if way == "naive" {
            let by_hand = ByHand::open(group, address)?;
            one_round(&by_hand.device, bar, function.bars[bar])?
        } else {
            let options = OpenOptions { iommu: way.parse()?, ..OpenOptions::default() };
            let opened = open_all_with(&[CardAddress::Pci(function.address)], options)?;
            let card = opened.iter().flat_map(|space| &space.cards).next().ok_or("nothing was opened")?;
            one_round(&OwnedFd::from(card.grant()?), bar, function.bars[bar])?
        };
        busy += u32::from(failed);
    }
    println!("EBUSY in {busy} of {rounds} rounds");
    Ok(ExitCode::SUCCESS)
}

/// Whether one of the processes met `EBUSY`.
fn one_round(device: &OwnedFd, bar: usize, size: u64) -> Result<bool> {
    let moment = (now()? + START).as_nanos().to_string();
    let arguments = ["child".to_owned(), bar.to_string(), size.to_string(), moment];
    let mut children = Vec::new();
    for _ in 0..PROCESSES {
        let input = Stdio::from(device.try_clone()?);
        children.push(Command::new("/proc/self/exe").args(&arguments).stdin(input).spawn()?);
    }
    let mut busy = false;
    for mut child in children {
        match child.wait()?.code() {
            Some(0) => {}
            Some(code) if code == i32::from(BUSY) => busy = true,
            code => return Err(format!("a process ended with {code:?}").into()),
        }
    }
    Ok(busy)
}
