//! Which board a card is, and what it measures.

use crate::boundary::{DONE, run};
use crate::card::Card;
use crate::handle;
use crate::pointer::{Array, Room, field, give};
use jitney_faces::Failure;
use std::ffi::{c_char, c_int};
use std::mem::MaybeUninit;
use std::sync::Arc;

/// Memory on a card that its DMA engine reaches.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct Memory {
    /// Address of its first byte, on the card.
    pub base: u64,
    /// Bytes.
    pub size: u64,
    /// What it is made of, where known: `ddr`, `block-ram`, `hbm`, `ultra-ram`.
    pub kind: [c_char; 16],
}

/// Which board a card is.
#[repr(C)]
#[derive(Debug)]
pub struct Board {
    /// The board's name, as `NiteFury`.
    pub name: [c_char; 64],
    /// The design's name, unique in the catalogue.
    pub design: [c_char; 64],
    /// The FPGAs that it may have, with commas between them; empty if nobody knows.
    pub fpga: [c_char; 128],
    /// The board's version; below 0 if its design has none.
    pub version: i64,
    /// How many memories it has; of more than there is room for, the first are told.
    pub memory_count: u32,
    /// Its memories.
    pub memories: [Memory; 16],
}

/// What a sensor says.
#[repr(C)]
#[derive(Debug)]
pub struct Reading {
    /// What measures: `xadc`, `sysmon`, `cms`.
    pub monitor: [c_char; 32],
    /// What the sensor is called.
    pub name: [c_char; 64],
    /// `temperature`, `voltage`, `current`, `power` or `speed`.
    pub quantity: [c_char; 16],
    /// The unit of the values.
    pub unit: [c_char; 8],
    /// The value now.
    pub now: f64,
    /// The least value since the monitor was reset; not a number if it keeps none.
    pub min: f64,
    /// The average, likewise.
    pub average: f64,
    /// The greatest value, likewise.
    pub max: f64,
    /// 1 if it is outside of its limits, 0 if not, below 0 if nobody watches it.
    pub alarm: c_int,
}

/// Which board the card is; looked for when it is first asked.
#[unsafe(no_mangle)]
pub extern "C" fn jitney_card_board(card: *mut Card, board: Option<&mut MaybeUninit<Board>>) -> c_int {
    run(|| {
        let found = Arc::clone(&handle::get(card)?.shared).board()?;
        let memory = |own: &jitney::boards::Memory| Memory {
            base: own.base,
            size: own.size,
            kind: field(&own.kind.map(|kind| kind.to_string()).unwrap_or_default()),
        };
        let mut memories = [Memory { base: 0, size: 0, kind: [0; 16] }; 16];
        memories.iter_mut().zip(found.memories()).for_each(|(to, from)| *to = memory(from));
        let value = Board {
            name: field(found.name()),
            design: field(&found.design().name),
            fpga: field(&found.fpga().join(",")),
            version: found.version().map_or(-1, i64::from),
            memory_count: u32::try_from(found.memories().len()).unwrap_or(u32::MAX),
            memories,
        };
        give(board, value);
        DONE
    })
}

/// What the card's sensors say: fills at most `capacity` of `readings`, which may be NULL then, and returns how many there are.
#[unsafe(no_mangle)]
pub extern "C" fn jitney_card_sensors(
    card: *mut Card,
    mut readings: Room<Reading>,
    capacity: usize,
) -> c_int {
    run(|| {
        let found = Arc::clone(&handle::get(card)?.shared).readings()?;
        let count = c_int::try_from(found.len()).unwrap_or(c_int::MAX);
        let reading = |(monitor, own): (String, jitney::boards::Reading)| Reading {
            monitor: field(&monitor),
            name: field(&own.name),
            quantity: field(&own.quantity.to_string()),
            unit: field(own.quantity.unit()),
            now: own.now,
            min: own.min.unwrap_or(f64::NAN),
            average: own.average.unwrap_or(f64::NAN),
            max: own.max.unwrap_or(f64::NAN),
            alarm: own.alarm.map_or(-1, c_int::from),
        };
        readings.fill(found.into_iter().map(reading).collect(), capacity)?;
        Ok(count)
    })
}

/// Sets the routes of the board's stream switch: for each of its `count` outputs the input, below 0 for none. Designs with streams have
/// the channels' own numbers: `{0, 1}` joins h2c0 with c2h0 and h2c1 with c2h1.
#[unsafe(no_mangle)]
pub extern "C" fn jitney_card_set_routes(card: *mut Card, inputs: Array<c_int>, count: usize) -> c_int {
    run(|| {
        let board = Arc::clone(&handle::get(card)?.shared).board()?;
        let route = |&input: &c_int| match u8::try_from(input) {
            Ok(input) => Ok(Some(input)),
            Err(_) if input < 0 => Ok(None),
            Err(_) => Err(Failure::invalid(format!("a stream switch has no input {input}"))),
        };
        let routes = inputs.get(count)?.iter().map(route).collect::<Result<Vec<_>, _>>()?;
        board.stream_switch()?.lease()?.set_routes(&routes)?;
        DONE
    })
}
