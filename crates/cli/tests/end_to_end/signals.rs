//! Being told to stop, and being killed: who is told, and that nothing is left.

use crate::support::{Ground, eventually};
use rustix::process::Signal;
use std::time::Duration;

const PROGRAMS: [&str; 2] = [
    "jitney test ddr --size 16M --passes 100000",
    "sh -c 'trap \"echo told; exit 9\" INT TERM; while :; do sleep 0.05; done'",
];

#[test]
fn run_passes_signals_on_and_leaves_nothing() {
    for (number, name) in [(Signal::INT, "SIGINT"), (Signal::TERM, "SIGTERM")] {
        let ground = Ground::new();
        let before = ground.files();
        let args =
            ["run", "--emulate", "nitefury", "--emulate", "tef1001-dma-blkram", PROGRAMS[0], PROGRAMS[1]];
        let mut run = crate::support::Process::start(ground.jitney(args));
        run.wait_for_line("pass 1 of 100000");
        run.signal(number);
        run.wait_at_most(Duration::from_secs(5))
            .exits(1)
            .says(&format!("killed by {name}"))
            .says("told")
            .says("failed with exit status 9");
        ground.assert_nothing_left(&before);
    }
}

#[test]
fn ctrl_c_reaches_programs_once_and_boards_outlive_them() {
    let ground = Ground::new();
    let before = ground.files();
    let program = "sh -c 'trap \"echo told\" INT; sleep 1 & wait; wait; jitney test general || exit 8'";
    let program = program.replace("jitney test", &format!("{} test", env!("CARGO_BIN_EXE_jitney")));
    let mut run = crate::support::Process::start(ground.jitney(["run", "--emulate", "nitefury", &program]));
    run.wait_for_line("card vfio-user:");
    std::thread::sleep(Duration::from_millis(200));
    // A terminal signals the whole group in the foreground.
    let group = rustix::process::Pid::from_raw(run.pid()).unwrap();
    rustix::process::kill_process_group(group, Signal::INT).unwrap();
    let outcome = run.wait_at_most(Duration::from_secs(8)).says("passed").says("Found NiteFury");
    assert_eq!(outcome.out.matches("sh | told").count(), 1, "{outcome}");
    assert_eq!(outcome.status.code(), Some(1), "whoever was told to stop has not done all of it: {outcome}");
    ground.assert_nothing_left(&before);
}

#[test]
fn a_program_that_does_not_stop_is_killed_at_the_third_time() {
    let ground = Ground::new();
    let stubborn = "sh -c 'trap \"\" INT TERM; echo deaf; while :; do sleep 0.05; done'";
    let mut run = crate::support::Process::start(ground.jitney(["run", "--emulate", "nitefury", stubborn]));
    run.wait_for_line("deaf");
    for _ in 0..3 {
        run.signal(Signal::INT);
        std::thread::sleep(Duration::from_millis(100));
    }
    run.wait_at_most(Duration::from_secs(5)).exits(1).says("killed by SIGKILL");
}

#[test]
fn a_broker_takes_everything_back_and_its_clients_are_told() {
    for number in [Signal::INT, Signal::TERM] {
        let ground = Ground::new();
        let board = ground.board("nitefury --memory 64M");
        let before = ground.files();
        let broker = ground.broker(&[&board]);
        let mut client = ground.start(&format!("test ddr --size 16M --passes 100000 {}", broker.option()));
        client.wait_for_line("pass 1 of");
        assert!(board.buffers() > 0, "what this test looks for is there before");
        broker.process.signal(number);
        broker.process.wait_at_most(Duration::from_secs(5)).exits(0);
        // A client keeps its own connection to the card until it next asks for something; docs/limits.md says so. Its
        // memory is gone from the card, so that its transfers fail.
        client.wait_at_most(Duration::from_secs(15)).exits(1);
        eventually("the board has buffers", || match board.buffers() {
            0 => Ok(()),
            left => Err(left.to_string()),
        });
        let left: Vec<_> = ground.files().into_iter().filter(|file| !before.contains(file)).collect();
        assert!(left.is_empty(), "{left:?}");
        // The board is as it was for the next owner.
        ground.run(&format!("test ddr --size 16M --passes 1 --card {}", board.address())).exits(0);
    }
}

#[test]
fn a_board_removes_its_socket() {
    for number in [Signal::INT, Signal::TERM] {
        for line in ["emulate nitefury", "emulate nitefury --socket own.sock"] {
            let ground = Ground::new();
            let before = ground.files();
            let mut board = ground.start(line);
            board.wait_for_line("serving");
            board.signal(number);
            board.wait_at_most(Duration::from_secs(5)).exits(0);
            assert!(!ground.path("own.sock").exists());
            let left: Vec<_> = ground.files().into_iter().filter(|file| !before.contains(file)).collect();
            assert!(left.iter().all(|file| file.is_dir()), "{left:?}");
        }
    }
}

#[test]
fn a_killed_owner_takes_its_boards_with_it_and_its_clients_are_told() {
    let ground = Ground::new();
    let before = ground.files();
    // The program notes how it ended where we can still read it.
    let program = format!(
        "sh -c '{} test ddr --size 16M --passes 100000 2>err >out; echo $? >status'",
        env!("CARGO_BIN_EXE_jitney")
    );
    let mut run = crate::support::Process::start(ground.jitney(["run", "--emulate", "nitefury", &program]));
    run.wait_for_line("card vfio-user:");
    eventually("the test begins", || match std::fs::read_to_string(ground.path("out")) {
        Ok(out) if out.contains("pass 1 of") => Ok(()),
        out => Err(format!("{out:?}")),
    });
    run.signal(Signal::KILL);
    run.wait().dies_of(Signal::KILL);
    eventually("the client is told", || match std::fs::read_to_string(ground.path("status")) {
        Ok(status) if status == "1\n" => Ok(()),
        status => Err(format!("{status:?}")),
    });
    let err = std::fs::read_to_string(ground.path("err")).unwrap();
    assert!(err.contains("gone"), "{err}");
    ground.assert_nothing_left(&before);
}

#[test]
fn a_killed_program_takes_its_own_board_with_it() {
    let ground = Ground::new();
    let before = ground.files();
    for number in [Signal::INT, Signal::TERM, Signal::KILL] {
        let mut test = ground.start("test ddr --emulate nitefury --size 16M --passes 100000");
        test.wait_for_line("pass 1 of");
        test.signal(number);
        test.wait().dies_of(number);
        ground.assert_nothing_left(&before);
    }
}

#[test]
fn what_a_script_starts_in_the_background_is_not_ended_by_a_signal_for_the_foreground() {
    let ground = Ground::new();
    for (name, number) in [("INT", Signal::INT), ("HUP", Signal::HUP)] {
        let socket = ground.path(&format!("{name}.sock"));
        let jitney = env!("CARGO_BIN_EXE_jitney");
        // As a shell does that runs a script, or nohup.
        let script = format!("trap '' {name}; exec {jitney} emulate nitefury --socket {}", socket.display());
        let mut command = std::process::Command::new("sh");
        command.args(["-c", &script]).env("XDG_RUNTIME_DIR", ground.path("run"));
        let mut board = crate::support::Process::start(command);
        board.wait_for_line("serving ");
        board.signal(number);
        let address = format!("vfio-user:{}", socket.display());
        ground.run(&format!("test general --card {address}")).exits(0);
        assert!(board.runs(), "SIG{name} has ended it");
        board.signal(Signal::TERM);
        board.wait_at_most(Duration::from_secs(5)).exits(0);
    }
}
