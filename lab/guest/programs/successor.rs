//! A process opens a card, maps memory for it and wires its interrupt, hands its descriptors to somebody who keeps them, and
//! is killed, or becomes another program (exec). The next one goes on with the card: the memory of the first is still mapped,
//! its interrupt fires, new memory is mapped and unmapped, and what the first has mapped can be unmapped.
//!
//! `successor ADDRESS INTERFACE killed|exec`. The card is QEMU's edu. The keeper has the memory and the event, and judges.

#![expect(clippy::print_stdout, clippy::print_stderr, reason = "it tells what it does")]

use jitney_memory::descriptors::{Wait, receive_all, send};
use jitney_memory::{Access, EventFd, Mapping, Memfd, PageSize};
use jitney_vfio::{DmaRequest, ErrorKind, OpenOptions, OpenedCard, OpenedSpace, SpaceRecord, open_all_with};
use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
use std::error::Error;
use std::io::{IoSlice, stdin};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

type Result<T> = std::result::Result<T, Box<dyn Error>>;

/// What the first process leaves behind besides descriptors: the record, their names, how many vectors are enabled, and
/// where its memory is mapped, in bytes.
type Left = (SpaceRecord, Vec<String>, Option<u32>, u64, u64);

/// Where there is no IOMMU, the lab gives the card's DMA engine 32 address bits.
const TOP: u64 = u32::MAX as u64;
const FIRST_IOVA: u64 = 0x10_0000;
const SECOND_IOVA: u64 = 0x80_0000;
/// What one transfer moves: all the card's memory.
const PAGE: u64 = 4096;
/// The memory of the first process, where there is an IOMMU.
const BYTES: u64 = 4 << 20;
const SPACE: usize = 7;

/// Registers of BAR 0, by offset in bytes; QEMU's docs/specs/edu.rst.
const INTERRUPT_STATUS: u64 = 0x24;
const ACKNOWLEDGE: u64 = 0x64;
const SOURCE: u64 = 0x80;
const DESTINATION: u64 = 0x88;
const COUNT: u64 = 0x90;
const COMMAND: u64 = 0x98;
const START: u32 = 1 << 0;
const TO_HOST: u32 = 1 << 1;
const INTERRUPT: u32 = 1 << 2;
const CARD_MEMORY: u64 = 0x4_0000;

const PATIENCE: Duration = Duration::from_secs(10);
const LONGEST_MESSAGE: usize = 64 << 10;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let outcome = match words[..] {
        ["first", address, interface] => first(address, interface),
        ["second"] => second(),
        [address, interface, how @ ("killed" | "exec")] => keeper(address, interface, how),
        _ => Err("successor ADDRESS INTERFACE killed|exec".into()),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("successor: {error}");
            ExitCode::FAILURE
        }
    }
}

fn check(holds: bool, otherwise: &str) -> Result<()> {
    if holds { Ok(()) } else { Err(otherwise.into()) }
}

fn open(address: &str, interface: &str) -> Result<OpenedSpace> {
    let options = OpenOptions { iommu: interface.parse()?, ..OpenOptions::default() };
    open_all_with(&[address.parse()?], options)?.pop().ok_or_else(|| "nothing was opened".into())
}

/// Memory for the card, mapped, and where.
fn memory(opened: &OpenedSpace, iova: u64, size: u64) -> Result<(Memfd, u64)> {
    let (memory, iova) = match opened.space.physical() {
        Some(physical) => physical.make(&DmaRequest::new(size).below(TOP))?,
        None => (Memfd::create("resume", size, PageSize::Normal)?, iova),
    };
    opened.space.map(&memory, 0, iova, memory.size())?;
    Ok((memory, iova))
}

/// The process that opens the card. It leaves everything to its standard input, a socket, and waits for its end.
fn first(address: &str, interface: &str) -> Result<()> {
    let opened = open(address, interface)?;
    let card = &opened.cards[0];
    let (memory, iova) = memory(&opened, FIRST_IOVA, BYTES)?;
    card.set_bus_master(true)?;
    let event = EventFd::new()?;
    card.wire(0, Some(event.as_fd()))?;
    check(card.enabled_vectors() == Some(1), "the card's one vector is not enabled")?;
    let (record, kept) = opened.record(SPACE)?;
    let (names, mut descriptors): (Vec<_>, Vec<_>) = kept.into_iter().unzip();
    descriptors.extend([memory.as_fd(), event.as_fd()]);
    let left: Left = (record, names, card.enabled_vectors(), iova, memory.size());
    let left = serde_json::to_vec(&left)?;
    let queue = |socket: &dyn AsFd| send(socket.as_fd(), &[IoSlice::new(&left)], &descriptors, Wait::Block);
    queue(&stdin())?;
    println!("first: pid {}, mapped; {}", std::process::id(), pinned()?);

    // A word is that the program is to be another one. Its descriptors are in a socket meanwhile.
    let mut word = [0; 16];
    check(receive_all(stdin(), &mut word, Wait::Block)?.len > 0, "the keeper is gone")?;
    let (ours, theirs) = pair()?;
    queue(&ours)?;
    Err(Command::new("/proc/self/exe").arg("second").stdin(Stdio::from(theirs)).exec().into())
}

