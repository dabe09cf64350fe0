//! Registers of cards, by number or by name.

/// The help of a command for registers: `examples`, and how a register is named.
macro_rules! with_places {
    ($examples:literal) => {
        concat!(
            $examples,
            "\n\nA register is BAR:OFFSET, as 2:0x40, or NAME or NAME+OFFSET with the name or kind of a peripheral in the \
             design's boards file, as xadc+0x200; of several of a kind axi-gpio0, axi-gpio1 and so on. Those of an XDMA have \
             names of their own, as xdma:h2c0.control. `jitney dump` shows what there is. Offsets are in bytes.\n\n\
             A card is reset when its last program ends: to write a register with one command and read it with the next, \
             have a broker own the card (`jitney broker`) and hold it (`jitney hold`)."
        )
    };
}

pub(crate) mod dump;
mod places;
pub(crate) mod read;
pub(crate) mod write;
