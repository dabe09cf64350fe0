//! How long requests took.

use serde::Serialize;
use std::collections::BTreeMap;
use std::time::Duration;

/// What a well-behaved client does again and again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Act {
    Cards,
    Usage,
    Lease,
    Allocate,
    Wire,
    Register,
    Transfer,
}

impl Act {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Cards => "Cards",
            Self::Usage => "Usage",
            Self::Lease => "Lease+Release",
            Self::Allocate => "Allocate+Free",
            Self::Wire => "Wire+Silence",
            Self::Register => "register",
            Self::Transfer => "256 KiB",
        }
    }
}

/// On which card: that which is attacked, or another one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Place {
    Same,
    Other,
}

impl Place {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Same => "same card",
            Self::Other => "other card",
        }
    }
}

/// How long each kind of request took.
#[derive(Debug, Clone, Default)]
pub(crate) struct Figures(BTreeMap<(Place, Act), Vec<Duration>>);

impl Figures {
    pub(crate) fn add(&mut self, place: Place, act: Act, time: Duration) {
        self.0.entry((place, act)).or_default().push(time);
    }

    pub(crate) fn merge(&mut self, other: Self) {
        for (key, times) in other.0 {
            self.0.entry(key).or_default().extend(times);
        }
    }

    /// How much there is of each, so far.
    pub(crate) fn mark(&self) -> Mark {
        Mark(self.0.iter().map(|(&key, times)| (key, times.len())).collect())
    }

    /// What has come since.
    pub(crate) fn since(&self, mark: &Mark) -> Self {
        let behind = |(&key, times): (&(Place, Act), &Vec<Duration>)| {
            let old = mark.0.get(&key).copied().unwrap_or(0);
            (key, times.get(old..).unwrap_or_default().to_vec())
        };
        Self(self.0.iter().map(behind).collect())
    }

    pub(crate) fn len(&self) -> usize {
        self.0.values().map(Vec::len).sum()
    }

    pub(crate) fn each(&self) -> impl Iterator<Item = (Place, Act, &[Duration])> {
        self.0.iter().map(|(&(place, act), times)| (place, act, times.as_slice()))
    }

    pub(crate) fn p99(&self, place: Place, act: Act) -> Option<Duration> {
        self.0.get(&(place, act)).and_then(|times| p99(times))
    }
}

/// A moment.
#[derive(Debug)]
pub(crate) struct Mark(BTreeMap<(Place, Act), usize>);

/// The time that one in a hundred takes longer than.
pub(crate) fn p99(times: &[Duration]) -> Option<Duration> {
    let mut times = times.to_vec();
    times.sort_unstable();
    times.get((times.len() * 99 / 100).min(times.len().saturating_sub(1))).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_came_since_a_moment_is_known() {
        let mut figures = Figures::default();
        let second = |figures: &mut Figures, act| figures.add(Place::Same, act, Duration::from_secs(1));
        second(&mut figures, Act::Lease);
        let mark = figures.mark();
        second(&mut figures, Act::Cards);
        second(&mut figures, Act::Lease);
        second(&mut figures, Act::Lease);
        let since = figures.since(&mark);
        assert_eq!((since.len(), figures.len()), (3, 4));
        assert_eq!(figures.since(&figures.mark()).len(), 0);
    }

    #[test]
    fn one_in_a_hundred_is_slower_than_p99() {
        let times: Vec<_> = (0..1000).rev().map(Duration::from_micros).collect();
        assert_eq!(p99(&times), Some(Duration::from_micros(990)));
        assert_eq!(p99(&times[..1]), Some(Duration::from_micros(999)));
        assert_eq!(p99(&[]), None);
    }
}
