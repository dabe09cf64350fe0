//! A boards file is read; what is right is emulated, and asked for every register that it names.

#![no_main]

use jitney_designs::{Catalogue, Error};
use jitney_emulator::boards::Board;
use jitney_emulator::{Function, NoHost};
use libfuzzer_sys::fuzz_target;
use std::sync::Arc;

fuzz_target!(|text: &str| {
    let catalogue = match Catalogue::of_text("fuzz.toml", text) {
        Ok(catalogue) => catalogue,
        Err(Error::Catalogue { line, message, .. }) => {
            assert!(line >= 1 && line <= text.lines().count() + 1 && !message.is_empty());
            return;
        }
        Err(other) => panic!("{other}"),
    };
    for design in catalogue.designs() {
        for name in design.names() {
            let board = Board::named(&catalogue, name).unwrap();
            // A variant that another hides, or memory that the machine does not have, is an error in words.
            let Ok(card) = board.plug_into(Arc::new(NoHost)) else { continue };
            assert!(!board.info().unwrap().is_empty());
            for (index, bar) in card.description().bars.iter().enumerate() {
                let Some(bar) = bar else { continue };
                assert!(bar.size.is_power_of_two());
                let here = design.peripherals.iter().filter(|own| usize::from(own.bar) == index);
                for offset in
                    here.flat_map(|own| [own.offset, own.offset + own.size - 4]).chain([0, bar.size - 4])
                {
                    let mut word = [0; 4];
                    card.read(index, offset, &mut word);
                    card.write(index, offset, &word);
                }
            }
            card.reset();
        }
    }
});
