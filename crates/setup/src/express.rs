//! What sysfs shows of a PCI Express function: its configuration space, and the port above it.

use crate::kernel::Kernel;
use crate::root::{Root, system};
use jitney_pci::{Address, capability};
use std::fmt;
use std::fs;

/// What Linux shows of configuration space without CAP_SYS_ADMIN: the header, without capabilities.
const HEADER: usize = 64;

/// Why a capability could not be seen.
#[derive(Debug)]
pub(crate) enum Unseen {
    /// The file could not be read.
    File { file: String, error: std::io::Error },
    /// Only the header is shown, so many bytes.
    OnlyHeader { file: String, shown: usize },
    /// There is none, or what there is cannot be followed.
    None(String),
}

impl fmt::Display for Unseen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File { file, error } => f.write_str(&crate::root::unseen(file, error)),
            Self::OnlyHeader { file, shown } => {
                write!(
                    f,
                    "/{file} shows its first {shown} bytes; the settings are behind them, which root sees"
                )
            }
            Self::None(why) => f.write_str(why),
        }
    }
}

impl From<Unseen> for jitney_vfio::Error {
    fn from(unseen: Unseen) -> Self {
        use jitney_vfio::{Error, ErrorKind};
        match unseen {
            Unseen::File { file, error } => system(format_args!("reading /{file}"), &error),
            Unseen::OnlyHeader { .. } => Error::new(ErrorKind::Denied, unseen.to_string())
                .with_remedy("put sudo in front of the command"),
            Unseen::None(why) => Error::new(ErrorKind::Unsupported, why),
        }
    }
}

/// The configuration space of a function, and where its capability is in it.
pub(crate) fn config(
    kernel: &dyn Kernel,
    root: &Root,
    function: Address,
) -> std::result::Result<(Vec<u8>, u16), Unseen> {
    let file = file(function);
    let bytes = match kernel.read_config(&root.path(&file)) {
        Ok(bytes) => bytes,
        Err(error) => return Err(Unseen::File { file, error }),
    };
    if bytes.len() <= HEADER {
        return Err(Unseen::OnlyHeader { file, shown: bytes.len() });
    }
    let at = capability::find(&bytes[..], capability::EXPRESS)
        .map_err(|error| Unseen::None(format!("/{file}: {error}")))?;
    let at = at.ok_or_else(|| {
        Unseen::None(format!("{function} is no PCI Express function: it has no such capability"))
    })?;
    Ok((bytes, at))
}

/// The file with a function's configuration space, below the root.
pub(crate) fn file(function: Address) -> String {
    format!("sys/bus/pci/devices/{function}/config")
}

/// The port that a card is behind; none if it is on a root bus.
pub(crate) fn port(root: &Root, card: Address) -> Option<Address> {
    let folder = fs::read_link(root.path(format!("sys/bus/pci/devices/{card}"))).ok()?;
    folder.parent()?.file_name()?.to_str()?.parse().ok()
}
