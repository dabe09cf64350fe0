//! What devices do.

use crate::card::Card;
use crate::failure::{Failure, Outcome};
use crate::inside::Inside;
use crate::machine::Machine;
use crate::node::{Kind, Node};
use crate::placeholder::{Access, Opened, Placeholder, borrow};
use crate::user_memory::UserMemory;
use crate::{events, memory, registers, stream};
use rustix::fs::SeekFrom;
use rustix::io::Errno;
use std::ffi::c_int;
use std::os::fd::IntoRawFd;
use std::sync::Arc;

/// The most that a call moves, as of any file (`man 2 read`).
const MOST: usize = 0x7fff_f000;

/// A device's card, which has the device.
fn card_of(node: Node) -> Outcome<Arc<Card>> {
    let card = Machine::get().card(node.card)?;
    if card.has(node.kind) {
        return Ok(card);
    }
    let why = format!("{} has no such device", card.xdma.card().identity());
    Err(Failure::new(Errno::NOENT, why))
}

/// Opens a device.
///
/// # Errors
/// ENOENT if the card has none such; EBUSY if a stream or an interrupt is open already.
pub(super) fn open(node: Node, flags: c_int) -> Outcome<c_int> {
    let card = card_of(node)?;
    if flags & libc::O_DIRECTORY != 0 {
        return Err(Failure::silent(Errno::NOTDIR));
    }
    if flags & (libc::O_CREAT | libc::O_EXCL) == libc::O_CREAT | libc::O_EXCL {
        return Err(Failure::silent(Errno::EXIST));
    }
    if flags & libc::O_PATH == libc::O_PATH {
        return Err(Failure::new(Errno::OPNOTSUPP, "O_PATH: there is no file behind a device"));
    }
    let access = Access::of_flags(flags).ok_or_else(|| Failure::silent(Errno::INVAL))?;
    if let Kind::Events(line) = node.kind {
        return Ok(events::open(&card, node, line, flags)?.into_raw_fd());
    }
    let Placeholder { descriptor, watch } = Placeholder::new(Opened { node, access }, flags)?;
    if let Kind::C2h(channel) = node.kind
        && card.is_received_from(node.kind)
    {
        card.receivers.open(&card, channel, watch)?;
    }
    Ok(descriptor.into_raw_fd())
}

/// After a descriptor was closed that was a device's.
pub(super) fn closed(node: Node) {
    if let Kind::C2h(_) = node.kind
        && let Some(machine) = Machine::current()
    {
        machine.opened().iter().for_each(|card| card.receivers.look());
    }
}

/// Closes a device's descriptor.
///
/// # Errors
/// What the kernel says.
#[expect(unsafe_code, reason = "the program closes a descriptor of its own")]
pub(crate) fn close(descriptor: c_int) -> c_int {
    // What this library closes itself is not the program's, though it may say the same.
    let opened = Opened::of(descriptor).filter(|_| !Inside::is_entered());
    // SAFETY: the program's own, by its number, as it asked.
    let outcome = unsafe { crate::real::close(descriptor) };
    if let Some(opened) = opened {
        super::answer(format_args!("close of {}", opened.node), (), || {
            closed(opened.node);
            Ok(())
        });
    }
    outcome
}

/// The position of a device's descriptor, which the kernel keeps.
fn position(descriptor: c_int) -> Outcome<u64> {
    let descriptor = borrow(descriptor).ok_or_else(|| Failure::silent(Errno::BADF))?;
    Ok(rustix::fs::seek(descriptor, SeekFrom::Current(0))?)
}

/// Where a call begins: at the position that it names, or at the descriptor's.
fn start(descriptor: c_int, kind: Kind, named: Option<i64>) -> Outcome<u64> {
    match named {
        Some(named) => {
            u64::try_from(named).map_err(|_| Failure::new(Errno::INVAL, "the position is negative"))
        }
        // A socket has none.
        None if matches!(kind, Kind::Events(_)) => Ok(0),
        None => position(descriptor),
    }
}

/// Moves the position on, of registers always, of memory if it was asked for.
fn advance(descriptor: c_int, kind: Kind, named: Option<i64>, moved: usize) -> Outcome<()> {
    let always = matches!(kind, Kind::User | Kind::Control | Kind::Bypass);
    if named.is_none()
        && (always || Machine::get().settings.advance)
        && let Some(descriptor) = borrow(descriptor)
    {
        let by = i64::try_from(moved).unwrap_or(i64::MAX);
        rustix::fs::seek(descriptor, SeekFrom::Current(by))?;
    }
    Ok(())
}

/// Moves the position on after several pieces, as after one.
///
/// # Errors
/// What the kernel says.
pub(super) fn advance_by(descriptor: c_int, opened: Opened, moved: usize) -> Outcome<()> {
    match opened.node.kind {
        Kind::Events(_) => Ok(()),
        kind => advance(descriptor, kind, None, moved),
    }
}

