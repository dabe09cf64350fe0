//! The link between a card and the port above it: what the port says of it, and training it at another speed.
//!
//! A link is trained by its port (PCIe 5.0, sections 7.5.3.7 and 7.5.3.19): Link Control 2 says at which speed at most, a bit
//! of Link Control begins, and while Link Status says that it goes on nothing reaches the card.

use crate::error::{Error, Result};
use crate::express;
use crate::kernel::{Kernel, ThisKernel, wait};
use crate::neighbours::sysfs;
use crate::root::{Root, system};
use jitney_pci::express::{
    DOWNSTREAM_PORT, LINK_CONTROL, LINK_CONTROL_2, LINK_STATUS, Link, LinkControl, LinkControl2, LinkEnd,
    LinkSpeed, LinkStatus, ROOT_PORT,
};
use jitney_pci::{Address, ConfigRead};
use jitney_vfio::ErrorKind;
use jitney_vfio::sysfs::LinkRate;
use std::time::Duration;

/// How long a link may take to come up: the standard has a card answer within a second after it.
const PATIENCE: Duration = Duration::from_secs(1);

/// A port, and the link below it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Port {
    /// Where it sits.
    pub address: Address,
    /// What the link runs at.
    pub now: Link,
    /// The best that the port can.
    pub best: Link,
    /// All that it says; nothing to who is not root.
    pub end: Option<LinkEnd>,
}

/// The port above the card at `card`; none if it is on a root bus, or in a bridge that does not tell.
///
/// # Errors
/// What reading says.
pub fn port_above(root: &Root, card: Address) -> Result<Option<Port>> {
    let Some(address) = express::port(root, card) else { return Ok(None) };
    match express::config(&ThisKernel, root, address) {
        Ok((config, at)) => {
            let end = LinkEnd::at(&config, at);
            Ok(Some(Port { address, now: end.now, best: end.best, end: Some(end) }))
        }
        Err(express::Unseen::OnlyHeader { .. }) => {
            let link = sysfs(root).function(address)?.link;
            Ok(link.map(|link| Port { address, now: of(&link.current), best: of(&link.max), end: None }))
        }
        Err(unseen) => Err(Error::System(unseen.into())),
    }
}

/// A link as the kernel has it in words; one of speed 0 where the kernel does not know.
fn of(rate: &LinkRate) -> Link {
    Link { speed: rate.speed.parse().unwrap_or(LinkSpeed(0)), width: rate.width }
}

/// Has the port above `card` train its link anew, at `speed` at most, and waits until it is up. What came of it may be slower than
/// what was asked for. Needs root, and that nobody uses the card meanwhile.
///
/// # Errors
/// [`Error::NoPort`], [`Error::Speed`] if an end of the link cannot have it so fast; then nothing was changed.
/// [`Error::LinkDown`] if the link did not come up; the port was then told its old speed again, and the error says whether
/// that helped. [`Error::System`].
pub fn retrain(root: &Root, card: Address, speed: LinkSpeed) -> Result<Port> {
    retrain_through(&ThisKernel, root, card, speed, PATIENCE)
}

fn retrain_through(
    kernel: &dyn Kernel,
    root: &Root,
    card: Address,
    speed: LinkSpeed,
    patience: Duration,
) -> Result<Port> {
    let address = express::port(root, card).ok_or(Error::NoPort { address: card })?;
    let (config, at) = express::config(kernel, root, address).map_err(jitney_vfio::Error::from)?;
    let end = LinkEnd::at(&config, at);
    if !matches!(end.port_type, ROOT_PORT | DOWNSTREAM_PORT) {
        return Err(Error::NoPort { address: card });
    }
    // A card that does not answer now may do so at another speed.
    let own = express::config(kernel, root, card).ok();
    let card_end = own.map(|(config, at)| LinkEnd::at(&config, at));
    for (address, end) in [(address, Some(end)), (card, card_end)] {
        if let Some(end) = end
            && !end.speeds().any(|own| own == speed)
        {
            return Err(Error::Speed { address, wanted: speed, speeds: end.speeds().collect() });
        }
    }
    let training = Training { kernel, root, port: address, at, card, patience };
    match training.at_most(speed)? {
        Some(now) => Ok(Port { address, now, best: end.best, end: Some(training.end()?) }),
        None => {
            let before = end.target;
            let restored = training.at_most(before)?;
            Err(Error::LinkDown { port: address, card, wanted: speed, before, restored })
        }
    }
}

