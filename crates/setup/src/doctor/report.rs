//! What an examination says.

use jitney_pci::Address;
use serde::Serialize;
use std::fmt;

/// How it is with one thing.
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// As it should be.
    Good,
    /// It will not work like this.
    Missing,
    /// It works, with a drawback.
    Warning,
    /// It could not be seen, or there was nothing to see yet; [`Check::what`] says why.
    Unknown,
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Good => "good",
            Self::Missing => "MISSING",
            Self::Warning => "warning",
            Self::Unknown => "unknown",
        })
    }
}

/// One thing that was looked at.
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Check {
    /// What was looked at, as `memlock`.
    pub name: &'static str,
    /// The card that it is about; none if it is about the machine.
    pub card: Option<String>,
    /// How it is.
    pub verdict: Verdict,
    /// What was found, for people.
    pub what: String,
    /// The command, or where there is none the step, that mends it.
    pub remedy: Option<String>,
}

impl Check {
    pub(super) fn good(name: &'static str, what: impl Into<String>) -> Self {
        Self { name, card: None, verdict: Verdict::Good, what: what.into(), remedy: None }
    }

    pub(super) fn missing(name: &'static str, what: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { verdict: Verdict::Missing, remedy: Some(remedy.into()), ..Self::good(name, what) }
    }

    pub(super) fn warning(name: &'static str, what: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { verdict: Verdict::Warning, remedy: Some(remedy.into()), ..Self::good(name, what) }
    }

    pub(super) fn unknown(name: &'static str, why: impl fmt::Display) -> Self {
        Self { verdict: Verdict::Unknown, ..Self::good(name, why.to_string()) }
    }

    pub(super) fn of(mut self, card: Address) -> Self {
        self.card = Some(card.to_string());
        self
    }
}

impl fmt::Display for Check {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:8} ", self.verdict)?;
        if let Some(card) = &self.card {
            write!(f, "{card} ")?;
        }
        write!(f, "{}: {}", self.name, self.what)?;
        match &self.remedy {
            Some(remedy) => write!(f, "\n         -> {remedy}"),
            None => Ok(()),
        }
    }
}

/// All that was looked at.
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Report {
    /// In the order in which things are best mended.
    pub checks: Vec<Check>,
}

impl Report {
    /// Whether nothing is missing, as far as could be seen.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.count(Verdict::Missing) == 0
    }

    fn count(&self, verdict: Verdict) -> usize {
        self.checks.iter().filter(|check| check.verdict == verdict).count()
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for check in &self.checks {
            writeln!(f, "{check}")?;
        }
        let [missing, warnings, unknown] =
            [Verdict::Missing, Verdict::Warning, Verdict::Unknown].map(|verdict| self.count(verdict));
        let missing = if missing == 0 { "Nothing is".to_owned() } else { missing.to_string() };
        let plural = if warnings == 1 { "" } else { "s" };
        write!(f, "{missing} missing, {warnings} warning{plural}, {unknown} unknown.")
    }
}
