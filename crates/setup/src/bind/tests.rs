//! Binding and unbinding on folders that imitate a machine, with a kernel that does what ours does.

use super::*;
use crate::imitation::{CARD, Tree, address, device};
use crate::kernel::Kernel;
use std::cell::{Cell, RefCell};
use std::fs;
use std::io;
use std::path::Path;

/// Does what the kernel does when sysfs is written to.
pub(super) struct Imitated<'a> {
    pub(super) tree: &'a Tree,
    /// How often the kernel looks in vain for a function that was removed.
    pub(super) absent_for: Cell<u32>,
    /// The end of the path of a write that fails, which of them (0 is the first), and the errno.
    failure: RefCell<Option<(&'static str, usize, i32)>>,
    /// Does `vfio-pci` take devices?
    takes: bool,
    /// The end of the path of a block device's node that somebody has for himself alone.
    claimed: Cell<Option<&'static str>>,
    may_not_ask: Cell<bool>,
}

impl<'a> Imitated<'a> {
    pub(super) fn of(tree: &'a Tree) -> Self {
        for driver in ["vfio-pci", "xdma", "e1000e"] {
            tree.folder(&format!("sys/bus/pci/drivers/{driver}"));
        }
        Self {
            tree,
            absent_for: Cell::new(0),
            failure: RefCell::new(None),
            takes: true,
            claimed: Cell::new(None),
            may_not_ask: Cell::new(false),
        }
    }

    pub(super) fn failing(self, file: &'static str, after: usize, errno: i32) -> Self {
        *self.failure.borrow_mut() = Some((file, after, errno));
        self
    }

    pub(super) fn driver(&self, address: &str) -> Option<String> {
        self.tree.root.link_name(format!("{}/driver", device(address))).unwrap()
    }

    fn chosen(&self, address: &str) -> String {
        self.tree.root.text(format!("{}/driver_override", device(address))).unwrap().unwrap()
    }

    /// Which driver the kernel has of its own for a function.
    fn own_driver(&self, address: &str) -> Option<String> {
        self.tree.root.text(format!("{}/own_driver", device(address))).unwrap()
    }

    fn attach(&self, address: &str, driver: &str) -> io::Result<()> {
        if self.driver(address).is_some() || (driver == "vfio-pci" && !self.takes) {
            return Ok(());
        }
        self.tree.driver(address, driver);
        if driver == "vfio-pci" {
            let group = self.tree.root.link_name(format!("{}/iommu_group", device(address)))?;
            match group {
                Some(group) => self.tree.file(&format!("dev/vfio/{group}"), ""),
                None => self.attach_unsafely(address),
            }
        }
        Ok(())
    }
}

impl Imitated<'_> {
    /// A function without a group gets one that VFIO makes, and a node whose name says so.
    fn attach_unsafely(&self, address: &str) {
        self.tree.link(&format!("{}/iommu_group", device(address)), "../../../kernel/iommu_groups/7");
        self.tree.folder(&format!("sys/kernel/iommu_groups/7/devices/{address}"));
        self.tree.file("sys/kernel/iommu_groups/7/name", "vfio-noiommu\n");
        self.tree.file("dev/vfio/noiommu-7", "");
        // There is a folder, but no node of the card's own in it.
        self.tree.folder(&format!("{}/vfio-dev/vfio0", device(address)));
    }
}

