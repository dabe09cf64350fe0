//! What a register access on a mapped BAR is compiled to, beside a plain volatile load or store.

use super::Wish;
use crate::figure::{Bar, Figure, Unit};
use anyhow::{Context, bail};
use std::process::Command;

pub(super) fn measure(_wish: Wish) -> anyhow::Result<Vec<Figure>> {
    let assembly = assembly()?;
    let pairs = [("load", "mapped_read", "volatile_read"), ("store", "mapped_write", "volatile_write")];
    let mut figures = Vec::new();
    for (name, ours, plain) in pairs {
        let (ours, plain) = (instructions(&assembly, ours)?, instructions(&assembly, plain)?);
        figures.push(Figure {
            what: format!("register {name} on a mapped BAR, in instructions other than a volatile {name}'s"),
            measured: differences(&ours, &plain) as f64,
            unit: Unit::Differences,
            bar: Bar::AtMost(0.0),
            detail: format!("{} and {}", ours.join("; "), plain.join("; ")),
        });
    }
    Ok(figures)
}

/// The assembly of `examples/register_access.rs`.
fn assembly() -> anyhow::Result<String> {
    let folder = tempfile::tempdir().context("a folder for the assembly")?;
    let path = folder.path().join("register_access.s");
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let compiled = Command::new(cargo)
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .args(["rustc", "--quiet", "--release", "--package=jitney-bench", "--example=register_access", "--"])
        .arg(format!("--emit=asm={}", path.display()))
        .arg("-Ccodegen-units=1")
        .status()
        .context("cannot start cargo")?;
    if !compiled.success() {
        bail!("examples/register_access.rs could not be compiled");
    }
    std::fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))
}

/// The instructions of a function. Where the compiler found that it is the same as another, that one's.
fn instructions(assembly: &str, function: &str) -> anyhow::Result<Vec<String>> {
    let symbol = assembly
        .lines()
        .filter_map(|line| line.strip_prefix("\t.globl\t"))
        .find(|symbol| symbol.contains(function))
        .with_context(|| format!("no {function} in the assembly"))?;
    let same = assembly
        .lines()
        .filter_map(|line| line.strip_prefix("\t.set\t").unwrap_or(line).split_once([',', '=']));
    let symbol = match same.map(|(a, b)| (a.trim(), b.trim())).find(|(name, _)| *name == symbol) {
        Some((_, other)) => other,
        None => symbol,
    };
    let label = format!("{symbol}:");
    let body =
        assembly.lines().skip_while(|line| *line != label).take_while(|line| !line.contains(".cfi_endproc"));
    let instructions: Vec<String> = body
        .filter_map(|line| line.strip_prefix('\t'))
        .filter(|line| !line.starts_with(['.', '#']))
        .map(|line| line.replace('\t', " "))
        .collect();
    if instructions.is_empty() {
        bail!("no instructions of {symbol} in the assembly");
    }
    Ok(instructions)
}

/// How many instructions differ, counting those that only one side has.
fn differences(ours: &[String], plain: &[String]) -> usize {
    let different = ours.iter().zip(plain).filter(|(a, b)| a != b).count();
    different + ours.len().abs_diff(plain.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    const ASSEMBLY: &str = "\
\t.globl\t_one_h1
_one_h1:
.Lfunc_begin0:
\t.cfi_startproc
\t.loc\t1 2 3
\tmovl\t(%rdi), %eax
\tretq
\t.cfi_endproc
\t.globl\t_two_h2
_two_h2 = _one_h1
\t.globl\t_three_h3
\t.set\t_three_h3, _one_h1
\t.globl\t_four_h4
_four_h4:
\tretq
\t.cfi_endproc
";

    #[test]
    fn a_function_that_was_merged_has_the_instructions_of_the_other() {
        for name in ["one", "two", "three"] {
            assert_eq!(instructions(ASSEMBLY, name).unwrap(), ["movl (%rdi), %eax", "retq"], "{name}");
        }
        assert!(instructions(ASSEMBLY, "five").is_err());
    }

    #[test]
    fn other_and_missing_instructions_are_differences() {
        let [one, four] = ["one", "four"].map(|name| instructions(ASSEMBLY, name).unwrap());
        assert_eq!((differences(&one, &one), differences(&one, &four)), (0, 2));
    }
}
