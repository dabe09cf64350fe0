//! What the command makes of what the driver can: captures, files, flashes and lists, each beside the same by the library or by the
//! plain call.

use super::Wish;
use crate::figure::{Bar, Figure, Unit};
use crate::processes::{Board, jitney};
use crate::rounds::{Rounds, timed};
use anyhow::{Context, ensure};
use jitney_broker::Bus;
use jitney_vfio::Card;
use jitney_xdma::Overrun;
use std::fs::{self, File};
use std::io::ErrorKind::NotFound;
use std::io::{Read, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

const GIB: u64 = 1 << 30;

pub(super) fn measure(wish: Wish) -> anyhow::Result<Vec<Figure>> {
    let folder = tempfile::tempdir().context("a folder for sockets and files")?;
    let mut figures = capture(wish, folder.path())?;
    figures.extend(files(wish, folder.path())?);
    figures.push(flash(folder.path())?);
    figures.extend(list(folder.path())?);
    Ok(figures)
}

/// Runs the command with the words of `line` and returns its result.
fn result(line: &[&str]) -> anyhow::Result<serde_json::Value> {
    let output = jitney()?.args(line).arg("--json").stdin(Stdio::null()).output().context("jitney")?;
    let said = String::from_utf8_lossy(&output.stdout);
    ensure!(output.status.success(), "{line:?}: {said}{}", String::from_utf8_lossy(&output.stderr));
    let last = said.lines().last().context("it said nothing")?;
    Ok(serde_json::from_str::<serde_json::Value>(last)?["result"].clone())
}

/// The rate of a result in bytes per second.
fn rate(result: &serde_json::Value) -> anyhow::Result<f64> {
    let [bytes, seconds] = ["bytes", "seconds"].map(|key| result[key].as_f64());
    bytes.zip(seconds).map(|(bytes, seconds)| bytes / seconds).with_context(|| format!("no rate in {result}"))
}

/// A capture to nowhere beside the driver's, and one to a file beside `dd` from nowhere to there, both from start to end and
/// until the disk has it.
fn capture(wish: Wish, folder: &Path) -> anyhow::Result<Vec<Figure>> {
    const BLOCK: u64 = 1 << 20;
    let size = if wish.quick { GIB / 4 } else { GIB };
    let board = Board::start("NiteFury_dma_stream_fixed_data", folder)?;
    let address = board.address().to_string();
    let own = || -> anyhow::Result<Duration> {
        let bus = Bus::alone(&[board.address()])?;
        let card = bus.open_cards()?.remove(0);
        let channel = jitney_boards::identify(&card)?.xdma()?.c2h(0)?;
        let mut capture = channel.capture(64, BLOCK, Overrun::Wait)?;
        let mut block = vec![0; capture.block_size()];
        let (mut bytes, begun) = (0, Instant::now());
        while bytes < size {
            let captured = capture.read(&mut block, Some(Duration::from_secs(2)))?;
            bytes += captured.context("the stream has ended")?.bytes as u64;
        }
        Ok(begun.elapsed())
    };
    let file = folder.join("captured");
    let to = |place: &str| -> anyhow::Result<Duration> {
        let line = ["capture", &address, "--card", &address, "--force", "--to", place, "--bytes"];
        let said = result(&[&line[..], &[&size.to_string()]].concat())?;
        said["seconds"].as_f64().map(Duration::from_secs_f64).with_context(|| format!("no time in {said}"))
    };
    let place = file.to_string_lossy().into_owned();
    let to_disk = || timed(|| to(&place).map(drop));
    let dd = || -> anyhow::Result<Duration> {
        let (of, count) = (format!("of={place}"), format!("count={}", size / BLOCK));
        timed(|| {
            let status = Command::new("dd")
                .args(["if=/dev/zero", &of, "bs=1M", &count, "conv=fdatasync", "status=none"])
                .status()
                .context("dd")?;
            ensure!(status.success(), "dd ended with {status}");
            Ok::<_, anyhow::Error>(())
        })
    };
    let rounds = Rounds::measure(
        "captures",
        wish.rounds(5),
        [&mut || to("/dev/null"), &mut || own(), &mut || to_disk(), &mut || dd()],
    )?;
    fs::remove_file(&file).context("the captured file")?;
    #[expect(clippy::cast_precision_loss, reason = "sizes are far below 2^53")]
    let rate = |side: usize| size as f64 / 1e9 / rounds.seconds(side);
    let figure = |what: &str, side: usize, other: usize, bar: f64| Figure {
        what: what.into(),
        measured: 1.0 / rounds.ratio(side, other),
        unit: Unit::Ratio,
        bar: Bar::AtLeast(bar),
        detail: format!("{:.2} and {:.2} GB/s", rate(side), rate(other)),
    };
    Ok(vec![
        figure("jitney capture to /dev/null ÷ the driver's own capture", 0, 1, 0.9),
        figure("jitney capture to a file ÷ dd to the same place", 2, 3, 0.8),
    ])
}

/// 1 GiB from a file to the card and back into one, beside the slower of the plain file and the DMA.
fn files(wish: Wish, folder: &Path) -> anyhow::Result<Vec<Figure>> {
    let size = if wish.quick { GIB / 4 } else { GIB };
    let board = Board::start("nitefury", folder)?;
    let address = board.address().to_string();
    let (there, back) = (folder.join("there"), folder.join("back"));
    fs::write(&there, vec![0x5a; usize::try_from(size)?]).context("a file to load")?;
    let text = |path: &Path| path.to_string_lossy().into_owned();
    let (there_text, back_text, size_text) = (text(&there), text(&back), size.to_string());

    let (mut ratios, mut details) = ([f64::MIN; 2], [String::new(), String::new()]);
    for _ in 0..wish.rounds(3) {
        let read = timed(|| File::open(&there)?.read_to_end(&mut Vec::with_capacity(0)).map(drop))?;
        let contents = fs::read(&there)?;
        // As the command does: a new file, until the disk has it.
        fs::remove_file(&back).or_else(|error| if error.kind() == NotFound { Ok(()) } else { Err(error) })?;
        let written = timed(|| {
            let mut file = File::create_new(&back)?;
            file.write_all(&contents)?;
            file.sync_data()
        })?;
        drop(contents);
        let dma = transfers(&board, size)?;
        let loaded = result(&["load", &address, "0", &there_text, "--card", &address])?;
        let saved = result(&["save", &address, "0", &size_text, &back_text, "--card", &address, "--force"])?;
        for (side, (said, file)) in [(&loaded, read), (&saved, written)].into_iter().enumerate() {
            #[expect(clippy::cast_precision_loss, reason = "sizes are far below 2^53")]
            let slower = size as f64 / file.max(dma[side]).as_secs_f64();
            let own = rate(said)?;
            if own / slower > ratios[side] {
                ratios[side] = own / slower;
                details[side] = format!("{:.2} and {:.2} GB/s", own / 1e9, slower / 1e9);
            }
        }
    }
    let names = ["jitney load of 1 GiB", "jitney save of 1 GiB"];
    let figures = names.into_iter().zip(ratios).zip(details).map(|((name, measured), detail)| Figure {
        what: format!("{name} ÷ the slower of file and DMA"),
        measured,
        unit: Unit::Ratio,
        bar: Bar::AtLeast(0.6),
        detail,
    });
    Ok(figures.collect())
}

/// What the driver takes for `size` bytes to the card and from it.
fn transfers(board: &Board, size: u64) -> anyhow::Result<[Duration; 2]> {
    let bus = Bus::alone(&[board.address()])?;
    let card = bus.open_cards()?.remove(0);
    let xdma = jitney_boards::identify(&card)?.xdma()?;
    let (h2c, c2h, buffer) = (xdma.h2c(0)?, xdma.c2h(0)?, bus.dma_buffer(size)?);
    h2c.write(&buffer, 0)?;
    Ok([timed(|| h2c.write(&buffer, 0).map(drop))?, timed(|| c2h.read(&buffer, 0).map(drop))?])
}

/// A flash is read a byte at a time through two registers: as fast as they are accessed, and no faster.
fn flash(folder: &Path) -> anyhow::Result<Figure> {
    const BYTES: usize = 64 << 10;
    const ACCESSES: u32 = 10_000;
    let board = Board::start("nitefury", folder)?;
    let address = board.address().to_string();
    let access = {
        let bus = Bus::alone(&[board.address()])?;
        let card: Arc<dyn Card> = bus.open_cards()?.remove(0);
        let bar = card.bar(0)?;
        timed(|| (0..ACCESSES).try_for_each(|_| bar.read32(0).map(drop)))?.as_secs_f64() / f64::from(ACCESSES)
    };
    let to = folder.join("flash").to_string_lossy().into_owned();
    let line = ["flash", "read", &address, "--card", &address, "--length", &BYTES.to_string(), &to];
    let said = result(&line)?;
    #[expect(clippy::cast_precision_loss, reason = "sizes are far below 2^53")]
    let byte = said["seconds"].as_f64().with_context(|| format!("no time in {said}"))? / BYTES as f64;
    Ok(Figure {
        what: "a byte of jitney flash read ÷ two register accesses".into(),
        measured: byte / (2.0 * access),
        unit: Unit::Ratio,
        bar: Bar::AtMost(1.25),
        detail: format!("{:.1} and {:.1} µs", byte * 1e6, 2e6 * access),
    })
}

/// `jitney list --all` where `/sys/bus/pci` has 200 functions, in a mount namespace of its own.
fn list(folder: &Path) -> anyhow::Result<Vec<Figure>> {
    const FUNCTIONS: u32 = 200;
    const RUNS: u32 = 20;
    let devices = folder.join("pci/devices");
    for number in 0..FUNCTIONS {
        let function = devices.join(format!("0000:{:02x}:{:02x}.0", number / 32, number % 32));
        fs::create_dir_all(&function)?;
        for (file, text) in [
            ("vendor", "0x10ee\n"),
            ("device", "0x7011\n"),
            ("subsystem_vendor", "0x10ee\n"),
            ("subsystem_device", "0x0007\n"),
            ("revision", "0x00\n"),
            ("class", "0x058000\n"),
            ("numa_node", "-1\n"),
            ("resource", "0x0000000000000000 0x0000000000000000 0x0000000000000000\n"),
        ] {
            fs::write(function.join(file), text)?;
        }
        fs::write(function.join("config"), [0; 256])?;
    }
    let own = std::env::current_exe().context("this program's own path")?.with_file_name("jitney");
    // As root in a namespace of users, too: whoever may make one needs no rights.
    let script = format!(
        "mount --bind {} /sys/bus/pci && for n in $(seq {RUNS}); do {} list --all; done",
        folder.join("pci").display(),
        own.display()
    );
    let run = || {
        Command::new("unshare")
            .args(["--map-root-user", "--mount", "sh", "-ec", &script])
            .output()
            .context("unshare")
    };
    let first = run()?;
    let said = String::from_utf8_lossy(&first.stdout);
    let counted = said.matches("10ee:7011").count();
    if !first.status.success() || counted < (FUNCTIONS * RUNS) as usize {
        // What is printed on standard output is for programs.
        eprintln!(
            "no list of {FUNCTIONS} functions: this machine gives no namespace for it, or too few were listed ({counted}): {}",
            String::from_utf8_lossy(&first.stderr)
        );
        return Ok(Vec::new());
    }
    let took = timed(|| run().map(drop))?.as_secs_f64() / f64::from(RUNS);
    Ok(vec![Figure {
        what: format!("jitney list of {FUNCTIONS} functions, from start to end"),
        measured: took * 1e3,
        unit: Unit::Milliseconds,
        bar: Bar::AtMost(50.0),
        detail: format!("the mean of {RUNS} runs"),
    }])
}