impl Kernel for Imitated<'_> {
    fn write(&self, file: &Path, text: &str) -> io::Result<()> {
        let mut failure = self.failure.borrow_mut();
        if let Some((end, after, errno)) = failure.as_mut()
            && file.ends_with(*end)
        {
            if *after == 0 {
                return Err(io::Error::from_raw_os_error(*errno));
            }
            *after -= 1;
        }
        let name = |path: &Path| path.file_name().unwrap().to_string_lossy().into_owned();
        let parent = name(file.parent().unwrap());
        match &*name(file) {
            "driver_override" => {
                let chosen = if text == "\n" { "(null)\n".to_owned() } else { text.to_owned() };
                fs::write(file, chosen)
            }
            "unbind" => {
                assert_eq!(self.driver(text), Some(parent));
                self.tree.without(&format!("{}/driver", device(text)));
                Ok(())
            }
            "bind" => self.attach(text, &parent),
            "drivers_probe" => match &*self.chosen(text) {
                "(null)" => self.own_driver(text).map_or(Ok(()), |driver| self.attach(text, &driver)),
                chosen => self.attach(text, chosen),
            },
            "remove" => {
                self.tree.without(&format!("sys/bus/pci/devices/{parent}"));
                self.tree.without(&device(&parent));
                self.tree.without("dev/vfio/86");
                Ok(())
            }
            "rescan" => {
                match self.absent_for.get() {
                    0 => self.tree.function(CARD, 0x05_8000, None, Some(86)),
                    left => self.absent_for.set(left - 1),
                }
                Ok(())
            }
            other => panic!("nobody writes to {other}"),
        }
    }

    fn may_write(&self, file: &Path) -> io::Result<()> {
        match *self.failure.borrow() {
            Some((end, 0, errno)) if file.ends_with(end) => Err(io::Error::from_raw_os_error(errno)),
            _ => Ok(()),
        }
    }

    fn is_claimed(&self, node: &Path) -> io::Result<bool> {
        if self.may_not_ask.get() {
            return Err(io::Error::from_raw_os_error(rustix::io::Errno::ACCESS.raw_os_error()));
        }
        Ok(self.claimed.get().is_some_and(|claimed| node.ends_with(claimed)))
    }
}

/// A card that the kernel's own driver has, if any, in a PC with an IOMMU.
pub(super) fn pc(driver: Option<&str>) -> Tree {
    let tree = Tree::new();
    tree.pc();
    tree.function(CARD, 0x05_8000, driver, Some(86));
    if let Some(driver) = driver {
        tree.file(&format!("{}/own_driver", device(CARD)), driver);
    }
    tree
}

fn quick() -> BindOptions {
    BindOptions { patience: Duration::from_millis(30), ..BindOptions::default() }
}

fn try_bind(kernel: &Imitated<'_>, options: &BindOptions) -> Result<Bound> {
    bind_through(kernel, &kernel.tree.root, address(CARD), options)
}

#[test]
fn there_and_back_without_a_driver_of_its_own() {
    let tree = pc(None);
    let kernel = Imitated::of(&tree);
    let bound = try_bind(&kernel, &quick()).unwrap();
    assert_eq!(
        (bound.node, bound.cdev, bound.functions),
        ("/dev/vfio/86".into(), None, vec![CARD.to_owned()])
    );
    assert!(bound.udev_rule.contains(CARD), "{}", bound.udev_rule);
    assert_eq!(kernel.driver(CARD).as_deref(), Some("vfio-pci"));

    let released = unbind_through(&kernel, &tree.root, address(CARD)).unwrap();
    assert_eq!((released.driver, kernel.driver(CARD), &*kernel.chosen(CARD)), (None, None, "(null)"));
}

#[test]
fn from_a_driver_and_back_to_it() {
    let tree = pc(Some("xdma"));
    let kernel = Imitated::of(&tree);
    try_bind(&kernel, &quick()).unwrap();
    assert_eq!(kernel.driver(CARD).as_deref(), Some("vfio-pci"));
    let released = unbind_through(&kernel, &tree.root, address(CARD)).unwrap();
    assert_eq!(released.driver.as_deref(), Some("xdma"));
    // Once more changes nothing.
    assert_eq!(unbind_through(&kernel, &tree.root, address(CARD)).unwrap(), released);
}

#[test]
fn owner_and_mode_also_of_a_card_that_is_bound_already() {
    use std::os::unix::fs::MetadataExt;
    let tree = pc(None);
    let kernel = Imitated::of(&tree);
    try_bind(&kernel, &quick()).unwrap();
    let mine = tree.root.metadata("dev/vfio/86").unwrap().unwrap().uid();
    let options = BindOptions { owner: Some(mine.to_string()), mode: Some(0o640), ..quick() };
    let bound = try_bind(&kernel, &options).unwrap();
    assert_eq!(tree.root.metadata("dev/vfio/86").unwrap().unwrap().mode() & 0o777, 0o640);
    assert!(bound.udev_rule.contains("MODE=\"0640\""), "{}", bound.udev_rule);
}

