//! `ioctl` on devices: the calls that the driver's headers have.

use crate::card::Card;
use crate::failure::{Failure, Outcome};
use crate::machine::Machine;
use crate::memory;
use crate::node::{Kind, Node};
use crate::user_memory::UserMemory;
use rustix::io::Errno;

/// A number as `_IOC` makes it.
const fn number(direction: u32, kind: u8, number: u8, size: u32) -> u32 {
    direction << 30 | size << 16 | (kind as u32) << 8 | number as u32
}

const NONE: u32 = 0;
const WRITE: u32 = 1;
const READ: u32 = 2;

/// Channels: the size is that of a pointer or of an `int`, as the header has it.
const PERF_START: u32 = number(WRITE, b'q', 1, 8);
const PERF_STOP: u32 = number(WRITE, b'q', 2, 8);
const PERF_GET: u32 = number(READ, b'q', 3, 8);
const ADDRMODE_SET: u32 = number(WRITE, b'q', 4, 4);
const ADDRMODE_GET: u32 = number(READ, b'q', 5, 4);
const ALIGN_GET: u32 = number(READ, b'q', 6, 4);
const APERTURE_READ: u32 = number(WRITE, b'q', 7, 8);
const APERTURE_WRITE: u32 = number(WRITE, b'q', 8, 8);

/// Registers.
const INFO: u32 = number(WRITE | READ, b'x', 1, 40);
const OFFLINE: u32 = number(NONE, b'x', 2, 0);
const ONLINE: u32 = number(NONE, b'x', 3, 0);

/// What has to stand in front of the question of [`INFO`].
const INFO_MAGIC: u32 = 0x586c_0c6c;
/// Bytes of `struct xdma_ioc_info`.
const INFO_SIZE: usize = (INFO >> 16 & 0x3fff) as usize;
/// Bytes of `struct xdma_aperture_ioctl`.
const APERTURE_SIZE: usize = 48;

/// Asked of any descriptor, to see whether it is a terminal.
const TCGETS: u32 = 0x5401;

/// Answers a call on a device.
///
/// # Errors
/// ENOTTY or EINVAL, as the driver, for a call that the device does not know; EOPNOTSUPP for one that it does and that cannot be kept.
pub(crate) fn ioctl(node: Node, request: u32, argument: usize) -> Outcome<()> {
    if request == TCGETS {
        return Err(Failure::silent(Errno::NOTTY));
    }
    let card = Machine::get().card(node.card)?;
    match node.kind {
        Kind::H2c(channel) => of_channel(&card, node, channel, true, request, argument),
        Kind::C2h(channel) => of_channel(&card, node, channel, false, request, argument),
        Kind::Control | Kind::User | Kind::Bypass => of_registers(&card, request, argument),
        Kind::Events(_) => Err(unknown(Errno::NOTTY, request)),
    }
}

fn unknown(errno: Errno, request: u32) -> Failure {
    Failure::new(errno, format!("the device has no call {request:#x}"))
}

fn of_channel(
    card: &Card,
    node: Node,
    channel: u8,
    writes: bool,
    request: u32,
    argument: usize,
) -> Outcome<()> {
    let answer = |value: i32| UserMemory::at(argument, 4).write(&value.to_ne_bytes());
    match request {
        ADDRMODE_SET => {
            card.one_address(node.kind, Some(argument != 0));
            Ok(())
        }
        ADDRMODE_GET => answer(card.one_address(node.kind, None).into()),
        ALIGN_GET => {
            let info = card.channel(node.kind).ok_or_else(|| Failure::silent(Errno::NODEV))?;
            answer(info.alignments.address_alignment().into())
        }
        APERTURE_READ | APERTURE_WRITE if (request == APERTURE_WRITE) != writes => {
            Err(Failure::new(Errno::INVAL, "the channel goes the other way"))
        }
        APERTURE_READ | APERTURE_WRITE => aperture(card, node, channel, writes, argument),
        PERF_START | PERF_STOP | PERF_GET => {
            let why = "the driver's performance measurement keeps an engine running by itself, which is not done here; \
                       jitney time dma measures channels";
            Err(Failure::new(Errno::OPNOTSUPP, why))
        }
        _ => Err(unknown(Errno::INVAL, request)),
    }
}

