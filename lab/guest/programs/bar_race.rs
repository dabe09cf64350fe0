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
use jitney_memory::descriptors::{self, Wait};
use jitney_vfio::sysfs::{PciFunction, Sysfs};
use jitney_vfio::{CardAddress, OpenOptions, open_all_with};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
use rustix::time::{ClockId, clock_gettime};
use std::io::IoSlice;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::process::{Child, Command, ExitCode};
use std::time::Duration;

const PROCESSES: usize = 4;
/// How long the processes have to get ready for a round.
const START: Duration = Duration::from_millis(3);

/// What a process says of a round.
const MAPPED: u8 = 0;
const BUSY: u8 = 16;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let outcome = match words[..] {
        ["racer", bar, size] => racer(bar, size),
        [address, rounds, way] => race(address, rounds, way),
        _ => Err("bar_race ADDRESS ROUNDS naive|group|iommufd".into()),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bar_race: {error}");
            ExitCode::FAILURE
        }
    }
}

fn now() -> Result<Duration> {
    Ok(Duration::try_from(clock_gettime(ClockId::Monotonic))?)
}

/// Maps a BAR of each card that comes over its standard input, at the moment in nanoseconds that comes with it, and says
/// how that went.
fn racer(bar: &str, size: &str) -> Result<()> {
    let (bar, size): (u64, usize) = (bar.parse()?, size.parse()?);
    let mut moment = [0; 8];
    loop {
        let received = descriptors::receive(std::io::stdin(), &mut moment, 1, Wait::Block)?;
        let Some(device) = received.descriptors.first() else { return Ok(()) };
        let moment = Duration::from_nanos(u64::from_ne_bytes(moment));
        while now()? < moment {
            std::hint::spin_loop();
        }
        let answer = match map_bar(device, bar, size) {
            Ok(_) => MAPPED,
            Err(error) if error.errno() == Some(Errno::BUSY) => BUSY,
            Err(error) => return Err(error.into()),
        };
        drop(received);
        descriptors::send(std::io::stdin(), &[IoSlice::new(&[answer])], &[], Wait::Block)?;
    }
}

fn race(address: &str, rounds: &str, way: &str) -> Result<()> {
    let rounds: u32 = rounds.parse()?;
    let function = Sysfs::default().function(address.parse()?)?;
    let bar = function.bars.iter().position(|&size| size > 0).ok_or("the card has no BAR")?;
    let mut racers =
        (0..PROCESSES).map(|_| Racer::start(bar, function.bars[bar])).collect::<Result<Vec<_>>>()?;
    let mut busy = 0;
    for _ in 0..rounds {
        busy += u32::from(round(&function, way, &mut racers)?);
    }
    println!("EBUSY in {busy} of {rounds} rounds");
    Ok(())
}

/// Opens the card, has all map it, and closes it. Whether one of them met `EBUSY`.
fn round(function: &PciFunction, way: &str, racers: &mut [Racer]) -> Result<bool> {
    if way == "naive" {
        let group = function.iommu_group.ok_or("the card has no IOMMU group")?;
        let by_hand = ByHand::open(group, &function.address.to_string())?;
        return all_map(by_hand.device.as_fd(), racers);
    }
    let options = OpenOptions { iommu: way.parse()?, ..OpenOptions::default() };
    let opened = open_all_with(&[CardAddress::Pci(function.address)], options)?;
    let card = opened.iter().flat_map(|space| &space.cards).next().ok_or("nothing was opened")?;
    all_map(card.grant()?.as_fd(), racers)
}

fn all_map(device: BorrowedFd<'_>, racers: &mut [Racer]) -> Result<bool> {
    let moment = u64::try_from((now()? + START).as_nanos())?;
    racers.iter().try_for_each(|racer| racer.send(device, moment))?;
    let answers = racers.iter_mut().map(Racer::answer).collect::<Result<Vec<_>>>()?;
    Ok(answers.contains(&BUSY))
}

/// A process that maps. It ends when its socket is closed.
struct Racer {
    // In this order: the process ends when nobody sends it cards any more.
    socket: OwnedFd,
    _process: Waited,
}

struct Waited(Child);

impl Drop for Waited {
    fn drop(&mut self) {
        if let Err(error) = self.0.wait() {
            eprintln!("bar_race: a process cannot be waited for: {error}");
        }
    }
}

impl Racer {
    fn start(bar: usize, size: u64) -> Result<Self> {
        let (socket, theirs) =
            socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?;
        let arguments = ["racer".to_owned(), bar.to_string(), size.to_string()];
        let process = Command::new("/proc/self/exe").args(arguments).stdin(theirs).spawn()?;
        Ok(Self { socket, _process: Waited(process) })
    }

    fn send(&self, device: BorrowedFd<'_>, moment: u64) -> Result<()> {
        descriptors::send(&self.socket, &[IoSlice::new(&moment.to_ne_bytes())], &[device], Wait::Block)?;
        Ok(())
    }

    fn answer(&mut self) -> Result<u8> {
        let mut answer = [0];
        match descriptors::receive(&self.socket, &mut answer, 0, Wait::Block)?.len {
            1 => Ok(answer[0]),
            _ => Err("a process that maps has ended".into()),
        }
    }
}
