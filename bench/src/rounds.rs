//! Several things measured in turns.

use crate::progress::Progress;
use std::time::{Duration, Instant};

/// Something that takes the time that it returns.
pub(crate) type Side<'a> = &'a mut dyn FnMut() -> anyhow::Result<Duration>;

/// What each side took in each round.
#[derive(Debug)]
pub(crate) struct Rounds<const SIDES: usize>([Vec<Duration>; SIDES]);

impl<const SIDES: usize> Rounds<SIDES> {
    /// Measures all sides once in each round, after a round that does not count. Every other round goes backwards, so
    /// that no side profits from its place.
    pub(crate) fn measure(what: &str, rounds: usize, mut sides: [Side<'_>; SIDES]) -> anyhow::Result<Self> {
        let progress = Progress::new(what, rounds);
        for side in &mut sides {
            side()?;
        }
        let mut times = [const { Vec::new() }; SIDES];
        for round in 0..rounds {
            for turn in 0..SIDES {
                let side = if round % 2 == 0 { turn } else { SIDES - 1 - turn };
                times[side].push(sides[side]()?);
            }
            progress.advance();
        }
        Ok(Self(times))
    }

    /// The median over the rounds of the time of one side by that of another.
    pub(crate) fn ratio(&self, side: usize, other: usize) -> f64 {
        let ratio = |(a, b): (&Duration, &Duration)| a.as_secs_f64() / b.as_secs_f64();
        median(self.0[side].iter().zip(&self.0[other]).map(ratio).collect())
    }

    /// The median time of a side in seconds.
    pub(crate) fn seconds(&self, side: usize) -> f64 {
        median(self.0[side].iter().map(Duration::as_secs_f64).collect())
    }
}

/// What `work` takes.
pub(crate) fn timed<E>(work: impl FnOnce() -> Result<(), E>) -> anyhow::Result<Duration>
where
    anyhow::Error: From<E>,
{
    let start = Instant::now();
    work()?;
    Ok(start.elapsed())
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    match values.len() {
        0 => f64::NAN,
        count if count % 2 == 1 => values[count / 2],
        count => f64::midpoint(values[count / 2 - 1], values[count / 2]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_in_the_middle() {
        assert!((median(vec![3.0, 1.0, 100.0]) - 3.0).abs() < 1e-9);
        assert!((median(vec![4.0, 1.0, 2.0, 100.0]) - 3.0).abs() < 1e-9);
        assert!(median(Vec::new()).is_nan());
    }

    #[test]
    fn the_first_round_does_not_count_and_the_order_turns() {
        let order = std::cell::RefCell::new(String::new());
        let side = |name, seconds| {
            let order = &order;
            move || {
                order.borrow_mut().push(name);
                Ok(Duration::from_secs(seconds))
            }
        };
        let rounds =
            Rounds::measure("a test", 3, [&mut side('a', 6), &mut side('b', 2)]).expect("it cannot fail");
        assert_eq!(order.into_inner(), "ababbaab");
        assert!((rounds.ratio(0, 1) - 3.0).abs() < 1e-9 && (rounds.seconds(1) - 2.0).abs() < 1e-9);
    }
}
