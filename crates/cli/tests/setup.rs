//! The commands that get a PC ready, on whatever machine this is. What they say of machines with VFIO is tested in their
//! own crate, on folders that imitate one.

#![expect(clippy::unwrap_used, reason = "in tests, where a panic is the failure")]

use serde_json::Value;
use std::process::{Command, Output};

/// An address that no machine has: a domain of 32 bits.
const NOWHERE: &str = "fffffff0:ff:1f.7";

fn jitney(arguments: &[&str]) -> (Option<i32>, String, String) {
    let Output { status, stdout, stderr } =
        Command::new(env!("CARGO_BIN_EXE_jitney")).args(arguments).output().unwrap();
    (status.code(), String::from_utf8(stdout).unwrap(), String::from_utf8(stderr).unwrap())
}

#[test]
fn the_doctor_says_the_same_to_people_to_programs_and_by_its_status() {
    let (status, people, _) = jitney(&["doctor"]);
    let (same, programs, _) = jitney(&["doctor", "--json"]);
    let report = &serde_json::from_str::<Value>(&programs).unwrap()["result"];
    let checks = report["checks"].as_array().unwrap();
    let is_missing = checks.iter().any(|check| check["verdict"] == "missing");
    assert_eq!((status, same), (Some(i32::from(is_missing)), status), "{people}");
    for check in checks {
        let name = check["name"].as_str().unwrap();
        assert!(people.contains(&format!("{name}: ")), "{name} is not in {people}");
        let needs_remedy = check["verdict"] == "missing" || check["verdict"] == "warning";
        assert_eq!(check["remedy"].is_string(), needs_remedy, "{check}");
    }
}

#[test]
fn a_card_that_is_not_there() {
    let (status, people, _) = jitney(&["doctor", NOWHERE]);
    assert_eq!(status, Some(1));
    assert!(people.contains(&format!("there is no PCI function {NOWHERE}")), "{people}");
    for command in ["bind", "unbind", "who"] {
        let (status, out, error) = jitney(&[command, NOWHERE]);
        assert_eq!((status, &*out), (Some(1), ""), "{command}");
        assert!(error.contains(NOWHERE) && error.contains("lspci"), "{error}");
    }
}

#[test]
fn arguments_that_make_no_sense() {
    for arguments in [
        &["bind"][..],
        &["bind", "nitefury"],
        &["unbind", "0000:00:77.0"],
        &["bind", NOWHERE, "--mode", "rw-rw-rw-"],
        &["doctor", "10ee"],
    ] {
        let (status, out, error) = jitney(arguments);
        assert_eq!((status, &*out), (Some(2), ""), "{arguments:?}: {error}");
    }
}

#[test]
fn who_answers_in_json() {
    let (status, out, _) = jitney(&["who", "--json"]);
    let found = &serde_json::from_str::<Value>(&out).unwrap()["result"];
    assert!(status == Some(0) && found["holders"].is_array() && found["hidden"].is_number(), "{out}");
}
