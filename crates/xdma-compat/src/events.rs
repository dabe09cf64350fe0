//! Interrupts of the design's own logic.
//!
//! The program has one end of a socket, which can be polled in every way there is; a thread here has the other, with the
//! interrupt line. Each interrupt is a message with the number 1, or as many as came while the program took none. A read through
//! this library adds up what has come; one that goes past it gets one message, which is the same in smaller parts.
//! The thread ends when the program has closed its end.

use crate::card::Card;
use crate::channel::in_line;
use crate::failure::{Failure, Outcome, say};
use crate::machine::Machine;
use crate::node::Node;
use crate::placeholder::{Access, Opened, borrow};
use crate::user_memory::UserMemory;
use jitney_xdma::UserInterrupt;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, recv, send, socketpair};
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

/// Bytes of what is read.
pub(crate) const WIDTH: usize = 4;

/// How long a line that is still up after it was heard is given to fall; then it counts as raised again.
const FALL: Duration = Duration::from_millis(5);
/// How often it is looked whether it has.
const LOOK: Duration = Duration::from_micros(100);
/// How often a thread without anything to hear looks around.
const ROUND: Timespec = Timespec { tv_sec: 1, tv_nsec: 0 };

/// A descriptor on which interrupts of the line come.
///
/// # Errors
/// EBUSY if another program has the line, and what else keeps it from being heard.
pub(crate) fn open(card: &Card, node: Node, line: u8, flags: i32) -> Outcome<OwnedFd> {
    let interrupt = in_line(Machine::get().settings.wait_to_open, || card.xdma.user_interrupt(line))?;
    let failed = |errno| Failure::new(errno, "a socket for the interrupts could not be made");
    let kind = SocketType::SEQPACKET;
    let (ours, theirs) = socketpair(AddressFamily::UNIX, kind, SocketFlags::CLOEXEC, None).map_err(failed)?;
    let access = Access::of_flags(flags).unwrap_or(Access::Both);
    Opened { node, access }.mark(&theirs)?;
    if flags & libc::O_CLOEXEC == 0 {
        rustix::io::fcntl_setfd(&theirs, rustix::io::FdFlags::empty())?;
    }
    crate::process::start_thread("jitney-events", move || {
        if let Err(failure) = hear(interrupt, &ours) {
            let why = failure.why.unwrap_or_else(|| failure.errno.to_string());
            say(&format!("{node} says nothing any more: {why}"));
        }
    })?;
    Ok(theirs)
}

/// Reads how often the line was raised since it was last read, waiting for it if it was not.
///
/// # Errors
/// EPROTO for anything but four bytes, as the driver; EAGAIN if a signal came while it waited, as the driver; ENODEV if nobody hears
/// the line any more.
pub(crate) fn read(descriptor: i32, position: u64, to: UserMemory) -> Outcome<usize> {
    if to.len() != WIDTH || !position.is_multiple_of(WIDTH as u64) {
        let why = format!("{} bytes at {position}: what is read of an interrupt are 4 bytes", to.len());
        return Err(Failure::new(Errno::PROTO, why));
    }
    let socket = borrow(descriptor).ok_or_else(|| Failure::silent(Errno::BADF))?;
    let mut count = 0_u32;
    loop {
        let mut message = [0; WIDTH];
        match recv(socket, &mut message, RecvFlags::DONTWAIT) {
            Ok((WIDTH, _)) => count = count.saturating_add(u32::from_le_bytes(message)),
            Ok(_) if count == 0 => {
                let why = "the process that heard the line has ended, or its card is gone";
                return Err(Failure::new(Errno::NODEV, why));
            }
            Ok(_) => break,
            Err(Errno::AGAIN) if count > 0 => break,
            Err(Errno::AGAIN) => match poll(&mut [PollFd::from_borrowed_fd(socket, PollFlags::IN)], None) {
                Ok(_) => {}
                Err(Errno::INTR) => return Err(Failure::silent(Errno::AGAIN)),
                Err(errno) => return Err(errno.into()),
            },
            Err(Errno::INTR) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
    to.write(&count.to_le_bytes())?;
    Ok(WIDTH)
}

/// Hears the line until the other end of `program` is closed.
fn hear(mut interrupt: UserInterrupt, program: &OwnedFd) -> Outcome<()> {
    let mut untold = 0_u32;
    loop {
        interrupt.arm()?;
        let wanted = if untold > 0 { PollFlags::OUT } else { PollFlags::empty() };
        let mut ready = [
            PollFd::from_borrowed_fd(interrupt.as_fd(), PollFlags::IN),
            PollFd::from_borrowed_fd(program.as_fd(), wanted),
        ];
        match poll(&mut ready, Some(&ROUND)) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(errno) => return Err(errno.into()),
        }
        let [_, program_is] = ready.map(|one| one.revents());
        if program_is.intersects(PollFlags::HUP | PollFlags::ERR) {
            return Ok(());
        }
        let fired = interrupt.has_fired()?;
        untold = untold.saturating_add(fired.into());
        if untold > 0 {
            match send(program, &untold.to_le_bytes(), SendFlags::DONTWAIT | SendFlags::NOSIGNAL) {
                Ok(_) => untold = 0,
                // It will be told when it has read what it was.
                Err(Errno::AGAIN) => {}
                Err(Errno::PIPE | Errno::CONNRESET) => return Ok(()),
                Err(errno) => return Err(errno.into()),
            }
        }
        if fired {
            let_fall(&interrupt)?;
        }
    }
}

/// Waits a moment until the line has fallen: the program tells its logic that it was heard, and only then is it raised anew.
fn let_fall(interrupt: &UserInterrupt) -> Outcome<()> {
    let since = Instant::now();
    while since.elapsed() < FALL && interrupt.is_raised()? {
        std::thread::sleep(LOOK);
    }
    Ok(())
}
