//! A row's trial: it runs beside the good clients, and what it leaves behind is looked at.

use crate::arena::{Arena, Options};
use crate::figures::{Act, Figures, Place, p99};
use crate::probe::Probe;
use crate::round::{Findings, Round};
use crate::rows::{Excuse, Row};
use crate::villain::Told;
use anyhow::Context;
use serde::Serialize;
use std::time::{Duration, Instant};

/// The worst request may take so many times what one in a hundred takes when nobody attacks.
const RATIO: f64 = 10.0;
/// And never longer than this.
const WORST: Duration = Duration::from_millis(100);
/// A machine that takes so much of the worst request for a mere message between two threads is what made it wait.
const MACHINE: u32 = 3;
/// A row whose requests were too slow has its trial again, up to this often: what the broker does wrong it does again, and what
/// else this machine was busy with it does not.
const TRIALS: usize = 3;
/// How long the good clients are measured alone.
const ALONE: [Duration; 2] = [Duration::from_millis(2500), Duration::from_secs(15)];
/// How long they go on when a row has ended.
const AFTERMATH: Duration = Duration::from_millis(200);

/// How long requests take when nobody attacks.
#[derive(Debug)]
pub(crate) struct Alone(pub(crate) Figures);

impl Alone {
    pub(crate) fn measure(arena: &Arena, long: bool) -> anyhow::Result<Self> {
        // The first rounds pay for what is made once.
        std::thread::sleep(Duration::from_millis(300));
        arena.good.take();
        std::thread::sleep(ALONE[usize::from(long)]);
        let (figures, _, troubles) = arena.good.take();
        match troubles.first() {
            Some(trouble) => anyhow::bail!("a good client fails when nobody attacks: {}", trouble.what),
            None => Ok(Self(figures)),
        }
    }
}

/// The slowest request of a kind.
#[derive(Debug, Clone, Copy, Serialize)]
pub(crate) struct Slowest {
    pub(crate) place: Place,
    pub(crate) act: Act,
    /// In seconds.
    pub(crate) worst: f64,
    /// What one in a hundred takes alone, in seconds.
    pub(crate) alone: f64,
    pub(crate) ratio: f64,
}

/// What came of a row.
#[derive(Debug, Serialize)]
pub(crate) struct Outcome {
    pub(crate) row: &'static str,
    pub(crate) rounds: u64,
    pub(crate) requests: usize,
    /// The kinds of requests, the one that had to wait longest as measured by its time alone first.
    pub(crate) slowest: Vec<Slowest>,
    /// The worst message between two threads meanwhile, in seconds.
    pub(crate) machine: f64,
    pub(crate) seconds: f64,
    pub(crate) trials: usize,
    /// What is wrong; nothing if the row has passed.
    pub(crate) broken: Vec<String>,
    pub(crate) skipped: Option<String>,
    /// Figures that are worth a line.
    pub(crate) notes: Vec<String>,
}

impl Outcome {
    pub(crate) fn passed(&self) -> bool {
        self.broken.is_empty() && self.skipped.is_none()
    }
}

/// The arena of the trials; one whose broker has ended is followed by another.
pub(crate) struct Trials {
    arena: Option<Arena>,
    pub(crate) alone: Alone,
    long: bool,
    /// Whether it matters how long requests took.
    timed: bool,
    seed: u64,
}

impl Trials {
    pub(crate) fn new(long: bool, timed: bool, seed: u64) -> anyhow::Result<Self> {
        let arena = Arena::start(Options::default())?;
        let alone = Alone::measure(&arena, long)?;
        Ok(Self { arena: Some(arena), alone, long, timed, seed })
    }

    pub(crate) fn run(&mut self, row: &Row) -> Outcome {
        let mut trials = 1;
        loop {
            let (mut outcome, slow) = self.once(row);
            outcome.trials = trials;
            let only_slow = outcome.broken.is_empty() && outcome.skipped.is_none() && !slow.is_empty();
            outcome.broken.extend(slow);
            if !only_slow || trials == TRIALS {
                return outcome;
            }
            trials += 1;
        }
    }

    /// One trial, and which requests were too slow in it.
    fn once(&mut self, row: &Row) -> (Outcome, Vec<String>) {
        let start = Instant::now();
        let mut outcome = Outcome {
            row: row.name,
            rounds: 0,
            requests: 0,
            slowest: Vec::new(),
            machine: 0.0,
            seconds: 0.0,
            trials: 1,
            broken: Vec::new(),
            skipped: None,
            notes: Vec::new(),
        };
        let slow = self.attempt(row, &mut outcome).unwrap_or_else(|error| {
            outcome.broken.push(format!("{error:#}"));
            Vec::new()
        });
        if !outcome.broken.is_empty() {
            // What a broken row leaves behind is not the next one's.
            if let Some(arena) = self.arena.take() {
                outcome.broken.extend(last_words(arena));
            }
        }
        outcome.seconds = start.elapsed().as_secs_f64();
        (outcome, slow)
    }

