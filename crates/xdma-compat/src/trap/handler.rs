//! The handler of faults, and the program's own behind it.
//!
//! It is there as soon as registers are mapped that only messages reach. A fault anywhere else is the program's: its handler is called as the
//! kernel would, or the default happens.

#![expect(unsafe_code, reason = "signal handlers")]

use super::complain_of;
use super::context::Context;
use super::step::{Memory, Refused, step};
use super::windows::{Way, Window, at};
use crate::failure::{Failure, Outcome};
use crate::inside::Inside;
use crate::machine::Machine;
use crate::real;
use crate::user_memory::UserMemory;
use jitney_vfio::Region;
use libc::{c_int, c_void, sigaction, siginfo_t, sigset_t, ucontext_t};
use rustix::io::Errno;
use std::sync::atomic::{AtomicBool, AtomicPtr, Ordering};

/// The longest instruction there is.
const LONGEST: usize = 15;

/// What a program says is to be done at a signal.
pub(crate) type Action = sigaction;

static INSTALLED: AtomicBool = AtomicBool::new(false);
/// What the program wants done; the default if it has said nothing. What it was before is never freed: a handler may look at it.
static PROGRAMS: AtomicPtr<Action> = AtomicPtr::new(std::ptr::null_mut());

/// Installs the handler, if it is not.
pub(super) fn install() {
    if INSTALLED.swap(true, Ordering::AcqRel) {
        return;
    }
    let mut before = default_action();
    // SAFETY: the action is a whole one of ours, and is only written to.
    unsafe { real::sigaction(libc::SIGSEGV, std::ptr::null(), &raw mut before) };
    PROGRAMS.store(Box::leak(Box::new(before)), Ordering::Release);
    register(&before);
}

/// Has the kernel call the handler: on the stack on which the program wants its own called, so that it hears of an overflow.
fn register(programs: &Action) {
    let mut action = default_action();
    action.sa_sigaction = handle as extern "C" fn(c_int, *mut siginfo_t, *mut c_void) as usize;
    action.sa_flags = libc::SA_SIGINFO | programs.sa_flags & libc::SA_ONSTACK;
    // No signal comes in between, whose handler might use a device.
    // SAFETY: the set is ours.
    unsafe { libc::sigfillset(&raw mut action.sa_mask) };
    // SAFETY: the action is a whole one of ours, and the handler lives as long as the process.
    unsafe { real::sigaction(libc::SIGSEGV, &raw const action, std::ptr::null_mut()) };
}

fn default_action() -> Action {
    // SAFETY: an action is plain memory, for which zero is a value: the default, with no signal masked.
    unsafe { std::mem::zeroed() }
}

/// Takes note of what the program wants done at a fault, and tells what it wanted before. Nothing if this library does not handle
/// faults, so that the real function is to be called.
pub(crate) fn replace_action(new: Option<Action>) -> Option<Action> {
    if !INSTALLED.load(Ordering::Acquire) {
        return None;
    }
    let old = programs();
    if let Some(new) = new {
        PROGRAMS.store(Box::leak(Box::new(new)), Ordering::Release);
        register(&new);
    }
    Some(old)
}

fn programs() -> Action {
    let action = PROGRAMS.load(Ordering::Acquire);
    // SAFETY: it is null, or was leaked before it was stored.
    unsafe { action.as_ref() }.copied().unwrap_or_else(default_action)
}

/// A set of signals to be masked without that of faults, once this library handles them: a fault that is masked ends the program.
pub(crate) fn mask_without_faults(set: sigset_t) -> sigset_t {
    let mut set = set;
    if INSTALLED.load(Ordering::Acquire) {
        // SAFETY: the set is ours.
        unsafe { libc::sigdelset(&raw mut set, libc::SIGSEGV) };
    }
    set
}

extern "C" fn handle(signal: c_int, info: *mut siginfo_t, context: *mut c_void) {
    // SAFETY: the kernel passes both, and they live as long as the handler runs.
    let (Some(about), Some(saved)) =
        (unsafe { info.as_ref() }, unsafe { context.cast::<ucontext_t>().as_mut() })
    else {
        return;
    };
    // SAFETY: a fault's information has an address.
    let address = unsafe { about.si_addr() }.addr();
    let errno = std::io::Error::last_os_error().raw_os_error().unwrap_or(0);
    let window = at(address).filter(|window| window.way == Way::Trapped && about.si_code > 0);
    let done = window.is_some_and(|window| carry_out(window, saved));
    real::set_errno(errno);
    if !done {
        forward(signal, info, context, saved);
    }
}

/// Carries out the access that faulted. Whether it was.
fn carry_out(window: Window, saved: &mut ucontext_t) -> bool {
    let outcome = Inside::enter().and_then(|_inside| {
        let mut context = Context::new(saved);
        let instruction = super::step::Cpu::instruction(&context);
        let mut code = [0; LONGEST];
        let code = code_at(instruction, &mut code);
        let region = Machine::get().card(window.node.card).and_then(|card| card.region(window.node))?;
        let memory = Registers { window, region };
        step(code, &mut context, &memory).map_err(|refused| refusal(refused, instruction))
    });
    match outcome {
        Ok(()) => true,
        Err(failure) => {
            complain_of(window.node, "a load or store", &failure);
            false
        }
    }
}

