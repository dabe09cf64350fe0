//! `jitney completions SHELL`, and what its scripts ask this program when a key is pressed: which cards, boards and faults there are.
//!
//! The scripts are clap's; the one for bash is ours, see [`bash`]. They set [`VARIABLE`] and call this program, which then says what
//! could come next and does nothing else.

mod bash;
mod candidates;

use crate::help;
use crate::report::print_bytes;
use crate::status::Status;
use bash::Bash;
use clap::{Args, ValueEnum};
use clap_complete::CompleteEnv;
use clap_complete::env::{EnvCompleter, Fish, Shells, Zsh};

/// What the scripts set to the name of their shell.
const VARIABLE: &str = "JITNEY_COMPLETE";
const NAME: &str = "jitney";

const HELP: &str = "\
Examples:
  jitney completions bash > ~/.local/share/bash-completion/completions/jitney
  jitney completions zsh > ~/.zfunc/_jitney             # a folder of $fpath
  jitney completions fish > ~/.config/fish/completions/jitney.fish

The packages bring them along.";

#[derive(Debug, Args)]
#[command(after_help = HELP)]
pub(crate) struct Completions {
    /// Which shell.
    #[arg(value_enum, value_name = "SHELL")]
    shell: Shell,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Shell {
    Bash,
    Zsh,
    Fish,
}

/// What makes zsh complete already when it loads the file, which it does at the first press of the key.
const ZSH_FIRST_TIME: &str =
    "[[ \"${funcstack[1]-}\" == _jitney ]] && _clap_dynamic_completer_jitney \"$@\"\nreturn 0\n";

pub(crate) fn completions(args: &Completions) -> anyhow::Result<Status> {
    let mut script = Vec::new();
    let completer: &dyn EnvCompleter = match args.shell {
        Shell::Bash => &Bash,
        Shell::Zsh => &Zsh,
        Shell::Fish => &Fish,
    };
    completer.write_registration(VARIABLE, NAME, NAME, NAME, &mut script)?;
    if args.shell == Shell::Zsh {
        script.extend(ZSH_FIRST_TIME.bytes());
    }
    print_bytes(&script);
    Ok(Status::Passed)
}

/// Answers a shell and ends, if it was a shell that called.
pub(crate) fn answer_a_shell() {
    CompleteEnv::with_factory(|| {
        let mut command = help::command();
        // What is put off until a command is asked for has values that are known, too.
        command.build();
        candidates::known(command)
    })
    .var(VARIABLE)
    .bin(NAME)
    .completer(NAME)
    .shells(Shells(&[&Bash, &Zsh, &Fish]))
    .complete();
}