    fn attempt(&mut self, row: &Row, outcome: &mut Outcome) -> anyhow::Result<Vec<String>> {
        let Self { arena, alone, .. } = self;
        let arena = match arena {
            Some(arena) => arena,
            none => none.insert(Arena::start(Options::default())?),
        };
        let before = arena.census().context("before the row")?;
        let probe = Probe::start()?;
        arena.good.take();
        probe.take();
        let round = Round::new(arena, self.long, self.seed, &alone.0);
        let ran = (row.run)(&round);
        let Findings { told: Told { did, broken, skipped }, mut slow, notes } = round.findings();
        (outcome.rounds, outcome.skipped, outcome.notes) = (did, skipped, notes);
        outcome.broken.extend(broken);
        if let Err(error) = ran {
            outcome.broken.push(format!("{error:#}"));
        }
        std::thread::sleep(AFTERMATH);
        if let Some(status) = arena.broker.ended()? {
            outcome.broken.push(format!("THE BROKER ENDED with {status}"));
            return Ok(Vec::new());
        }
        for (name, board) in ["same", "other"].iter().zip(&mut arena.boards) {
            if let Some(status) = board.ended()? {
                outcome.broken.push(format!("the board of the {name} card ended with {status}"));
            }
        }
        let settled = arena.settle(&before).context("after the row")?;
        let machine = probe.take();
        let (figures, _, troubles) = arena.good.take();
        outcome.broken.extend(settled.err().map(|left| format!("not given back: {left}")));
        let excused = |place| place == Place::Same && row.excuse == Excuse::Disturbed;
        for trouble in troubles.iter().filter(|trouble| !excused(trouble.place)).take(3) {
            outcome.broken.push(format!("a good client was let down: {}", trouble.what));
        }
        outcome.requests = figures.len();
        let worst_message = machine.iter().max().copied().unwrap_or_default();
        outcome.machine = worst_message.as_secs_f64();
        outcome.slowest = self.slowest(&figures);
        slow.extend(too_slow(&outcome.slowest, row.excuse, worst_message));
        Ok(if self.timed { slow } else { Vec::new() })
    }

    fn slowest(&self, figures: &Figures) -> Vec<Slowest> {
        let mut slowest: Vec<Slowest> = figures
            .each()
            .filter_map(|(place, act, times)| {
                let worst = times.iter().max()?.as_secs_f64();
                let alone = self.alone.0.p99(place, act)?.as_secs_f64();
                Some(Slowest { place, act, worst, alone, ratio: worst / alone.max(1e-9) })
            })
            .collect();
        slowest.sort_by(|a, b| b.ratio.total_cmp(&a.ratio));
        slowest
    }
}

fn too_slow(slowest: &[Slowest], excuse: Excuse, machine: Duration) -> Vec<String> {
    let machine = machine.as_secs_f64();
    let too_slow = |slow: &&Slowest| {
        if slow.worst <= excuse.limit(slow.place, slow.act).as_secs_f64() {
            return false;
        }
        let of_the_machine = f64::from(MACHINE) * machine;
        slow.worst > (RATIO * slow.alone).max(of_the_machine)
            || slow.worst > WORST.as_secs_f64().max(of_the_machine)
    };
    let words = |slow: &Slowest| {
        format!(
            "{} on the {} took {} at worst, {:.0} times its p99 alone ({}); a mere message took {}",
            slow.act.name(),
            slow.place.name(),
            time(slow.worst),
            slow.ratio,
            time(slow.alone),
            time(machine),
        )
    };
    slowest.iter().filter(too_slow).map(words).collect()
}

/// Seconds for people.
pub(crate) fn time(seconds: f64) -> String {
    match seconds {
        short if short < 1e-3 => format!("{:.0} µs", short * 1e6),
        middle if middle < 1.0 => format!("{:.1} ms", middle * 1e3),
        long => format!("{long:.1} s"),
    }
}

/// What the processes of an arena said last.
fn last_words(arena: Arena) -> Vec<String> {
    let words = |name: &str| {
        let end = arena.place.end_of_log(name);
        (!end.is_empty()).then(|| format!("the end of the log of {name}:\n{end}"))
    };
    ["broker", "same"].iter().filter_map(|name| words(name)).collect()
}

/// The worst of a list of figures in words, for the heading of the table.
pub(crate) fn alone_in_words(alone: &Alone) -> Vec<(Place, Act, usize, f64)> {
    alone
        .0
        .each()
        .filter_map(|(place, act, times)| Some((place, act, times.len(), p99(times)?.as_secs_f64())))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn slow(worst: f64, alone: f64) -> Slowest {
        Slowest { place: Place::Other, act: Act::Lease, worst, alone, ratio: worst / alone }
    }

    #[test]
    fn ten_times_is_too_slow_unless_the_machine_is() {
        let judge = |worst, alone, machine| {
            !too_slow(&[slow(worst, alone)], Excuse::None, Duration::from_secs_f64(machine)).is_empty()
        };
        assert!(!judge(900e-6, 100e-6, 10e-6));
        assert!(judge(1100e-6, 100e-6, 10e-6));
        assert!(!judge(1100e-6, 100e-6, 500e-6));
        assert!(judge(0.11, 0.05, 0.001), "never over 100 ms");
        assert!(!judge(0.11, 0.05, 0.05));
        assert!(judge(0.5, 0.05, 0.05));
    }

    #[test]
    fn what_a_will_holds_up_is_excused_on_its_own_card_only() {
        let slow = |place| Slowest { place, act: Act::Wire, worst: 4.0, alone: 1e-4, ratio: 4e4 };
        let judge = |place| too_slow(&[slow(place)], Excuse::Wills, Duration::ZERO).len();
        assert_eq!((judge(Place::Same), judge(Place::Other)), (0, 1));
    }
}
