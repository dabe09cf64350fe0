//! Where the pages of DMA buffers are on a machine with two NUMA nodes: near the card, by its owner and through a broker.
//!
//! `near_card NODE BROKER` is a client of the broker at that socket, `near_card NODE` owns the card that it finds.

#![expect(clippy::print_stdout, clippy::print_stderr, reason = "it tells what it does")]

use jitney::Bus;
use std::collections::BTreeMap;
use std::error::Error;
use std::process::ExitCode;

type Result<T> = std::result::Result<T, Box<dyn Error>>;

/// A few pages, and some large ones.
const SIZES: [u64; 2] = [64 << 10, 6 << 20];

/// What this process has mapped, and on which node its pages are: the kernel's Documentation/filesystems/proc.rst.
const NUMA_MAPS: &str = "/proc/self/numa_maps";

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("near_card: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<()> {
    let mut arguments = std::env::args().skip(1);
    let node: u32 = arguments.next().ok_or("which node is the card near?")?.parse()?;
    let bus = match arguments.next() {
        Some(broker) => Bus::options().broker(broker).open()?,
        None => Bus::open()?,
    };
    let _card = bus.card("1234:11e8")?;
    for size in SIZES {
        let buffer = bus.dma_buffer(size)?;
        buffer.write(0, &vec![1; usize::try_from(size)?])?;
        let pages = pages(&std::fs::read_to_string(NUMA_MAPS)?);
        println!("{size:#x}: {pages:?} pages on each node");
        let near = pages.get(&node).copied().unwrap_or(0);
        if near < size / 4096 || pages.len() > 1 {
            return Err(format!("a buffer of {size:#x} bytes is not on node {node}: {pages:?}").into());
        }
        buffer.free()?;
    }
    Ok(())
}

/// How many pages of DMA memory are on which node.
fn pages(maps: &str) -> BTreeMap<u32, u64> {
    let mut pages = BTreeMap::new();
    for word in maps.lines().filter(|line| line.contains("/memfd:jitney-dma")).flat_map(str::split_whitespace)
    {
        let count = word.strip_prefix('N').and_then(|word| word.split_once('='));
        if let Some((Ok(node), Ok(count))) = count.map(|(node, count)| (node.parse(), count.parse::<u64>())) {
            *pages.entry(node).or_default() += count;
        }
    }
    pages
}
