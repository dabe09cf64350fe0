//! The programs that `jitney run` starts: what was asked for, and how each ended.

use crate::boards;
use crate::errno::explained;
use crate::nearest::nearest;
use crate::signals;
use crate::status::{Misuse, Status};
use anyhow::Context;
use schemars::JsonSchema;
use serde::Serialize;
use std::ffi::{OsStr, OsString};
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Command, ExitStatus};
use std::time::Duration;

/// A program and its arguments, as the user wrote them.
#[derive(Debug, Clone)]
pub(crate) struct Program {
    /// What its lines are marked with: the shortest name that tells it from the others.
    pub(crate) mark: String,
    words: Vec<OsString>,
    /// Its `JITNEY_BOARDS`, if that is not this process's.
    boards: Option<OsString>,
    /// Its `JITNEY_WAIT`, if that is not this process's.
    wait: Option<String>,
}

/// How a program ended.
#[derive(Debug, Clone, Serialize, JsonSchema)]
#[serde(tag = "how", rename_all = "kebab-case")]
pub(crate) enum End {
    /// It could not be started.
    NotStarted { why: String },
    /// It ended by itself.
    Exited { status: i32 },
    /// A signal ended it.
    Killed {
        signal: String,
        #[serde(skip)]
        number: i32,
    },
}

/// A program that ended, or never began.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub(crate) struct Ended {
    pub(crate) program: String,
    pub(crate) pid: Option<u32>,
    pub(crate) seconds: f64,
    #[serde(flatten)]
    pub(crate) end: End,
}

impl Program {
    /// Takes command lines apart as a shell does, without doing anything else that a shell does.
    ///
    /// `boards` is the `JITNEY_BOARDS` that they get, if not this process's own.
    pub(crate) fn parse_all(lines: &[String], boards: Option<&OsStr>) -> anyhow::Result<Vec<Self>> {
        let split = |line: &String| {
            let words =
                shlex::split(line).ok_or_else(|| Misuse(format!("a quote is not closed in: {line}")))?;
            Ok::<_, Misuse>(words.into_iter().map(OsString::from).collect())
        };
        Self::of_words(lines.iter().map(split).collect::<Result<_, _>>()?, boards)
    }

    /// The same of command lines that are taken apart already.
    pub(crate) fn of_words(lines: Vec<Vec<OsString>>, boards: Option<&OsStr>) -> anyhow::Result<Vec<Self>> {
        let mut programs: Vec<Self> = Vec::new();
        for words in lines {
            if words.first().is_none_or(|name| name.is_empty()) {
                return Err(Misuse("an empty program name was given".into()).into());
            }
            let name = short_name(&words);
            let same = programs.iter().filter(|other| short_name(&other.words) == name).count();
            let mark = if same == 0 { name } else { format!("{name}.{}", same + 1) };
            programs.push(Self { mark, words, boards: boards.map(OsStr::to_owned), wait: None });
        }
        Ok(programs)
    }

    /// The same, which stands in line for so long.
    pub(crate) fn waiting(self, wait: Option<String>) -> Self {
        Self { wait, ..self }
    }

    /// The command that starts it; `jitney` is this very program, wherever it was found.
    pub(crate) fn command(&self) -> anyhow::Result<Command> {
        let mut command = if self.words[0] == "jitney" {
            Command::new(std::env::current_exe().context("this program's own path")?)
        } else {
            Command::new(&self.words[0])
        };
        command.args(&self.words[1..]);
        if let Some(boards) = &self.boards {
            command.env(boards::VARIABLE, boards);
        }
        if let Some(wait) = &self.wait {
            command.env(jitney_broker::WAIT_VARIABLE, wait);
        }
        Ok(command)
    }

    /// Why it could not be started, with what the user may have meant.
    pub(crate) fn not_started(&self, error: &std::io::Error) -> End {
        let name = &*self.words[0].to_string_lossy();
        let what = format!("{name}: {}", explained(error));
        let tests = ["general", "ddr", "blkram"];
        if name.contains(' ') && error.kind() == std::io::ErrorKind::NotFound {
            return End::NotStarted {
                why: format!("{what}; behind -- is one program with its arguments: several are given by -p"),
            };
        }
        let hint = match nearest(name, tests.into_iter().chain(["jitney"])) {
            Some("jitney") => "; did you mean jitney?".into(),
            Some("blkram") => "; did you mean \"jitney time blkram\"?".into(),
            Some(test) => format!("; did you mean \"jitney test {test}\"?"),
            None => String::new(),
        };
        End::NotStarted { why: format!("{what}{hint}") }
    }
}

