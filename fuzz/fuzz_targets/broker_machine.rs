//! A history of a broker with two cards and a few clients, checked as the broker's own tests check theirs: against an account
//! of what was carried out, kept from events and effects alone.

#![no_main]

use jitney_broker::machine::testing::{Setting, Step, Steps, World};
use libfuzzer_sys::arbitrary::{self, Arbitrary};
use libfuzzer_sys::fuzz_target;

#[derive(Debug, Arbitrary)]
struct Input {
    physical: bool,
    one_space: bool,
    narrow: bool,
    coarse: bool,
    on_demand: bool,
    /// Whether everybody goes in the end, or everybody who is there is answered.
    ends: bool,
    /// How the work ends that is left in the end.
    rest: u64,
    steps: Vec<u64>,
}

fuzz_target!(|input: Input| {
    let Input { physical, one_space, narrow, coarse, on_demand, ends, rest, steps } = input;
    let mut world =
        World::new(Setting { physical: physical && !coarse, one_space, narrow, coarse, on_demand });
    for number in steps {
        world.take(Step::of(number));
    }
    if ends {
        let mut rest = Steps(rest);
        world.end(|| rest.ending());
    } else {
        world.check_answers();
    }
});
