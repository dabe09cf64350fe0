//! Programs that are killed at random moments while their broker is, too, and replaced: who is left has every byte right, and of
//! the dead there is nothing left.
//!
//! `JITNEY_TEST_RESTARTS=400` and `JITNEY_TEST_PROGRAMS=64` are the long form: 200 brokers killed and 200 replaced.

use crate::restarting::{Scene, moment, rounds_from_environment, seed, work};
use crate::support::{LIMIT, Process};
use jitney::Bus;
use rustix::process::Signal;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::Ordering;

/// Set for a program: the broker's socket, the program's number and the file that ends it, a line each.
const ROLE: &str = "JITNEY_TEST_ROLE";

/// How many of them die for each broker that does.
const DEATHS: usize = 3;

/// What a program of the test below runs: this executable, for this alone.
#[test]
#[ignore = "another test starts it in processes of its own"]
fn a_program_of_the_other_test() {
    let role = std::env::var(ROLE).unwrap();
    let [socket, number, end] = &role.lines().collect::<Vec<_>>()[..] else { panic!("{ROLE}={role}") };
    println!("works");
    work(
        || Bus::options().broker(socket).wait(LIMIT).open_shared().unwrap(),
        number.parse().unwrap(),
        || Path::new(end).exists(),
    );
}

fn program(scene: &Scene, number: usize, end: &Path) -> Process {
    let mut command = Command::new(std::env::current_exe().unwrap());
    let role = format!("{}\n{number}\n{}", scene.keeper.socket.display(), end.display());
    command
        .args(["--exact", "deaths::a_program_of_the_other_test", "--ignored", "--nocapture"])
        .env(ROLE, role);
    Process::start(command)
}

#[test]
fn programs_and_brokers_die_and_nobody_else_is_harmed() {
    let scene = Scene::new();
    let end = scene.ground.0.path("end");
    let programs = std::env::var("JITNEY_TEST_PROGRAMS").map_or(8, |text| text.parse().unwrap());
    let seed = seed();
    let mut programs: Vec<_> = (0..programs).map(|number| program(&scene, number, &end)).collect();
    programs.iter_mut().for_each(|program| drop(program.wait_for_line("works")));

    for restart in 0..rounds_from_environment(10) {
        for _ in 0..DEATHS {
            std::thread::sleep(moment(&seed));
            let number = seed.load(Ordering::Relaxed) as usize % programs.len();
            let killed = std::mem::replace(&mut programs[number], program(&scene, number, &end));
            killed.signal(Signal::KILL);
            // One that had found something wrong would have ended by itself.
            killed.wait().dies_of(Signal::KILL);
        }
        std::thread::sleep(moment(&seed));
        scene.end_broker(if restart % 2 == 1 { Signal::USR2 } else { Signal::KILL });
    }

    std::fs::write(&end, "").unwrap();
    for program in programs {
        program.wait().exits(0);
    }
    scene.assert_nothing_left();
    scene.end();
}