/// `ddr` for `jitney test ddr --passes 2`, else the program's file name.
fn short_name(words: &[OsString]) -> String {
    let own = words[0] == "jitney" && words.len() > 2 && (words[1] == "test" || words[1] == "time");
    let name = if own { &words[2] } else { Path::new(&words[0]).file_name().unwrap_or(&words[0]) };
    name.to_string_lossy().into_owned()
}

/// A command line to be read by people: what is no UTF-8 is replaced.
pub(crate) fn spoken(words: &[OsString]) -> String {
    let words: Vec<_> = words.iter().map(|word| word.to_string_lossy()).collect();
    words.join(" ")
}

impl End {
    pub(crate) fn of(status: ExitStatus) -> Self {
        match (status.code(), status.signal()) {
            (Some(status), _) => Self::Exited { status },
            (None, signal) => {
                let number = signal.unwrap_or(0);
                Self::Killed { signal: signals::name(number), number }
            }
        }
    }

    /// The status of whoever ran this program in its own place, as shells have it.
    pub(crate) fn of_program(&self) -> Status {
        let number = match self {
            Self::NotStarted { .. } => 127,
            Self::Exited { status } => *status,
            Self::Killed { number, .. } => 128 + number,
        };
        Status::OfProgram(u8::try_from(number).unwrap_or(Status::Failed.number()))
    }

    fn status(&self) -> Status {
        match self {
            Self::Exited { status: 0 } => Status::Passed,
            Self::Exited { status } if *status == i32::from(Status::NothingTested.number()) => {
                Status::NothingTested
            }
            Self::Exited { .. } | Self::Killed { .. } | Self::NotStarted { .. } => Status::Failed,
        }
    }
}

impl std::fmt::Display for End {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match (self, self.status()) {
            (Self::NotStarted { why }, _) => write!(f, "could not be started: {why}"),
            (Self::Killed { signal, .. }, _) => write!(f, "killed by {signal}"),
            (Self::Exited { .. }, Status::Passed) => f.write_str("passed"),
            (Self::Exited { .. }, Status::NothingTested) => f.write_str("nothing tested"),
            (Self::Exited { status }, _) => write!(f, "failed with exit status {status}"),
        }
    }
}

/// The status of the whole: a failure if one failed, else "nothing tested" if one tested nothing.
pub(crate) fn overall(ended: &[Ended]) -> Status {
    let statuses = || ended.iter().map(|program| program.end.status());
    if statuses().any(|status| status == Status::Failed) {
        Status::Failed
    } else if statuses().any(|status| status == Status::NothingTested) || ended.is_empty() {
        Status::NothingTested
    } else {
        Status::Passed
    }
}

impl Ended {
    pub(crate) fn new(program: &Program, pid: Option<u32>, time: Duration, end: End) -> Self {
        Self::named(program.mark.clone(), pid, time, end)
    }

    pub(crate) fn named(program: String, pid: Option<u32>, time: Duration, end: End) -> Self {
        Self { program, pid, seconds: time.as_secs_f64(), end }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn marks(lines: &[&str]) -> Vec<String> {
        let lines: Vec<String> = lines.iter().map(ToString::to_string).collect();
        Program::parse_all(&lines, None).unwrap().into_iter().map(|program| program.mark).collect()
    }

    #[test]
    fn marks_are_short_and_tell_programs_apart() {
        assert_eq!(
            marks(&["jitney test ddr --passes 2", "/bin/sh -c 'echo a b'", "jitney test ddr", "jitney list"]),
            ["ddr", "sh", "ddr.2", "jitney"]
        );
    }

    #[test]
    fn one_failure_fails_the_whole() {
        let ended =
            |status| Ended { program: "x".into(), pid: None, seconds: 0.0, end: End::Exited { status } };
        assert_eq!(overall(&[ended(0), ended(0)]), Status::Passed);
        assert_eq!(overall(&[ended(0), ended(3)]), Status::NothingTested);
        assert_eq!(overall(&[ended(3), ended(7)]), Status::Failed);
        assert_eq!(overall(&[]), Status::NothingTested);
    }

    #[test]
    fn an_unclosed_quote_is_named() {
        let error = Program::parse_all(&["sh -c 'echo".into()], None).unwrap_err();
        assert!(error.to_string().contains("sh -c 'echo"), "{error}");
    }
}
