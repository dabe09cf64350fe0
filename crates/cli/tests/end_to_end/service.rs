//! The broker as a service that all users of a machine find.

use crate::machine::{ALICE, BOB, CAROL, JITNEY, Machine};
use crate::support::{Ground, Process, descriptors, eventually, signal};
use rustix::process::Signal;
use serde_json::Value;
use std::path::Path;
use std::process::Command;

/// A machine, or why there is none.
fn machine() -> Result<Machine, &'static str> {
    Machine::new().map(Machine::with_members)
}

#[test]
fn members_of_the_group_are_served_and_others_hear_which_group_it_is() {
    let machine = match machine() {
        Ok(machine) => machine,
        Err(why) => return println!("skipped: {why}"),
    };
    let board = machine.ground.board("nitefury --memory 16M");
    machine.configure_for(&board, "isolate = true");
    // Nobody is there yet: that is no failure.
    machine.run(ALICE, &[JITNEY], "list").exits(0);
    let mut manager = machine.manager("200000");
    machine.run(ALICE, &[JITNEY], "test ddr --size 256K --passes 1").exits(0);
    manager.wait_for_line("heard READY=1 (1)");
    manager.wait_for_line("heard STATUS=1 card, 0 programs");
    // The thread that serves goes on saying that it is alive.
    manager.wait_for_line("heard WATCHDOG=1 (3)");
    let started = manager.wait_for_line("started ");
    let broker: i32 = started.rsplit(' ').next().unwrap().parse().unwrap();
    let found = format!("as the client of a broker (pid {broker})");
    machine.run(BOB, &[JITNEY], "list").exits(0).says(&found);
    machine.run(0, &[], "list").exits(0).says(&found);
    let mut without = machine.command(env!("CARGO_BIN_EXE_jitney"), &["list"]);
    without.env_remove("XDG_RUNTIME_DIR");
    Process::start(without).wait().exits(0).says(&found);
    // Who is not a member hears how to become one; who has not logged in since, that; and neither opens the cards instead.
    for line in ["info", "status", "test ddr --size 256K"] {
        machine
            .run(CAROL, &[], line)
            .exits(1)
            .complains("it lets in group jitney, which user carol is not in: EACCES")
            .complains("sudo usermod -aG jitney carol, then log in again");
    }
    machine.run(ALICE, &[], "info").exits(1).complains("log in again, or: newgrp jitney");
    machine
        .run(CAROL, &[], "status --broker /run/jitney/broker.sock")
        .exits(1)
        .complains("sudo usermod -aG jitney carol");
    // Who names cards of their own is not concerned.
    let other = machine.ground.board("litefury");
    let own = format!("info --card {}", other.address());
    machine.run(0, &[], &own).exits(0);
    crate::support::signal(broker, Signal::TERM);
    manager.wait_for_line("heard STOPPING=1 (1)");
    manager.wait_for_line("ended 0");
}

#[test]
fn it_ends_when_idle_and_nobody_who_comes_in_that_moment_is_lost() {
    let machine = match machine() {
        Ok(machine) => machine,
        Err(why) => return println!("skipped: {why}"),
    };
    let board = machine.ground.board("nitefury --memory 16M");
    // It ends behind each client, so that others come before, while and after it does.
    machine.configure_for(&board, "exit-when-idle = \"1ms\"");
    let mut manager = machine.manager("30000000");
    for _ in 0..8 {
        let clients: Vec<Process> =
            [ALICE, BOB, ALICE].iter().map(|uid| machine.start(*uid, &[JITNEY], "list")).collect();
        for client in clients {
            client.wait().exits(0).says("as the client of a broker");
        }
    }
    manager.wait_for_line("heard READY=1 (3)");
    manager.wait_for_line("heard STOPPING=1 (3)");
    // The cards are free: the board has no client.
    let card = board.address();
    eventually("the board is held", || {
        let outcome = machine.run(0, &[], &format!("info --card {card}"));
        if outcome.status.success() { Ok(()) } else { Err(outcome.err) }
    });
    // Who holds the card keeps the broker.
    let mut holder = machine.start(ALICE, &[JITNEY], "hold 10ee:7011");
    holder.wait_for_line("holding ");
    let before = machine.run(BOB, &[JITNEY], "status --json").exits(0).json()["broker"].clone();
    machine.run(BOB, &[JITNEY], "list").exits(0);
    let after = machine.run(BOB, &[JITNEY], "status --json").exits(0).json()["broker"].clone();
    assert_eq!(before, after);
}