/// A transfer whose card addresses begin anew after so many bytes.
fn aperture(card: &Card, node: Node, channel: u8, writes: bool, argument: usize) -> Outcome<()> {
    let block = UserMemory::at(argument, APERTURE_SIZE);
    let mut bytes = [0; APERTURE_SIZE];
    block.read(&mut bytes)?;
    let word =
        |at: usize| bytes.get(at..at + 8).and_then(|word| word.try_into().ok()).map_or(0, u64::from_ne_bytes);
    let half =
        |at: usize| bytes.get(at..at + 4).and_then(|word| word.try_into().ok()).map_or(0, u32::from_ne_bytes);
    let size = |at: usize| usize::try_from(word(at)).unwrap_or(usize::MAX);
    let (address, aperture, memory) = (word(0), half(8) as usize, UserMemory::at(size(16), size(24)));
    if aperture == 0 {
        return Err(Failure::new(Errno::INVAL, "an aperture of no bytes"));
    }
    let move_all = || {
        if card.channel(node.kind).is_some_and(|info| info.stream) {
            return Err(Failure::new(Errno::INVAL, "the channel is a stream, which has no addresses"));
        }
        for start in (0..memory.len()).step_by(aperture) {
            let part = memory.part(start, aperture.min(memory.len() - start));
            match writes {
                true => memory::write(card, channel, part, address)?,
                false => memory::read(card, channel, part, address)?,
            }
        }
        Ok(())
    };
    let outcome: Outcome<()> = move_all();
    let errno = outcome.as_ref().err().map_or(0, |failure| -failure.errno.raw_os_error());
    block.part(32, 4).write(&errno.to_ne_bytes())?;
    if outcome.is_ok() {
        block.part(40, 8).write(&(memory.len() as u64).to_ne_bytes())?;
    }
    outcome
}

fn of_registers(card: &Card, request: u32, argument: usize) -> Outcome<()> {
    match request {
        INFO => {
            let block = UserMemory::at(argument, INFO_SIZE);
            let mut asked = [0; 4];
            block.read(&mut asked)?;
            if u32::from_ne_bytes(asked) != INFO_MAGIC {
                return Err(Failure::new(
                    Errno::NOTTY,
                    "the question has not the magic number that it has to",
                ));
            }
            block.write(&info(card))
        }
        OFFLINE | ONLINE => {
            let why = "the card is not this program's alone, and is not taken away from others; jitney reset resets it";
            Err(Failure::new(Errno::OPNOTSUPP, why))
        }
        _ => Err(unknown(Errno::NOTTY, request)),
    }
}

/// `struct xdma_ioc_info`: who the card is, and where.
fn info(card: &Card) -> [u8; INFO_SIZE] {
    let identity = card.xdma.card().identity();
    let mut bytes = [0; INFO_SIZE];
    let ids = [identity.vendor, identity.device, identity.subsystem_vendor, identity.subsystem_device];
    for (place, id) in bytes.get_mut(8..16).unwrap_or_default().chunks_exact_mut(2).zip(ids) {
        place.copy_from_slice(&id.to_ne_bytes());
    }
    // The driver tells a domain of 0 whatever it is, and of bus, device and function what it can of its own numbers.
    if let Some(place) = place_of(&identity.address) {
        bytes.get_mut(34..37).unwrap_or_default().copy_from_slice(&place);
    }
    bytes
}

/// Bus, device and function of a PCI address, `0000:2e:00.0`.
fn place_of(address: &str) -> Option<[u8; 3]> {
    let (_, rest) = address.split_once(':')?;
    let (bus, rest) = rest.split_once(':')?;
    let (device, function) = rest.split_once('.')?;
    let hexadecimal = |text| u8::from_str_radix(text, 16).ok();
    Some([hexadecimal(bus)?, hexadecimal(device)?, hexadecimal(function)?])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_those_of_the_headers() {
        assert_eq!(ADDRMODE_SET, 0x4004_7104);
        assert_eq!(ADDRMODE_GET, 0x8004_7105);
        assert_eq!(APERTURE_WRITE, 0x4008_7108);
        assert_eq!(INFO, 0xc028_7801);
        assert_eq!(ONLINE, 0x7803);
    }

    #[test]
    fn a_place_is_read_from_a_pci_address() {
        assert_eq!(place_of("0000:2e:1f.3"), Some([0x2e, 0x1f, 3]));
        assert_eq!(place_of("vfio-user:/run/a.sock"), None);
    }
}
