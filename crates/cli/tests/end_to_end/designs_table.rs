//! Each design of the catalogue against each command: run, or refused for a reason. docs/designs.md shows it.

use crate::support::{Ground, Outcome};
use jitney::boards::Catalogue;
use std::fmt::Write;
use std::fs;
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

/// A command, its line with the card for `CARD`, and what it says of a design that it cannot do: any of these.
const COMMANDS: &[(&str, &str, &[&str])] = &[
    ("info", "info --config", &[]),
    ("sensors", "sensors", &["no board with sensors"]),
    ("test dma", "test dma", &["no board with an XDMA", "nothing of it fits the design"]),
    ("test memory", "test memory --size 4K --passes 1", &["no board with memory that DMA reaches"]),
    ("test addressing", "test addressing", &["no board with memory that DMA reaches"]),
    ("test streams", "test streams --for 50ms", &["no board with streams", "--one-way"]),
    ("test streams --one-way", "test streams --for 50ms --one-way", &["no board with streams"]),
    ("test persistence", "test persistence", &["no board with memory"]),
    ("time dma", "time dma --sizes 4K --depth 1 --for 1ms", &["no board with memory that DMA reaches"]),
    (
        "time latency",
        "time latency --sizes 64 --for 1ms",
        &["no board with an XDMA", "nothing comes for what is sent", "names no memory"],
    ),
    ("time pio", "time pio --for 1ms", &["no board with registers that are known"]),
    ("save", "save CARD BASE 4K /dev/null", &["no memory that DMA reaches", "QDMA", "no DMA engine"]),
    ("capture", "capture CARD --for 30ms --to /dev/null", &["is memory-mapped", "QDMA", "no DMA engine"]),
    ("route", "route CARD", &["no stream-switch"]),
    ("flash info", "flash info CARD", &["no quad-spi", "does not answer"]),
    ("i2c scan", "i2c scan CARD", &["no iic"]),
    ("blink", "blink CARD --for 10ms", &["no LED"]),
    ("reset", "reset CARD", &[]),
    ("reset --ddr", "reset CARD --ddr", &["no ddr-status"]),
    ("read", "read CARD BAR:0", &["has no BAR 0"]),
    ("dump", "dump CARD BAR --bytes 0x40", &["has no BAR 0"]),
];

/// Whether a command ran on a design; fails if it did not for another reason than it may.
fn ran(ground: &Ground, board: &str, line: &str, reasons: &[&str]) -> bool {
    let outcome: Outcome = ground.run(line);
    if outcome.status.code() == Some(0) {
        return true;
    }
    let refused = [Some(1), Some(2), Some(3)].contains(&outcome.status.code());
    assert!(refused && reasons.iter().any(|reason| outcome.err.contains(reason)), "{board}: {outcome}");
    false
}

/// A row of the table.
fn row(design: &jitney::boards::Design) -> String {
    let ground = Ground::new();
    let board = ground.board(&design.name);
    let card = format!("--card {}", board.address());
    let json = ground.run(&format!("info {card} --json")).exits(0).json();
    let id = json[0]["id"].as_str().unwrap();
    let bar = json[0]["bars"].as_array().unwrap().iter().find(|bar| bar["size"].as_u64() > Some(0));
    let bar = bar.map_or_else(|| "0".into(), |bar| bar["index"].to_string());
    let base = json[0]["board"]["memory"]["base"].as_u64().unwrap_or(0);
    let mut row = format!("| {} |", design.name);
    for (_, line, reasons) in COMMANDS {
        let line = line.replace("CARD", id).replace("BASE", &base.to_string());
        let line = line.replace("BAR", &bar);
        let is_run = ran(&ground, &design.name, &format!("{line} {card}"), reasons);
        write!(row, " {} |", if is_run { "✓" } else { "–" }).unwrap();
    }
    row
}

#[test]
fn each_design_against_each_command_is_as_the_document_says() {
    let catalogue = Catalogue::built_in();
    let designs: Vec<_> = catalogue.designs().collect();
    let (next, rows) = (AtomicUsize::new(0), Mutex::new(vec![String::new(); designs.len()]));
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while let Some((index, design)) = {
                    let index = next.fetch_add(1, Ordering::Relaxed);
                    designs.get(index).map(|design| (index, design))
                } {
                    let own = row(design);
                    rows.lock().unwrap()[index] = own;
                }
            });
        }
    });
    let rows = rows.into_inner().unwrap();
    assert!(rows.iter().all(|row| !row.is_empty()));

    let names: Vec<&str> = COMMANDS.iter().map(|(name, _, _)| *name).collect();
    let mut table = format!("| design | {} |\n|---|{}\n", names.join(" | "), ":-:|".repeat(names.len()));
    rows.iter().for_each(|row| writeln!(table, "{row}").unwrap());
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/designs.md");
    let document = fs::read_to_string(&path).unwrap();
    let (head, rest) = document.split_once("<!-- the table -->\n").expect("a mark in docs/designs.md");
    let (there, tail) = rest.split_once("<!-- its end -->\n").expect("a mark in docs/designs.md");
    if there != table {
        if std::env::var_os("JITNEY_WRITE_DOCS").is_some() {
            fs::write(&path, format!("{head}<!-- the table -->\n{table}<!-- its end -->\n{tail}")).unwrap();
            return;
        }
        panic!("docs/designs.md is not as it was run; JITNEY_WRITE_DOCS=1 writes it anew:\n{table}");
    }
}
