//! Very many random histories, each from one number.
//!
//! `JITNEY_HISTORIES=1000000` asks for so many. Half of them begin at a number that is never the same. A history that fails
//! is made shorter and printed; its number belongs into `failed_histories`, which are always tried first.

use crate::machine::testing::{Setting, Step, Steps, World};
use std::hash::{BuildHasher, RandomState};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering};

const USUAL: u64 = 20_000;

/// What a number stands for.
struct History {
    setting: Setting,
    steps: Vec<Step>,
    /// Whether everybody goes in the end, or everybody who is there is answered.
    ends: bool,
    rest: Steps,
}

impl History {
    fn of(seed: u64) -> Self {
        let mut rest = Steps(seed);
        let bits = rest.number();
        let coarse = bits & 0xe0 == 0xe0;
        let setting = Setting {
            physical: bits & 1 != 0 && !coarse,
            one_space: bits & 2 != 0,
            narrow: bits & 4 != 0,
            coarse,
            on_demand: bits & 0x300 == 0x300,
        };
        let length = if bits & 16 == 0 { 40 } else { 120 };
        let steps = rest.by_ref().take(length).collect();
        Self { setting, steps, ends: bits & 8 != 0, rest }
    }

    fn run(&self) {
        let mut world = World::new(self.setting);
        for step in &self.steps {
            world.take(*step);
        }
        if self.ends {
            let mut rest = self.rest.clone();
            world.end(|| rest.ending());
        } else {
            world.check_answers();
        }
    }

    fn fails(&self) -> bool {
        catch_unwind(AssertUnwindSafe(|| self.run())).is_err()
    }

    /// Leaves out what it fails without.
    fn shorten(&mut self) {
        let mut index = 0;
        while index < self.steps.len() {
            let step = self.steps.remove(index);
            if !self.fails() {
                self.steps.insert(index, step);
                index += 1;
            }
        }
    }
}

fn try_one(seed: u64) {
    let mut history = History::of(seed);
    if history.fails() {
        history.shorten();
        let History { setting, steps, ends, .. } = &history;
        let then = if *ends { "the end" } else { "all answers" };
        eprintln!("history {seed} fails, shortened to: {setting:?}, {steps:?}, then {then}");
        history.run();
        panic!("history {seed} failed, and does not any more");
    }
}

#[test]
fn no_history_of_very_many_fails() {
    for line in include_str!("failed_histories").lines().filter(|line| !line.starts_with('#')) {
        try_one(line.trim().parse().expect("a number in each line"));
    }
    let asked = std::env::var("JITNEY_HISTORIES").ok().and_then(|number| number.parse().ok());
    let (count, fresh) = (asked.unwrap_or(USUAL), RandomState::new().hash_one(0));
    let next = AtomicU64::new(0);
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(1, usize::from) {
            scope.spawn(|| {
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    if number >= count {
                        return;
                    }
                    try_one(if number.is_multiple_of(2) { number } else { fresh.wrapping_add(number) });
                }
            });
        }
    });
}
