//! The command line: every command, and what all of them have.

use super::boards::Boards;
use super::change::{hold, link, program, reset, route};
use super::check::Test;
use super::check::validate::Validate;
use super::complete::Completions;
use super::flash::{Flash, bitstream};
use super::i2c::I2c;
use super::manual::Manual;
use super::measure::Time;
use super::registers::{dump, read, write};
use super::schema::Schema;
use super::see::{blink, info, list, metrics, sensors, status, top};
use super::setup::args::{Bind, Doctor, Unbind, Who};
use super::share::{broker, demo, emulate, lease, run, xdma_compat};
use super::transfer::{capture, load, play, save, tap};
use clap::{Parser, Subcommand, ValueEnum};

const STATUSES: &str = "\
Exit status: 0 all passed, 1 something failed, 2 the arguments make no sense, 3 nothing was tested.

Environment: JITNEY_BROKER names the broker to use, JITNEY_CARDS the cards to own (separated by commas),
JITNEY_IOMMU the kernel's interface to use (auto, group, iommufd; noiommu), JITNEY_WAIT how long to stand in line for what
another program holds (10m, forever), JITNEY_BOARDS files or folders with boards of your
own, JITNEY_LOG what to log (as jitney_broker=debug), JITNEY_RUN another folder than /run for the sockets of all users.";

/// Several processes drive the same PCIe cards from user space, at the same time and safely.
#[derive(Debug, Parser)]
#[command(name = "jitney", version, after_help = STATUSES, max_term_width = 110)]
pub(crate) struct Options {
    #[command(subcommand)]
    pub(crate) command: Command,
    /// Print JSON for programs instead of lines for people.
    #[arg(long, global = true)]
    pub(crate) json: bool,
    /// When to use colours: on a terminal, unless NO_COLOR is set; always; never.
    #[arg(long, global = true, value_enum, value_name = "WHEN", default_value = "auto")]
    pub(crate) color: Color,
    /// Log more, to standard error; twice for everything.
    #[arg(long, short, global = true, action = clap::ArgAction::Count)]
    pub(crate) verbose: u8,
}

/// When to use colours.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Color {
    Auto,
    Always,
    Never,
}

/// What each takes is put off until it is asked for: all of it together, with the names of all boards, takes longer than most commands
/// take until they begin.
#[derive(Debug, Subcommand)]
#[command(defer = true)]
pub(crate) enum Command {
    /// Two emulated boards and three programs at once: what jitney is for, in 20 seconds.
    #[command(after_help = "Examples:\n  jitney demo\n  jitney demo --full")]
    Demo(demo::Demo),
    /// Own the cards, and start programs that share them.
    Run(run::Run),
    /// Own the cards for programs that are started elsewhere, until told to stop.
    Broker(broker::Broker),
    /// Run a program while parts of a card are leased for it, which need not know of jitney.
    Lease(lease::LeaseArgs),
    /// Run a program that was written for the vendor's XDMA driver (/dev/xdma0_h2c_0 and so on), as it is.
    XdmaCompat(xdma_compat::XdmaCompat),
    #[command(hide = true)]
    WithParent(lease::WithParent),
    #[command(hide = true)]
    Witness,
    /// What a broker's programs have, hold and wait for.
    Status(status::StatusArgs),
    /// The same to be left open, with what each channel moves in a second.
    Top(top::TopArgs),
    /// The same in Prometheus' text format, once or on a port of this machine.
    Metrics(metrics::MetricsArgs),
    /// All that fits a board, in one go: a table of what passed, failed or was skipped.
    Validate(Validate),
    /// Test boards.
    #[command(subcommand)]
    Test(Test),
    /// Measure boards.
    #[command(subcommand)]
    Time(Time),
    /// The cards and boards that can be seen, and who uses them.
    List(list::List),
    /// A card's BARs, IP, channels, peripherals and memory.
    Info(info::Info),
    /// Temperatures, voltages, currents and power of boards, with their extremes and alarms.
    Sensors(sensors::Sensors),
    /// Let an LED of a board blink, to see which of them it is.
    Blink(blink::Blink),
    /// Write a file to a card's memory by DMA.
    Load(load::Load),
    /// Read a card's memory into a file by DMA.
    Save(save::Save),
    /// Receive a stream into a file or a pipe, without losing a byte unseen.
    Capture(capture::CaptureArgs),
    /// Read a stream that another program captures and shares.
    Tap(tap::Tap),
    /// Send a file or a pipe into a stream.
    Play(play::Play),
    /// Read registers of 32 bits.
    Read(read::Read),
    /// Write a register of 32 bits.
    Write(write::Write),
    /// Print the registers of a BAR, or of one thing in it, with their names.
    Dump(dump::Dump),
    /// The devices on a board's I2C buses: which there are, and what they say.
    #[command(subcommand)]
    I2c(I2c),
    /// Keep cards as they are while other programs come and go.
    Hold(hold::Hold),
    /// Reset a card, or its DDR controller.
    Reset(reset::Reset),
    /// A card's PCIe link and the port above it, and train it at another speed.
    Link(link::LinkArgs),
    /// Load a bitstream into a board's FPGA through a programmer, and bring the card back.
    Program(program::Program),
    /// Which stream goes where on a card, and change it.
    Route(route::Route),
    /// Read, compare and write a board's configuration flash.
    #[command(subcommand)]
    Flash(Flash),
    /// What a bitstream is, and a .bit file as a .bin.
    Bitstream(bitstream::Bitstream),
    /// The designs of boards that are known, built in and from boards files.
    Boards {
        #[command(subcommand)]
        command: Option<Boards>,
    },
    /// What --json prints, as JSON Schema.
    Schema(Schema),
    /// Serve an emulated board over vfio-user, to any client, until told to stop.
    Emulate(emulate::Emulate),
    /// What this PC lacks for cards of its own, and the command that mends it.
    #[command(after_help = "Examples:\n  jitney doctor\n  jitney doctor 0000:2e:00.0")]
    Doctor(Doctor),
    /// Which process holds which file of VFIO.
    #[command(after_help = "Examples:\n  jitney who\n  sudo jitney who 0000:2e:00.0")]
    Who(Who),
    /// Hand a PCI card to vfio-pci, for programs to use. Needs root.
    #[command(after_help = "\
Examples:
  sudo jitney bind 0000:2e:00.0 --owner $USER --mode 0600
  sudo jitney bind 0000:2e:00.0 --owner $USER --persist")]
    Bind(Bind),
    /// Give a PCI card back to its own driver. Needs root.
    #[command(
        after_help = "Examples:\n  sudo jitney unbind 0000:2e:00.0\n  sudo jitney unbind 0000:2e:00.0 --forget"
    )]
    Unbind(Unbind),
    /// The script that completes this command in a shell: cards, boards and faults, too.
    Completions(Completions),
    #[command(hide = true)]
    Manual(Manual),
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_sound() {
        Options::command().debug_assert();
    }
}