/// Reads from a device, from a position that is named or the descriptor's.
///
/// # Errors
/// EBADF, EINVAL and what each device says.
pub(crate) fn read(descriptor: c_int, opened: Opened, to: UserMemory, at: Option<i64>) -> Outcome<usize> {
    let Opened { node, access } = opened;
    if !access.reads() {
        return Err(Failure::silent(Errno::BADF));
    }
    let start = start(descriptor, node.kind, at)?;
    let to = to.part(0, to.len().min(MOST));
    let moved = match node.kind {
        Kind::H2c(_) => return Err(Failure::new(Errno::INVAL, "a channel to the card cannot be read")),
        Kind::Events(_) => return events::read(descriptor, start, to),
        Kind::User | Kind::Control | Kind::Bypass => {
            registers::read(&card_of(node)?.region(node)?, start, to)?
        }
        Kind::C2h(_) if to.len() == 0 => 0,
        Kind::C2h(channel) => {
            let card = card_of(node)?;
            if card.is_received_from(node.kind) {
                return card.receivers.read(&card, channel, to);
            }
            memory::read(&card, channel, to, start)?;
            to.len()
        }
    };
    advance(descriptor, node.kind, at, moved)?;
    Ok(moved)
}

/// Writes to a device, likewise.
///
/// # Errors
/// As [`read`].
pub(crate) fn write(descriptor: c_int, opened: Opened, from: UserMemory, at: Option<i64>) -> Outcome<usize> {
    let Opened { node, access } = opened;
    if !access.writes() {
        return Err(Failure::silent(Errno::BADF));
    }
    let start = start(descriptor, node.kind, at)?;
    let from = from.part(0, from.len().min(MOST));
    let moved = match node.kind {
        Kind::C2h(_) => {
            return Err(Failure::new(Errno::INVAL, "a channel from the card cannot be written to"));
        }
        Kind::Events(_) => return Err(Failure::new(Errno::INVAL, "an interrupt cannot be written to")),
        Kind::User | Kind::Control | Kind::Bypass => {
            registers::write(&card_of(node)?.region(node)?, start, from)?
        }
        Kind::H2c(_) if from.len() == 0 => 0,
        Kind::H2c(channel) => {
            let card = card_of(node)?;
            if card.channel(node.kind).is_some_and(|info| info.stream) {
                stream::write(&card, channel, from)?;
                return Ok(from.len());
            }
            memory::write(&card, channel, from, start)?;
            from.len()
        }
    };
    advance(descriptor, node.kind, at, moved)?;
    Ok(moved)
}

/// Does `mover` as if the device were a file, whose position moves on with what is read and written. A `FILE` takes that for granted.
///
/// # Errors
/// As `mover`.
pub(crate) fn as_file(
    mover: impl FnOnce(c_int, Opened, UserMemory, Option<i64>) -> Outcome<usize>,
    descriptor: c_int,
    opened: Opened,
    memory: UserMemory,
) -> Outcome<usize> {
    if matches!(opened.node.kind, Kind::Events(_)) {
        return mover(descriptor, opened, memory, None);
    }
    let begins = lseek(descriptor, opened, 0, libc::SEEK_CUR)?;
    let moved = mover(descriptor, opened, memory, Some(begins))?;
    lseek(descriptor, opened, i64::try_from(moved).unwrap_or(i64::MAX), libc::SEEK_CUR)?;
    Ok(moved)
}

/// Moves a descriptor's position.
///
/// # Errors
/// EINVAL for a negative position, ESPIPE for an interrupt.
pub(crate) fn lseek(descriptor: c_int, opened: Opened, offset: i64, whence: c_int) -> Outcome<i64> {
    if matches!(opened.node.kind, Kind::Events(_)) {
        return Err(Failure::silent(Errno::SPIPE));
    }
    let target = match whence {
        libc::SEEK_SET => Some(offset),
        libc::SEEK_CUR => {
            i64::try_from(position(descriptor)?).ok().and_then(|position| position.checked_add(offset))
        }
        // Where the driver says that a card's memory ends.
        libc::SEEK_END => i64::from(u32::MAX).checked_add(offset),
        _ => None,
    };
    let target = target.and_then(|target| u64::try_from(target).ok());
    let target = target.ok_or_else(|| Failure::silent(Errno::INVAL))?;
    let descriptor = borrow(descriptor).ok_or_else(|| Failure::silent(Errno::BADF))?;
    let reached = rustix::fs::seek(descriptor, SeekFrom::Start(target))?;
    i64::try_from(reached).map_err(|_| Failure::silent(Errno::OVERFLOW))
}

/// Whether a device is there.
///
/// # Errors
/// ENOENT if it is not, and why nobody can tell.
pub(super) fn look(node: Node) -> Outcome<()> {
    match card_of(node) {
        Ok(_) => Ok(()),
        // The usual answer to the usual question.
        Err(failure) if failure.errno == Errno::NOENT => Err(Failure::silent(Errno::NOENT)),
        Err(failure) => Err(failure),
    }
}

/// Every device that is there.
///
/// # Errors
/// Why the cards cannot be opened.
pub(super) fn all() -> Outcome<Vec<Node>> {
    let machine = Machine::get();
    let mut nodes = Vec::new();
    for number in 0..u8::try_from(machine.count()?).unwrap_or(u8::MAX) {
        let card = machine.card(number)?;
        nodes.extend(Kind::all().filter(|kind| card.has(*kind)).map(|kind| Node { card: number, kind }));
    }
    Ok(nodes)
}
