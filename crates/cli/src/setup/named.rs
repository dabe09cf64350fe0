//! A PCI card as the user names it.

use anyhow::bail;
use jitney_pci::{Address, Id};
use jitney_vfio::sysfs::Sysfs;
use std::str::FromStr;

/// By where it sits, or by what it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Card {
    At(Address),
    Like(Id),
}

impl FromStr for Card {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let at = text.parse().map(Self::At);
        at.or_else(|_| text.parse().map(Self::Like))
            .map_err(|_| "write its PCI address as 0000:2e:00.0, or its id as 10ee:7011".to_owned())
    }
}

impl Card {
    /// Where it sits. An address is not looked up; of an id there has to be exactly one.
    pub(super) fn address(self, sysfs: &Sysfs) -> anyhow::Result<Address> {
        let id = match self {
            Self::At(address) => return Ok(address),
            Self::Like(id) => id,
        };
        let functions = sysfs.functions()?;
        let like =
            functions.iter().filter(|function| (function.vendor, function.device) == (id.vendor, id.device));
        let found: Vec<Address> = like.map(|function| function.address).collect();
        match &found[..] {
            [address] => Ok(*address),
            [] => bail!("there is no PCI card {id}; lspci -Dn lists those there are"),
            several => {
                let several: Vec<String> = several.iter().map(Address::to_string).collect();
                bail!("{id} could be {}: give the address", several.join(" or "))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn machine(cards: &[&str]) -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        for card in cards {
            let folder = root.path().join("bus/pci/devices").join(card);
            std::fs::create_dir_all(&folder).unwrap();
            for (file, text) in [
                ("vendor", "0x10ee"),
                ("device", "0x7011"),
                ("subsystem_vendor", "0x10ee"),
                ("subsystem_device", "0x0007"),
                ("revision", "0x00"),
                ("class", "0x058000"),
                ("resource", ""),
            ] {
                std::fs::write(folder.join(file), text).unwrap();
            }
        }
        root
    }

    #[test]
    fn by_address_and_by_id() {
        let one = machine(&["0000:2e:00.0"]);
        let sysfs = Sysfs::new(one.path());
        for name in ["0000:2e:00.0", "2e:00.0", "10ee:7011"] {
            let address = name.parse::<Card>().unwrap().address(&sysfs).unwrap();
            assert_eq!(address.to_string(), "0000:2e:00.0", "{name}");
        }
        let unknown = "10ee:9038".parse::<Card>().unwrap().address(&sysfs).unwrap_err();
        assert!(unknown.to_string().contains("there is no PCI card 10ee:9038"), "{unknown}");
        assert!("nitefury".parse::<Card>().is_err());
    }

    #[test]
    fn an_id_of_two_cards() {
        let two = machine(&["0000:2e:00.0", "0000:2f:00.0"]);
        let sysfs = Sysfs::new(two.path());
        let error = "10ee:7011".parse::<Card>().unwrap().address(&sysfs).unwrap_err().to_string();
        assert_eq!(error, "10ee:7011 could be 0000:2e:00.0 or 0000:2f:00.0: give the address");
    }
}
