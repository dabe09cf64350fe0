//! A policy as a file says it.

use super::{Access, Ids, Pattern, Policy, Quota, Rule, Who};
use jitney_vfio::CardAddress;
use serde::Deserialize;
use std::time::Duration;

/// What the names in a policy stand for.
pub trait Names {
    /// The number of a user that is given by name or number.
    fn user(&self, name: &str) -> Option<u32>;
    /// The number of a group that is given by name or number.
    fn group(&self, name: &str) -> Option<u32>;
    /// The ids of the boards of a name.
    fn board(&self, name: &str) -> Option<Vec<Ids>>;
}

/// What is wrong with a policy, and where.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct PolicyError(String);

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    rule: Option<Vec<FileRule>>,
    #[serde(default)]
    quota: Vec<FileQuota>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct FileRule {
    who: Vec<String>,
    #[serde(default = "all")]
    cards: Vec<String>,
    access: FileAccess,
}

#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum FileAccess {
    None,
    Shared,
    Alone,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct FileQuota {
    who: Vec<String>,
    connections: Option<usize>,
    buffers: Option<usize>,
    memory: Option<String>,
    leases: Option<usize>,
    lease_time: Option<String>,
}

fn all() -> Vec<String> {
    vec!["*".into()]
}

impl Policy {
    /// Reads a policy from a file's text; docs/policy.md describes it.
    ///
    /// # Errors
    /// What is wrong: a key that there is not, a user, group or board that nobody knows, a size that is none.
    pub fn parse(text: &str, names: &impl Names) -> Result<Self, PolicyError> {
        let file: File =
            toml::from_str(text).map_err(|error| PolicyError(error.to_string().trim_end().into()))?;
        let rule = |(number, rule): (usize, FileRule)| {
            let place = format!("rule {number}");
            Ok(Rule {
                number,
                who: who(&rule.who, names, &place)?,
                cards: cards(&rule.cards, names, &place)?,
                access: match rule.access {
                    FileAccess::None => Access::None,
                    FileAccess::Shared => Access::Shared,
                    FileAccess::Alone => Access::Alone,
                },
            })
        };
        let rules =
            file.rule.map(|rules| (1..).zip(rules).map(rule).collect::<Result<_, _>>()).transpose()?;
        let quotas = (1..).zip(file.quota).map(|(number, file)| quota(number, file, names));
        Ok(Self { rules, quotas: quotas.collect::<Result<_, _>>()? })
    }
}

fn quota(number: usize, file: FileQuota, names: &impl Names) -> Result<Quota, PolicyError> {
    let place = format!("quota {number}");
    let wrong = |key: &str, why: String| PolicyError(format!("{place}: {key}: {why}"));
    let time = |text: &String| -> Result<Duration, PolicyError> {
        humantime::parse_duration(text)
            .map_err(|why| wrong("lease-time", format!("{text:?}: {why}; write it as 30m or 8h")))
    };
    Ok(Quota {
        number,
        who: who(&file.who, names, &place)?,
        connections: file.connections,
        buffers: file.buffers,
        memory: file.memory.as_deref().map(size).transpose().map_err(|why| wrong("memory", why))?,
        leases: file.leases,
        lease_time: file.lease_time.as_ref().map(time).transpose()?,
    })
}

fn who(texts: &[String], names: &impl Names, place: &str) -> Result<Vec<Who>, PolicyError> {
    let one = |text: &String| match (text.as_str(), text.split_once(':')) {
        ("everybody", _) => Ok(Who::Everybody),
        (_, Some(("user", name))) => {
            let uid = names.user(name).ok_or_else(|| format!("there is no user {name:?} on this machine"))?;
            Ok(Who::User(name.into(), uid))
        }
        (_, Some(("group", name))) => {
            let gid =
                names.group(name).ok_or_else(|| format!("there is no group {name:?} on this machine"))?;
            Ok(Who::Group(name.into(), gid))
        }
        _ => Err(format!("{text:?} is nobody; write user:NAME, group:NAME or everybody")),
    };
    not_empty(texts, "who", place)?;
    texts.iter().map(one).collect::<Result<_, _>>().map_err(|why| PolicyError(format!("{place}: who: {why}")))
}

fn cards(texts: &[String], names: &impl Names, place: &str) -> Result<Vec<Pattern>, PolicyError> {
    let one = |text: &String| match text.strip_prefix("board:") {
        Some(name) => {
            let ids = names.board(name).ok_or_else(|| {
                format!("no board is called {name:?}; `jitney boards` lists those that are known")
            })?;
            Ok(Pattern::Board(name.into(), ids))
        }
        // What fits no card would let through what it was to keep out.
        None if !is_selector(text) => Err(format!(
            "{text:?} is no card; write an address (0000:2e:00.0, vfio-user:/path), VENDOR:DEVICE (10ee:7011), board:NAME or *"
        )),
        None => Ok(Pattern::Selector(text.clone())),
    };
    not_empty(texts, "cards", place)?;
    texts
        .iter()
        .map(one)
        .collect::<Result<_, _>>()
        .map_err(|why| PolicyError(format!("{place}: cards: {why}")))
}

