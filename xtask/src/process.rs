//! Other programs, and what they say.

use anyhow::{Context, bail};
use std::io::{BufRead, BufReader, PipeReader};
use std::process::{Command, ExitCode, Stdio};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::Duration;

/// How often it is looked whether a program that says nothing has ended.
const PACE: Duration = Duration::from_millis(100);
/// How long whatever a program has started may have its output after its end.
const PATIENCE: Duration = Duration::from_secs(5);

/// What a program said on both of its outputs, in order, and whether it was content.
#[derive(Debug)]
pub(crate) struct Said {
    pub(crate) success: bool,
    pub(crate) text: String,
}

/// Runs a program to its end without an input. With `echo` what it says is shown as it comes.
pub(crate) fn run(command: &mut Command, echo: bool) -> anyhow::Result<Said> {
    let (output, input) = std::io::pipe().context("a pipe")?;
    command.stdin(Stdio::null()).stdout(input.try_clone().context("a pipe")?).stderr(input);
    let mut child = command.spawn().with_context(|| format!("cannot start {}", name(command)))?;
    // The command keeps its ends of the pipe, and as long as it does the output has no end.
    command.stdout(Stdio::null()).stderr(Stdio::null());
    let lines = lines_of(output);
    let (mut text, mut status) = (String::new(), None);
    let mut patience = PATIENCE;
    let is_all = loop {
        match lines.recv_timeout(PACE) {
            Ok(line) => {
                let piece = line.context("reading from a pipe")?;
                if echo {
                    print!("{piece}");
                }
                text.push_str(&piece);
            }
            Err(RecvTimeoutError::Disconnected) => break true,
            Err(RecvTimeoutError::Timeout) if status.is_none() => {
                status = child.try_wait().with_context(|| format!("waiting for {}", name(command)))?;
            }
            Err(RecvTimeoutError::Timeout) => match patience.checked_sub(PACE) {
                Some(left) => patience = left,
                None => break false,
            },
        }
    };
    let status = match status {
        Some(status) => status,
        None => child.wait().with_context(|| format!("waiting for {}", name(command)))?,
    };
    if status.code().is_none() {
        text += &format!("{} ended with {status}\n", name(command));
    }
    if !is_all {
        text +=
            &format!("{} has ended, and a process that it left behind still has its output\n", name(command));
    }
    Ok(Said { success: status.success() && is_all, text })
}

/// The lines that come, until nobody has the other end any more.
fn lines_of(output: PipeReader) -> mpsc::Receiver<std::io::Result<String>> {
    let (sender, lines) = mpsc::channel();
    std::thread::spawn(move || {
        let (mut output, mut line) = (BufReader::new(output), Vec::new());
        loop {
            line.clear();
            let came = match output.read_until(b'\n', &mut line) {
                Ok(0) => return,
                Ok(_) => Ok(String::from_utf8_lossy(&line).into_owned()),
                Err(error) => Err(error),
            };
            let failed = came.is_err();
            if sender.send(came).is_err() || failed {
                return;
            }
        }
    });
    lines
}

/// Runs a program on this terminal and passes its exit status on.
pub(crate) fn hand_over(command: &mut Command) -> anyhow::Result<ExitCode> {
    let status = command.status().with_context(|| format!("cannot start {}", name(command)))?;
    match status.code().map(u8::try_from) {
        Some(Ok(code)) => Ok(code.into()),
        _ => bail!("{} ended with {status}", name(command)),
    }
}

/// Runs a program on this terminal, which has to succeed.
pub(crate) fn must(command: &mut Command) -> anyhow::Result<()> {
    let status = command.status().with_context(|| format!("cannot start {}", name(command)))?;
    if status.success() { Ok(()) } else { bail!("{} ended with {status}", name(command)) }
}

/// The program and its arguments.
pub(crate) fn name(command: &Command) -> String {
    let program = std::path::Path::new(command.get_program()).file_name().unwrap_or_default();
    let words = std::iter::once(program).chain(command.get_args());
    words.map(|word| word.to_string_lossy()).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_outputs_come_in_order_and_the_status_is_kept() {
        let mut command = Command::new("sh");
        command.args(["-c", "echo out; echo err >&2; printf end; exit 3"]);
        let said = run(&mut command, false).unwrap();
        assert!(!said.success);
        assert_eq!(said.text, "out\nerr\nend");
    }

    #[test]
    fn a_program_that_is_killed_says_so() {
        let mut command = Command::new("sh");
        command.args(["-c", "kill -9 $$"]);
        assert!(run(&mut command, false).unwrap().text.contains("signal: 9"));
    }

    #[test]
    fn what_a_program_leaves_behind_is_not_waited_for() {
        let mut command = Command::new("sh");
        command.args(["-c", "sleep 1000 & echo $!"]);
        let said = run(&mut command, false).unwrap();
        let (left, rest) = said.text.split_once('\n').unwrap();
        must(Command::new("kill").arg(left)).unwrap();
        assert!(!said.success && rest.contains("left behind"), "{rest}");
    }

    #[test]
    fn a_program_that_is_not_there_is_named() {
        let error = run(&mut Command::new("/nowhere/at-all"), false).unwrap_err();
        assert!(error.to_string().contains("at-all"), "{error}");
    }
}
