//! A program that runs in this process's place, as if it had been started instead: it has its files and its terminal, gets each
//! signal once, and when it stops, this process does.

use super::witness::Witness;
use crate::say::say;
use crate::signals;
use jitney_memory::Explained;
use rustix::io::Errno;
use rustix::process::{
    Pid, Signal, WaitId, WaitIdOptions, getpgid, getpgrp, kill_current_process_group, kill_process,
    kill_process_group, waitid,
};
use rustix::termios::{tcgetpgrp, tcsetpgrp};
use std::fs::File;
use std::io;
use std::process::{Child, Command, ExitStatus};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

/// The program. Clones are of the same one.
#[derive(Debug, Clone)]
pub(crate) struct InPlace(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    pid: Pid,
    since: Instant,
    /// Until the program has ended, or it does not answer.
    witness: Mutex<Option<Witness>>,
    /// Whether it was the terminal's when it stopped, or wanted to be.
    had_terminal: AtomicBool,
}

impl InPlace {
    /// Starts the program of `command`.
    ///
    /// # Errors
    /// Why it could not be started.
    pub(crate) fn start(command: &mut Command, witness: Witness) -> io::Result<(Self, Child)> {
        let child = command.spawn()?;
        let pid = Pid::from_raw(child.id().cast_signed()).ok_or(Errno::SRCH)?;
        let witness = Mutex::new(Some(witness));
        let own = Self(Arc::new(Inner {
            pid,
            since: Instant::now(),
            witness,
            had_terminal: AtomicBool::new(false),
        }));
        let program = own.clone();
        signals::on_continue(move || program.go_on())?;
        let program = own.clone();
        signals::on_others_at(move |signal, at| program.pass_on(signal, at)).map_err(io::Error::other)?;
        Ok((own, child))
    }

    /// Passes on from now on that this process was told to stop and the program was not; other signals it always does.
    pub(crate) fn pass_signals_on(&self) -> anyhow::Result<()> {
        let program = self.clone();
        signals::on_stop_at(move |signal, at| program.pass_on(signal, at))
    }

    /// Tells the program what this process was told at `at`, if it was not told itself.
    fn pass_on(&self, signal: i32, at: Instant) {
        if !self.has_got(signal, at)
            && let Some(signal) = Signal::from_named_raw(signal)
        {
            self.tell(signal);
        }
    }

    /// Whether the program has got a signal itself that this process got at `at`, since both are in the group that it was sent to.
    pub(crate) fn has_got(&self, signal: i32, at: Instant) -> bool {
        let mut witness = self.0.witness.lock().unwrap_or_else(PoisonError::into_inner);
        let heard = match witness.as_mut().map(|witness| witness.has_heard(signal)) {
            Some(Ok(heard)) => heard,
            // Its next answer would be to the last question.
            Some(Err(_)) => {
                *witness = None;
                false
            }
            None => false,
        };
        heard && at >= self.0.since && !self.has_own_group()
    }

    /// Signals the program. That it has ended already is what is wanted.
    pub(crate) fn tell(&self, signal: Signal) {
        match kill_process(self.0.pid, signal) {
            Ok(()) | Err(Errno::SRCH) => {}
            Err(errno) => say!("jitney: the program got no signal: {}", Explained(errno)),
        }
    }

    /// Waits until the program has ended.
    pub(crate) fn wait(&self, child: &mut Child) -> io::Result<ExitStatus> {
        let program = WaitId::Pid(self.0.pid);
        loop {
            let change = WaitIdOptions::EXITED | WaitIdOptions::STOPPED | WaitIdOptions::NOWAIT;
            match waitid(program.clone(), change) {
                Ok(Some(status)) if status.stopped() => {}
                Err(Errno::INTR) => continue,
                _ => break,
            }
            if let Ok(Some(status)) = waitid(program.clone(), WaitIdOptions::STOPPED | WaitIdOptions::NOHANG)
            {
                self.stop_too(status.stopping_signal());
            }
        }
        let status = child.wait();
        self.0.witness.lock().unwrap_or_else(PoisonError::into_inner).take();
        status
    }

    /// Stops this process's group, if the program has stopped in another one: the shell sees this process alone, and takes its
    /// terminal back. In one group both have stopped.
    fn stop_too(&self, signal: Option<i32>) {
        if let Some(terminal) = terminal().filter(|_| self.has_own_group()) {
            let wants = [Signal::TTIN, Signal::TTOU].map(|signal| Some(signal.as_raw())).contains(&signal);
            if wants || tcgetpgrp(&terminal).ok() == getpgid(Some(self.0.pid)).ok() {
                self.0.had_terminal.store(true, Ordering::Relaxed);
            }
            // Not SIGSTOP: where no shell could let it go on, the system lets this one pass.
            if let Err(errno) = kill_current_process_group(Signal::TSTP) {
                say!("jitney: the program has stopped, and this command cannot: {}", Explained(errno));
            }
        }
    }

    /// This process goes on, and with it a program that has a group of its own, which nobody else tells.
    fn go_on(&self) {
        let Ok(group) = getpgid(Some(self.0.pid)) else { return };
        if group == getpgrp() {
            return;
        }
        if let Some(terminal) = terminal().filter(|_| self.0.had_terminal.load(Ordering::Relaxed))
            && tcgetpgrp(&terminal) == Ok(getpgrp())
            && let Err(errno) = tcsetpgrp(&terminal, group)
        {
            say!("jitney: the program does not get the terminal: {}", Explained(errno));
        }
        // Nobody would be the wiser: it has ended, or belongs to another user.
        let _ = kill_process_group(group, Signal::CONT);
    }

    fn has_own_group(&self) -> bool {
        getpgid(Some(self.0.pid)).is_ok_and(|group| group != getpgrp())
    }
}

/// The terminal of this session.
fn terminal() -> Option<File> {
    File::options().read(true).write(true).open("/dev/tty").ok()
}
