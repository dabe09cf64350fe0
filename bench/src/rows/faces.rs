//! What the C library adds to the library that it is made of: the same, from C and from Rust, each on a board of its own.

use super::Wish;
use crate::figure::{Bar, Figure, Unit};
use crate::processes::{Board, beside};
use crate::rounds::{Rounds, timed};
use anyhow::{Context, ensure};
use jitney_broker::Bus;
use std::cell::RefCell;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::Duration;

const READS: u32 = 5000;
const TRANSFERS: u32 = 2000;
const SIZE: u64 = 4096;

pub(super) fn measure(wish: Wish) -> anyhow::Result<Vec<Figure>> {
    let folder = tempfile::tempdir().context("a folder for sockets and a program")?;
    let boards = ["c", "rust"].map(|name| folder.path().join(name));
    boards.iter().try_for_each(std::fs::create_dir)?;
    let boards = [Board::start("nitefury", &boards[0])?, Board::start("nitefury", &boards[1])?];
    let program = RefCell::new(Program::start(&compile(folder.path())?, &boards[0])?);
    let bus = Bus::alone(&[boards[1].address()])?;
    let card = bus.open_cards()?.remove(0);
    let registers = card.bar(2)?;
    let h2c = jitney_boards::identify(&card)?.xdma()?.h2c(0)?;
    let buffer = bus.dma_buffer(SIZE)?;
    let in_c = |what: &str, count: u32| program.borrow_mut().does(what, count);
    let reads = Rounds::measure(
        "register reads from C",
        wish.rounds(40),
        [&mut || in_c("reads", READS), &mut || {
            timed(|| (0..READS).try_for_each(|_| registers.read32(0).map(drop)))
        }],
    )?;
    let transfers = Rounds::measure(
        "transfers from C",
        wish.rounds(40),
        [&mut || in_c("transfers", TRANSFERS), &mut || {
            timed(|| (0..TRANSFERS).try_for_each(|_| h2c.write(&buffer, 0).map(drop)))
        }],
    )?;
    let figure = |what: &str, rounds: &Rounds<2>, count: u32| {
        let each = |side| rounds.seconds(side) * 1e6 / f64::from(count);
        Figure {
            what: format!("{what} from C ÷ from Rust"),
            measured: rounds.ratio(0, 1),
            unit: Unit::Ratio,
            bar: Bar::AtMost(1.1),
            detail: format!("{:.2} and {:.2} µs", each(0), each(1)),
        }
    };
    Ok(vec![
        figure("a register read over vfio-user", &reads, READS),
        figure("an H2C of 4 KiB, submitted and awaited,", &transfers, TRANSFERS),
    ])
}

/// Compiles the program with the library as it is installed, linked statically.
fn compile(folder: &Path) -> anyhow::Result<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let program = folder.join("faces");
    let compiled = Command::new("cc")
        .args(["-std=c11", "-O2", "-D_POSIX_C_SOURCE=200809L", "-I"])
        .arg(root.join("../crates/c/include"))
        .arg(root.join("programs/faces.c"))
        .arg(beside("libjitney_c.a")?)
        .args(["-lgcc_s", "-lutil", "-lrt", "-lpthread", "-lm", "-ldl", "-o"])
        .arg(&program)
        .status()
        .context("cannot start cc, the C compiler")?;
    ensure!(compiled.success(), "programs/faces.c could not be compiled");
    Ok(program)
}

/// The program in C, which does what it is told.
struct Program {
    child: Child,
    /// `None` once it was told to end.
    input: Option<ChildStdin>,
    output: BufReader<ChildStdout>,
}

impl Program {
    fn start(program: &Path, board: &Board) -> anyhow::Result<Self> {
        let mut command = Command::new(program);
        command.env("JITNEY_CARDS", board.address().to_string()).env_remove("JITNEY_BROKER");
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().context("faces")?;
        let (input, output) = (child.stdin.take(), child.stdout.take().context("no output")?);
        Ok(Self { child, input, output: BufReader::new(output) })
    }

    fn does(&mut self, what: &str, count: u32) -> anyhow::Result<Duration> {
        let input = self.input.as_mut().context("it has ended")?;
        writeln!(input, "{what} {count}").context("the program in C has ended")?;
        input.flush()?;
        let mut line = String::new();
        self.output.read_line(&mut line)?;
        let nanoseconds = line.trim().parse().with_context(|| format!("the program in C said {line:?}"))?;
        Ok(Duration::from_nanos(nanoseconds))
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // At the end of its input it ends.
        drop(self.input.take());
        let _ = self.child.wait();
    }
}
