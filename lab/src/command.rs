//! Programs that the lab starts: their output is kept, and shown only when they fail.

use std::process::{Command, Stdio};

use crate::Error;

/// Lines of output that an error shows.
const TAIL_LINES: usize = 30;

/// Runs `command` to its end and returns what it wrote to standard output. `what` reads as "to …" in the error.
pub(crate) fn output(command: &mut Command, what: &str) -> Result<String, Error> {
    let program = command.get_program().to_string_lossy().into_owned();
    let output = command.stdin(Stdio::null()).output().map_err(|source| Error::Start {
        program: program.clone(),
        what: what.to_owned(),
        source,
    })?;
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    if output.status.success() {
        return Ok(said);
    }
    let tail = tail(&(said + &String::from_utf8_lossy(&output.stderr)));
    Err(Error::Failed { program, what: what.to_owned(), status: output.status, tail })
}

/// The last lines of a text, as an error shows them.
pub(crate) fn tail(text: &str) -> String {
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(TAIL_LINES)..].join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failing_program_shows_both_of_its_outputs() {
        let error =
            output(Command::new("sh").args(["-c", "echo one; echo two >&2; exit 3"]), "to fail").unwrap_err();
        let text = error.to_string();
        assert!(text.contains("one\ntwo") && text.contains('3') && text.contains("to fail"), "{text}");
    }

    #[test]
    fn a_tail_is_bounded() {
        let text: String = (0..100).map(|line| format!("{line}\n")).collect();
        let tail = tail(&text);
        assert!(tail.starts_with("70\n") && tail.ends_with("99"), "{tail}");
        assert_eq!(super::tail(""), "");
    }
}
