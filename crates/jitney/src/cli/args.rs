//! The command line.

use super::boards::Choice;
use super::places::Place;
use super::setup::args::{Bind, Doctor, Unbind, Who};
use super::size;
use clap::{Args, Parser, Subcommand, ValueEnum};
use jitney_boards::Catalogue;
use jitney_emulator::fault::{Fault, FaultKind};
use jitney_emulator::xdma::{LinkError, LinkLimit, PeriodicInterrupt};
use jitney_vfio::{CardAddress, IommuInterface};
use std::num::{NonZeroU32, NonZeroU64};
use std::path::PathBuf;
use std::time::Duration;

const STATUSES: &str = "\
Exit status: 0 all passed, 1 something failed, 2 the arguments make no sense, 3 nothing was tested.

Environment: JITNEY_BROKER names the broker to use, JITNEY_CARDS the cards to own (separated by commas),
JITNEY_IOMMU the kernel's interface to use (auto, group, iommufd; noiommu), JITNEY_BOARDS files or folders with boards of your
own, JITNEY_LOG what to log (as jitney_broker=debug).";

/// The help of a command for registers: `examples`, and how a register is named.
macro_rules! with_places {
    ($examples:literal) => {
        concat!(
            $examples,
            "\n\nA register is BAR:OFFSET, as 2:0x40, or NAME or NAME+OFFSET with the name or kind of a peripheral in the \
             design's boards file, as xadc+0x200; of several of a kind axi-gpio0, axi-gpio1 and so on. Those of an XDMA have \
             names of their own, as xdma:h2c0.control. `jitney dump` shows what there is. Offsets are in bytes.\n\n\
             A card that no broker has is reset when the command ends: to write a register with one command and read it \
             with the next, have a broker own the card (`jitney broker`)."
        )
    };
}

const READ_HELP: &str = with_places!(
    "Examples:\n  \
     jitney read 10ee:7011 0:0x0 --count 3\n  \
     jitney read 10ee:7011 xadc+0x200\n  \
     jitney read --emulate nitefury 10ee:7011 xdma:h2c0.identifier\n\n\
     All-ones is what a card reads as whose link is down. Then configuration space is asked whether it is there; if not, the \
     exit status is 1."
);

const WRITE_HELP: &str = with_places!(
    "Examples:\n  \
     jitney write 10ee:7011 axi-gpio2+8 2      # the LED of a NiteFury\n  \
     jitney write 10ee:7011 0:0x2004 0xf0 --verify\n\n\
     Nothing is read unless asked, because a read can have effects of its own. While it writes, no other program has what \
     the register belongs to: a peripheral, a DMA channel, or the whole card for what all channels share. If one has, \
     nothing is written and it is named."
);

const DUMP_HELP: &str = with_places!(
    "Examples:\n  \
     jitney dump 10ee:7011 0 --from 0x3200 --bytes 0x100\n  \
     jitney dump 10ee:7011 xdma --bytes 0x100\n\n\
     A line has 16 bytes; lines equal to the one above are left out, with a *. Registers that are known to change when they \
     are read, as the FIFO of a quad-spi, are not read: they are shown as dashes."
);

const LOAD_HELP: &str = "Examples:\n  \
     jitney load 10ee:7011 0 weights.bin --verify\n  \
     zstd -dc image.zst | jitney load 10ee:7011 0x1000_0000 -\n\n\
     ADDRESS is the card's own; `jitney info` says where its memories are. What does not fit into them is refused before \
     anything is written. Of a pipe nobody knows the length: it is written as far as there is memory, and if it goes on, \
     that is an error.";

const SAVE_HELP: &str = "Examples:\n  \
     jitney save 10ee:7011 0 64M dump.bin\n  \
     jitney save 10ee:7011 0x1000 1G - | sha256sum\n\n\
     The file has its name once all of it is written: if something fails there is none. An existing one is kept unless \
     there is --force; what is no file, as a pipe, is written to. With - the result is printed on standard error.";

/// Several processes drive the same PCIe cards from user space, at the same time and safely.
#[derive(Debug, Parser)]
#[command(name = "jitney", version, after_help = STATUSES, max_term_width = 110)]
pub(crate) struct Options {
    #[command(subcommand)]
    pub(crate) command: Command,
    /// Print JSON for programs instead of lines for people.
    #[arg(long, global = true)]
    pub(crate) json: bool,
    /// Log more, to standard error; twice for everything.
    #[arg(long, short, global = true, action = clap::ArgAction::Count)]
    pub(crate) verbose: u8,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Two emulated boards and three programs at once: what jitney is for, in 20 seconds.
    Demo(Demo),
    /// Own the cards, and start programs that share them.
    #[command(after_help = "\
Examples:
  jitney run --emulate nitefury --emulate tef1001-dma-blkram \"jitney test ddr\" \"jitney time blkram\"
  jitney run --card vfio-user:/tmp/nf.sock \"./my-program --fast\" \"jitney test general\"")]
    Run(Run),
    /// Own the cards for programs that are started elsewhere, until told to stop.
    #[command(after_help = "\
