//! A broker that is told to stop.

use crate::raw::{CARD, Raw};
use crate::rig::Rig;
use jitney_broker::protocol::Request;

/// core.md C13: a client that keeps its grant kept a card that may start DMA, and resets were not waited for.
#[test]
fn a_broker_that_ended_leaves_cards_that_cannot_start_dma() {
    for goodbye in [false, true] {
        let Rig { broker, emulated } = Rig::new();
        let mut raw = Raw::new(broker.socket());
        raw.say(&Request::Open { card: CARD });
        // The grant is kept beyond the end of the broker.
        let (_, grant) = raw.hear().unwrap();
        assert!(grant.is_some());
        if goodbye {
            raw.say(&Request::Goodbye);
        }
        drop(broker);
        assert!(!emulated.look().bus_master().unwrap());
    }
}