#[test]
fn who_comes_while_the_broker_ends_is_served_by_the_next_one() {
    let machine = match machine() {
        Ok(machine) => machine,
        Err(why) => return println!("skipped: {why}"),
    };
    let board = machine.ground.board("nitefury --memory 16M");
    machine.configure_for(&board, "exit-when-idle = \"500ms\"");
    let mut manager = machine.manager("30000000");
    machine.run(ALICE, &[JITNEY], "list").exits(0);
    // Its end takes until the board answers.
    board.process.signal(Signal::STOP);
    manager.wait_for_line("heard STOPPING=1 (1)");
    let client = machine.start(BOB, &[JITNEY], "list");
    eventually("it does not connect", || {
        let own = descriptors(client.pid());
        let all = std::fs::read_to_string("/proc/net/unix").unwrap();
        let connected = all.lines().filter_map(|line| {
            let fields: Vec<&str> = line.split_whitespace().collect();
            (fields.get(5) == Some(&"03")).then(|| format!("socket:[{}]", fields[6]))
        });
        let connected: Vec<String> = connected.collect();
        let is_there = own.iter().any(|(_, target)| connected.contains(target));
        if is_there { Ok(()) } else { Err(format!("{own:?}")) }
    });
    assert!(!manager.said().contains("ended"), "{}", manager.said());
    board.process.signal(Signal::CONT);
    client.wait().exits(0).says("as the client of a broker");
    manager.wait_for_line("ended 0");
    manager.wait_for_line("heard READY=1 (2)");
}

#[test]
fn who_waits_for_a_broker_that_cannot_begin_hears_why() {
    let machine = match machine() {
        Ok(machine) => machine,
        Err(why) => return println!("skipped: {why}"),
    };
    let mut manager = machine.manager("30000000");
    let mut began = 0;
    for (config, why, status) in [
        ("card = 1", "unknown field `card`", 1),
        ("policy = \"none.toml\"", "policy /etc/jitney/none.toml: ENOENT", 1),
        ("cards = [\"vfio-user:/nowhere\"]", "/nowhere", 1),
        ("", "the broker has no card: none is bound to vfio-pci", 3),
    ] {
        machine.configure("config.toml", config);
        let outcome = machine.run(ALICE, &[JITNEY], "info").exits(1).complains(why);
        assert!(!outcome.err.contains("ECONNRESET"), "{outcome}");
        manager.wait_for_line(&format!("ended {status}"));
        // It was started once for each who asked, and not again and again.
        began += 1;
        assert_eq!(manager.said().matches("started ").count(), began, "{}", manager.said());
    }
    // When it is mended the next one is served.
    let board = machine.ground.board("nitefury --memory 16M");
    machine.configure_for(&board, "");
    machine.run(ALICE, &[JITNEY], "info").exits(0).says("NiteFury");
}

#[test]
fn without_systemd_root_serves_a_group_all_the_same() {
    let machine = match machine() {
        Ok(machine) => machine,
        Err(why) => return println!("skipped: {why}"),
    };
    let board = machine.ground.board("nitefury --memory 16M");
    machine.configure_for(&board, "group = \"jitney\"");
    let mut broker = machine.start(0, &[], "broker --system");
    broker.wait_for_line("listening at /run/jitney/broker.sock");
    machine.run(BOB, &[JITNEY], "list").exits(0).says("as the client of a broker");
    machine.run(CAROL, &[], "info").exits(1).complains("which user carol is not in");
    // What there is to see without it is shown all the same.
    machine.run(CAROL, &[], "list").exits(0).complains("which user carol is not in");
    broker.signal(Signal::TERM);
    broker.wait().exits(0);
    // A broker that lets in root alone is nobody else's concern.
    let line = format!("broker --card {} --socket /run/jitney/broker.sock", board.address());
    let mut own = machine.start(0, &[], &line);
    own.wait_for_line("listening at ");
    machine.run(CAROL, &[], "list").exits(0);
    machine.configure("config.toml", "group = \"nobodys\"\n");
    let other = machine.ground.board("litefury");
    let line = format!("broker --system --card {}", other.address());
    machine.run(0, &[], &line).exits(2).complains("there is no group \"nobodys\"").complains("groupadd");
}

