//! Random histories. What must be true after every step is checked by [`World`].

use crate::machine::testing::{Setting, Step, Steps, World};
use proptest::prelude::*;
use proptest::test_runner::FileFailurePersistence;

/// `PROPTEST_CASES` asks for more.
fn config() -> ProptestConfig {
    let usual = ProptestConfig::default();
    let cases = if std::env::var_os("PROPTEST_CASES").is_some() { usual.cases } else { 2000 };
    let failure_persistence =
        Some(Box::new(FileFailurePersistence::SourceParallel("proptest-regressions")) as _);
    ProptestConfig { cases, failure_persistence, ..usual }
}

fn setting() -> impl Strategy<Value = Setting> {
    (0u8..32).prop_map(|bits| Setting {
        physical: bits & 9 == 1,
        one_space: bits & 2 != 0,
        narrow: bits & 4 != 0,
        coarse: bits & 8 != 0,
        on_demand: bits & 16 != 0,
    })
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    proptest::collection::vec(any::<u64>().prop_map(Step::of), 0..120)
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn every_request_of_who_stays_is_answered(setting in setting(), steps in steps()) {
        let mut world = World::new(setting);
        for step in steps {
            world.take(step);
        }
        world.check_answers();
    }

    #[test]
    fn every_history_leaves_nothing_behind(setting in setting(), steps in steps(), seed: u64) {
        let mut world = World::new(setting);
        for step in steps {
            world.take(step);
        }
        let mut endings = Steps(seed);
        world.end(|| endings.ending());
    }
}
