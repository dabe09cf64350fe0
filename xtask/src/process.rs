//! Other programs, and what they say.

use anyhow::{Context, bail};
use std::io::{BufRead, BufReader};
use std::process::{Command, ExitCode, Stdio};

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
    let mut text = String::new();
    let mut lines = BufReader::new(output);
    let mut line = Vec::new();
    while lines.read_until(b'\n', &mut line).context("reading from a pipe")? > 0 {
        let piece = String::from_utf8_lossy(&line);
        if echo {
            print!("{piece}");
        }
        text.push_str(&piece);
        line.clear();
    }
    let status = child.wait().with_context(|| format!("waiting for {}", name(command)))?;
    if status.code().is_none() {
        text += &format!("{} ended with {status}\n", name(command));
    }
    Ok(Said { success: status.success(), text })
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
    fn a_program_that_is_not_there_is_named() {
        let error = run(&mut Command::new("/nowhere/at-all"), false).unwrap_err();
        assert!(error.to_string().contains("at-all"), "{error}");
    }
}
