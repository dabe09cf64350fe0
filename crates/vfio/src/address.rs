//! Where a card is reached.

use crate::error::{Error, ErrorKind, Result};
use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

/// Where a card is reached: its place on the PCI bus, or the socket of the process that emulates it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum CardAddress {
    /// A vfio-user server's socket, written `vfio-user:/path`.
    VfioUser(PathBuf),
    /// A PCI function bound to vfio-pci, written `0000:2e:00.0`.
    Pci(jitney_pci::Address),
}

impl fmt::Display for CardAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::VfioUser(path) => write!(f, "vfio-user:{}", path.display()),
            Self::Pci(address) => address.fmt(f),
        }
    }
}

impl FromStr for CardAddress {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        if let Some(path) = text.strip_prefix("vfio-user:") {
            if path.is_empty() {
                return Err(Error::new(ErrorKind::Invalid, "\"vfio-user:\" names no socket")
                    .with_remedy("write vfio-user:/path/of/the/socket"));
            }
            return Ok(Self::VfioUser(path.into()));
        }
        if text.contains('/') {
            return Ok(Self::VfioUser(text.into()));
        }
        text.parse().map(Self::Pci).map_err(|_| {
            Error::new(ErrorKind::Invalid, format!("{text:?} is no card address"))
                .with_remedy("write a PCI address as 0000:2e:00.0, or a board's socket as vfio-user:/path")
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_written_as_they_are_read() {
        for text in ["vfio-user:/run/board.sock", "vfio-user:relative", "0000:2e:00.0"] {
            assert_eq!(text.parse::<CardAddress>().unwrap().to_string(), text);
        }
        let socket = "./board.sock".parse::<CardAddress>().unwrap();
        assert_eq!(socket, CardAddress::VfioUser("./board.sock".into()));
        assert_eq!("2e:00.0".parse::<CardAddress>().unwrap().to_string(), "0000:2e:00.0");
    }

    #[test]
    fn what_is_no_address_says_what_one_is() {
        for text in ["", "vfio-user:", "nitefury", "0000:2e:00", "10ee:7011"] {
            let error = text.parse::<CardAddress>().unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Invalid, "{text}");
            assert!(error.remedy().unwrap().contains("vfio-user:/path"), "{error}");
        }
    }
}
