//! Does the card's link run at what the card can do?

use super::report::Check;
use jitney_vfio::sysfs::{LinkRate, PciFunction};

const NAME: &str = "link";

pub(super) fn check(card: &PciFunction) -> Check {
    let check = match &card.link {
        None => Check::unknown(NAME, "the kernel does not tell its speed and width"),
        Some(link) if link.current.width == 0 => Check::missing(
            NAME,
            "down",
            "load the card's design, then: echo 1 | sudo tee /sys/bus/pci/rescan; or reboot without a power cycle",
        ),
        Some(link) => {
            let (current, max) = (&link.current, &link.max);
            if current.width < max.width || is_slower(current, max) {
                Check::warning(
                    NAME,
                    format!("{current}, the card can {max}; transfers are slower than they could be"),
                    "try a slot with more lanes, without a riser, and its speed in the BIOS; an idle link may also save power",
                )
            } else {
                Check::good(NAME, format!("{current}, all that the card can"))
            }
        }
    };
    check.of(card.address)
}

/// By the number of GT/s. Speeds that the kernel does not know are not compared.
fn is_slower(current: &LinkRate, max: &LinkRate) -> bool {
    let speed =
        |rate: &LinkRate| rate.speed.split_whitespace().next().and_then(|number| number.parse::<f64>().ok());
    matches!((speed(current), speed(max)), (Some(current), Some(max)) if current < max)
}