#[test]
fn what_a_manager_hands_over_has_to_be_a_listening_socket() {
    let ground = Ground::new();
    if Command::new("python3").arg("--version").output().is_err() {
        println!("skipped: this takes python3, to hand over descriptors");
        return;
    }
    let script = r#"
import os, socket, sys
kind, program, args = sys.argv[1], sys.argv[2], sys.argv[2:]
if kind == "file":
    fd = os.open("/dev/null", os.O_RDONLY)
else:
    s = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM if kind == "stream" else socket.SOCK_SEQPACKET)
    s.bind(kind + ".at")
    if kind != "deaf":
        s.listen()
    fd = s.fileno()
if kind != "none":
    os.dup2(fd, 3)
    os.set_inheritable(3, True)
else:
    os.closerange(3, 20)
env = dict(os.environ, LISTEN_FDS=os.environ.get("COUNT", "1"), LISTEN_PID=os.environ.get("FOR", str(os.getpid())))
os.execve(program, args, env)
"#;
    let hand_over = |kind: &str, variables: &[(&str, &str)], line: &str| {
        let mut command = ground.jitney([""; 0]);
        let mut python = Command::new("python3");
        python.args(["-c", script, kind, env!("CARGO_BIN_EXE_jitney")]).args(line.split_whitespace());
        command.get_envs().for_each(|(name, value)| match value {
            Some(value) => drop(python.env(name, value)),
            None => drop(python.env_remove(name)),
        });
        command.arg(kind);
        python.current_dir(ground.path("")).envs(variables.iter().copied());
        Process::start(python)
    };
    let line = "broker --emulate nitefury";
    for (kind, why) in [
        ("file", "it is no socket"),
        ("stream", "no Unix socket of type SOCK_SEQPACKET"),
        ("deaf", "nobody has called listen(2)"),
        ("none", "EBADF"),
    ] {
        let outcome = hand_over(kind, &[], line).wait().exits(1);
        outcome.complains("descriptor 3 of LISTEN_FDS").complains(why).complains("ListenSequentialPacket=");
    }
    hand_over("good", &[("COUNT", "many")], line).wait().exits(1).complains("LISTEN_FDS=many");
    let both = format!("{line} --socket {}", ground.path("x.sock").display());
    std::fs::remove_file(ground.path("good.at")).unwrap();
    hand_over("good", &[], &both).wait().exits(2).complains("leave the option out");
    for (name, value) in
        [("NOTIFY_SOCKET", "notify"), ("NOTIFY_SOCKET", "/nowhere"), ("WATCHDOG_USEC", "soon")]
    {
        let mut command = ground.jitney(line.split_whitespace());
        command.env(name, value);
        Process::start(command).wait().exits(1).complains(&format!("{name}={value}"));
    }
    // What is for another process is none of its concern, and neither it nor a board of its own has what the manager said.
    let mut broker = hand_over("file", &[("FOR", "1")], line);
    let said = broker.wait_for_line("listening at ");
    assert!(said.ends_with("run/jitney/broker.sock"), "{said}");
    let has =
        |pid: i32| std::fs::read(format!("/proc/{pid}/environ")).unwrap().windows(7).any(|w| w == b"LISTEN_");
    let boards =
        ground.processes().into_iter().filter(|(_, line)| line.contains("emulate nitefury --with-parent"));
    let boards: Vec<_> = boards.collect();
    assert!(has(broker.pid()) && boards.len() == 1 && !has(boards[0].0), "{boards:?}");
}