Example:
  jitney broker --emulate nitefury &
  jitney test general        # finds the broker at its well-known socket")]
    Broker(Broker),
    /// Test boards.
    #[command(subcommand)]
    Test(Test),
    /// Measure boards.
    #[command(subcommand)]
    Time(Time),
    /// The cards and boards that can be seen, and who uses them.
    List(Source),
    /// A card's BARs, IP, channels, peripherals and memory.
    Info(Info),
    /// Write a file to a card's memory by DMA.
    #[command(after_help = LOAD_HELP)]
    Load(Load),
    /// Read a card's memory into a file by DMA.
    #[command(after_help = SAVE_HELP)]
    Save(Save),
    /// Read registers of 32 bits.
    #[command(after_help = READ_HELP)]
    Read(Read),
    /// Write a register of 32 bits.
    #[command(after_help = WRITE_HELP)]
    Write(Write),
    /// Print the registers of a BAR, or of one thing in it, with their names.
    #[command(after_help = DUMP_HELP)]
    Dump(Dump),
    /// The designs of boards that are known, built in and from boards files.
    Boards {
        #[command(subcommand)]
        command: Option<Boards>,
    },
    /// Serve an emulated board over vfio-user, to any client, until told to stop.
    #[command(after_help = emulate_help())]
    Emulate(Emulate),
    /// What this PC lacks for cards of its own, and the command that mends it.
    Doctor(Doctor),
    /// Which process holds which file of VFIO.
    Who(Who),
    /// Hand a PCI card to vfio-pci, for programs to use. Needs root.
    #[command(after_help = "\
Example:
  sudo jitney bind 0000:2e:00.0 --owner $USER --mode 0600")]
    Bind(Bind),
    /// Give a PCI card back to its own driver. Needs root.
    Unbind(Unbind),
}

fn emulate_help() -> String {
    let catalogue = Catalogue::built_in();
    let names = catalogue.designs().flat_map(|design| design.names());
    let boards: Vec<String> = names.map(|name| format!("  {name}")).collect();
    format!(
        "Boards that are built in (`jitney boards` says what each is, and lists those of boards files):\n{}\n\nFaults, each as NAME[:CHANNEL][@N], at the Nth descriptor or at once:\n  {}\n\nExample:\n  \
         jitney emulate nitefury --socket /tmp/nf.sock --fault hang:h2c0@3",
        boards.join("\n"),
        FaultKind::ALL.map(FaultKind::name).join(", ")
    )
}

/// Bytes a second of a link: less is no link, and a piece of data would take a second.
const SLOWEST_LINK: u64 = 64 << 10;

/// A PCIe link, or how many bytes it moves a second.
fn link(text: &str) -> Result<LinkLimit, String> {
    match text.parse() {
        Ok(link) => Ok(link),
        Err(error @ LinkError { .. }) => match size::parse_nonzero(text) {
            Ok(rate) if rate >= SLOWEST_LINK => Ok(LinkLimit::Rate(rate)),
            _ => Err(format!("{error}; or how many bytes it moves a second, 64K or more")),
        },
    }
}

/// Where cards come from.
#[derive(Debug, Args, Clone, Default)]
pub(crate) struct Source {
    /// Own this card: a board's socket as vfio-user:/path, or a PCI address. Can be repeated.
    #[arg(long, value_name = "ADDRESS")]
    pub(crate) card: Vec<CardAddress>,
    /// Start an emulated board for as long as this runs, and own it. Can be repeated; see `jitney emulate --help`.
    #[arg(long, value_name = "BOARD")]
    pub(crate) emulate: Vec<Choice>,
    /// How to open PCI cards: group, iommufd or auto, which prefers iommufd where it can be used. Where there is no IOMMU,
    /// noiommu: UNSAFE, cards and programs can then overwrite all of this machine's memory.
    #[arg(long, value_name = "INTERFACE")]
    pub(crate) iommu: Option<IommuInterface>,
    /// Give each card (or IOMMU group) that this process opens an address space of its own: it then reaches the memory of
    /// the programs that use it, and no other. Under a broker its owner has decided.
    #[arg(long)]
    pub(crate) isolate: bool,
}