fn refusal(refused: Refused, instruction: u64) -> Failure {
    let why = match refused {
        Refused::Unknown(name) => format!(
            "the instruction at {instruction:#x} ({name}) is not carried out on registers that only messages reach; \
             access them by loads and stores of 32 bits"
        ),
        Refused::Beyond => format!("the instruction at {instruction:#x} reaches beyond what is mapped"),
        Refused::NoMemory => {
            format!("the instruction at {instruction:#x} copies from or to memory that is not there")
        }
    };
    Failure::new(Errno::FAULT, why)
}

/// The code at an address, as much of it as is there.
fn code_at(address: u64, code: &mut [u8; LONGEST]) -> &[u8] {
    let Ok(address) = usize::try_from(address) else { return &[] };
    // It may end with its page.
    for length in (1..=LONGEST).rev() {
        let (code, _) = code.split_at_mut(length);
        if UserMemory::at(address, length).read(code).is_ok() {
            break;
        }
        code.fill(0);
    }
    code
}

/// Registers that a window shows.
struct Registers {
    window: Window,
    region: Region,
}

impl Registers {
    fn offset(&self, address: u64) -> u64 {
        address - self.window.base as u64 + self.window.offset
    }

    /// Widths of accesses that make up so many bytes at an offset: of four, and less where it has to be.
    fn each(
        offset: u64,
        length: usize,
        mut access: impl FnMut(u64, usize, usize) -> Outcome<()>,
    ) -> Outcome<()> {
        let mut done = 0;
        while done < length {
            let at = offset + done as u64;
            let width = [4, 2, 1]
                .into_iter()
                .find(|width| at.is_multiple_of(*width as u64) && *width <= length - done);
            let width = width.unwrap_or(1);
            access(at, done, width)?;
            done += width;
        }
        Ok(())
    }
}

impl Memory for Registers {
    fn is_registers(&self, address: u64, length: usize) -> bool {
        let start = self.window.base as u64;
        let end = start + self.window.length as u64;
        address >= start && address.checked_add(length as u64).is_some_and(|last| last <= end)
    }

    fn load(&self, address: u64, bytes: &mut [u8]) {
        // What a card that does not answer reads as.
        bytes.fill(0xff);
        let length = bytes.len();
        let outcome = Self::each(self.offset(address), length, |offset, at, width| {
            let value = match width {
                4 => self.region.read32(offset)?,
                2 => self.region.read16(offset)?.into(),
                _ => self.region.read8(offset)?.into(),
            };
            let place = bytes.get_mut(at..at + width).unwrap_or_default();
            place.copy_from_slice(value.to_le_bytes().get(..width).unwrap_or_default());
            Ok(())
        });
        if let Err(failure) = outcome {
            complain_of(self.window.node, "a load (it reads as all-ones)", &failure);
        }
    }

    fn store(&self, address: u64, bytes: &[u8]) {
        let outcome = Self::each(self.offset(address), bytes.len(), |offset, at, width| {
            let mut value = [0; 4];
            let place = value.get_mut(..width).unwrap_or_default();
            place.copy_from_slice(bytes.get(at..at + width).unwrap_or_default());
            let [low, high, ..] = value;
            match width {
                4 => self.region.write32(offset, u32::from_le_bytes(value))?,
                2 => self.region.write16(offset, u16::from_le_bytes([low, high]))?,
                _ => self.region.write8(offset, low)?,
            }
            Ok(())
        });
        if let Err(failure) = outcome {
            complain_of(self.window.node, "a store (it is lost)", &failure);
        }
    }

    fn read(&self, address: u64, bytes: &mut [u8]) -> bool {
        usize::try_from(address).is_ok_and(|address| UserMemory::at(address, bytes.len()).read(bytes).is_ok())
    }

    fn write(&self, address: u64, bytes: &[u8]) -> bool {
        usize::try_from(address)
            .is_ok_and(|address| UserMemory::at(address, bytes.len()).write(bytes).is_ok())
    }
}

/// Does what the program wants done at a fault.
fn forward(signal: c_int, info: *mut siginfo_t, context: *mut c_void, saved: &ucontext_t) {
    let action = programs();
    if action.sa_sigaction == libc::SIG_DFL || action.sa_sigaction == libc::SIG_IGN {
        // The instruction faults again, and then that is what happens: a fault cannot be ignored.
        let default = default_action();
        // SAFETY: a whole action of ours.
        unsafe { real::sigaction(signal, &raw const default, std::ptr::null_mut()) };
        return;
    }
    if action.sa_flags & libc::SA_RESETHAND != 0 {
        PROGRAMS.store(Box::leak(Box::new(default_action())), Ordering::Release);
    }
    let mut mask = saved.uc_sigmask;
    for number in 1..=libc::SIGRTMAX() {
        // SAFETY: a set of the program's.
        let masked = unsafe { libc::sigismember(&raw const action.sa_mask, number) } == 1;
        if masked || number == signal && action.sa_flags & libc::SA_NODEFER == 0 {
            // SAFETY: a set of ours.
            unsafe { libc::sigaddset(&raw mut mask, number) };
        }
    }
    real::set_mask(libc::SIG_SETMASK, &raw const mask, std::ptr::null_mut());
    if action.sa_flags & libc::SA_SIGINFO != 0 {
        // SAFETY: with this flag that is what the program has given.
        let handler: extern "C" fn(c_int, *mut siginfo_t, *mut c_void) =
            unsafe { std::mem::transmute(action.sa_sigaction) };
        handler(signal, info, context);
    } else {
        // SAFETY: without it, this.
        let handler: extern "C" fn(c_int) = unsafe { std::mem::transmute(action.sa_sigaction) };
        handler(signal);
    }
}
