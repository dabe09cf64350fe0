//! A client that takes its card's decoding and bus mastering away and is killed at once: what its will is carried out on does
//! not answer any more.
//!
//! `rude_decode BROKER rude` does that, `rude_decode BROKER look` reads the card as the next client does. The card is the
//! edu (1234:11e8) of the broker at the socket BROKER.

#![expect(clippy::print_stdout, clippy::print_stderr, reason = "it tells what it does")]

use jitney::Bus;
use jitney::vfio::{LeaseRequest, Will, WillStep};
use rustix::process::{Signal, getpid, kill_process};
use std::error::Error;
use std::process::ExitCode;

type Result<T> = std::result::Result<T, Box<dyn Error>>;

const EDU: &str = "1234:11e8";
/// Registers of BAR 0, by offset in bytes.
const IDENTITY: u64 = 0x00;
const DMA_COMMAND: u64 = 0x98;
/// The command register of configuration space, with the status register above it, where ones would clear.
const COMMAND: u64 = 4;
/// Its bits for memory decoding and bus mastering.
const DECODE_AND_MASTER: u32 = 1 << 1 | 1 << 2;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let outcome = match words[..] {
        [broker, "rude"] => rude(broker),
        [broker, "look"] => look(broker),
        _ => Err("rude_decode BROKER rude|look".into()),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("rude_decode: {error}");
            ExitCode::FAILURE
        }
    }
}

fn rude(broker: &str) -> Result<()> {
    let bus = Bus::options().broker(broker).open()?;
    let card = bus.card(EDU)?;
    let will = Will(vec![WillStep::write(0, DMA_COMMAND, 0), WillStep::write(0, DMA_COMMAND, 0)]);
    let _lease = card.lease(LeaseRequest::exclusive("engine".parse()?).with_will(will))?;
    let config = card.config()?;
    let command = config.read32(COMMAND)? & 0xffff;
    config.write32(COMMAND, command & !DECODE_AND_MASTER)?;
    if config.read32(COMMAND)? & DECODE_AND_MASTER != 0 {
        return Err("the card still decodes".into());
    }
    println!("the card does not decode any more");
    kill_process(getpid(), Signal::KILL)?;
    Err("it outlives SIGKILL".into())
}

fn look(broker: &str) -> Result<()> {
    let bus = Bus::options().broker(broker).open()?;
    let card = bus.card(EDU)?;
    let command = card.config()?.read32(COMMAND)?;
    println!("command register {:#x}", command & 0xffff);
    println!("identity {:#x}", card.bar(0)?.read32(IDENTITY)?);
    Ok(())
}