#[test]
fn whatever_fails_all_is_as_it_was() {
    for driver in [None, Some("xdma")] {
        for (file, after) in [("driver_override", 0), ("unbind", 0), ("drivers_probe", 0)] {
            let tree = pc(driver);
            let kernel = Imitated::of(&tree).failing(file, after, 13);
            if file == "unbind" && driver.is_none() {
                continue;
            }
            let error = try_bind(&kernel, &quick()).unwrap_err().to_string();
            assert!(error.contains("EACCES") && error.contains("sudo") && error.contains(CARD), "{error}");
            assert_eq!(kernel.driver(CARD).as_deref(), driver, "{file}");
            assert_eq!(kernel.chosen(CARD), "(null)", "{file}");
        }
    }
}

#[test]
fn a_driver_that_does_not_take_it_gives_it_back() {
    let tree = pc(Some("xdma"));
    let kernel = Imitated { takes: false, ..Imitated::of(&tree) };
    assert!(matches!(try_bind(&kernel, &quick()), Err(Error::Refused { .. })));
    assert_eq!((kernel.driver(CARD).as_deref(), &*kernel.chosen(CARD)), (Some("xdma"), "(null)"));
}

#[test]
fn an_unbind_that_fails_leaves_it_with_vfio() {
    let tree = pc(Some("xdma"));
    try_bind(&Imitated::of(&tree), &quick()).unwrap();
    let kernel = Imitated::of(&tree).failing("drivers_probe", 0, 5);
    let error = unbind_through(&kernel, &tree.root, address(CARD)).unwrap_err().to_string();
    assert!(error.contains("EIO"), "{error}");
    assert_eq!((kernel.driver(CARD).as_deref(), &*kernel.chosen(CARD)), (Some("vfio-pci"), "vfio-pci"));
}

#[test]
fn what_cannot_be_put_back_is_said() {
    let tree = pc(Some("xdma"));
    // The second write is the one that clears it again.
    let kernel = Imitated { takes: false, ..Imitated::of(&tree) }.failing("driver_override", 1, 5);
    let error = try_bind(&kernel, &quick()).unwrap_err();
    assert!(matches!(error, Error::NotRestored { .. }), "{error}");
    let text = error.to_string();
    assert!(text.contains("did not take") && text.contains("could not be put back"), "{text}");
}

#[test]
fn a_node_that_does_not_come() {
    let tree = pc(None);
    tree.without(&format!("{}/iommu_group", device(CARD)));
    tree.file("sys/module/vfio/parameters/enable_unsafe_noiommu_mode", "Y\n");
    tree.link(&format!("{}/vfio-dev", device(CARD)), "nowhere");
    struct NoNodes<'a>(&'a Tree);
    impl Kernel for NoNodes<'_> {
        fn write(&self, file: &Path, text: &str) -> io::Result<()> {
            if file.ends_with("drivers_probe") {
                self.0.driver(text, "vfio-pci");
            }
            if file.ends_with("unbind") {
                self.0.without(&format!("{}/driver", device(text)));
            }
            Ok(())
        }

        fn is_claimed(&self, _node: &Path) -> io::Result<bool> {
            Ok(false)
        }
    }
    let error = bind_through(&NoNodes(&tree), &tree.root, address(CARD), &quick()).unwrap_err();
    assert!(matches!(error, Error::NoNode { .. }), "{error}");
    assert_eq!(tree.root.link_name(format!("{}/driver", device(CARD))).unwrap(), None);
}

