//! What the environment tells a program: its broker, its cards, the kernel's interface.

use jitney_vfio::{CardAddress, Error, ErrorKind, IommuInterface, Result};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Names the broker that a program has to use: `fd:N` for an inherited socket, else a socket's path.
pub const BROKER_VARIABLE: &str = "JITNEY_BROKER";
/// Names the cards that a program owns itself when it runs alone, separated by commas.
pub const CARDS_VARIABLE: &str = "JITNEY_CARDS";
/// Names the interface of the kernel's VFIO by which cards are opened: `auto`, `group`, `iommufd` or `noiommu`.
pub const IOMMU_VARIABLE: &str = "JITNEY_IOMMU";
/// Says how long a program stands in line for what another one holds, unless it says so itself: `10m`, `forever`.
pub const WAIT_VARIABLE: &str = "JITNEY_WAIT";

/// Names another folder than `/run` for the sockets of the whole system, where those of this machine are not to be met.
pub const RUN_VARIABLE: &str = "JITNEY_RUN";

/// The broker, if one is named.
pub(crate) fn broker() -> Result<Option<String>> {
    variable(BROKER_VARIABLE)
}

/// The cards, if any are named.
pub(crate) fn cards() -> Result<Option<Vec<CardAddress>>> {
    let Some(list) = variable(CARDS_VARIABLE)? else { return Ok(None) };
    let cards = list.split(',').map(str::trim).filter(|card| !card.is_empty());
    cards.map(str::parse).collect::<Result<_>>().map(Some)
}

/// The kernel's interface.
pub(crate) fn iommu_interface() -> Result<IommuInterface> {
    variable(IOMMU_VARIABLE)?.map_or(Ok(IommuInterface::Auto), |text| text.parse())
}

/// How long to stand in line, if that is said.
pub(crate) fn wait() -> Result<Option<Duration>> {
    let Some(text) = variable(WAIT_VARIABLE)? else { return Ok(None) };
    let wait = parse_wait(&text).map_err(|why| {
        Error::new(ErrorKind::Invalid, format!("{WAIT_VARIABLE}={text}: {why}"))
            .with_remedy("write it as 30s, 10m, 2h or forever, or unset it")
    })?;
    Ok(Some(wait))
}

/// How long to wait, as people write it: `30s`, `10m`, `1h 30m`, a number of seconds, or `forever`, which is [`Duration::MAX`].
///
/// # Errors
/// What is wrong with it.
pub fn parse_wait(text: &str) -> std::result::Result<Duration, String> {
    match (text, text.parse()) {
        ("forever", _) => Ok(Duration::MAX),
        (_, Ok(seconds)) => Ok(Duration::from_secs(seconds)),
        _ => humantime::parse_duration(text).map_err(|error| error.to_string()),
    }
}

/// Where the system's folders for sockets are. As with `XDG_RUNTIME_DIR`, a relative one is ignored.
pub(crate) fn run() -> PathBuf {
    let named = std::env::var_os(RUN_VARIABLE).map(PathBuf::from);
    named.filter(|folder| folder.is_absolute()).unwrap_or_else(|| Path::new("/run").to_path_buf())
}

fn variable(name: &str) -> Result<Option<String>> {
    match std::env::var(name) {
        Ok(value) if value.is_empty() => Ok(None),
        Ok(value) => Ok(Some(value)),
        Err(std::env::VarError::NotPresent) => Ok(None),
        Err(std::env::VarError::NotUnicode(_)) => {
            Err(Error::new(ErrorKind::Invalid, format!("{name} is not valid UTF-8")))
        }
    }
}
