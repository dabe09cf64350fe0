//! The bus that a command uses, and the boards that it started for it.

use super::args::{Client, ItsBroker, OneCard, Selection, Source};
use super::boards::named_files;
use super::emulated::EmulatedBoards;
use super::held::holders_of;
use jitney_boards::{Board, Catalogue, identify_in};
use jitney_broker::{Bus, BusOptions, is_out_of_reach};
use jitney_vfio::{Card, CardAddress, Error, ErrorKind, Result};
use std::sync::Arc;
use std::time::Duration;

/// The bus, and emulated boards that live as long as it is used.
#[derive(Debug)]
pub(crate) struct Session {
    // In this order: cards are closed before their boards end.
    pub(crate) bus: Bus,
    _boards: EmulatedBoards,
    /// With the boards files that were named, if any were.
    catalogue: Option<Catalogue>,
}

impl Session {
    /// Opens what `selection` names, or what [`Bus::open`] finds.
    pub(crate) fn open(selection: &Selection) -> anyhow::Result<Self> {
        if let Some(path) = &selection.broker.socket {
            let bus = waiting(&selection.broker, Bus::options().broker(path)).open()?;
            return Ok(Self { bus, _boards: EmulatedBoards::default(), catalogue: None });
        }
        let boards = EmulatedBoards::start(&selection.source.emulate)?;
        let options = waiting(&selection.broker, options(&selection.source, &boards));
        let catalogue = named_files(&selection.source.emulate)?;
        Ok(Self { bus: options.open()?, _boards: boards, catalogue })
    }

    /// Opens the bus of the broker that `broker` names or that is found, on which leases are waited for.
    pub(crate) fn of_broker(broker: &ItsBroker, wait: Option<Duration>) -> anyhow::Result<Bus> {
        let options = wait.into_iter().fold(Bus::options(), BusOptions::wait);
        let options = broker.socket.iter().fold(options, BusOptions::broker);
        Ok(options.open_shared()?)
    }

    /// Opens what `wanted` names as [`open`](Self::open) does, and its card.
    pub(crate) fn open_card(wanted: &OneCard) -> anyhow::Result<(Self, Arc<dyn Card>)> {
        let named = std::slice::from_ref(&wanted.named);
        let (session, mut cards) = Self::open_cards(&wanted.source, &wanted.broker, named)?;
        Ok((session, cards.remove(0)))
    }

    /// The same with several cards, in the order of their names.
    pub(crate) fn open_cards(
        source: &Source,
        broker: &Client,
        named: &[String],
    ) -> anyhow::Result<(Self, Vec<Arc<dyn Card>>)> {
        let (source, broker) = (source.clone(), broker.clone());
        let session = Self::open(&Selection { source, broker, only: None })?;
        let cards = named.iter().map(|selector| session.card(selector)).collect::<Result<_>>()?;
        Ok((session, cards))
    }

    fn card(&self, selector: &str) -> Result<Arc<dyn Card>> {
        card_of(&self.bus, self.catalogue.as_ref(), selector)
    }

    /// The cards to use: the one that is named, or all.
    pub(crate) fn cards(&self, only: Option<&str>) -> anyhow::Result<Cards> {
        if let Some(selector) = only {
            return Ok(Cards { there: vec![self.card(selector)?], gone: Vec::new() });
        }
        let mut cards = Cards::default();
        for identity in self.bus.cards() {
            match self.bus.card(&identity.address) {
                Ok(card) => cards.there.push(card),
                // Of a broker that takes cards when they are asked for it is seen only now who else has one.
                Err(error) if is_gone(&error) || is_out_of_reach(&error) => cards.gone.push(error),
                Err(error) => return Err(error.into()),
            }
        }
        Ok(cards)
    }
}

/// The card that a person means by `selector`, see [`jitney::Find::named`].
pub(crate) fn card_of(bus: &Bus, catalogue: Option<&Catalogue>, selector: &str) -> Result<Arc<dyn Card>> {
    let wanted = jitney::find(bus).named(selector);
    let wanted = catalogue.into_iter().fold(wanted, jitney::Find::catalogue);
    wanted.one().map_err(|error| not_found(error, selector))
}

/// How to open the bus of the cards that `source` names, or of what is found.
pub(crate) fn options(source: &Source, boards: &EmulatedBoards) -> BusOptions {
    let options = named(source, boards).into_iter().fold(Bus::options(), BusOptions::card);
    source.iommu.into_iter().fold(options, BusOptions::iommu).isolate(source.isolate)
}

/// `options` with what `client` says of waiting.
fn waiting(client: &Client, options: BusOptions) -> BusOptions {
    client.wait.into_iter().fold(options, BusOptions::wait)
}

/// `error`, or who has the card that was not found.
fn not_found(error: Error, selector: &str) -> Error {
    let holders = match selector.parse() {
        Ok(CardAddress::Pci(address)) if error.kind() == ErrorKind::NotFound => holders_of(address),
        _ => return error,
    };
    if holders.is_empty() {
        return error;
    }
    Error::new(ErrorKind::Held, format!("card {selector} is {}", holders.join(" and ")))
        .with_remedy("start programs under one broker (jitney run, jitney broker), or end the holder")
}

/// The cards of a bus. One that is dead does not keep anybody from using the others.
#[derive(Debug, Default)]
pub(crate) struct Cards {
    pub(crate) there: Vec<Arc<dyn Card>>,
    /// What each card said that does not answer any more.
    pub(crate) gone: Vec<Error>,
}

/// Whether `error` says that the card itself is dead, so that another may well be usable.
pub(crate) fn is_gone(error: &Error) -> bool {
    matches!(error.kind(), ErrorKind::LinkDown | ErrorKind::TimedOut)
}

/// Which board `card` is, if it is a known one.
pub(crate) fn known_board(catalogue: &Catalogue, card: &Arc<dyn Card>) -> anyhow::Result<Option<Board>> {
    match identify_in(catalogue, card) {
        Ok(board) => Ok(Some(board)),
        Err(jitney_boards::Error::UnknownBoard { .. }) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// The cards that `source` names, emulated ones last.
pub(crate) fn named(source: &Source, boards: &EmulatedBoards) -> Vec<CardAddress> {
    source.card.iter().cloned().chain(boards.addresses()).collect()
}