#[test]
fn a_card_without_an_iommu_is_handed_over_if_the_kernel_was_told_to() {
    let tree = pc(None);
    tree.without(&format!("{}/iommu_group", device(CARD)));
    let kernel = Imitated::of(&tree);
    let error = try_bind(&kernel, &quick()).unwrap_err();
    assert!(error.to_string().contains("/sys/module/vfio/parameters/enable_unsafe_noiommu_mode"), "{error}");
    tree.file("sys/module/vfio/parameters/enable_unsafe_noiommu_mode", "Y\n");
    let bound = try_bind(&kernel, &quick()).unwrap();
    assert_eq!((bound.node, bound.cdev, bound.without_iommu), ("/dev/vfio/noiommu-7".into(), None, true));
    // Once more: only its owner and mode are set.
    assert!(try_bind(&kernel, &quick()).unwrap().without_iommu);
}

#[test]
fn no_iommu_no_driver_no_card_no_user() {
    let tree = pc(None);
    let options = BindOptions { owner: Some("nobody-here".to_owned()), ..quick() };
    let error = try_bind(&Imitated::of(&tree), &options).unwrap_err();
    assert!(error.to_string().contains("nobody-here"), "{error}");

    tree.without(&format!("{}/iommu_group", device(CARD)));
    let error = try_bind(&Imitated::of(&tree), &quick()).unwrap_err();
    assert!(matches!(error, Error::NoGroup { .. }), "{error}");

    tree.without("sys/bus/pci/drivers/vfio-pci");
    let error = bind(&tree.root, address(CARD), &quick()).unwrap_err();
    assert!(error.to_string().contains("modprobe vfio-pci"), "{error}");

    let error = bind(&tree.root, address("0000:77:00.0"), &quick()).unwrap_err();
    assert!(error.to_string().contains("0000:77:00.0"), "{error}");
}

#[test]
fn a_group_with_others_is_refused_or_taken_as_a_whole() {
    const OTHER: &str = "0000:2e:00.1";
    let tree = pc(None);
    tree.function(OTHER, 0x02_0000, Some("e1000e"), Some(86));
    tree.function("0000:00:01.0", 0x06_0400, Some("pcieport"), Some(86));
    let kernel = Imitated::of(&tree);
    let error = try_bind(&kernel, &quick()).unwrap_err().to_string();
    assert!(error.contains("0000:2e:00.1 (network interface, driver e1000e)"), "{error}");
    assert!(!error.contains("pcieport"), "{error}");
    assert_eq!(kernel.driver(CARD), None);

    let whole = BindOptions { with_group: true, ..quick() };
    tree.below(OTHER, "net", "eth7", &[("flags", "0x1003")]);
    let error = try_bind(&kernel, &whole).unwrap_err().to_string();
    assert!(error.contains("eth7 is up"), "{error}");

    tree.file("sys/class/net/eth7/flags", "0x1002");
    // The second one fails: the first is given back as well.
    let failing = Imitated::of(&tree).failing("drivers_probe", 1, 19);
    assert!(try_bind(&failing, &whole).is_err());
    assert_eq!((kernel.driver(CARD), kernel.driver(OTHER).as_deref()), (None, Some("e1000e")));

    let bound = try_bind(&kernel, &whole).unwrap();
    assert_eq!(bound.functions, [CARD, OTHER]);
    assert_eq!(kernel.driver(OTHER).as_deref(), Some("vfio-pci"));
    assert_eq!(kernel.driver("0000:00:01.0").as_deref(), Some("pcieport"));
}

#[test]
fn what_is_in_use_is_taken_only_by_force() {
    let tree = pc(Some("xdma"));
    tree.below(CARD, "block", "sda", &[("dev", "8:0")]);
    tree.file("proc/self/mountinfo", "22 1 8:0 / /data rw - ext4 /dev/sda rw\n");
    let kernel = Imitated::of(&tree);
    let error = try_bind(&kernel, &quick()).unwrap_err().to_string();
    assert!(error.contains("/dev/sda is mounted on /data") && error.contains("--force"), "{error}");
    assert_eq!(kernel.driver(CARD).as_deref(), Some("xdma"));
    try_bind(&kernel, &BindOptions { force: true, ..quick() }).unwrap();
}