#[test]
fn lines_for_the_journal_say_how_bad_it_is() {
    let ground = Ground::new();
    let line = format!(
        "export JOURNAL_STREAM=$(stat -L -c %d:%i /proc/self/fd/2); exec {} broker --emulate nitefury --exit-when-idle 1ms -v --color always",
        env!("CARGO_BIN_EXE_jitney")
    );
    let shell = |line: &str| {
        let mut command = Command::new("sh");
        ground.jitney([""; 0]).get_envs().for_each(|(name, value)| match value {
            Some(value) => drop(command.env(name, value)),
            None => drop(command.env_remove(name)),
        });
        command.args(["-c", line]).current_dir(ground.path(""));
        Process::start(command).wait()
    };
    let outcome = shell(&line).exits(0).complains("<6>no program has used the cards");
    assert!(
        outcome.err.lines().all(|line| line.starts_with('<')) && !outcome.err.contains('\x1b'),
        "{outcome}"
    );
    let outcome = shell(&line.replace("--emulate nitefury", "--policy /nowhere")).exits(1);
    outcome.complains("<3>jitney: policy /nowhere: ENOENT");
    // Standard error is another file than the one that the journal reads.
    let outcome = shell(&line.replace("exec", "exec 2>&1")).exits(0);
    assert!(!outcome.out.contains("<6>"), "{outcome}");
}

#[test]
fn a_config_file_is_checked_and_explained() {
    let ground = Ground::new();
    let file = ground.path("config.toml");
    let check = |text: &str, more: &str| {
        std::fs::write(&file, text).unwrap();
        ground.run(&format!("broker --config {} --check {more}", file.display()))
    };
    let policy = "[[rule]]\nwho = [\"user:0\"]\naccess = \"alone\"\n";
    std::fs::write(ground.path("policy.toml"), policy).unwrap();
    let text =
        "cards = [\"0000:2e:00.0\"]\npolicy = \"policy.toml\"\nexit-when-idle = \"10m\"\nisolate = true\n";
    let says = check(text, "").exits(0).says("cards: 0000:2e:00.0").says("rule 1 (who user:0");
    says.says("no program has been connected for 600s").says("address space of its own");
    check(text, "--card 0000:03:00.0 --exit-when-idle 5m").exits(0).says("cards: 0000:03:00.0").says("300s");
    let json = check("", "--json").exits(0).json();
    assert_eq!(json["settings"][0], "cards: all that can be had", "{json}");
    check("isolate = true\ncard = 1\n", "").exits(1).complains("config.toml").complains("line 2").complains(
        "expected one of `cards`, `isolate`, `on-demand`, `iommu`, `group`, `policy`, `exit-when-idle`",
    );
    ground.run("broker --config none.toml --check").exits(1).complains("config none.toml: ENOENT");
}

#[test]
fn systemds_own_way_to_hand_over_a_socket_is_understood() {
    let activate = "systemd-socket-activate";
    if Command::new(activate).arg("--version").output().is_err() {
        println!("skipped: there is no {activate}");
        return;
    }
    let ground = Ground::new();
    let socket = ground.path("s.sock");
    let place = socket.display().to_string();
    let mut command = Command::new(activate);
    let jitney = ground.jitney([""; 0]);
    for (name, value) in jitney.get_envs() {
        if let Some(value) = value {
            command.arg(format!("--setenv={}={}", name.display(), value.display()));
        }
    }
    command.args(["--seqpacket", "--fdname=broker", "-l", &place]);
    command.args([
        env!("CARGO_BIN_EXE_jitney"),
        "broker",
        "--emulate",
        "nitefury",
        "--exit-when-idle",
        "1ms",
    ]);
    command.current_dir(ground.path("")).env("XDG_RUNTIME_DIR", ground.path("run"));
    let manager = Process::start(command);
    eventually("no socket", || if socket.exists() { Ok(()) } else { Err(place.clone()) });
    ground.run(&format!("status --broker {place}")).exits(0).says("broker: pid");
    // It is the same process, and ends when the client has gone; the socket is not its own to remove.
    manager.wait().exits(0).says(&format!("listening at {place}"));
    assert!(socket.exists());
}

/// Files of the repository.
fn packaging() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../../packaging"))
}

