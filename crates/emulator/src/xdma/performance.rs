//! Performance counters of a channel (PG195, "Performance Monitor Control (0xC0)" and the counters that follow it).
//!
//! PG195 and AMD's Linux driver name bits 0 and 2 of the control register the other way round (see
//! [`PerformanceControl`]). So the counters count for either, and follow the rules of AUTO for both together.

use jitney_xdma_spec::PerformanceControl;
use jitney_xdma_spec::channel::PerformanceHigh;
use std::time::Instant;

/// Counters are 42 bits wide and stay at their end.
const LIMIT: u64 = (1 << 42) - 1;

/// The counters. They count from when both the channel and they run, by wall-clock time and by data that was moved.
#[derive(Debug)]
pub(super) struct Performance {
    /// Of the data path, in which cycles are counted.
    clock_hz: u64,
    control: PerformanceControl,
    cycles: u64,
    beats: u64,
    /// Whether the channel runs.
    active: bool,
    /// Since when it counts, if it does.
    since: Option<Instant>,
}

impl Performance {
    pub(super) fn new(clock_hz: u64) -> Self {
        let control = PerformanceControl::new();
        Self { clock_hz, control, cycles: 0, beats: 0, active: false, since: None }
    }

    pub(super) fn clock_hz(&self) -> u64 {
        self.clock_hz
    }

    pub(super) fn control(&self) -> PerformanceControl {
        self.control
    }

    /// Takes a written control word. CLEAR acts and is not kept.
    pub(super) fn set_control(&mut self, control: PerformanceControl) {
        self.pause();
        self.control = control.with_clear(false);
        if control.clear() {
            self.clear();
        }
        self.resume();
    }

    /// The channel's RUN rose.
    pub(super) fn channel_starts(&mut self) {
        self.pause();
        if self.is_auto() {
            self.clear();
        }
        self.active = true;
        self.resume();
    }

    /// A descriptor with STOP, or an error, ended the run: counters on AUTO stop.
    pub(super) fn channel_stops(&mut self) {
        if self.is_auto() {
            self.channel_idles();
        }
    }

    /// The channel's RUN fell.
    pub(super) fn channel_idles(&mut self) {
        self.pause();
        self.active = false;
    }

    /// Data was moved.
    pub(super) fn add_beats(&mut self, beats: u64) {
        if self.since.is_some() {
            self.beats = LIMIT.min(self.beats.saturating_add(beats));
        }
    }

    /// Cycles as the two registers show them.
    pub(super) fn cycles(&self) -> (u32, PerformanceHigh) {
        halves(self.cycles_now())
    }

    /// Beats of data as the two registers show them.
    pub(super) fn beats(&self) -> (u32, PerformanceHigh) {
        halves(self.beats)
    }

    /// Time at the clock's rate, and at least a cycle for each beat: memory here is faster than a link, and what software
    /// makes of the two is a part of the whole.
    fn cycles_now(&self) -> u64 {
        let elapsed = self.since.map_or(0, |since| since.elapsed().as_nanos());
        let running = elapsed * u128::from(self.clock_hz) / 1_000_000_000;
        let cycles = self.cycles.saturating_add(u64::try_from(running).unwrap_or(LIMIT));
        LIMIT.min(cycles.max(self.beats))
    }

    fn is_auto(&self) -> bool {
        self.control.run() && self.control.auto()
    }

    fn clear(&mut self) {
        (self.cycles, self.beats) = (0, 0);
    }

    fn pause(&mut self) {
        self.cycles = self.cycles_now();
        self.since = None;
    }

    fn resume(&mut self) {
        self.since = (self.active && (self.control.run() || self.control.auto())).then(Instant::now);
    }
}

#[expect(clippy::cast_possible_truncation, reason = "the two parts of a 42-bit counter are what is meant")]
fn halves(counter: u64) -> (u32, PerformanceHigh) {
    let high = PerformanceHigh::new().with_count((counter >> 32) as u16).with_saturated(counter == LIMIT);
    (counter as u32, high)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn counters_run_with_the_channel_and_stop_with_auto() {
        let mut counters = Performance::new(125_000_000);
        counters.add_beats(5);
        assert_eq!(counters.beats().0, 0, "not armed");
        counters.set_control(PerformanceControl::new().with_run(true).with_auto(true).with_clear(true));
        assert!(!counters.control().clear());
        assert_eq!(counters.cycles().0, 0);

        counters.channel_starts();
        std::thread::sleep(Duration::from_millis(2));
        counters.add_beats(5);
        counters.channel_stops();
        let cycles = counters.cycles().0;
        assert!(cycles >= 250_000, "{cycles}");
        std::thread::sleep(Duration::from_millis(1));
        assert_eq!((counters.cycles().0, counters.beats().0), (cycles, 5));

        counters.channel_starts();
        assert_eq!(counters.beats().0, 0, "AUTO clears at the next start");
    }

    #[test]
    fn cycles_are_those_of_the_clock() {
        for clock_hz in [125_000_000, 250_000_000] {
            let mut counters = Performance::new(clock_hz);
            counters.set_control(PerformanceControl::new().with_run(true));
            let outer = Instant::now();
            counters.channel_starts();
            let inner = Instant::now();
            std::thread::sleep(Duration::from_millis(2));
            let least = inner.elapsed();
            let cycles = u128::from(counters.cycles().0);
            let of = |time: Duration| time.as_nanos() * u128::from(clock_hz) / 1_000_000_000;
            assert!((of(least)..=of(outer.elapsed())).contains(&cycles), "{cycles} at {clock_hz}");
        }
    }

    #[test]
    fn there_are_no_more_beats_than_cycles() {
        let mut counters = Performance::new(125_000_000);
        counters.set_control(PerformanceControl::new().with_run(true).with_clear(true));
        counters.channel_starts();
        counters.add_beats(1 << 36);
        let high = |(_, high): (u32, PerformanceHigh)| high.count();
        assert_eq!((high(counters.beats()), high(counters.cycles())), (1 << 4, 1 << 4));
        counters.channel_idles();
        assert_eq!(high(counters.cycles()), 1 << 4);
    }

    #[test]
    fn without_auto_a_stop_descriptor_changes_nothing() {
        let mut counters = Performance::new(125_000_000);
        counters.set_control(PerformanceControl::new().with_run(true));
        counters.channel_starts();
        counters.channel_stops();
        counters.add_beats(LIMIT);
        counters.add_beats(1);
        let (low, high) = counters.beats();
        assert_eq!((low, high.count(), high.saturated()), (u32::MAX, 0x3ff, true));
    }
}
