//! `jitney top`: a broker to be watched, in a terminal.

use super::snapshot::{BrokerStatus, CardStatus, pid};
use super::temperatures::temperatures;
use crate::args::{ItsBroker, limit};
use crate::boards::catalogue;
use crate::cards::Session;
use crate::size::human;
use crate::status::{Misuse, Status};
use clap::Args;
use ratatui::Frame;
use ratatui::crossterm::event::{self, Event, KeyCode, KeyEvent, KeyModifiers};
use ratatui::layout::{Constraint, Layout};
use ratatui::style::{Style, Stylize};
use ratatui::text::Line;
use ratatui::widgets::{Block, Borders, Cell, Row, Table};
use std::collections::HashMap;
use std::io::IsTerminal;
use std::time::{Duration, Instant};

const HELP: &str = "\
Examples:
  jitney top
  jitney top --every 500ms --broker /run/jitney/broker.sock

Rates are what programs count themselves; temperatures are read from cards that a program has open. q or Ctrl-C ends it. For programs there are `jitney status --json` and `jitney metrics`.";

#[derive(Debug, Args)]
#[command(after_help = HELP)]
pub(crate) struct TopArgs {
    #[command(flatten)]
    broker: ItsBroker,
    /// How often to look.
    #[arg(long, value_name = "TIME", default_value = "1s", value_parser = limit)]
    every: Duration,
}

pub(crate) fn top(args: &TopArgs, json: bool) -> anyhow::Result<Status> {
    if json || !std::io::stdout().is_terminal() {
        return Err(
            Misuse("this draws in a terminal; for programs there is `jitney status --json`".into()).into()
        );
    }
    let bus = Session::of_broker(&args.broker, None)?;
    let mut watch = Watch::default();
    let catalogue = catalogue(&[])?;
    let look = || -> anyhow::Result<(BrokerStatus, HashMap<String, f64>)> {
        let status = BrokerStatus::of(&bus)?;
        let warmth = temperatures(&bus, &status, &catalogue);
        Ok((status, warmth))
    };
    let mut view = watch.look(look()?, Instant::now());
    let mut terminal = ratatui::try_init()?;
    let outcome = (|| {
        loop {
            terminal.draw(|frame| view.draw(frame))?;
            let next = Instant::now() + args.every;
            while event::poll(next.saturating_duration_since(Instant::now()))? {
                match event::read()? {
                    Event::Key(key) if ends(key) => return Ok(Status::Passed),
                    Event::Resize(..) => {
                        terminal.draw(|frame| view.draw(frame))?;
                    }
                    _ => {}
                }
            }
            view = watch.look(look()?, Instant::now());
        }
    })();
    // Whatever happened, the terminal is the user's again.
    ratatui::try_restore()?;
    outcome
}

fn ends(key: KeyEvent) -> bool {
    let interrupt = key.code == KeyCode::Char('c') && key.modifiers.contains(KeyModifiers::CONTROL);
    interrupt || matches!(key.code, KeyCode::Char('q') | KeyCode::Esc)
}

/// A channel of a process.
type Of = (Option<u32>, String, String);

/// What was seen last, for rates.
#[derive(Debug, Default)]
struct Watch {
    last: HashMap<Of, (u64, u64)>,
    at: Option<Instant>,
}

/// What is shown.
#[derive(Debug)]
struct View {
    status: BrokerStatus,
    /// In °C, by address.
    warmth: HashMap<String, f64>,
    channels: Vec<ChannelRow>,
}

#[derive(Debug, PartialEq)]
struct ChannelRow {
    card: String,
    channel: String,
    program: String,
    bytes: u64,
    failures: u64,
    /// Bytes and transfers in a second, since it was looked at last.
    rate: Option<(f64, f64)>,
}