/// Which broker has the cards.
#[derive(Debug, Args, Clone, Default)]
pub(crate) struct Client {
    /// Be the client of the broker at this socket.
    #[arg(long = "broker", value_name = "SOCKET", conflicts_with_all = ["card", "emulate", "iommu", "isolate"])]
    pub(crate) socket: Option<PathBuf>,
}

/// The one card that a command is about, and where it comes from.
#[derive(Debug, Args, Clone)]
pub(crate) struct OneCard {
    /// Which card: its address, or VENDOR:DEVICE.
    #[arg(value_name = "CARD")]
    pub(crate) named: String,
    #[command(flatten)]
    pub(crate) source: Source,
    #[command(flatten)]
    pub(crate) broker: Client,
}

/// Which cards a program uses.
#[derive(Debug, Args, Clone, Default)]
pub(crate) struct Selection {
    #[command(flatten)]
    pub(crate) source: Source,
    #[command(flatten)]
    pub(crate) broker: Client,
    /// Use only this one of the cards: its address, or VENDOR:DEVICE.
    #[arg(long, value_name = "CARD")]
    pub(crate) only: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct Demo {
    /// All 16 passes over 1 GiB and all 14170 transfers: about 10 seconds on a fast PC.
    #[arg(long)]
    pub(crate) full: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Run {
    #[command(flatten)]
    pub(crate) source: Source,
    /// Show every open descriptor of this process and of each program.
    #[arg(long)]
    pub(crate) fds: bool,
    /// The programs, each with its arguments as one word.
    #[arg(required = true, value_name = "PROGRAM ARGS")]
    pub(crate) programs: Vec<String>,
}

#[derive(Debug, Args)]
pub(crate) struct Broker {
    #[command(flatten)]
    pub(crate) source: Source,
    /// Listen here instead of at the well-known place.
    #[arg(long, value_name = "PATH")]
    pub(crate) socket: Option<PathBuf>,
    /// Let the processes of the socket's group in as well, not only this user's.
    #[arg(long)]
    pub(crate) group: bool,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Test {
    /// Identify each NiteFury and LiteFury and read its sensors.
    General(General),
    /// Write all of a card's memory by DMA, read it back, compare every word.
    #[command(after_help = "\
Examples:
  jitney test ddr --emulate nitefury --passes 2
  jitney test ddr --align 4096 --buffer huge --only 10ee:7011")]
    Ddr(Ddr),
}

#[derive(Debug, Subcommand)]
pub(crate) enum Time {
    /// Many transfers of a block RAM's whole size each way, each verified.
    Blkram(Blkram),
}

#[derive(Debug, Args)]
pub(crate) struct General {
    #[command(flatten)]
    pub(crate) selection: Selection,
}

/// How to transfer.
#[derive(Debug, Args, Clone, Copy)]
pub(crate) struct Dma {
    /// Which DMA channel of each direction to use.
    #[arg(long, default_value_t = 0)]
    pub(crate) channel: u8,
    /// Give a transfer up when nothing of it was done for this many seconds.
    #[arg(long, value_name = "SECONDS", default_value = "10", value_parser = seconds)]
    pub(crate) timeout: Duration,
    /// How to learn of a transfer's end.
    #[arg(long, value_enum, default_value = "poll")]
    pub(crate) completion: Completion,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Completion {
    /// By looking at a word that the card writes to memory.
    Poll,
    /// By the card's interrupts, one vector for each channel.
    Interrupt,
    /// By looking, for as long as short transfers take, and then by interrupt.
    Adaptive,
}

fn passes(text: &str) -> Result<NonZeroU32, String> {
    NonZeroU32::try_from(count(text)?).map_err(|_| format!("at most {} are possible", u32::MAX))
}

fn transfers(text: &str) -> Result<NonZeroU64, String> {
    count(text)
}

/// How often to do something.
fn count(text: &str) -> Result<NonZeroU64, String> {
    match text.parse::<u64>() {
        Ok(count) => NonZeroU64::new(count).ok_or_else(|| "nothing would be tested; give at least 1".into()),
        Err(error) => Err(error.to_string()),
    }
}

/// A time that is not zero and ends some day.
fn seconds(text: &str) -> Result<Duration, String> {
    let seconds: f64 = text.parse().map_err(|_| "give a number of seconds, as 10 or 0.5".to_owned())?;
    match Duration::try_from_secs_f64(seconds) {
        Ok(time) if time >= Duration::from_millis(1) && time <= Duration::from_secs(86_400) => Ok(time),
        _ => Err("give something from 0.001 to 86400".into()),
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Pages {
    /// Pages of 4 KiB.
    Normal,
    /// Pages of 2 MiB, which have to be reserved.
    Huge,
}

#[derive(Debug, Args)]
pub(crate) struct Ddr {
    #[command(flatten)]
    pub(crate) selection: Selection,
    /// Test this much of the memory, from its start, instead of all: 4096, 0x128000, 64K, 8M, 1G.
    #[arg(long, value_parser = size::parse_nonzero)]
    pub(crate) size: Option<u64>,
    /// How often to write and read all of it.
    #[arg(long, default_value = "16", value_parser = passes)]
    pub(crate) passes: NonZeroU32,
    /// Make descriptors of whole multiples of this many bytes.
    #[arg(long, value_name = "BYTES", value_parser = size::parse_alignment)]
    pub(crate) align: Option<u64>,
    /// Make descriptors of at most this many bytes, up to 0x0fffffff, instead of 8M: fewer, each of which takes longer to stop.
    #[arg(long, value_name = "BYTES", value_parser = size::parse_descriptor)]
    pub(crate) descriptors_of: Option<u32>,
    /// Which pages to make the buffers of.
    #[arg(long, value_enum, default_value = "normal")]
    pub(crate) buffer: Pages,
    #[command(flatten)]
    pub(crate) dma: Dma,
}

#[derive(Debug, Args)]
pub(crate) struct Blkram {
    #[command(flatten)]
    pub(crate) selection: Selection,
    /// How many transfers each way.
    #[arg(long, default_value = "14170", value_parser = transfers)]
    pub(crate) transfers: NonZeroU64,
    #[command(flatten)]
    pub(crate) dma: Dma,
}

#[derive(Debug, Args)]
pub(crate) struct Info {
    #[command(flatten)]
    pub(crate) selection: Selection,
    /// Which card: its address, or VENDOR:DEVICE.
    #[arg(value_name = "CARD", conflicts_with = "only")]
    pub(crate) named: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct Load {
    #[command(flatten)]
    pub(crate) card: OneCard,
    /// Where to, on the card: 0x8000_0000, 4096, 64M.
    #[arg(value_name = "ADDRESS", value_parser = size::parse)]
    pub(crate) address: u64,
    /// The file, or - for standard input.
    #[arg(value_name = "FILE")]
    pub(crate) file: PathBuf,
    /// Read all of it back afterwards, and compare.
    #[arg(long)]
    pub(crate) verify: bool,
    #[command(flatten)]
    pub(crate) dma: Dma,
}

#[derive(Debug, Args)]
pub(crate) struct Save {
    #[command(flatten)]
    pub(crate) card: OneCard,
    /// Where from, on the card: 0x8000_0000, 4096, 64M.
    #[arg(value_name = "ADDRESS", value_parser = size::parse)]
    pub(crate) address: u64,
    /// How many bytes: 4096, 0x128000, 64K, 8M, 1G.
    #[arg(value_name = "LENGTH", value_parser = size::parse_length)]
    pub(crate) length: u64,
    /// The file, or - for standard output.
    #[arg(value_name = "FILE")]
    pub(crate) file: PathBuf,
    /// Replace the file if there is one.
    #[arg(long)]
    pub(crate) force: bool,
    #[command(flatten)]
    pub(crate) dma: Dma,
}

#[derive(Debug, Args)]
pub(crate) struct Read {
    #[command(flatten)]
    pub(crate) card: OneCard,
    /// BAR:OFFSET, or NAME[+OFFSET].
    #[arg(value_name = "REGISTER")]
    pub(crate) place: Place,
    /// How many registers, one after the other.
    #[arg(long, value_name = "N", default_value = "1", value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) count: u64,
}

#[derive(Debug, Args)]
pub(crate) struct Write {
    #[command(flatten)]
    pub(crate) card: OneCard,
    /// BAR:OFFSET, or NAME[+OFFSET].
    #[arg(value_name = "REGISTER")]
    pub(crate) place: Place,
    /// What to write, in hexadecimal (0x1f) or decimal.
    #[arg(value_name = "VALUE", value_parser = size::parse_word)]
    pub(crate) value: u32,
    /// Read the register afterwards, and compare.
    #[arg(long)]
    pub(crate) verify: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Dump {
    #[command(flatten)]
    pub(crate) card: OneCard,
    /// A BAR's number, or the name of what is in one.
    #[arg(value_name = "BAR|NAME")]
    pub(crate) place: Place,
    /// Where to begin, in bytes from the start of the BAR or of what was named.
    #[arg(long, value_name = "OFFSET", default_value = "0", value_parser = size::parse)]
    pub(crate) from: u64,
    /// How many bytes, instead of all that there are.
    #[arg(long, value_name = "SIZE", value_parser = size::parse_length)]
    pub(crate) bytes: Option<u64>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Boards {
    /// List the designs, and which can be emulated.
    List,
    /// Check boards files: exit status 0 if all are right.
    Check {
        /// The files.
        #[arg(required = true, value_name = "FILE")]
        files: Vec<PathBuf>,
    },
    /// Print what a board is: its ids, BARs, peripherals and memory.
    Show {
        /// Its name, or a file as ./my.toml or ./my.toml#NAME.
        board: Choice,
    },
}

#[derive(Debug, Args)]
pub(crate) struct Emulate {
    /// Which board: its name, see below, or a file that describes it, as ./my.toml or ./my.toml#NAME.
    pub(crate) board: Choice,
    /// Where clients connect. Without it the board is put where `jitney list` and other commands find it.
    #[arg(long, value_name = "PATH")]
    pub(crate) socket: Option<PathBuf>,
    /// How much card memory, as 512M; what nobody touches costs nothing. The catalogue goes on to say how much a board of
    /// its kind has.
    #[arg(long, value_name = "SIZE", value_parser = size::parse_nonzero)]
    pub(crate) memory: Option<u64>,
    /// Which build of the design: its PCI revision, or the version where the design has a word for it.
    #[arg(long, value_name = "N")]
    pub(crate) revision: Option<u32>,
    /// How the card interrupts: msix, msi, intx or none.
    #[arg(long, value_name = "KIND")]
    pub(crate) interrupts: Option<jitney_emulator::InterruptKind>,
    /// How many lanes its slot has, if fewer than the board can use.
    #[arg(long, value_name = "N")]
    pub(crate) lanes: Option<u8>,
    /// Move no more than a PCIe link carries, as gen2x4, or so many bytes a second each way, as 100M, so that transfers
    /// last; else as fast as memory.
    #[arg(long, value_name = "LINK", value_parser = link)]
    pub(crate) link: Option<LinkLimit>,
    /// Writes that the host refuses end the engine with an error. On PCIe they are posted: lost, and nobody is told.
    #[arg(long)]
    pub(crate) strict_writes: bool,
    /// DMA and messages need no Bus Master Enable. Those of a card do.
    #[arg(long)]
    pub(crate) ignore_bus_master: bool,
    /// A channel stops where a block of adjacent descriptors does not count down as PG195 has it ("Nxt_adj"). Cards execute it.
    #[arg(long)]
    pub(crate) strict_adjacency: bool,
    /// A user interrupt that comes again and again, as 0@100ms for the first one ten times a second; can be repeated.
    #[arg(long, value_name = "N@PERIOD")]
    pub(crate) user_interrupt: Vec<PeriodicInterrupt>,
    /// Something that goes wrong; can be repeated.
    #[arg(long, value_name = "FAULT")]
    pub(crate) fault: Vec<Fault>,
    /// Where to write, beside standard output, the line that says that clients can connect: a descriptor that this process
    /// was started with. It is closed then.
    #[arg(long, value_name = "N")]
    pub(crate) ready_fd: Option<i32>,
    /// Stop when standard input ends, as it does when the process that started this one is gone.
    #[arg(long, hide = true)]
    pub(crate) with_parent: bool,
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_sound() {
        Options::command().debug_assert();
    }

    #[test]
    fn a_link_has_a_name_or_a_speed() {
        assert_eq!(link("gen3x8"), Ok(LinkLimit::Pcie { generation: 3, lanes: 8 }));
        assert_eq!(link("100M"), Ok(LinkLimit::Rate(100 << 20)));
        for text in ["gen9x9", "Gen2x4", "fast", "0", "-5", "nan", "65535"] {
            let error = link(text).unwrap_err();
            assert!(error.contains("as in 'gen2x4'") && error.contains("64K or more"), "{error}");
        }
    }

    #[test]
    fn nothing_and_nonsense_are_no_counts_and_no_times() {
        assert_eq!(passes("16").unwrap().get(), 16);
        for text in ["0", "-1", "4294967296", "x", ""] {
            assert!(passes(text).is_err(), "{text}");
        }
        assert_eq!(seconds("0.5"), Ok(Duration::from_millis(500)));
        for text in ["0", "-1", "nan", "inf", "1e99", "soon", ""] {
            assert!(seconds(text).is_err(), "{text}");
        }
    }
}
