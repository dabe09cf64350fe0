//! Four processes map the same BAR for the first time at once: what the kernel makes of it when somebody opened the card
//! by hand, and when this crate did.
//!
//! `bar_race ADDRESS ROUNDS naive|group|iommufd` prints in how many rounds a process met `EBUSY`. In kernels 4.18 to 6.x
//! `vfio_pci_core_mmap` sets a BAR up at its first map, without a lock. The card is opened again for each round, since its
//! last close undoes that.

#![expect(unsafe_code, reason = "the naive way is ioctls, which take addresses")]
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "it tells what it does")]

use jitney_memory::{Access, Mapping};
use jitney_vfio::sysfs::Sysfs;
use jitney_vfio::{CardAddress, OpenOptions, open_all_with};
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::ioctl::{IntegerSetter, Opcode, Setter, ioctl, opcode};
use rustix::time::{ClockId, clock_gettime};
use std::error::Error;
use std::ffi::c_int;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};
use std::process::{Command, ExitCode, Stdio};
use std::time::Duration;

type Result<T> = std::result::Result<T, Box<dyn Error>>;

const PROCESSES: usize = 4;
/// How long the processes of a round have to start.
const START: Duration = Duration::from_millis(60);
/// What a child ends with that met `EBUSY`.
const BUSY: u8 = 16;

const VFIO: u8 = b';';
const SET_CONTAINER: Opcode = opcode::none(VFIO, 104);
const SET_IOMMU: Opcode = opcode::none(VFIO, 102);
const TYPE1V2: usize = 3;
const GET_DEVICE_FD: u8 = 106;

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
    // A region's offset in a device's file is its index shifted by VFIO_PCI_OFFSET_SHIFT.
    match Mapping::shared(std::io::stdin(), bar << 40, size, Access::ReadWrite) {
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
            let by_hand = open_by_hand(group, address)?;
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

/// A card, and what keeps it open. Closed in this order.
struct ByHand {
    device: OwnedFd,
    _group: OwnedFd,
    _container: OwnedFd,
}

/// As programs do that open the card themselves and pass its descriptor on.
fn open_by_hand(group: u32, address: &str) -> Result<ByHand> {
    let open = |path: &str| rustix::fs::open(path, OFlags::RDWR | OFlags::CLOEXEC, Mode::empty());
    let (container, group) = (open("/dev/vfio/vfio")?, open(&format!("/dev/vfio/{group}"))?);
    let number: c_int = container.as_fd().as_raw_fd();
    // SAFETY: VFIO_GROUP_SET_CONTAINER takes the address of a descriptor's number.
    let join = unsafe { Setter::<SET_CONTAINER, c_int>::new(number) };
    // SAFETY: As above.
    unsafe { ioctl(&group, join) }?;
    // SAFETY: VFIO_SET_IOMMU takes a number.
    let iommu = unsafe { IntegerSetter::<SET_IOMMU>::new_usize(TYPE1V2) };
    // SAFETY: As above.
    unsafe { ioctl(&container, iommu) }?;
    let mut name = std::ffi::CString::new(address)?.into_bytes_with_nul();
    // SAFETY: VFIO_GROUP_GET_DEVICE_FD takes a string with a zero at its end.
    let device = unsafe { ioctl(&group, DeviceNamed(&mut name)) }?;
    // SAFETY: It returned a descriptor that is new and nobody else's.
    let device = unsafe { OwnedFd::from_raw_fd(device) };
    Ok(ByHand { device, _group: group, _container: container })
}

struct DeviceNamed<'a>(&'a mut Vec<u8>);

// SAFETY: The number is that of VFIO_GROUP_GET_DEVICE_FD, which reads a string and returns a number.
unsafe impl rustix::ioctl::Ioctl for DeviceNamed<'_> {
    type Output = c_int;

    const IS_MUTATING: bool = false;

    fn opcode(&self) -> Opcode {
        opcode::none(VFIO, GET_DEVICE_FD)
    }

    fn as_ptr(&mut self) -> *mut std::ffi::c_void {
        self.0.as_mut_ptr().cast()
    }

    unsafe fn output_from_ptr(
        output: rustix::ioctl::IoctlOutput,
        _: *mut std::ffi::c_void,
    ) -> rustix::io::Result<c_int> {
        Ok(output)
    }
}
