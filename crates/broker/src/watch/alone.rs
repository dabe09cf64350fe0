//! A program that owns its cards itself looks for others: when the kernel says that something has happened to a device, and now and then.

use super::{Change, PACE, Queue, failed};
use crate::server::Lookout;
use jitney_memory::EventFd;
use jitney_vfio::{Identity, Result};
use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::io::Errno;
use rustix::net::netlink::{KOBJECT_UEVENT, SocketAddrNetlink};
use rustix::net::{AddressFamily, RecvFlags, SocketFlags, SocketType};
use std::os::fd::OwnedFd;
use std::time::Instant;

/// The group of netlink's in which the kernel says what happens to devices (netlink(7), `lib/kobject_uevent.c`).
const KERNEL_GROUP: u32 = 1;

/// Looks until it is told to end: when the kernel says that something has happened to a device, and now and then.
pub(super) fn look_out(lookout: &mut Lookout, mut known: Vec<Identity>, queue: &Queue, end: &EventFd) {
    // Where it cannot be had, as in some containers, it is looked all the same.
    let kernel = kernel_events().inspect_err(|error| tracing::debug!(%error, "no word from the kernel")).ok();
    let mut complained = None;
    loop {
        match wait_for_either(kernel.as_ref(), end) {
            Ok(false) => {}
            Ok(true) => return,
            Err(error) => return queue.put(Err(error)),
        }
        match lookout.look(&known) {
            Ok(now) => {
                let stays = |card: &Identity| now.iter().any(|own| own.identity == *card && !own.is_new);
                known
                    .iter()
                    .filter(|card| !stays(card))
                    .for_each(|card| queue.put(Ok(Change::Left(card.clone()))));
                now.iter()
                    .filter(|own| own.is_new || !known.contains(&own.identity))
                    .for_each(|own| queue.put(Ok(Change::Arrived(own.identity.clone()))));
                known = now.into_iter().map(|own| own.identity).collect();
                complained = None;
            }
            // Said once, as long as it is the same.
            Err(error) if complained.as_ref() == Some(&error) => {}
            Err(error) => {
                complained = Some(error.clone());
                queue.put(Err(error));
            }
        }
    }
}

pub(super) fn seen(lookout: &mut Lookout, known: &[Identity]) -> Result<Vec<Identity>> {
    Ok(lookout.look(known)?.into_iter().map(|sighting| sighting.identity).collect())
}

/// Waits for a word from the kernel about a device of PCI, or for [`PACE`]; true if it is to end.
fn wait_for_either(kernel: Option<&OwnedFd>, end: &EventFd) -> Result<bool> {
    let until = Instant::now() + PACE;
    loop {
        let left = Timespec::try_from(until.saturating_duration_since(Instant::now())).ok();
        let mut polled = vec![PollFd::new(end, PollFlags::IN)];
        polled.extend(kernel.map(|kernel| PollFd::new(kernel, PollFlags::IN)));
        match rustix::event::poll(&mut polled, left.as_ref()) {
            Ok(0) => return Ok(false),
            Ok(_) | Err(Errno::INTR) => {}
            Err(errno) => return Err(failed(errno)),
        }
        if !polled[0].revents().is_empty() {
            return Ok(true);
        }
        if polled.len() > 1 && !polled[1].revents().is_empty() && kernel.is_some_and(is_about_pci) {
            return Ok(false);
        }
        if until <= Instant::now() {
            return Ok(false);
        }
    }
}

/// Takes all that the kernel has said, and tells whether some of it was about a device of PCI.
fn is_about_pci(kernel: &OwnedFd) -> bool {
    let mut is_one = false;
    let mut message = [0; 8192];
    loop {
        match rustix::net::recv(kernel, &mut message, RecvFlags::DONTWAIT) {
            Ok((_, length)) => {
                let words = message[..length.min(message.len())].split(|byte| *byte == 0);
                is_one |= words.into_iter().any(|word| word == b"SUBSYSTEM=pci");
            }
            Err(Errno::INTR) => {}
            // Something was said that there was no room for.
            Err(Errno::NOBUFS) => is_one = true,
            Err(_) => return is_one,
        }
    }
}

/// Where the kernel says what happens to devices.
fn kernel_events() -> Result<OwnedFd> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket =
        rustix::net::socket_with(AddressFamily::NETLINK, SocketType::RAW, flags, Some(KOBJECT_UEVENT));
    let socket = socket.map_err(failed)?;
    rustix::net::bind(&socket, &SocketAddrNetlink::new(0, KERNEL_GROUP)).map_err(failed)?;
    Ok(socket)
}
