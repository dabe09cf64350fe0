//! `jitney route`: which stream goes where on a card.

use crate::args::OneCard;
use crate::boards::catalogue;
use crate::cards::Session;
use crate::contract::CardName;
use crate::report::Report;
use crate::status::{Misuse, Status};
use clap::Args;
use jitney_boards::identify_in;
use schemars::JsonSchema;
use serde::Serialize;
use std::str::FromStr;

const HELP: &str = "\
Examples:
  jitney route 10ee:7011                        # which routes there are
  jitney route 10ee:7011 h2c0:c2h1 h2c1:c2h0
  jitney route 10ee:7011 none:c2h0

Routes that are not named stay, but that a stream has one end: what it went to before gets nothing then. A card is reset when \
its last program ends, and has no routes then: have a broker own it (`jitney broker`) and hold it (`jitney hold`).";

#[derive(Debug, Args)]
#[command(after_help = HELP)]
pub(crate) struct Route {
    #[command(flatten)]
    card: OneCard,
    /// H2C:C2H, as h2c0:c2h1; none:c2h1 for a channel that gets nothing.
    #[arg(value_name = "ROUTE")]
    routes: Vec<Wish>,
}

/// `h2c0:c2h1`
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Wish {
    from: Option<u8>,
    to: u8,
}

impl FromStr for Wish {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parse = || {
            let (from, to) = text.split_once(':')?;
            let from = match from {
                "none" => None,
                from => Some(from.strip_prefix("h2c")?.parse().ok()?),
            };
            Some(Self { from, to: to.strip_prefix("c2h")?.parse().ok()? })
        };
        parse().ok_or_else(|| "write a route as h2c0:c2h1, or none:c2h1".into())
    }
}

/// The routes of a card.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct Outcome {
    #[serde(flatten)]
    card: CardName,
    routes: Vec<Way>,
}

/// What a channel from the card gets.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct Way {
    to: String,
    /// Nothing if no channel to the card feeds it.
    from: Option<String>,
}

pub(crate) fn route(args: &Route, json: bool) -> anyhow::Result<Status> {
    let (_session, card) = Session::open_card(&args.card)?;
    let board = identify_in(&catalogue(&args.card.source.emulate)?, &card)?;
    let switch = board.stream_switch()?;
    let report = &mut Report::new(json);
    let routes = if args.routes.is_empty() {
        switch.routes()?
    } else {
        let leased = switch.lease()?;
        let now = leased.switch().routes()?;
        leased.set_routes(&changed(now, &args.routes)?)?;
        leased.switch().routes()?
    };
    let ways = (0..).zip(routes).map(|(to, from): (u8, Option<u8>)| Way {
        to: format!("c2h{to}"),
        from: from.map(|from| format!("h2c{from}")),
    });
    let routes: Vec<Way> = ways.collect();
    for way in &routes {
        report.line(format!("{} <- {}", way.to, way.from.as_deref().unwrap_or("nothing")));
    }
    report.finish(&Outcome { card: CardName::of(&*card), routes })?;
    Ok(Status::Passed)
}

/// The routes `now`, with the `wanted` ones in their place.
fn changed(mut now: Vec<Option<u8>>, wanted: &[Wish]) -> Result<Vec<Option<u8>>, Misuse> {
    let ports = now.len();
    for (index, wish) in wanted.iter().enumerate() {
        let missing =
            |what: String| Err(Misuse(format!("there is no {what}: the switch has {ports} ports each way")));
        if let Some(from) = wish.from {
            if usize::from(from) >= ports {
                return missing(format!("h2c{from}"));
            }
            if wanted[..index].iter().any(|other| other.from == wish.from) {
                return Err(Misuse(format!("h2c{from} is named twice, and a stream has one end")));
            }
            now.iter_mut().filter(|other| **other == Some(from)).for_each(|other| *other = None);
        }
        if wanted[..index].iter().any(|other| other.to == wish.to) {
            return Err(Misuse(format!("c2h{} is named twice, and gets one stream", wish.to)));
        }
        match now.get_mut(usize::from(wish.to)) {
            Some(place) => *place = wish.from,
            None => return missing(format!("c2h{}", wish.to)),
        }
    }
    Ok(now)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stream_has_one_end() {
        let now = || vec![Some(0), Some(1), None];
        let with = |texts: &[&str]| {
            let wanted: Vec<Wish> = texts.iter().map(|text| text.parse().unwrap()).collect();
            changed(now(), &wanted).map_err(|error| error.0)
        };
        assert_eq!(with(&["h2c0:c2h2"]), Ok(vec![None, Some(1), Some(0)]));
        assert_eq!(with(&["h2c0:c2h1", "h2c1:c2h0"]), Ok(vec![Some(1), Some(0), None]));
        assert_eq!(with(&["none:c2h1"]), Ok(vec![Some(0), None, None]));
        for nonsense in
            [&["h2c3:c2h0"][..], &["h2c0:c2h3"], &["h2c0:c2h0", "h2c0:c2h1"], &["h2c0:c2h0", "h2c1:c2h0"]]
        {
            assert!(with(nonsense).is_err(), "{nonsense:?}");
        }
        for text in ["", "h2c0", "c2h0:h2c0", "h2c0:c2h", "1:2"] {
            assert!(text.parse::<Wish>().is_err(), "{text}");
        }
    }
}
