//! One boot: starts a guest, follows its tests, and reports each.

use std::time::{Duration, Instant};

use crate::Error;
use crate::initramfs::SCRIPT;
use crate::machine::{Guest, Silence};
use crate::protocol::{Event, understand};
use crate::suites::Test;

/// How a test ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// As it should.
    Passed,
    /// It does not apply here; the text says why.
    Skipped(String),
    /// It does not work; the text is what it wrote, or what happened to its guest.
    Failed(String),
}

/// A test that ran.
#[derive(Debug, Clone)]
pub(crate) struct Report {
    /// The test's name.
    pub(crate) test: &'static str,
    /// From its first sign to its last, as the host saw them.
    pub(crate) time: Duration,
    /// How it ended.
    pub(crate) outcome: Outcome,
}

/// A stock kernel under software emulation is up in some seconds; a busy host makes it many more.
const BOOT_LIMIT: Duration = Duration::from_secs(180);

/// What the guest gets beyond a test's own limit, which it watches itself, before it is taken for dead.
const GRACE: Duration = Duration::from_secs(15);

/// Exit status of a test that does not apply.
const SKIPPED: u8 = 77;

/// Exit status of a test that was killed at its limit.
const KILLED: u8 = 128 + 9;

/// Waits until the guest is up.
pub(crate) fn await_ready(guest: &Guest) -> Result<(), Error> {
    let until = Instant::now() + BOOT_LIMIT;
    loop {
        match guest.line(until) {
            Ok(line) if understand(&line) == Event::Ready => return Ok(()),
            Ok(_) => {}
            Err(silence) => return Err(guest.error(explain(silence, "before it was up", BOOT_LIMIT))),
        }
    }
}

/// Follows the guest through its only script, and returns what that wrote.
pub(crate) fn follow_script(guest: &Guest, limit: Duration) -> Result<String, Error> {
    match follow_one(guest, SCRIPT, limit) {
        Ok((0, output)) => Ok(output.join("\n")),
        Ok((status, output)) => {
            Err(Error::Script { what: format!("{}\nexit status {status}", output.join("\n")) })
        }
        Err(what) => Err(Error::Script { what }),
    }
}

/// What the guest sends after its last test, where programs count what they run: base64. Else, what it did instead.
pub(crate) fn profiles(guest: &Guest) -> Result<String, String> {
    let until = Instant::now() + BOOT_LIMIT;
    let mut text = String::new();
    loop {
        match guest.line(until) {
            Ok(line) => match understand(&line) {
                Event::Done => return Ok(text),
                Event::Output(line) => text += line,
                _ => {}
            },
            Err(silence) => return Err(explain(silence, "before it had sent its profiles", BOOT_LIMIT)),
        }
    }
}

/// Follows the guest through `tests` and gives each report to `tell`. If the guest dies, the test that ran then has failed, and
/// the reports end there: the count says how many there were, one at least.
pub(crate) fn follow(guest: &Guest, tests: &[Test], mut tell: impl FnMut(Report)) -> usize {
    for (number, test) in tests.iter().enumerate() {
        let started = Instant::now();
        let ended = follow_one(guest, test.name, test.limit);
        let alive = ended.is_ok();
        let outcome = match ended {
            Ok((status, output)) => judge(status, &output, test.limit),
            Err(what) => Outcome::Failed(what),
        };
        tell(Report { test: test.name, time: started.elapsed(), outcome });
        if !alive {
            return number + 1;
        }
    }
    tests.len()
}

/// A test's exit status and output. If the guest died, what the test had written, what happened, and the ends of all logs.
fn follow_one(guest: &Guest, test: &str, limit: Duration) -> Result<(u8, Vec<String>), String> {
    let limit = limit + GRACE;
    let until = Instant::now() + limit;
    let mut output = Vec::new();
    loop {
        let line = match guest.line(until) {
            Ok(line) => line,
            Err(silence) => {
                let what = explain(silence, &format!("in test {test}"), limit);
                output.push(guest.error(what).to_string());
                return Err(output.join("\n"));
            }
        };
        match understand(&line) {
            Event::End { name, status, output: rest } if name == test => {
                output.extend(Some(rest.to_owned()).filter(|rest| !rest.is_empty()));
                return Ok((status, output));
            }
            Event::Output(text) => output.push(text.to_owned()),
            // The test sees for itself whether it has happened.
            Event::Unplug(address) => output.extend(guest.slots().unplug(address).err()),
            Event::Plug(address) => output.extend(guest.slots().plug(address).err()),
            Event::Ready | Event::Begin(_) | Event::End { .. } | Event::Done => {}
        }
    }
}

fn judge(status: u8, output: &[String], limit: Duration) -> Outcome {
    match status {
        0 => Outcome::Passed,
        SKIPPED => Outcome::Skipped(output.last().cloned().unwrap_or_default()),
        KILLED => Outcome::Failed(format!("{}\nkilled after {} s", output.join("\n"), limit.as_secs())),
        _ => Outcome::Failed(format!("{}\nexit status {status}", output.join("\n"))),
    }
}

fn explain(silence: Silence, when: &str, limit: Duration) -> String {
    match silence {
        Silence::TimeOver => format!("the guest was silent {when} for {} s", limit.as_secs()),
        Silence::Ended => format!("the guest ended {when}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statuses_are_judged() {
        let output = ["one".to_owned(), "why".to_owned()];
        let limit = Duration::from_secs(5);
        assert_eq!(judge(0, &output, limit), Outcome::Passed);
        assert_eq!(judge(77, &output, limit), Outcome::Skipped("why".into()));
        assert_eq!(judge(3, &output, limit), Outcome::Failed("one\nwhy\nexit status 3".into()));
        assert_eq!(judge(137, &output, limit), Outcome::Failed("one\nwhy\nkilled after 5 s".into()));
        assert_eq!(judge(77, &[], limit), Outcome::Skipped(String::new()));
    }
}