/// Whether a card can be meant by that, as [`Identity::matches`](jitney_vfio::Identity::matches) has it.
fn is_selector(text: &str) -> bool {
    let is_id = |id: &str| id.len() == 4 && id.bytes().all(|digit| digit.is_ascii_hexdigit());
    let is_ids = text.split_once(':').is_some_and(|(vendor, device)| is_id(vendor) && is_id(device));
    text == "*" || is_ids || text.parse::<CardAddress>().is_ok()
}

/// A list of nobody or nothing is a slip.
fn not_empty(texts: &[String], key: &str, place: &str) -> Result<(), PolicyError> {
    match texts {
        [] => Err(PolicyError(format!("{place}: {key}: the list is empty, so that nothing fits"))),
        _ => Ok(()),
    }
}

/// A size as people write it: `4 GiB`, `512M`, or a number of bytes.
fn size(text: &str) -> Result<u64, String> {
    let wrong = || format!("{text:?} is no size; write it as 512 MiB, 4G or a number of bytes");
    let digits = text.trim_end_matches(|c: char| !c.is_ascii_digit());
    let shift = match text[digits.len()..].trim() {
        "" | "B" => 0,
        "K" | "KiB" => 10,
        "M" | "MiB" => 20,
        "G" | "GiB" => 30,
        "T" | "TiB" => 40,
        _ => return Err(wrong()),
    };
    let number: u64 = digits.parse().map_err(|_| wrong())?;
    number.checked_mul(1 << shift).ok_or_else(wrong)
}

#[cfg(test)]
mod tests {
    use super::super::tests::Known;
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_is_wrong_is_said_with_its_place() {
        for (text, why) in [
            (
                "[[rule]]\nwho = [\"user:carol\"]\naccess = \"alone\"",
                "rule 1: who: there is no user \"carol\"",
            ),
            (
                "[[rule]]\nwho = [\"group:wheel\"]\naccess = \"alone\"",
                "rule 1: who: there is no group \"wheel\"",
            ),
            (
                "[[rule]]\nwho = [\"alice\"]\naccess = \"alone\"",
                "rule 1: who: \"alice\" is nobody; write user:NAME",
            ),
            ("[[rule]]\nwho = []\naccess = \"alone\"", "rule 1: who: the list is empty"),
            (
                "[[rule]]\nwho = [\"everybody\"]\ncards = []\naccess = \"none\"",
                "rule 1: cards: the list is empty",
            ),
            (
                "[[rule]]\nwho = [\"everybody\"]\ncards = [\"board:x\"]\naccess = \"none\"",
                "no board is called \"x\"",
            ),
            (
                "[[rule]]\nwho = [\"everybody\"]\ncards = [\"nitefury\"]\naccess = \"none\"",
                "rule 1: cards: \"nitefury\" is no card; write an address",
            ),
            ("[[rule]]\nwho = [\"everybody\"]\naccess = \"some\"", "line 3"),
            ("[[rule]]\nwho = [\"everybody\"]\naccess = \"some\"", "`none`, `shared`, `alone`"),
            ("[[rule]]\nwho = [\"everybody\"]\n", "missing field `access`"),
            ("[[rules]]\n", "unknown field `rules`"),
            ("[[quota]]\nwho = [\"everybody\"]\nmemory = \"lots\"", "quota 1: memory: \"lots\" is no size"),
            ("[[quota]]\nwho = [\"everybody\"]\nmemory = \"99999999T\"", "quota 1: memory: "),
            ("[[quota]]\nwho = [\"everybody\"]\nlease-time = \"soon\"", "quota 1: lease-time: \"soon\""),
            ("[[quota]]\nwho = [\"everybody\"]\nleases = -1", "line 3"),
            ("rule = 3", "invalid type"),
        ] {
            let error = Policy::parse(text, &Known).expect_err(text).to_string();
            assert!(error.contains(why), "{text}: {error}");
        }
    }

    #[test]
    fn sizes_as_people_write_them() {
        for (text, bytes) in [("0", 0), ("4096", 4096), ("1K", 1024), ("4 GiB", 4 << 30), ("2TiB", 2 << 40)] {
            assert_eq!(size(text), Ok(bytes), "{text}");
        }
        for text in ["", "G", "-1", "1.5G", "4 gigs", "18446744073709551615K"] {
            assert!(size(text).is_err(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused(text in "[a-z\\[\\]=\" :*\n0-9-]{0,120}") {
            let _ = Policy::parse(&text, &Known);
        }
    }
}
