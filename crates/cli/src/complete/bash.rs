//! Completion in bash, where an address of PCI is five words: bash takes words apart at `:` and at `=`.
//!
//! clap's own script hands those pieces on as they are. This one puts them together again, and leaves off of each answer what
//! stands before the last piece, which bash keeps.

use clap::Command;
use clap_complete::env::EnvCompleter;
use std::ffi::OsString;
use std::io::{Result, Write};
use std::path::Path;

#[derive(Debug)]
pub(super) struct Bash;

const SCRIPT: &str = r#"_jitney() {
    local IFS=$'\013' breaks="${COMP_WORDBREAKS//[^:=]/}"
    local -a words=()
    local i piece line="${COMP_LINE:0:COMP_POINT}" rest cur
    rest="$line"
    for ((i = 0; i <= COMP_CWORD; i++)); do
        piece="${COMP_WORDS[i]}"
        # What the cursor stands in is taken up to the cursor.
        if ((i == COMP_CWORD)); then piece="$2"; [[ "${COMP_WORDS[i]}" == [:=]* ]] && piece="${COMP_WORDS[i]}"; fi
        if ((i > 0)) && [[ "$rest" != [[:space:]]* ]] &&
            [[ "$piece" == [:=]* || "${words[${#words[@]}-1]}" == *[:=] ]]; then
            words[${#words[@]}-1]+="$piece"
        else
            words+=("$piece")
        fi
        rest="${rest#"${rest%%[![:space:]]*}"}"
        rest="${rest#"${COMP_WORDS[i]}"}"
    done
    cur="${words[${#words[@]}-1]}"
    COMPREPLY=( $(
        _CLAP_IFS="$IFS" \
        _CLAP_COMPLETE_INDEX="$((${#words[@]} - 1))" \
        _CLAP_COMPLETE_COMP_TYPE="$COMP_TYPE" \
        _CLAP_COMPLETE_SPACE=false \
        VARIABLE=bash \
        COMPLETER -- "${words[@]}" 2> /dev/null
    ) ) || { COMPREPLY=(); return; }
    if [[ -n "$breaks" && "$cur" == *["$breaks"]* ]]; then
        local before="${cur%"${cur##*["$breaks"]}"}"
        for i in "${!COMPREPLY[@]}"; do COMPREPLY[i]="${COMPREPLY[i]#"$before"}"; done
    fi
    if ((${#COMPREPLY[@]} == 1)) && [[ "${COMPREPLY[0]}" == *[=/:] ]]; then compopt -o nospace; fi
} 2> /dev/null
complete -o bashdefault -o nosort -F _jitney BIN
"#;

impl EnvCompleter for Bash {
    fn name(&self) -> &'static str {
        "bash"
    }

    fn is(&self, name: &str) -> bool {
        name == self.name()
    }

    fn write_registration(
        &self,
        var: &str,
        _name: &str,
        bin: &str,
        completer: &str,
        buf: &mut dyn Write,
    ) -> Result<()> {
        let script = SCRIPT.replace("VARIABLE", var).replace("COMPLETER", completer).replace("BIN", bin);
        buf.write_all(script.as_bytes())
    }

    fn write_complete(
        &self,
        command: &mut Command,
        args: Vec<OsString>,
        current_dir: Option<&Path>,
        buf: &mut dyn Write,
    ) -> Result<()> {
        clap_complete::env::Bash.write_complete(command, args, current_dir, buf)
    }
}
