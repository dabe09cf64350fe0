//! Several processes share a card as programs do that have only passed descriptors on, and what becomes of that.
//!
//! `naive ADDRESS inherit|collide|die` ends well if the failure showed: nobody means to use it for anything else. The card is a
//! board with an XDMA.

#![expect(clippy::print_stdout, clippy::print_stderr, reason = "it tells what it does")]

mod by_hand;
mod endless;
mod xdma_by_hand;

use by_hand::{ByHand, Result, map, unmap};
use endless::{BYTES, Engine};
use jitney_memory::Mapping;
use jitney_registers::RegisterSpace;
use rustix::io::Errno;
use std::io::{BufRead, BufReader, Read};
use std::process::{Child, Command, ExitCode, Stdio};
use std::time::{Duration, Instant};
use xdma_by_hand::{Registers, open, xdma};

/// Where both processes begin to number their memory.
const FIRST_IOVA: u64 = 0x10_0000;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let outcome = match words[..] {
        [address, "inherit"] => inherit(address),
        [address, "collide"] => collide(address),
        [address, "die"] => die(address),
        ["descriptors"] => descriptors(),
        ["mapper", iova] => mapper(iova),
        _ => Err("naive ADDRESS inherit|collide|die".into()),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("naive: {error}");
            ExitCode::FAILURE
        }
    }
}

fn check(holds: bool, what: &str) -> Result<()> {
    if holds { Ok(()) } else { Err(format!("it does not show: {what}").into()) }
}

/// F2: a child that is another program has the container and the group, but no device.
fn inherit(address: &str) -> Result<()> {
    let _card = open(address)?;
    let child = Command::new("/proc/self/exe").arg("descriptors").output()?;
    let has = String::from_utf8(child.stdout)?;
    println!("a child has:\n{has}");
    check(has.contains("/dev/vfio/vfio"), "a child has the container")?;
    check(has.lines().filter(|line| line.starts_with("/dev/vfio/")).count() == 2, "a child has the group")?;
    check(!has.contains("vfio-device"), "a child has no device")
}

fn descriptors() -> Result<()> {
    for item in std::fs::read_dir("/proc/self/fd")? {
        // The folder's own descriptor is among them, and gone when it is looked at later.
        if let Ok(target) = std::fs::read_link(item?.path()) {
            println!("{}", target.display());
        }
    }
    Ok(())
}

/// A process that maps memory of its own for the cards of the container that is its standard input, writes a descriptor to
/// it, says how it went, and waits for its end.
fn mapper(iova: &str) -> Result<()> {
    let iova: u64 = iova.parse()?;
    let memory = Mapping::anonymous(usize::try_from(BYTES)?)?;
    memory.write(0, &endless::descriptor(iova))?;
    match map(std::io::stdin(), &memory, iova) {
        Ok(()) => println!("mapped"),
        Err(Errno::EXIST) => println!("EEXIST"),
        Err(error) => return Err(error.into()),
    }
    loop {
        std::thread::park();
    }
}

/// Starts [`mapper`]; returns it and what it said.
fn start_mapper(card: &ByHand) -> Result<(Child, String)> {
    let mut command = Command::new("/proc/self/exe");
    command.args(["mapper", &FIRST_IOVA.to_string()]);
    command.stdin(Stdio::from(card.container.try_clone()?)).stdout(Stdio::piped());
    let mut child = command.spawn()?;
    let mut line = String::new();
    let output = child.stdout.take().ok_or("no output")?;
    BufReader::new(output.take(64)).read_line(&mut line)?;
    Ok((child, line.trim().to_owned()))
}

fn kill(mut child: Child) -> Result<()> {
    child.kill()?;
    child.wait()?;
    Ok(())
}

/// F4: each process numbers its memory by itself, and the second is refused.
fn collide(address: &str) -> Result<()> {
    let card = open(address)?;
    let (first, said) = start_mapper(&card)?;
    check(said == "mapped", "the first process maps its memory")?;
    let (second, said) = start_mapper(&card)?;
    println!("at the same address the second process got: {said}");
    check(said == "EEXIST", "the second process cannot map its memory")?;
    kill(first)?;
    kill(second)
}

/// F5 and F6: a process is killed while a channel reads its memory, and neither the mapping nor the transfer ends.
fn die(address: &str) -> Result<()> {
    let card = open(address)?;
    let engine = Engine(xdma(&card, address)?);
    let (client, said) = start_mapper(&card)?;
    check(said == "mapped", "a process maps its memory")?;
    engine.start(FIRST_IOVA)?;
    goes_on(&engine)?;
    kill(client)?;
    let state = goes_on(&engine)?;
    println!("its process is dead, and the channel goes on: {state}");

    let (next, said) = start_mapper(&card)?;
    println!("at the same address the next process got: {said}");
    check(said == "EEXIST", "the memory of a dead process stays mapped")?;
    kill(next)?;
    let (offset, value) = endless::stopping();
    engine.0.write32(offset, value)?;
    Ok(unmap(&card.container, FIRST_IOVA, BYTES)?)
}

/// Waits until the engine has carried out its descriptor once more.
fn goes_on(engine: &Engine<Registers>) -> Result<endless::State> {
    let (before, since) = (engine.state()?, Instant::now());
    loop {
        let now = engine.state()?;
        if now.run && now.busy && now.completed != before.completed {
            return Ok(now);
        }
        check(since.elapsed() < Duration::from_secs(5), &format!("the channel runs; {now}"))?;
    }
}