#[test]
fn the_units_start_what_there_is() {
    let ground = Ground::new();
    let unit = std::fs::read_to_string(packaging().join("jitney.service")).unwrap();
    let starts: Vec<&str> = unit.lines().filter_map(|line| line.strip_prefix("ExecStart=")).collect();
    let [start] = starts[..] else { panic!("{starts:?}") };
    let args =
        start.strip_prefix("/usr/local/bin/jitney ").expect("it is installed there by docs/operating.md");
    // The config file of the machine is the machine's.
    let config = packaging().join("config.toml");
    let line = format!("{args} --config {} --check", config.display());
    ground.run(&line).exits(0).says("taken when a program asks for it");
    // Every line that is a remark there is one that is understood.
    let text = std::fs::read_to_string(config).unwrap();
    let all: String = text
        .lines()
        .map(|line| line.strip_prefix('#').filter(|rest| !rest.starts_with(' ')).unwrap_or(line))
        .fold(String::new(), |all, line| all + line + "\n");
    assert!(all.lines().filter(|line| line.contains(" = ")).count() == 7, "{all}");
    std::fs::write(ground.path("config.toml"), all).unwrap();
    let policy = std::fs::read_to_string(packaging().join("policy.toml")).unwrap();
    std::fs::write(ground.path("policy.toml"), policy.replace("group:jitney", "group:0")).unwrap();
    ground.run(&format!("{args} --config config.toml --check")).exits(0).says("rule 1 (who group:0");

    if Command::new("systemd-analyze").arg("--version").output().is_err() {
        println!("skipped: there is no systemd-analyze to verify the units");
        return;
    }
    let installed = unit.replace("/usr/local/bin/jitney", env!("CARGO_BIN_EXE_jitney"));
    std::fs::write(ground.path("jitney.service"), installed).unwrap();
    std::fs::copy(packaging().join("jitney.socket"), ground.path("jitney.socket")).unwrap();
    let mut verify = Command::new("systemd-analyze");
    verify.args(["verify", "./jitney.service", "./jitney.socket"]).current_dir(ground.path(""));
    let outcome = Process::start(verify).wait().exits(0);
    assert!(!outcome.err.contains("jitney."), "{outcome}");
}

/// By a service manager that was written from systemd's pages: it keeps descriptors, and hands them to the next.
#[test]
fn a_program_goes_on_when_the_service_is_killed_and_replaced() {
    let machine = match Machine::new() {
        Ok(machine) => machine.with_members(),
        Err(why) => return println!("skipped: {why}"),
    };
    let board = machine.ground.board("nitefury --memory 16M");
    machine.configure_for(&board, "");
    let manager = machine.manager("30000000");
    let mut program = machine.start(ALICE, &[JITNEY], "test ddr --size 4M --passes 100000");
    eventually("nobody has memory of the card", || {
        let status = machine.run(BOB, &[JITNEY], "status --json").exits(0).json();
        let has = |program: &Value| program["buffers"] != 0;
        match status["programs"].as_array().is_some_and(|programs| programs.iter().any(has)) {
            true => Ok(()),
            false => Err(status.to_string()),
        }
    });
    let mut count = 1;
    for _ in 0..5 {
        signal(started(&manager, count), Signal::KILL);
        let before = started(&manager, count + 1);
        let replaced = machine.run(0, &[], "broker --system --replace --json").exits(0).json();
        count += 2;
        assert_eq!(
            (&replaced["before"], &replaced["now"]),
            (&before.into(), &started(&manager, count).into())
        );
    }
    assert!(program.runs(), "it has ended: {}", program.wait());
    program.signal(Signal::INT);
    let outcome = program.wait();
    assert!(!outcome.err.contains("broker"), "{outcome}");
    signal(started(&manager, count), Signal::TERM);
    eventually("the broker does not end", || match manager.said().contains("ended 0") {
        true => Ok(()),
        false => Err(manager.said()),
    });
}

/// The process that the manager has started as this one, counted from 1.
fn started(manager: &Process, number: usize) -> i32 {
    let nth = || {
        let said = manager.said();
        let mut started = said.lines().filter_map(|line| line.strip_prefix("started ")?.parse().ok());
        started.nth(number - 1)
    };
    eventually("no other broker is started", || match nth() {
        Some(_) => Ok(()),
        None => Err(manager.said()),
    });
    nth().unwrap()
}
