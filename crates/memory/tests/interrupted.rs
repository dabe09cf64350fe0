//! A program that waits for a message, and a signal that should get its turn. It has no harness, because a signal for a
//! process comes to its first thread, and under the harness that is not the one that waits.

#![expect(clippy::unwrap_used, clippy::print_stdout, reason = "a test")]

use std::io::{BufRead, BufReader};
use std::os::unix::net::UnixStream;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use jitney_memory::descriptors::{Wait, receive};
use rustix::process::{Pid, Signal, kill_process};

const CHILD: &str = "JITNEY_TEST_WAITS_FOR_A_SIGNAL";

fn main() {
    if std::env::var_os(CHILD).is_some() {
        return wait_for_a_message();
    }
    let mut child = Command::new(std::env::current_exe().unwrap())
        .env(CHILD, "1")
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    assert!(lines.any(|line| line.unwrap().contains("ready")), "the program does not start");
    let pid = Pid::from_child(&child);
    let status = loop {
        // Again and again: the first may come before it waits.
        kill_process(pid, Signal::USR1).unwrap();
        std::thread::sleep(Duration::from_millis(20));
        if let Some(status) = child.try_wait().unwrap() {
            break status;
        }
    };
    assert!(status.success(), "{status}");
}

fn wait_for_a_message() {
    let (a, _b) = UnixStream::pair().unwrap();
    // signal-hook asks for calls to go on after its handler, which the kernel does not do for a call with a time limit.
    a.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    let came = Arc::new(AtomicBool::new(false));
    signal_hook::flag::register(signal_hook::consts::SIGUSR1, Arc::clone(&came)).unwrap();
    println!("ready");
    let error = receive(&a, &mut [0; 16], 0, Wait::Interruptible).unwrap_err();
    assert!(error.interrupted() && came.load(Ordering::Relaxed), "{error}");
    assert!(error.to_string().contains("EINTR"), "{error}");
}
