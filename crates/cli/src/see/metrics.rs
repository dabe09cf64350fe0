//! `jitney metrics`: a broker's figures in Prometheus' text format.

use super::snapshot::BrokerStatus;
use super::temperatures::temperatures;
use crate::args::ItsBroker;
use crate::boards::catalogue;
use crate::cards::Session;
use crate::report::{print_event, print_line};
use crate::say::say;
use crate::status::{Misuse, Status};
use anyhow::{Context, anyhow};
use clap::Args;
use jitney_boards::Catalogue;
use jitney_broker::Bus;
use prometheus_client::encoding::text::encode;
use prometheus_client::encoding::{EncodeLabelSet, LabelSetEncoder};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::{Registry, Unit};
use schemars::JsonSchema;
use serde::Serialize;
use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::atomic::AtomicU64;
use tiny_http::{Header, Response, Server};

const HELP: &str = "\
Examples:
  jitney metrics                              # once, to look at or for node_exporter's textfile collector
  jitney metrics --listen 127.0.0.1:9415      # for Prometheus: http://127.0.0.1:9415/metrics

Bytes, transfers and failures are what programs count themselves, per channel and process; the rest the broker \
knows. Temperatures are read from cards that a program has open. Only this \
machine can read the port; whoever can sees the names of programs and cards.";

/// What Prometheus takes for its newer format, which this is.
const FORMAT: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

#[derive(Debug, Args)]
#[command(after_help = HELP)]
pub(crate) struct MetricsArgs {
    #[command(flatten)]
    broker: ItsBroker,
    /// Serve them at this address of this machine, until told to stop.
    #[arg(long, value_name = "ADDRESS:PORT")]
    listen: Option<SocketAddr>,
}

/// What happens while they are served.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(tag = "type", rename_all = "kebab-case")]
pub(crate) enum Event {
    /// They can be read at this address from now on.
    Listening { address: String },
}

/// A card.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct OfCard {
    card: String,
    id: String,
}

/// A channel of a card, of a process.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct OfChannel {
    card: String,
    channel: String,
    program: String,
    pid: String,
}

impl EncodeLabelSet for OfCard {
    fn encode(&self, encoder: &mut LabelSetEncoder<'_>) -> Result<(), std::fmt::Error> {
        [("card", self.card.as_str()), ("id", &self.id)].encode(encoder)
    }
}

impl EncodeLabelSet for OfChannel {
    fn encode(&self, encoder: &mut LabelSetEncoder<'_>) -> Result<(), std::fmt::Error> {
        let Self { card, channel, program, pid } = self;
        [("card", card.as_str()), ("channel", channel), ("program", program), ("pid", pid)].encode(encoder)
    }
}

pub(crate) fn metrics(args: &MetricsArgs, json: bool) -> anyhow::Result<Status> {
    if json && args.listen.is_none() {
        return Err(Misuse("this is no JSON; for that there is `jitney status --json`".into()).into());
    }
    let bus = Session::of_broker(&args.broker, None)?;
    match args.listen {
        None => print_line(figures(&bus, &catalogue(&[])?)?.trim_end()),
        Some(address) => serve(&bus, address, json)?,
    }
    Ok(Status::Passed)
}

fn serve(bus: &Bus, address: SocketAddr, json: bool) -> anyhow::Result<()> {
    if !address.ip().is_loopback() {
        let what = format!("{address} can be reached from other machines; give one of 127.0.0.1 or ::1");
        return Err(Misuse(what).into());
    }
    let server = Server::http(address).map_err(|error| anyhow!("port {address}: {error}"))?;
    let address = server.server_addr();
    if json {
        print_event(&Event::Listening { address: address.to_string() })?;
    } else {
        print_line(&format!("listening at http://{address}/metrics"));
    }
    let catalogue = catalogue(&[])?;
    let format = Header::from_bytes("Content-Type", FORMAT).map_err(|()| anyhow!("a header of HTTP"))?;
    for request in server.incoming_requests() {
        let answered = if request.url() == "/metrics" {
            // Without its broker there is nothing to serve any more.
            let figures = figures(bus, &catalogue)?;
            request.respond(Response::from_string(figures).with_header(format.clone()))
        } else {
            request.respond(Response::from_string("see /metrics\n").with_status_code(404))
        };
        if let Err(error) = answered {
            say!("jitney: who asked for figures does not read them: {error}");
        }
    }
    Ok(())
}

fn figures(bus: &Bus, catalogue: &Catalogue) -> anyhow::Result<String> {
    let status = BrokerStatus::of(bus)?;
    text(&status, &temperatures(bus, &status, catalogue))
}

fn text(status: &BrokerStatus, temperatures: &HashMap<String, f64>) -> anyhow::Result<String> {
    let mut registry = Registry::with_prefix("jitney");
    let programs = Gauge::<i64>::default();
    let memory = Gauge::<i64>::default();
    let buffers = Gauge::<i64>::default();
    let leases = Family::<OfCard, Gauge<i64>>::default();
    let waiting = Family::<OfCard, Gauge<i64>>::default();
    let bytes = Family::<OfChannel, Counter>::default();
    let transfers = Family::<OfChannel, Counter>::default();
    let failures = Family::<OfChannel, Counter>::default();
    let warmth = Family::<OfCard, Gauge<f64, AtomicU64>>::default();
    let celsius = Unit::Celsius;
    registry.register_with_unit(
        "temperature",
        "Of the card's die, while a program has it",
        celsius,
        warmth.clone(),
    );
    registry.register("programs", "Programs that use the broker", programs.clone());
    registry.register("buffers", "DMA buffers of all programs", buffers.clone());
    registry.register_with_unit("memory", "Memory in DMA buffers", Unit::Bytes, memory.clone());
    registry.register("leases", "Leases on parts of a card", leases.clone());
    registry.register("waiting", "Leases that are waited for", waiting.clone());
    registry.register("moved_bytes", "Bytes that a channel moved, as its program says", bytes.clone());
    registry.register("transfers", "Transfers that ended well, as their program says", transfers.clone());
    registry.register("failed_transfers", "Transfers that failed, as their program says", failures.clone());
    let number = |count: u64| i64::try_from(count).unwrap_or(i64::MAX);
    programs.set(number(status.programs.len() as u64));
    for card in &status.cards {
        let of = OfCard { card: card.card.card.clone(), id: card.card.id.clone() };
        leases.get_or_create(&of).set(number(card.leases.len() as u64));
        waiting.get_or_create(&of).set(number(card.waits.len() as u64));
        if let Some(temperature) = temperatures.get(&of.card) {
            warmth.get_or_create(&of).set(*temperature);
        }
    }
    for program in &status.programs {
        buffers.inc_by(program.buffers.into());
        memory.inc_by(number(program.buffer_bytes));
        for channel in &program.channels {
            let of = OfChannel {
                card: channel.card.clone(),
                channel: channel.channel.clone(),
                program: program.program.clone(),
                pid: super::snapshot::pid(program.pid),
            };
            bytes.get_or_create(&of).inc_by(channel.bytes);
            transfers.get_or_create(&of).inc_by(channel.transfers);
            failures.get_or_create(&of).inc_by(channel.failures);
        }
    }
    let mut text = String::new();
    encode(&mut text, &registry).context("the figures cannot be written")?;
    Ok(text)
}
