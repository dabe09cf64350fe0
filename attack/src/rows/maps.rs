//! Memory in quantities that take long to map, and death before they are.

use super::Play;
use crate::client::Client;
use crate::protocol::Request;
use crate::round::{End, Round};
use crate::stage::Stage;
use crate::villain::Role;
use std::time::{Duration, Instant};

pub(super) const PLAYS: &[(&str, Play)] = &[("huge-map", play)];

/// How soon a client that died in the middle of a map has to be gone: a piece is not long.
const SOON: Duration = Duration::from_secs(3);

pub(super) fn row(round: &Round<'_>) -> anyhow::Result<()> {
    let gigabytes = round.figure(2, 8);
    for (count, each) in [(1, gigabytes), (64, gigabytes), (1, 100)] {
        for wait in [0, 100] {
            let role = Role { word: each.to_string(), ..round.role("huge-map", count) };
            let mut villain = round.start(&role)?;
            villain.wait_until_ready(SOON * 10)?;
            std::thread::sleep(Duration::from_millis(wait));
            round.end(villain, End::Killed).or_else(|_| anyhow::Ok(()))?;
            let since = Instant::now();
            let mut observer = Client::welcome(&round.arena.place.socket, "good observer")?;
            while observer.users()?.iter().any(|user| user.program == "villain") {
                if since.elapsed() > SOON {
                    let seconds = SOON.as_secs();
                    round.broken(format!(
                        "{count} maps of {each} GiB are not cleared away {seconds} s after death"
                    ));
                    break;
                }
                std::thread::sleep(Duration::from_millis(10));
            }
            round.did(1);
        }
    }
    Ok(())
}

fn play(stage: &Stage) -> anyhow::Result<()> {
    let (mut client, _grant) = stage.with_card()?;
    let gigabytes: u64 = stage.word.parse()?;
    for _ in 0..stage.count {
        client.post(&Request::allocate(stage.card, gigabytes << 30), &[])?;
    }
    stage.stay()
}