#[test]
fn a_disk_of_a_pool_is_taken_only_by_force() {
    let tree = pc(Some("xdma"));
    tree.below(CARD, "block", "nvme7n1", &[("dev", "259:7")]);
    let kernel = Imitated::of(&tree);
    kernel.claimed.set(Some("dev/nvme7n1"));
    let error = try_bind(&kernel, &quick()).unwrap_err();
    assert!(matches!(error, Error::InUse { .. }), "{error}");
    assert!(error.to_string().contains("has /dev/nvme7n1 for himself alone"), "{error}");
    assert_eq!(kernel.driver(CARD).as_deref(), Some("xdma"));
    // Whoever cannot find out does not take it either.
    kernel.may_not_ask.set(true);
    let error = try_bind(&kernel, &quick()).unwrap_err().to_string();
    assert!(error.contains("EACCES") && error.contains("sudo"), "{error}");
    assert_eq!(kernel.driver(CARD).as_deref(), Some("xdma"));
    try_bind(&kernel, &BindOptions { force: true, ..quick() }).unwrap();
}

#[test]
fn a_card_that_is_held_is_not_taken_away() {
    let tree = pc(None);
    let kernel = Imitated::of(&tree);
    try_bind(&kernel, &quick()).unwrap();
    tree.process(4211, "/usr/bin/dpdk-testpmd", 1000, &["/dev/vfio/86"]);
    let error = unbind_through(&kernel, &tree.root, address(CARD)).unwrap_err().to_string();
    assert!(error.contains("pid 4211 (/usr/bin/dpdk-testpmd"), "{error}");
    assert_eq!(kernel.driver(CARD).as_deref(), Some("vfio-pci"));
}

const RULES: &str = "etc/udev/rules.d/70-jitney-0000:2e:00.0.rules";
const MODULES: &str = "etc/modules-load.d/jitney-0000:2e:00.0.conf";
const LIMITS: &str = "etc/security/limits.d/70-jitney-0000:2e:00.0.conf";

fn for_good() -> BindOptions {
    BindOptions { persist: true, owner: Some("alice".to_owned()), ..quick() }
}

/// Every file below `etc`, with what is in it.
fn etc(tree: &Tree) -> Vec<(String, String)> {
    fn collect(folder: &Path, into: &mut Vec<(String, String)>) {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                collect(&path, into);
            } else {
                into.push((path.display().to_string(), fs::read_to_string(&path).unwrap_or_default()));
            }
        }
    }
    let mut found = Vec::new();
    collect(&tree.root.path("etc"), &mut found);
    found.sort();
    found
}

/// Nodes of the tests belong to whoever runs them: root alone gives them away.
fn tree_of_alice() -> Tree {
    let tree = pc(Some("xdma"));
    let uid = rustix::process::getuid().as_raw();
    tree.file("etc/passwd", &format!("root:x:0:0::/root:/bin/sh\nalice:x:{uid}:1000::/home/alice:/bin/sh\n"));
    tree
}

#[test]
fn what_is_written_for_good_is_removed_again_and_nothing_else() {
    let tree = tree_of_alice();
    let kernel = Imitated::of(&tree);
    tree.file("etc/udev/rules.d/70-jitney-0000:2f:00.0.rules", "of another card");
    let before = etc(&tree);
    for _ in 0..2 {
        let bound = try_bind(&kernel, &for_good()).unwrap();
        assert_eq!(bound.persisted, [RULES, MODULES, LIMITS].map(|file| Path::new("/").join(file)));
        let text = |file: &str| fs::read_to_string(tree.root.path(file)).unwrap();
        assert!(
            text(RULES).contains(&bound.udev_rule) && text(RULES).contains("chown alice"),
            "{}",
            text(RULES)
        );
        assert!(text(MODULES).ends_with("\nvfio-pci\n"), "{}", text(MODULES));
        assert!(text(LIMITS).ends_with("\nalice - memlock unlimited\n"), "{}", text(LIMITS));
        // No file beside them is left.
        assert_eq!(etc(&tree).len(), before.len() + 3, "{:?}", etc(&tree));
    }
    // Without an owner there is no limit to raise, and that of the time before goes.
    let bound = try_bind(&kernel, &BindOptions { owner: None, ..for_good() }).unwrap();
    assert_eq!(bound.persisted.len(), 2);
    assert!(!tree.root.exists(LIMITS));

    let released = forget_through(&kernel, &tree.root, address(CARD)).unwrap();
    assert_eq!((released.driver.as_deref(), released.forgotten.len()), (Some("xdma"), 2));
    assert_eq!(etc(&tree), before);
    // Once more changes nothing, also when the card is gone.
    tree.without(&format!("sys/bus/pci/devices/{CARD}"));
    assert_eq!(forget_through(&kernel, &tree.root, address(CARD)).unwrap().forgotten, [] as [PathBuf; 0]);
}

