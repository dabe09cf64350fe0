//! The library's examples, as their first lines say they are run.

use crate::support::{Ground, Process};
use std::path::PathBuf;

/// An example of the library, which is built if nobody has done that.
pub(crate) fn example(name: &str) -> PathBuf {
    let own = std::env::current_exe().unwrap();
    let path = own.parent().unwrap().with_file_name("examples").join(name);
    if !path.exists() {
        // As all tests are built, so that nothing is built twice.
        let mut cargo = std::process::Command::new(env!("CARGO"));
        assert!(
            cargo
                .args(["build", "--workspace", "--all-features", "--example", name])
                .status()
                .unwrap()
                .success()
        );
    }
    path
}

/// Runs an example under a broker with a NiteFury, and returns what it printed.
fn run(ground: &Ground, name: &str) -> String {
    let program = example(name).display().to_string();
    ground.run_args(["run", "--emulate", "nitefury", "--", &program]).exits(0).out
}

#[test]
fn each_does_what_it_says() {
    let ground = Ground::new();
    for (name, said) in [
        ("first_program", "hello, card"),
        ("many_in_flight", "1024 transfers of 4 KiB"),
        ("gather", "10 bytes in one transfer: head, one, two"),
        ("sensors", "NiteFury xadc: temperature"),
        ("shared_memory", "1048576 bytes shared: from the maker"),
        ("driver_test", "the driver works"),
        ("board_in_a_test", "through the whole stack"),
    ] {
        let out = run(&ground, name);
        assert!(out.contains(said), "{name}: {out}");
    }
    let out = run(&ground, "wait_in_line");
    assert!(out.contains("refused at once: ") && out.contains("my-filter is held by"), "{out}");
    assert!(out.contains("granted after "), "{out}");
}

#[test]
fn one_waits_for_interrupts_of_the_users_logic() {
    let ground = Ground::new();
    let board = ground.board("nitefury --user-interrupt 0@10ms");
    let mut command = std::process::Command::new(example("user_interrupt"));
    command.env("JITNEY_CARDS", board.address()).env("XDG_RUNTIME_DIR", ground.path("run"));
    Process::start(command).wait().exits(0).says("interrupt 3");
}
