//! A card whose registers do not answer, asked of configuration space: whether it can still reach memory, and the end of that.

use jitney_vfio::{Card, Error, ErrorKind, Result};

/// Where a card says which revision and what kind it is. All-ones is no kind.
///
/// Through VFIO the ids in front of it, and one bit of the command register, are the kernel's copy (`vfio_pci_config.c`,
/// `init_pci_cap_basic_perm`), which a card that was pulled out still has; this comes from the card itself.
const REVISION_AND_CLASS: u64 = 0x08;
/// The command register and its bit Bus Master Enable (PCI 3.0, section 6.2.2).
const COMMAND: u64 = 0x04;
const BUS_MASTER: u16 = 1 << 2;

/// Why a card cannot reach memory any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum NoDma {
    /// It is not there: nobody answers in configuration space either.
    Gone,
    /// Its bus mastering is off, and was seen to be.
    BusMasterOff,
}

/// Sees to it that `card` cannot reach memory: it is gone, or else its bus mastering is switched off, which stops every engine
/// on it. An answer from configuration space also says that whatever it had written before has arrived.
///
/// # Errors
/// What is known of the card is not enough: configuration space cannot be accessed, or the bit stays set.
pub(super) fn end_dma(card: &dyn Card) -> Result<NoDma> {
    match switch_off(card) {
        // The kernel says so of a card that was pulled out, a board's client of a process that has ended.
        Err(error) if error.kind() == ErrorKind::LinkDown => Ok(NoDma::Gone),
        outcome => outcome,
    }
}

fn switch_off(card: &dyn Card) -> Result<NoDma> {
    let config = card.config()?;
    let is_gone = || -> Result<bool> { Ok(config.read32(REVISION_AND_CLASS)? == u32::MAX) };
    if is_gone()? {
        return Ok(NoDma::Gone);
    }
    let command = config.read16(COMMAND)?;
    if command & BUS_MASTER != 0 {
        config.write16(COMMAND, command & !BUS_MASTER)?;
    }
    match config.read16(COMMAND)? {
        command if command & BUS_MASTER == 0 => Ok(NoDma::BusMasterOff),
        // Of a card that goes at this moment every bit is set.
        _ if is_gone()? => Ok(NoDma::Gone),
        command => {
            let what =
                format!("the bus mastering of card {} stays on (command {command:#06x})", card.identity());
            Err(Error::new(ErrorKind::System, what))
        }
    }
}