fn pair() -> Result<(OwnedFd, OwnedFd)> {
    Ok(socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?)
}

/// What the first process left to somebody: the message and its descriptors.
fn take(socket: impl AsFd) -> Result<(Vec<u8>, Vec<OwnedFd>)> {
    let mut buffer = vec![0; LONGEST_MESSAGE];
    let came = receive_all(socket, &mut buffer, Wait::Block)?;
    check(came.len > 0 && came.missing.is_none(), "the first process left nothing")?;
    buffer.truncate(came.len);
    Ok((buffer, came.descriptors))
}

fn keeper(address: &str, interface: &str, how: &str) -> Result<()> {
    let (socket, theirs) = pair()?;
    let mut command = Command::new("/proc/self/exe");
    let mut first = command.args(["first", address, interface]).stdin(Stdio::from(theirs)).spawn()?;
    drop(command);
    let (message, descriptors) = take(&socket)?;
    let (_, _, _, _, size): Left = serde_json::from_slice(&message)?;
    let [.., memory, event] = &descriptors[..] else { return Err("too few descriptors".into()) };
    let memory = Mapping::shared(memory, 0, usize::try_from(size)?, Access::ReadWrite)?;
    let event = EventFd::try_from(event.try_clone()?)?;
    event.take()?;
    let second = match how {
        "killed" => {
            first.kill()?;
            println!("keeper: the first process has ended: {}", first.wait()?);
            // Written when nobody owns the card: the card finds it by what a dead process has mapped.
            fill(&memory, &event)?;
            let (ours, theirs) = pair()?;
            let kept: Vec<_> = descriptors.iter().map(AsFd::as_fd).collect();
            send(&ours, &[IoSlice::new(&message)], &kept, Wait::Block)?;
            drop(descriptors);
            Command::new("/proc/self/exe").arg("second").stdin(Stdio::from(theirs)).spawn()?
        }
        _ => {
            fill(&memory, &event)?;
            drop(descriptors);
            send(&socket, &[IoSlice::new(b"exec")], &[], Wait::Block)?;
            first
        }
    };
    judge(second, &memory, &event)?;
    // Nothing is left of it: the card can be had anew, and is as one that nobody has used.
    let opened = open(address, interface)?;
    check(!opened.cards[0].bus_master()?, "the card was not reset when its last owner had ended")?;
    if opened.space.physical().is_none() {
        let memory = Memfd::create("resume", BYTES, PageSize::Normal)?;
        opened.space.map(&memory, 0, FIRST_IOVA, BYTES)?;
        opened.space.unmap(FIRST_IOVA, BYTES)?;
    }
    println!("successor: {interface}, {how}: all is well");
    Ok(())
}

/// What the card is to read, and nothing where it is to write.
fn fill(memory: &Mapping, event: &EventFd) -> Result<()> {
    let length = usize::try_from(PAGE)?;
    memory.write(0, &pattern())?;
    memory.fill(PAGE, length, 0)?;
    memory.fill(2 * PAGE, length, 0x55)?;
    event.take()?;
    Ok(())
}

fn pattern() -> Vec<u8> {
    (0..=250).cycle().take(usize::try_from(PAGE).unwrap_or(0)).collect()
}

fn judge(mut second: Child, memory: &Mapping, event: &EventFd) -> Result<()> {
    check(second.wait()?.success(), "the second process failed")?;
    let page = |offset| -> Result<Vec<u8>> {
        let mut bytes = vec![0; usize::try_from(PAGE)?];
        memory.read(offset, &mut bytes)?;
        Ok(bytes)
    };
    check(page(PAGE)? == pattern(), "the card did not reach the memory of the first process")?;
    check(page(2 * PAGE)?.iter().all(|&byte| byte == 0x55), "the card reached memory that was unmapped")?;
    check(event.take()? == 2, "the interrupt did not reach the event of the first process twice")
}

