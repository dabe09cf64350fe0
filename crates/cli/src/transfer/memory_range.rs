//! Which addresses of a card have memory behind them.

use crate::size::human;
use crate::status::Misuse;
use anyhow::bail;
use jitney_boards::{Board, Memory};

/// How many bytes there are from `address` of the card on, until its memory ends; memories may follow each other.
pub(crate) fn room(board: &Board, address: u64) -> anyhow::Result<u64> {
    let memories = board.memories();
    if memories.is_empty() {
        let (name, card) = (board.name(), board.card().identity());
        bail!("{name} at {card} has no memory that DMA reaches; `jitney info` says what it has");
    }
    match room_in(memories, address) {
        0 => Err(Misuse(format!("card address {address:#x} is in no memory; {}", there(board))).into()),
        room => Ok(room),
    }
}

/// Fails if `length` bytes are more than the `room` that there is from `address` on.
pub(crate) fn must_fit(board: &Board, address: u64, length: u64, room: u64) -> Result<(), Misuse> {
    if length <= room {
        return Ok(());
    }
    let there = there(board);
    Err(Misuse(format!(
        "{length:#x} bytes do not fit from card address {address:#x} on, where there are {room:#x}; {there}"
    )))
}

fn there(board: &Board) -> String {
    let memories = board.memories().iter().map(|memory| {
        let kind = memory.kind.map(|kind| format!(" of {kind}")).unwrap_or_default();
        format!(
            "{}{kind} from {:#x} to {:#x}",
            human(memory.size),
            memory.base,
            memory.last().unwrap_or(memory.base)
        )
    });
    format!("{} has {}", board.name(), memories.collect::<Vec<_>>().join(", "))
}

fn room_in(memories: &[Memory], address: u64) -> u64 {
    let mut end = address;
    while let Some(memory) =
        memories.iter().find(|memory| memory.base <= end && memory.last().is_some_and(|last| end <= last))
    {
        match memory.last().and_then(|last| last.checked_add(1)) {
            Some(next) => end = next,
            // It ends where addresses end.
            None => return u64::MAX - address,
        }
    }
    end - address
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memories_that_follow_each_other_are_one() {
        let memory = |base, size| Memory { kind: None, base, size };
        let memories =
            [memory(0x3000, 0x1000), memory(0x1000, 0x1000), memory(0x2000, 0x1000), memory(0x8000, 0x1000)];
        for (address, room) in [
            (0, 0),
            (0xfff, 0),
            (0x1000, 0x3000),
            (0x1001, 0x2fff),
            (0x3fff, 1),
            (0x4000, 0),
            (0x8000, 0x1000),
            (u64::MAX, 0),
        ] {
            assert_eq!(room_in(&memories, address), room, "{address:#x}");
        }
        assert_eq!(room_in(&[memory(u64::MAX - 0xfff, 0x1000)], u64::MAX - 0xff), 0xff);
    }
}