impl Watch {
    fn look(&mut self, (status, warmth): (BrokerStatus, HashMap<String, f64>), now: Instant) -> View {
        let seconds = self.at.map(|at| now.saturating_duration_since(at).as_secs_f64());
        let mut seen = HashMap::new();
        let mut channels = Vec::new();
        for program in &status.programs {
            for channel in &program.channels {
                let of = (program.pid, channel.card.clone(), channel.channel.clone());
                let before = self.last.get(&of);
                let rate = before.zip(seconds.filter(|seconds| *seconds > 0.0));
                // A program's own figures may go back.
                let rate = rate.map(|((bytes, transfers), seconds)| {
                    let per_second = |now: u64, before: u64| now.saturating_sub(before) as f64 / seconds;
                    (per_second(channel.bytes, *bytes), per_second(channel.transfers, *transfers))
                });
                channels.push(ChannelRow {
                    card: channel.card.clone(),
                    channel: channel.channel.clone(),
                    program: format!("{} ({})", program.program, pid(program.pid)),
                    bytes: channel.bytes,
                    failures: channel.failures,
                    rate,
                });
                seen.insert(of, (channel.bytes, channel.transfers));
            }
        }
        (self.last, self.at) = (seen, Some(now));
        View { status, warmth, channels }
    }
}

impl View {
    fn draw(&self, frame: &mut Frame<'_>) {
        let rows = |count: usize| Constraint::Min(u16::try_from(count.clamp(1, 20)).unwrap_or(20) + 3);
        let cards = self.status.cards.iter();
        let cards: Vec<[String; 6]> =
            cards.flat_map(|card| card_rows(card, self.warmth.get(&card.card.card))).collect();
        let areas = Layout::vertical([
            Constraint::Length(1),
            rows(cards.len()),
            rows(self.channels.len()),
            rows(self.status.programs.len()),
        ]);
        let [head, above, middle, below] = areas.areas(frame.area());
        frame.render_widget(self.head(), head);
        let widths = [
            Constraint::Fill(3),
            Constraint::Length(17),
            Constraint::Length(6),
            Constraint::Length(9),
            Constraint::Fill(3),
            Constraint::Fill(3),
        ];
        let header = ["card", "link", "°C", "part", "held by", "in line"];
        frame.render_widget(table("cards", header, widths, cards.into_iter().map(row)), above);
        let widths = [
            Constraint::Fill(3),
            Constraint::Length(8),
            Constraint::Length(13),
            Constraint::Length(13),
            Constraint::Length(10),
            Constraint::Length(8),
            Constraint::Fill(3),
        ];
        let header = ["card", "channel", "now", "transfers", "in all", "failed", "program"];
        frame.render_widget(table("channels", header, widths, self.channels.iter().map(channel_row)), middle);
        let widths = [
            Constraint::Fill(4),
            Constraint::Length(9),
            Constraint::Length(7),
            Constraint::Length(8),
            Constraint::Length(10),
        ];
        let header = ["program", "pid", "user", "buffers", "memory"];
        let programs = self.status.programs.iter().map(|program| {
            row([
                program.program.clone(),
                pid(program.pid),
                program.uid.to_string(),
                program.buffers.to_string(),
                human(program.buffer_bytes),
            ])
        });
        frame.render_widget(table("programs", header, widths, programs), below);
    }

    fn head(&self) -> Line<'static> {
        let pinned =
            self.status.programs.iter().fold(0u64, |all, program| all.saturating_add(program.buffer_bytes));
        let moved: f64 =
            self.channels.iter().filter_map(|channel| channel.rate).fold(0.0, |all, (bytes, _)| all + bytes);
        let text = format!(
            "broker {}   {} programs   {} in buffers   {}   q ends",
            self.status.broker,
            self.status.programs.len(),
            human(pinned),
            per_second(moved)
        );
        Line::from(text).bold()
    }
}

fn card_rows(card: &CardStatus, warmth: Option<&f64>) -> Vec<[String; 6]> {
    let link = card.link.clone().unwrap_or_default();
    let rows = card.rows().into_iter().enumerate().map(|(index, [name, part, held, waits])| {
        let first = index == 0;
        let link = if first { link.clone() } else { String::new() };
        let warmth = warmth.filter(|_| first).map_or_else(String::new, |warmth| format!("{warmth:.1}"));
        [name, link, warmth, part, held.replace('\n', ", "), waits.replace('\n', ", ")]
    });
    rows.collect()
}

fn row<const N: usize>(cells: [String; N]) -> Row<'static> {
    Row::new(cells.map(Cell::from))
}

