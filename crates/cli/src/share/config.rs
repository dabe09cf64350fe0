//! What a broker that runs as a service is told by a file, docs/operating.md.

use crate::args;
use crate::errno::explained;
use anyhow::{Context, anyhow};
use jitney_vfio::{CardAddress, IommuInterface};
use serde::Deserialize;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Where a service's is.
pub(crate) const PLACE: &str = "/etc/jitney/config.toml";

/// The settings of a file. What is not said is as without a file.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct File {
    cards: Option<Vec<String>>,
    #[serde(default)]
    isolate: bool,
    on_demand: Option<bool>,
    iommu: Option<String>,
    group: Option<String>,
    policy: Option<PathBuf>,
    exit_when_idle: Option<String>,
}

/// What it says.
#[derive(Debug, Default)]
pub(crate) struct Config {
    pub(crate) cards: Vec<CardAddress>,
    pub(crate) isolate: bool,
    pub(crate) on_demand: Option<bool>,
    pub(crate) iommu: Option<IommuInterface>,
    pub(crate) group: Option<String>,
    pub(crate) policy: Option<PathBuf>,
    pub(crate) exit_when_idle: Option<Duration>,
}

impl Config {
    /// Reads the file that is named; else, for a service, the one at [`PLACE`], if it is there.
    pub(crate) fn read(named: Option<&Path>, is_service: bool) -> anyhow::Result<Self> {
        let path = match named {
            Some(path) => path,
            None if is_service => Path::new(PLACE),
            None => return Ok(Self::default()),
        };
        match std::fs::read_to_string(path) {
            Ok(text) => Self::parse(&text, path).with_context(|| format!("config {}", path.display())),
            Err(error) if named.is_none() && error.kind() == std::io::ErrorKind::NotFound => {
                Ok(Self::default())
            }
            Err(error) => Err(anyhow!("config {}: {}", path.display(), explained(&error))),
        }
    }

    /// `path` is where `text` comes from: what it names is looked for beside it.
    fn parse(text: &str, path: &Path) -> anyhow::Result<Self> {
        let file: File = toml::from_str(text).map_err(|error| anyhow!("{}", error.to_string().trim_end()))?;
        let cards = file.cards.map(|cards| match cards[..] {
            [] => Err(anyhow!("the list is empty; without it every card that is bound to vfio-pci is taken")),
            _ => cards.iter().map(|card| card.parse().map_err(anyhow::Error::from)).collect(),
        });
        let time =
            |text: String| args::limit(&text).map_err(|why| anyhow!("exit-when-idle: {text:?}: {why}"));
        Ok(Self {
            cards: cards.transpose().context("cards")?.unwrap_or_default(),
            isolate: file.isolate,
            on_demand: file.on_demand,
            iommu: file.iommu.map(|text| text.parse()).transpose().context("iommu")?,
            group: file.group,
            policy: file.policy.map(|policy| path.parent().unwrap_or(Path::new("")).join(policy)),
            exit_when_idle: file.exit_when_idle.map(time).transpose()?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> anyhow::Result<Config> {
        Config::parse(text, Path::new("/etc/jitney/config.toml"))
    }

    #[test]
    fn every_key_is_read() {
        let text = "cards = [\"0000:2e:00.0\"]\nisolate = true\non-demand = true\niommu = \"group\"\ngroup = \"jitney\"\npolicy = \"policy.toml\"\n\
                    exit-when-idle = \"10m\"";
        let config = parse(text).unwrap();
        assert_eq!(config.cards, ["0000:2e:00.0".parse().unwrap()]);
        assert_eq!(config.iommu, Some(IommuInterface::Group));
        assert_eq!((config.isolate, config.group.as_deref()), (true, Some("jitney")));
        assert_eq!(config.on_demand, Some(true));
        assert_eq!(config.policy.as_deref(), Some(Path::new("/etc/jitney/policy.toml")));
        assert_eq!(config.exit_when_idle, Some(Duration::from_secs(600)));
        assert!(parse("").unwrap().cards.is_empty());
    }

    #[test]
    fn what_is_wrong_is_said_with_its_place() {
        for (text, why) in [
            ("isolate = true\ncard = \"x\"", "line 2"),
            (
                "card = \"x\"",
                "unknown field `card`, expected one of `cards`, `isolate`, `on-demand`, `iommu`, `group`, `policy`",
            ),
            ("isolate = \"yes\"", "line 1"),
            ("cards = []", "cards: the list is empty"),
            ("cards = [\"2e\"]", "cards: "),
            ("iommu = \"magic\"", "iommu: "),
            ("exit-when-idle = \"soon\"", "exit-when-idle: \"soon\": "),
        ] {
            let error = format!("{:#}", parse(text).expect_err(text));
            assert!(error.contains(why), "{text}: {error}");
        }
    }
}
