//! How warm cards are, for those commands that watch a broker.
//!
//! The command reads it itself, as `jitney sensors` does: the broker's threads touch no register for people who look. Nothing is written
//! and nothing is taken for it: a card that no program has open is left alone, and so is one that somebody has as a whole, who may be
//! changing what is in the FPGA.

use super::snapshot::BrokerStatus;
use jitney_boards::{Catalogue, Quantity, identify_in};
use jitney_broker::Bus;
use std::collections::HashMap;

/// The highest temperature that each card measures of itself, in °C, by its address.
pub(crate) fn temperatures(bus: &Bus, status: &BrokerStatus, catalogue: &Catalogue) -> HashMap<String, f64> {
    let in_use = |address: &str| status.programs.iter().any(|it| it.cards.iter().any(|card| card == address));
    let is_whole = |part: &str| part == jitney_vfio::Part::whole().name();
    let cards = status
        .cards
        .iter()
        .filter(|card| in_use(&card.card.card) && !card.leases.iter().any(|lease| is_whole(&lease.part)));
    let warmth = |address: &str| {
        let card = bus.card(address).ok()?;
        let monitors = identify_in(catalogue, &card).ok()?.monitors().ok()?;
        let readings = monitors.iter().filter(|monitor| monitor.only_reads());
        // What does not answer has no temperature now.
        let readings = readings.filter_map(|monitor| monitor.readings().ok()).flatten();
        let warm = readings.filter(|reading| reading.quantity == Quantity::Temperature);
        warm.map(|reading| reading.now).max_by(f64::total_cmp)
    };
    cards.filter_map(|card| Some((card.card.card.clone(), warmth(&card.card.card)?))).collect()
}