fn channel_row(channel: &ChannelRow) -> Row<'static> {
    let (now, transfers) = match channel.rate {
        Some((bytes, transfers)) => (per_second(bytes), format!("{transfers:.0}/s")),
        None => (String::new(), String::new()),
    };
    let failed = if channel.failures == 0 { String::new() } else { channel.failures.to_string() };
    let failed = Cell::from(failed).red();
    let (card, program) = (channel.card.clone(), channel.program.clone());
    let cells = [card, channel.channel.clone(), now, transfers, human(channel.bytes)].map(Cell::from);
    Row::new(cells.into_iter().chain([failed, Cell::from(program)]))
}

/// `12.5 MB/s`
fn per_second(bytes: f64) -> String {
    match bytes {
        bytes if bytes >= 1e9 => format!("{:.2} GB/s", bytes / 1e9),
        bytes if bytes >= 1e6 => format!("{:.1} MB/s", bytes / 1e6),
        bytes => format!("{:.1} kB/s", bytes / 1e3),
    }
}

fn table<'a, const N: usize, const W: usize>(
    title: &'static str,
    header: [&'static str; N],
    widths: [Constraint; W],
    rows: impl Iterator<Item = Row<'a>>,
) -> Table<'a> {
    let header = Row::new(header).style(Style::new().dim());
    Table::new(rows.collect::<Vec<_>>(), widths)
        .header(header)
        .block(Block::new().borders(Borders::TOP).title(title))
}

#[cfg(test)]
mod tests {
    use super::super::snapshot::{ChannelStatus, ProgramStatus};
    use super::*;
    use crate::contract::CardName;
    use ratatui::Terminal;
    use ratatui::backend::TestBackend;

    fn status(bytes: u64, transfers: u64) -> BrokerStatus {
        let channel = ChannelStatus {
            card: "0000:2e:00.0".into(),
            channel: "h2c0".into(),
            bytes,
            transfers,
            failures: 2,
        };
        let program = ProgramStatus {
            pid: Some(4211),
            uid: 1000,
            program: "capture".into(),
            cards: vec!["0000:2e:00.0".into()],
            buffers: 2,
            buffer_bytes: 1 << 20,
            channels: vec![channel],
        };
        let card = CardStatus {
            card: CardName { card: "0000:2e:00.0".into(), id: "10ee:7011".into() },
            link: Some("5.0 GT/s PCIe x4".into()),
            leases: Vec::new(),
            waits: Vec::new(),
        };
        BrokerStatus { broker: 77, cards: vec![card], programs: vec![program] }
    }

    fn looked(bytes: u64, transfers: u64) -> (BrokerStatus, HashMap<String, f64>) {
        (status(bytes, transfers), HashMap::from([("0000:2e:00.0".into(), 54.25)]))
    }

    #[test]
    fn rates_are_of_the_time_between() {
        let mut watch = Watch::default();
        let now = Instant::now();
        assert_eq!(watch.look(looked(1000, 1), now).channels[0].rate, None);
        let view = watch.look(looked(5_001_000, 11), now + Duration::from_secs(2));
        assert_eq!(view.channels[0].rate, Some((2.5e6, 5.0)));
        // What a program says of itself need not make sense.
        let view = watch.look(looked(0, 0), now + Duration::from_secs(3));
        assert_eq!(view.channels[0].rate, Some((0.0, 0.0)));
    }

    #[test]
    fn everything_is_on_the_screen() {
        let mut watch = Watch::default();
        let now = Instant::now();
        watch.look(looked(0, 0), now);
        let view = watch.look(looked(12_500_000, 10), now + Duration::from_secs(1));
        for (width, height) in [(100, 24), (20, 5), (1, 1)] {
            let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
            terminal.draw(|frame| view.draw(frame)).unwrap();
            let screen = terminal.backend().to_string();
            if width == 100 {
                for text in [
                    "broker 77",
                    "12.5 MB/s",
                    "10/s",
                    "h2c0",
                    "capture (4211)",
                    "5.0 GT/s PCIe x4",
                    "54.2",
                    "1 MiB",
                    "11.9 MiB",
                ] {
                    assert!(screen.contains(text), "{text}: {screen}");
                }
            }
        }
    }
}