#[test]
fn what_others_have_written_stays_and_the_card_too() {
    for (file, link) in [(RULES, false), (MODULES, false), (LIMITS, true), (RULES, true)] {
        let tree = tree_of_alice();
        let kernel = Imitated::of(&tree);
        if link {
            tree.file("etc/mine", "precious");
            tree.link(file, tree.root.path("etc/mine").to_str().unwrap());
        } else {
            tree.file(file, "mine\n");
        }
        let before = etc(&tree);
        let error = try_bind(&kernel, &for_good()).unwrap_err();
        assert!(matches!(&error, Error::NotOurs { file: named } if named.ends_with(file)), "{error}");
        assert_eq!((etc(&tree), kernel.driver(CARD).as_deref()), (before.clone(), Some("xdma")));
        try_bind(&kernel, &quick()).unwrap();
        assert!(matches!(forget_through(&kernel, &tree.root, address(CARD)), Err(Error::NotOurs { .. })));
        assert_eq!((etc(&tree), kernel.driver(CARD).as_deref()), (before, Some("vfio-pci")));
    }
}

#[test]
fn what_cannot_be_written_is_not_there_in_part_and_the_card_goes_back() {
    let tree = tree_of_alice();
    let kernel = Imitated::of(&tree);
    // The last of the files has no folder and gets none.
    tree.file("etc/security", "no folder");
    let before = etc(&tree);
    let error = try_bind(&kernel, &for_good()).unwrap_err().to_string();
    assert!(
        error.contains("writing /etc/security/limits.d/70-jitney") && error.contains("ENOTDIR"),
        "{error}"
    );
    assert_eq!((etc(&tree), kernel.driver(CARD).as_deref()), (before, Some("xdma")));
}

#[test]
fn a_file_that_a_killed_program_left_half_is_taken() {
    let tree = tree_of_alice();
    let beside = "etc/udev/rules.d/.70-jitney-0000:2e:00.0.rules.new";
    tree.file(beside, "ACTION==");
    try_bind(&Imitated::of(&tree), &for_good()).unwrap();
    assert!(!tree.root.exists(beside));
}

#[test]
fn a_group_is_written_as_a_whole_however_often() {
    const OTHER: &str = "0000:2e:00.1";
    let tree = tree_of_alice();
    tree.function(OTHER, 0x02_0000, Some("e1000e"), Some(86));
    let kernel = Imitated::of(&tree);
    let options = BindOptions { with_group: true, ..for_good() };
    let first = try_bind(&kernel, &options).unwrap();
    let second = try_bind(&kernel, &options).unwrap();
    assert!(first.udev_rule.contains(OTHER) && first.udev_rule.contains(CARD), "{}", first.udev_rule);
    assert_eq!(first.udev_rule, second.udev_rule);
}

#[test]
fn an_owner_who_would_be_read_as_something_else() {
    let tree = tree_of_alice();
    for name in ["a lice", "ali\"ce", "*", "@root", "a\nb", "-x", "$env"] {
        tree.file("etc/passwd", &format!("{name}:x:1000:1000::/:/bin/sh\n"));
        let options = BindOptions { owner: Some(name.to_owned()), ..for_good() };
        let error = try_bind(&Imitated::of(&tree), &options).unwrap_err();
        assert!(matches!(error, Error::OddUser { .. } | Error::NoUser { .. }), "{name:?}: {error}");
        assert!(!tree.root.exists(RULES));
    }
}