/// The process that goes on, with what somebody else has kept.
fn second() -> Result<()> {
    let (message, mut descriptors) = take(stdin())?;
    let (record, names, enabled, iova, size): Left = serde_json::from_slice(&message)?;
    let (Some(event), Some(left)) = (descriptors.pop(), descriptors.pop()) else {
        return Err("too few descriptors".into());
    };
    let (event, left) = (EventFd::try_from(event)?, Memfd::adopt(left, size)?);
    check(names == record.descriptor_names(SPACE)?, "the names are not those of the record")?;
    let mut kept = names.into_iter().zip(descriptors).collect();
    println!("second: pid {}, before it goes on; {}", std::process::id(), pinned()?);
    let mut opened = OpenedSpace::resume(&record, SPACE, &mut kept)?;
    check(kept.is_empty(), "a descriptor is left")?;
    check(opened.record(SPACE)?.0 == record, "it cannot be gone on with once more")?;
    let card = opened.cards.pop().ok_or("no card")?.with_enabled_vectors(enabled);
    opened.cards.push(card);
    let card = &opened.cards[0];
    println!("second: goes on; {}", pinned()?);
    check(card.bus_master()?, "bus mastering is off: the card was reset")?;
    let physical = opened.space.physical().is_some();
    if physical {
        opened.space.adopt(&left, 0, iova, size)?;
    }

    // There and back through what the first process has mapped, with its interrupt each time.
    transfer(card, &event, iova, CARD_MEMORY, 0)?;
    transfer(card, &event, CARD_MEMORY, iova + PAGE, TO_HOST)?;

    // Memory of its own, and its own interrupt.
    let (memory, own) = memory(&opened, SECOND_IOVA, PAGE)?;
    println!("second: mapped more; {}", pinned()?);
    let event = EventFd::new()?;
    card.wire(0, Some(event.as_fd()))?;
    transfer(card, &event, CARD_MEMORY, own, TO_HOST)?;
    let view = Mapping::shared(&memory, 0, usize::try_from(PAGE)?, Access::ReadWrite)?;
    let mut bytes = vec![0; usize::try_from(PAGE)?];
    view.read(0, &mut bytes)?;
    check(bytes == pattern(), "the card did not reach new memory")?;
    check(event.take()? == 1, "the new event was not signalled")?;
    if !physical {
        let taken = opened.space.map(&memory, 0, iova, PAGE).map_err(|failed| failed.error);
        let kind = taken.err().map(|error| error.kind());
        check(kind == Some(ErrorKind::Held), &format!("mapping over the first process's memory: {kind:?}"))?;
    }
    opened.space.unmap(own, memory.size())?;
    if !physical {
        let part = opened.space.unmap_if_mapped(iova, PAGE);
        check(part.is_err(), "a part of what the first process has mapped is said to be unmapped")?;
    }

    opened.space.unmap(iova, size)?;
    println!("second: unmapped what the first process had mapped; {}", pinned()?);
    opened.space.unmap_if_mapped(iova, size)?;
    opened.space.unmap_if_mapped(own, memory.size())?;
    if !physical {
        check(opened.space.unmap(iova, size).is_err(), "unmapping twice succeeded")?;
        transfer(card, &event, CARD_MEMORY, iova + 2 * PAGE, TO_HOST)?;
    }
    check(card.notices().look()?.is_none(), "somebody wants the card")?;
    Ok(())
}

/// Moves a page; the interrupt comes when it has been moved.
fn transfer(card: &OpenedCard, event: &EventFd, source: u64, destination: u64, direction: u32) -> Result<()> {
    let write = |register, value| card.write_register(0, register, value);
    write(SOURCE, u32::try_from(source)?)?;
    write(DESTINATION, u32::try_from(destination)?)?;
    write(COUNT, u32::try_from(PAGE)?)?;
    write(COMMAND, START | direction | INTERRUPT)?;
    let since = Instant::now();
    while card.read_register(0, INTERRUPT_STATUS)? == 0 {
        check(since.elapsed() < PATIENCE, "the DMA engine does not stop")?;
    }
    check(event.wait(Some(PATIENCE))?, "the interrupt did not come")?;
    Ok(write(ACKNOWLEDGE, card.read_register(0, INTERRUPT_STATUS)?)?)
}

/// How much memory counts for this process: locked (type1) and pinned (iommufd).
fn pinned() -> Result<String> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let lines = status.lines().filter(|line| line.starts_with("VmLck:") || line.starts_with("VmPin:"));
    let figures: Vec<String> =
        lines.map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect();
    let sane = |line: &String| line.split(' ').nth(1).and_then(|kib| kib.parse::<u64>().ok());
    check(figures.iter().all(|line| sane(line).is_some_and(|kib| kib < 1 << 30)), "a count has underflowed")?;
    Ok(figures.join(", "))
}