/// A port whose link is trained.
struct Training<'a> {
    kernel: &'a dyn Kernel,
    root: &'a Root,
    port: Address,
    /// Where its capability is.
    at: u16,
    card: Address,
    patience: Duration,
}

impl Training<'_> {
    /// Trains at `speed` at most, and returns the link that came of it; none if none did.
    fn at_most(&self, speed: LinkSpeed) -> Result<Option<Link>> {
        // What is begun while it is trained already may be missed.
        let quiet = || Ok((!self.status()?.training()).then_some(()));
        wait(self.patience, quiet)?;
        let config = self.config()?;
        let Ok(control) = config.as_slice().read16(self.at + LINK_CONTROL_2);
        let control = LinkControl2::from(control).with_target(speed.0);
        self.write(LINK_CONTROL_2, control.into())?;
        let Ok(control) = config.as_slice().read16(self.at + LINK_CONTROL);
        self.write(LINK_CONTROL, LinkControl::from(control).with_retrain(true).into())?;
        // It may come up slower first, and change its speed then.
        let as_fast = || Ok(self.link()?.filter(|link| link.speed == speed));
        match wait(self.patience, as_fast)? {
            Some(link) => Ok(Some(link)),
            None => self.link(),
        }
    }

    /// The link, if it is up and the card answers. What else a port reports of that (Data Link Layer Link Active) is not looked
    /// at: there are ports that never set it, and an answer says more.
    fn link(&self) -> Result<Option<Link>> {
        let status = self.status()?;
        if status.training() || status.width() == 0 {
            return Ok(None);
        }
        let answer = self.kernel.read_config(&self.root.path(express::file(self.card)));
        let answers = answer.is_ok_and(|bytes| bytes.get(..2).is_some_and(|vendor| vendor != [0xff; 2]));
        Ok(answers.then(|| status.link()))
    }

    fn end(&self) -> Result<LinkEnd> {
        Ok(LinkEnd::at(&self.config()?, self.at))
    }

    fn status(&self) -> Result<LinkStatus> {
        let Ok(status) = self.config()?.as_slice().read16(self.at + LINK_STATUS);
        Ok(status.into())
    }

    fn config(&self) -> Result<Vec<u8>> {
        let (config, _) =
            express::config(self.kernel, self.root, self.port).map_err(jitney_vfio::Error::from)?;
        Ok(config)
    }

    fn write(&self, register: u16, value: u16) -> Result<()> {
        let file = express::file(self.port);
        let offset = self.at + register;
        self.kernel.write_register(&self.root.path(&file), offset, value).map_err(|error| {
            let error = system(format_args!("writing {value:#06x} to /{file} at {offset:#x}"), &error);
            let remedy = match error.kind() {
                ErrorKind::Denied => {
                    "only root may do this: put sudo in front of the command; where that does not help, the kernel is locked down \
                     (cat /sys/kernel/security/lockdown)"
                }
                _ => "sudo dmesg | tail may say more",
            };
            Error::System(error.with_remedy(remedy))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::imitation::{CARD, Tree, address, device};
    use jitney_pci::express::{CAPABILITIES, LINK_CAPABILITIES, LINK_CAPABILITIES_2, LinkCapabilities};
    use std::cell::{Cell, RefCell};
    use std::io;
    use std::path::Path;

    const PORT: &str = "0000:00:1c.0";
    /// Where [`Tree::express`] puts the capability.
    const AT: u16 = 0x70;
    const QUICK: Duration = Duration::from_millis(30);

    /// A port that trains its link when it is told to.
    struct Imitated<'a> {
        tree: &'a Tree,
        /// The fastest at which the link comes up; if it is 2 at least it does so also when told to be faster.
        fastest: u8,
        /// How often it is looked at while it trains.
        left: Cell<u32>,
        /// The speeds that it was trained at.
        trained: RefCell<Vec<u8>>,
        errno: Option<i32>,
    }

    impl<'a> Imitated<'a> {
        fn of(tree: &'a Tree, fastest: u8) -> Self {
            let (left, trained) = (Cell::new(0), RefCell::default());
            Self { tree, fastest, left, trained, errno: None }
        }

        fn bytes(&self, function: &str) -> Vec<u8> {
            std::fs::read(self.tree.root.path(format!("{}/config", device(function)))).unwrap()
        }

        fn set(&self, function: &str, offset: u16, value: u16) {
            let mut bytes = self.bytes(function);
            let at = usize::from(offset);
            bytes[at..at + 2].copy_from_slice(&value.to_le_bytes());
            self.tree.config(function, &bytes);
        }

        fn target(&self) -> u8 {
            let Ok(control) = self.bytes(PORT).as_slice().read16(AT + LINK_CONTROL_2);
            LinkControl2::from(control).target()
        }

        fn retrain(&self, speed: u8) -> Result<Port> {
            retrain_through(self, &self.tree.root, address(CARD), LinkSpeed(speed), QUICK)
        }
    }

    impl Kernel for Imitated<'_> {
        fn write(&self, file: &Path, _text: &str) -> io::Result<()> {
            panic!("nobody writes to {}", file.display())
        }

        fn is_claimed(&self, _node: &Path) -> io::Result<bool> {
            Ok(false)
        }

        fn read_config(&self, config: &Path) -> io::Result<Vec<u8>> {
            if config.to_string_lossy().contains(PORT) && self.left.get() > 0 {
                self.left.set(self.left.get() - 1);
                if self.left.get() == 0 {
                    let target = self.target();
                    let is_up = target <= self.fastest || self.fastest > 1;
                    let speed = target.min(self.fastest);
                    let up = LinkStatus::new().with_speed(speed).with_width(4);
                    let now = if is_up { up } else { LinkStatus::new().with_training(true) };
                    self.set(PORT, AT + LINK_STATUS, now.into());
                    self.set(CARD, 0, if is_up { 0x10ee } else { 0xffff });
                }
            }
            std::fs::read(config)
        }

        fn write_register(&self, config: &Path, offset: u16, value: u16) -> io::Result<()> {
            assert!(config.to_string_lossy().contains(PORT), "the port alone is told");
            if let Some(errno) = self.errno {
                return Err(io::Error::from_raw_os_error(errno));
            }
            if offset == AT + LINK_CONTROL_2 {
                self.set(PORT, offset, value);
                return Ok(());
            }
            assert_eq!((offset, LinkControl::from(value).retrain()), (AT + LINK_CONTROL, true));
            assert_eq!(value & !0x20, 0x0040, "the other bits stay");
            self.trained.borrow_mut().push(self.target());
            self.set(PORT, AT + LINK_STATUS, LinkStatus::new().with_training(true).into());
            self.left.set(3);
            Ok(())
        }
    }

    /// A card with 8 GT/s on a port with 16 GT/s, whose link runs at 2.5 GT/s on four lanes.
    fn machine() -> Tree {
        let tree = Tree::new();
        tree.function(PORT, 0x06_0400, Some("pcieport"), None);
        tree.function(CARD, 0x05_8000, Some("vfio-pci"), Some(86));
        tree.behind(PORT, CARD);
        for (function, port_type, best) in [(PORT, ROOT_PORT, 4), (CARD, 0, 3_u8)] {
            let mut config = [0; 256];
            config[..2].copy_from_slice(&[0xee, 0x10]);
            (config[0x06], config[0x34], config[0x70]) = (0x10, 0x70, 0x10);
            let mut put = |register: u16, bytes: &[u8]| {
                let at = usize::from(AT + register);
                config[at..at + bytes.len()].copy_from_slice(bytes);
            };
            put(CAPABILITIES, &[port_type << 4 | 2]);
            let capabilities = LinkCapabilities::new().with_speed(best).with_width(8);
            put(LINK_CAPABILITIES, &u32::from(capabilities).to_le_bytes());
            put(LINK_CONTROL, &[0x40]);
            let status = LinkStatus::new().with_speed(1).with_width(4);
            put(LINK_STATUS, &u16::from(status).to_le_bytes());
            put(LINK_CAPABILITIES_2, &[((1 << best) - 1) << 1]);
            put(LINK_CONTROL_2, &[1, 0x12]);
            tree.config(function, &config);
        }
        tree
    }

    #[test]
    fn what_the_port_says() {
        let tree = machine();
        let port = port_above(&tree.root, address(CARD)).unwrap().unwrap();
        assert_eq!((port.address.to_string().as_str(), port.now.to_string()), (PORT, "2.5 GT/s x4".into()));
        assert_eq!((port.best.to_string(), port.end.unwrap().payload), ("16 GT/s x8".into(), 128));
        // Who is not root sees the header, and what the kernel says beside.
        tree.config(PORT, &[0; 64]);
        let port = port_above(&tree.root, address(CARD)).unwrap().unwrap();
        assert_eq!((port.now.to_string(), port.end), ("8 GT/s x4".into(), None));
        let alone = Tree::new();
        alone.function(CARD, 0x05_8000, None, None);
        assert_eq!(port_above(&alone.root, address(CARD)).unwrap(), None);
    }

    #[test]
    fn a_link_becomes_faster_and_slower() {
        let tree = machine();
        let kernel = Imitated::of(&tree, 3);
        let port = kernel.retrain(3).unwrap();
        assert_eq!((port.now.to_string(), port.end.unwrap().target), ("8 GT/s x4".into(), LinkSpeed(3)));
        assert_eq!(kernel.retrain(1).unwrap().now.to_string(), "2.5 GT/s x4");
        assert_eq!(*kernel.trained.borrow(), [3, 1]);
        let Ok(control) = kernel.bytes(PORT).as_slice().read16(AT + LINK_CONTROL_2);
        assert_eq!(control, 0x1201, "the other bits stay");
    }

    #[test]
    fn a_link_is_up_if_nothing_says_otherwise() {
        let tree = machine();
        let kernel = Imitated::of(&tree, 3);
        let (port, card, patience) = (address(PORT), address(CARD), QUICK);
        let training = Training { kernel: &kernel, root: &tree.root, port, at: AT, card, patience };
        let is_up = |status: LinkStatus, vendor: u16| {
            kernel.set(PORT, AT + LINK_STATUS, status.into());
            kernel.set(CARD, 0, vendor);
            training.link().unwrap().is_some()
        };
        let up = LinkStatus::new().with_speed(1).with_width(4);
        assert!(is_up(up, 0x10ee));
        assert!(!is_up(up, 0xffff), "the card does not answer");
        assert!(!is_up(up.with_training(true), 0x10ee));
        assert!(!is_up(up.with_width(0), 0x10ee));
    }

    #[test]
    fn a_link_that_comes_up_slower_is_no_failure() {
        let tree = machine();
        assert_eq!(Imitated::of(&tree, 2).retrain(3).unwrap().now.to_string(), "5 GT/s x4");
    }

    #[test]
    fn a_link_that_stays_down_gets_its_speed_back() {
        let tree = machine();
        let kernel = Imitated::of(&tree, 1);
        let error = kernel.retrain(3).unwrap_err();
        let Error::LinkDown { restored: Some(link), .. } = &error else { panic!("{error}") };
        assert_eq!((link.to_string().as_str(), &kernel.trained.borrow()[..]), ("2.5 GT/s x4", &[3, 1][..]));
        assert!(error.to_string().contains("it is up again at 2.5 GT/s x4"), "{error}");
    }

    #[test]
    fn a_link_that_is_lost_is_said_to_be() {
        let tree = machine();
        let kernel = Imitated::of(&tree, 0);
        let error = kernel.retrain(2).unwrap_err();
        assert!(matches!(error, Error::LinkDown { restored: None, .. }), "{error}");
        assert!(error.to_string().contains("it is still down"), "{error}");
        assert_eq!(*kernel.trained.borrow(), [2, 1]);
    }

    #[test]
    fn what_cannot_be_is_refused_and_nothing_is_written() {
        let tree = machine();
        let kernel = Imitated::of(&tree, 3);
        let error = kernel.retrain(4).unwrap_err();
        assert_eq!(
            error.to_string(),
            format!("{CARD} cannot have its link at 16 GT/s; it can 2.5 GT/s, 5 GT/s, 8 GT/s")
        );
        assert!(kernel.retrain(5).unwrap_err().to_string().starts_with(PORT));
        let denied = Imitated { errno: Some(13), ..Imitated::of(&tree, 3) };
        let error = denied.retrain(3).unwrap_err().to_string();
        assert!(error.contains("EACCES") && error.contains("sudo"), "{error}");
        tree.config(PORT, &[0; 64]);
        let error = kernel.retrain(3).unwrap_err().to_string();
        assert!(error.contains("first 64 bytes") && error.contains("sudo"), "{error}");
        assert!(kernel.trained.borrow().is_empty());
        let alone = Tree::new();
        alone.function(CARD, 0x05_8000, None, None);
        let error = Imitated::of(&alone, 3).retrain(3).unwrap_err();
        assert!(matches!(error, Error::NoPort { .. }), "{error}");
    }
}
