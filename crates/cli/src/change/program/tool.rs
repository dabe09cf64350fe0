//! The programmer's tool: its command line, whether it is there, and how it ended.

use crate::errno::explained;
use crate::signals;
use anyhow::{Context, anyhow, bail};
use jitney_boards::designs::Programmer;
use std::fmt;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::str::FromStr;
use std::time::{Duration, Instant};

/// What stands for the file among a tool's words.
const FILE: &str = "{file}";
/// The tool if none is named.
const USUAL: &str = "openFPGALoader";

/// A tool and its arguments, in which something stands for the file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Tool(Vec<String>);

impl FromStr for Tool {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let words = shlex::split(text).ok_or("a quote is not closed")?;
        match words.first() {
            None => Err("name a program".into()),
            Some(program) if program.is_empty() || program.contains(FILE) => {
                Err("name a program first".into())
            }
            Some(_) if !words.iter().any(|word| word.contains(FILE)) => {
                Err("write {file} where the file's name goes".into())
            }
            Some(_) => Ok(Self(words)),
        }
    }
}

impl Tool {
    /// openFPGALoader, with what a boards file says of a board.
    pub(super) fn usual(programmer: Option<&Programmer>) -> Self {
        let mut words = vec![USUAL.to_owned()];
        if let Some(Programmer { cable, board }) = programmer {
            for (option, word) in [("-c", cable), ("-b", board)] {
                words.extend(word.iter().flat_map(|word| [option.to_owned(), word.clone()]));
            }
        }
        words.push(FILE.to_owned());
        Self(words)
    }

    /// What loads `file`, if the program is there.
    pub(super) fn command(&self, file: &Path) -> anyhow::Result<ToolCommand> {
        let name = file
            .to_str()
            .with_context(|| format!("{} has a name that is no text; give it another one", file.display()))?;
        // What begins with '-' would be taken for an option.
        let name = if name.starts_with('-') { format!("./{name}") } else { name.to_owned() };
        let words: Vec<String> = self.0.iter().map(|word| word.replace(FILE, &name)).collect();
        let program = words.first().map_or("", String::as_str);
        if !is_there(program) {
            let get = match program {
                USUAL => "sudo apt install openfpgaloader, or name another one with --tool",
                _ => "give its path, or install it",
            };
            bail!("there is no program {program:?} that could be run; {get}");
        }
        Ok(ToolCommand(words))
    }
}

/// Whether a shell would find `program`.
fn is_there(program: &str) -> bool {
    let is_program = |path: &Path| {
        path.metadata().is_ok_and(|file| file.is_file() && file.permissions().mode() & 0o111 != 0)
    };
    if program.contains('/') {
        return is_program(Path::new(program));
    }
    let folders = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&folders).any(|folder| is_program(&folder.join(program)))
}

/// A command that can be run.
#[derive(Debug)]
pub(super) struct ToolCommand(Vec<String>);

impl fmt::Display for ToolCommand {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // It fails for a NUL only, which no argument has.
        let words = shlex::try_join(self.0.iter().map(String::as_str));
        f.write_str(&words.unwrap_or_else(|_| self.0.join(" ")))
    }
}

impl ToolCommand {
    /// Runs it to its end. What it prints goes to standard error: standard output is this command's own.
    pub(super) fn run(&self) -> anyhow::Result<Duration> {
        let (program, arguments) = self.0.split_first().context("a command without words")?;
        let started = Instant::now();
        let status = Command::new(program)
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(std::io::stderr())
            .status()
            .map_err(|error| anyhow!("{program} could not be started: {}", explained(&error)))?;
        match (status.code(), status.signal()) {
            (Some(0), _) => Ok(started.elapsed()),
            (Some(code), _) => bail!("{program} failed with exit status {code}; its message is above"),
            (None, Some(signal)) => bail!("{program} was ended by {}", signals::name(signal)),
            (None, None) => bail!("{program} ended, and nobody knows how"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(tool: &Tool, file: &str) -> String {
        tool.command(Path::new(file)).unwrap().to_string()
    }

    #[test]
    fn the_file_stands_where_it_is_named() {
        let tool: Tool = "sh -c 'load {file}' {file} x".parse().unwrap();
        assert_eq!(line(&tool, "a b.bit"), "sh -c 'load a b.bit' 'a b.bit' x");
        assert_eq!(line(&"true {file}".parse().unwrap(), "-x.bit"), "true ./-x.bit");
        for (text, why) in [
            ("", "name a program"),
            ("{file}", "name a program first"),
            ("'' {file}", "name a program first"),
            ("openFPGALoader x.bit", "write {file}"),
            ("sh '{file}", "a quote"),
        ] {
            let error = text.parse::<Tool>().unwrap_err();
            assert!(error.contains(why), "{text}: {error}");
        }
    }

    #[test]
    fn openfpgaloader_is_told_what_the_boards_file_says() {
        assert_eq!(Tool::usual(None), "openFPGALoader {file}".parse().unwrap());
        let (cable, board) = (Some("digilent_hs2".to_owned()), Some("x".to_owned()));
        let told = |cable: &Option<String>, board: &Option<String>| {
            Tool::usual(Some(&Programmer { cable: cable.clone(), board: board.clone() }))
        };
        assert_eq!(told(&cable, &board), "openFPGALoader -c digilent_hs2 -b x {file}".parse().unwrap());
        assert_eq!(told(&None, &board), "openFPGALoader -b x {file}".parse().unwrap());
    }

    #[test]
    fn a_program_that_is_not_there_has_a_remedy() {
        let missing = |text: &str| {
            let error = text.parse::<Tool>().unwrap().command(Path::new("x.bit")).unwrap_err();
            error.to_string()
        };
        assert!(missing("no-such-loader {file}").contains("\"no-such-loader\""));
        assert!(missing("/etc/passwd {file}").contains("could be run"), "it is no program");
        assert!(missing("/etc {file}").contains("could be run"), "it is a folder");
        if !is_there(USUAL) {
            let error = Tool::usual(None).command(Path::new("x.bit")).unwrap_err().to_string();
            assert!(error.contains("apt install openfpgaloader") && error.contains("--tool"), "{error}");
        }
    }

    #[test]
    fn how_it_ended_is_said() {
        let run = |text: &str| {
            let run = text.parse::<Tool>().unwrap().command(Path::new("x")).unwrap().run();
            run.map(|_| ()).map_err(|error| error.to_string())
        };
        assert_eq!(run("true {file}"), Ok(()));
        assert!(run("sh -c 'exit 3' {file}").unwrap_err().contains("exit status 3"));
        assert!(run("sh -c 'kill -9 $$' {file}").unwrap_err().contains("SIGKILL"));
    }
}
