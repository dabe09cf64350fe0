//! The lease table against what a lease means.

#![expect(clippy::unwrap_used, reason = "in tests, where a panic is the failure")]

use jitney_vfio::{LeaseId, LeaseRequest, LeaseTable, Mode, Part, Will};
use proptest::prelude::*;

#[derive(Debug, Clone)]
enum Step {
    Grant(u8, LeaseRequest),
    Release(u64, u8),
    ReleaseAll(u8),
}

fn request() -> impl Strategy<Value = LeaseRequest> {
    let part = prop_oneof![
        Just(Part::whole()),
        (0_u16..3).prop_map(Part::interrupt),
        Just("h2c0".parse().unwrap()),
    ];
    (part, any::<bool>()).prop_map(|(part, shared)| LeaseRequest {
        part,
        mode: if shared { Mode::Shared } else { Mode::Exclusive },
        will: Will::none(),
        wait: None,
    })
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (0..3_u8, request()).prop_map(|(holder, request)| Step::Grant(holder, request)),
        2 => (0..30_u64, 0..3_u8).prop_map(|(id, holder)| Step::Release(id, holder)),
        1 => (0..3_u8).prop_map(Step::ReleaseAll),
    ]
}

fn exclude(a: &LeaseRequest, b: &LeaseRequest) -> bool {
    let touch = a.part == b.part || a.part == Part::whole() || b.part == Part::whole();
    touch && !(a.mode == Mode::Shared && b.mode == Mode::Shared)
}

proptest! {
    #[test]
    fn a_lease_is_granted_exactly_if_nothing_excludes_it(steps in prop::collection::vec(step(), 0..60)) {
        let mut table = LeaseTable::default();
        let mut model: Vec<(u64, u8, LeaseRequest)> = Vec::new();
        for (number, step) in (0..).zip(steps) {
            match step {
                Step::Grant(holder, request) => {
                    let clash = model.iter().find(|(_, _, other)| exclude(other, &request)).cloned();
                    match table.grant(LeaseId(number), holder, request.clone()) {
                        Ok(()) => {
                            prop_assert_eq!(clash, None);
                            model.push((number, holder, request));
                        }
                        Err(other) => {
                            prop_assert_eq!(clash, Some((other.id.0, other.holder, other.request.clone())));
                        }
                    }
                }
                Step::Release(id, holder) => {
                    let there = model.iter().position(|lease| (lease.0, lease.1) == (id, holder));
                    let released = table.release(LeaseId(id), &holder);
                    prop_assert_eq!(released.map(|lease| lease.id.0), there.map(|index| model.remove(index).0));
                }
                Step::ReleaseAll(holder) => {
                    let gone: Vec<_> = table.release_all(&holder).into_iter().map(|lease| lease.id.0).collect();
                    let expected: Vec<_> = model.iter().filter(|lease| lease.1 == holder).map(|lease| lease.0).collect();
                    model.retain(|lease| lease.1 != holder);
                    prop_assert_eq!(gone, expected);
                }
            }
            let live: Vec<_> = table.iter().map(|lease| lease.id.0).collect();
            prop_assert_eq!(live, model.iter().map(|lease| lease.0).collect::<Vec<_>>());
        }
    }

    #[test]
    fn only_good_names_are_parts(name in ".{0,40}") {
        let good = !name.is_empty()
            && name.len() <= Part::MAX_LENGTH
            && name.bytes().all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-'));
        prop_assert_eq!(name.parse::<Part>().is_ok(), good);
    }
}

#[test]
fn a_part_has_a_name_of_at_most_32_letters_and_keeps_it() {
    for good in ["a", "h2c0", "board-peripheral-0123456789abcde", &"z".repeat(Part::MAX_LENGTH)] {
        let part: Part = good.parse().unwrap();
        assert_eq!(
            (part.name(), part.to_string(), String::from(part.clone())),
            (good, good.into(), good.into())
        );
        // As it goes from process to process.
        let bytes = postcard::to_stdvec(&part).unwrap();
        assert_eq!(postcard::from_bytes::<Part>(&bytes).unwrap(), part);
    }
    for bad in ["", "H2c0", "h2c 0", "ä", "h2c_0", &"z".repeat(Part::MAX_LENGTH + 1)] {
        assert!(bad.parse::<Part>().is_err(), "{bad:?}");
    }
}
