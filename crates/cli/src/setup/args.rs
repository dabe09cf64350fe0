//! The arguments of the commands that get a PC ready.

use super::named::Card;
use clap::Args;

#[derive(Debug, Args)]
pub(crate) struct Doctor {
    /// A PCI card: its address, or VENDOR:DEVICE. Without it, all that are bound to vfio-pci.
    #[arg(value_name = "CARD")]
    pub(crate) card: Option<Card>,
}

#[derive(Debug, Args)]
pub(crate) struct Who {
    /// A PCI card: its address, or VENDOR:DEVICE. Without it, every file of VFIO.
    #[arg(value_name = "CARD")]
    pub(crate) card: Option<Card>,
}

#[derive(Debug, Args)]
pub(crate) struct Bind {
    /// The PCI card: its address, or VENDOR:DEVICE.
    #[arg(value_name = "CARD")]
    pub(crate) card: Card,
    /// Give the card's node to this user, by name or number.
    #[arg(long, value_name = "USER")]
    pub(crate) owner: Option<String>,
    /// Give the card's node this mode, in octal as 0660.
    #[arg(long, value_name = "MODE", value_parser = mode)]
    pub(crate) mode: Option<u32>,
    /// Take the card even from what uses it: a mounted disk, an interface that is up, the console.
    #[arg(long)]
    pub(crate) force: bool,
    /// Hand over the other functions of its IOMMU group too: a group goes as a whole or not at all.
    #[arg(long)]
    pub(crate) with_group: bool,
    /// Have it so after every start of the machine, too: writes a rule of udev, a module to load, and with --owner a limit of
    /// locked memory below /etc. The card is meant by its address and its id.
    #[arg(long)]
    pub(crate) persist: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Unbind {
    /// The PCI card: its address, or VENDOR:DEVICE.
    #[arg(value_name = "CARD")]
    pub(crate) card: Card,
    /// Remove the files of `bind --persist` as well, also of a card that is not there any more.
    #[arg(long)]
    pub(crate) forget: bool,
}

/// The permissions of a file. Set-user-id and the like mean nothing on a device node.
fn mode(text: &str) -> Result<u32, String> {
    let is_octal = !text.is_empty() && text.bytes().all(|digit| matches!(digit, b'0'..=b'7'));
    match u32::from_str_radix(text, 8) {
        Ok(mode) if is_octal && mode <= 0o777 => Ok(mode),
        _ => Err("write it in octal, from 0 to 0777, as 0660".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::mode;

    #[test]
    fn modes_in_octal() {
        assert_eq!((mode("0660"), mode("600"), mode("0")), (Ok(0o660), Ok(0o600), Ok(0)));
        for text in ["", "rw", "0o660", "+660", "-1", "888", "1777", "77777777777777"] {
            assert!(mode(text).is_err(), "{text:?}");
        }
    }
}
