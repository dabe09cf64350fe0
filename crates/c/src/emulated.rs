//! Boards in the program's own process, for its tests.

use crate::boundary::{DONE, run};
use crate::card::Card;
use crate::handle;
use crate::pointer::Text;
use jitney_faces::{Failure, SharedCard, Wanted, fault};
use std::ffi::c_int;
use std::mem::MaybeUninit;

/// How an emulated board is to be. What is zero is as usual; `board` or `file` is needed.
#[repr(C)]
#[derive(Debug)]
pub struct EmulatedOptions {
    /// The name of a board or a design, as `nitefury`.
    pub board: Text,
    /// A boards file that has it (docs/boards.md).
    pub file: Text,
    /// Bytes of its memory.
    pub memory: u64,
    /// Channels in each direction.
    pub channels: u8,
    /// Its interrupts, as by `jitney emulate --interrupts`.
    pub interrupts: Text,
    /// What its link carries: bytes a second, or as `gen2x4`.
    pub link: Text,
    /// The file that its flash is kept in.
    pub flash: Text,
}

impl EmulatedOptions {
    fn wanted(&self) -> Result<Wanted, Failure> {
        let owned = |text: &Text, what| Ok::<_, Failure>(text.get(what)?.map(str::to_owned));
        let link = self.link.get("the link")?.map(str::parse).transpose();
        Ok(Wanted {
            board: owned(&self.board, "the board's name")?,
            file: owned(&self.file, "the boards file")?.map(Into::into),
            memory: (self.memory > 0).then_some(self.memory),
            channels: (self.channels > 0).then_some(self.channels),
            interrupts: owned(&self.interrupts, "the interrupts")?,
            link: link.map_err(|error| Failure::invalid(format!("{error}")))?,
            flash: owned(&self.flash, "the flash's file")?.map(Into::into),
            faults: Vec::new(),
        })
    }
}

/// Starts an emulated board in this process, for tests, and opens its card, which this process owns alone. The board ends when the card
/// and all that was made of it is freed.
#[unsafe(no_mangle)]
pub extern "C" fn jitney_card_emulate(
    options: Option<&EmulatedOptions>,
    card: Option<&mut MaybeUninit<*mut Card>>,
) -> c_int {
    run(|| {
        handle::notice_forks();
        let wanted = options.map_or_else(|| Ok(Wanted::default()), EmulatedOptions::wanted)?;
        let (emulated, catalogue) = wanted.start()?;
        let shared = SharedCard::new(emulated.card(), None, Some(catalogue));
        handle::hand_out(card, Card::new(shared, Some(emulated)))
    })
}

/// Sets the level of an interrupt line of the design's own, as its logic would; `level` is 0 or 1.
#[unsafe(no_mangle)]
pub extern "C" fn jitney_emulated_set_interrupt(card: *mut Card, line: u8, level: u32) -> c_int {
    run(|| {
        handle::get(card)?.emulated()?.board().set_user_interrupt(line, level != 0);
        DONE
    })
}

/// Has a fault happen on an emulated board, named as by `jitney emulate --fault`.
#[unsafe(no_mangle)]
pub extern "C" fn jitney_emulated_inject(card: *mut Card, name: Text) -> c_int {
    run(|| {
        let fault = fault(name.needed("the fault's name")?)?;
        handle::get(card)?.emulated()?.board().inject(fault);
        DONE
    })
}
