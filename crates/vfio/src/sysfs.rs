//! Which PCI functions the machine has, as sysfs describes them.
//!
//! Read from `/sys/bus/pci/devices` (kernel documentation: ABI/testing/sysfs-bus-pci). Nothing is opened or changed, and
//! no permission is needed.

#[cfg(test)]
pub(crate) mod fake;
mod numa;
mod vfio;

use crate::error::{Error, ErrorKind, Result};
use jitney_pci::Address;
use rustix::fs::{CWD, Mode, OFlags, openat, readlinkat};
use rustix::io::{Errno, read};
use std::ffi::OsStr;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::{fmt, fs};

/// What the kernel says in one file at most: a page (kernel documentation, filesystems/sysfs).
const PAGE: usize = 4096;

/// The sysfs of a machine.
#[derive(Debug, Clone)]
pub struct Sysfs {
    root: PathBuf,
}

/// A PCI function as sysfs describes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PciFunction {
    /// Where it sits.
    pub address: Address,
    /// Vendor id.
    pub vendor: u16,
    /// Device id.
    pub device: u16,
    /// Subsystem vendor id.
    pub subsystem_vendor: u16,
    /// Subsystem device id.
    pub subsystem_device: u16,
    /// Revision id.
    pub revision: u8,
    /// Class code: base class, sub-class and programming interface, as `0x058000`.
    pub class: u32,
    /// The driver that it is bound to, such as `vfio-pci`.
    pub driver: Option<String>,
    /// Its IOMMU group; none if the IOMMU is off.
    pub iommu_group: Option<u32>,
    /// Sizes of its BARs in bytes; 0 if one is not there.
    pub bars: [u64; 6],
    /// Its link; none for a function without one, as inside of a root complex.
    pub link: Option<LinkInfo>,
    /// The NUMA node that it is near to; none if the kernel does not know.
    pub numa_node: Option<u32>,
}

/// A PCIe link: what it runs at, and what the function could do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LinkInfo {
    /// What it runs at.
    pub current: LinkRate,
    /// The most that the function can do.
    pub max: LinkRate,
}

/// Speed and width of a link.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LinkRate {
    /// As the kernel writes it: `8.0 GT/s PCIe`, or `Unknown`.
    pub speed: String,
    /// Number of lanes; 0 if the link is down.
    pub width: u8,
}

impl fmt::Display for LinkRate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} x{}", self.speed.trim_end_matches(" PCIe"), self.width)
    }
}

impl Default for Sysfs {
    /// That of this machine.
    fn default() -> Self {
        Self::new("/sys")
    }
}

impl Sysfs {
    /// The one that is mounted at `root`; tests give a directory of their own.
    #[must_use]
    pub fn new(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into() }
    }

    /// The slots of the machine: what is written on each, and the device in it, as `0000:2e:00`. Empty where the kernel does not
    /// tell.
    #[must_use]
    pub fn slots(&self) -> Vec<(String, String)> {
        let Ok(entries) = fs::read_dir(self.root.join("bus/pci/slots")) else { return Vec::new() };
        let slot = |entry: fs::DirEntry| {
            let device = fs::read_to_string(entry.path().join("address")).ok()?;
            Some((entry.file_name().into_string().ok()?, device.trim().to_owned()))
        };
        entries.filter_map(|entry| slot(entry.ok()?)).collect()
    }

    /// All functions, in the order of their addresses. A machine without PCI has none. One that is unplugged while it
    /// is read is left out.
    ///
    /// # Errors
    /// A file that cannot be read, or that does not say what the kernel's documentation promises.
    pub fn functions(&self) -> Result<Vec<PciFunction>> {
        self.functions_if(|_| Ok(true))
    }

    /// Those of the functions whose directory `is_wanted`: of the others nothing else is read.
    fn functions_if(&self, is_wanted: impl Fn(&Directory<'_>) -> Result<bool>) -> Result<Vec<PciFunction>> {
        let directory = self.root.join("bus/pci/devices");
        let entries = match fs::read_dir(&directory) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries.map_err(|error| unreadable(&directory, &error))?,
        };
        let mut functions = Vec::new();
        for entry in entries {
            let name = entry.map_err(|error| unreadable(&directory, &error))?.file_name();
            let address = name.to_string_lossy();
            let address = address.parse().map_err(|_| misread(&directory, &address))?;
            match self.function_if(address, &is_wanted) {
                Err(error) if error.kind() == ErrorKind::NotFound => {
                    tracing::debug!(%address, %error, "the function went away");
                }
                function => functions.extend(function?),
            }
        }
        functions.sort_by_key(|function| function.address);
        Ok(functions)
    }

    /// The function at `address`.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] if there is none; else as [`functions`](Self::functions).
    pub fn function(&self, address: Address) -> Result<PciFunction> {
        let there = self.function_if(address, &|_| Ok(true))?;
        there.ok_or_else(|| no_function(address))
    }

    fn function_if(
        &self,
        address: Address,
        is_wanted: &impl Fn(&Directory<'_>) -> Result<bool>,
    ) -> Result<Option<PciFunction>> {
        let path = self.root.join("bus/pci/devices").join(address.to_string());
        let Some(function) = Directory::open(&path)? else { return Err(no_function(address)) };
        if !is_wanted(&function)? {
            return Ok(None);
        }
        Ok(Some(PciFunction {
            address,
            vendor: function.number("vendor")?,
            device: function.number("device")?,
            subsystem_vendor: function.number("subsystem_vendor")?,
            subsystem_device: function.number("subsystem_device")?,
            revision: function.number("revision")?,
            class: function.number("class")?,
            driver: function.link_name("driver")?,
            iommu_group: match function.link_name("iommu_group")? {
                Some(group) => Some(group.parse().map_err(|_| misread(&path.join("iommu_group"), &group))?),
                None => None,
            },
            bars: function.bars()?,
            link: function.link()?,
            numa_node: function.numa_node()?,
        }))
    }
}

fn no_function(address: Address) -> Error {
    let what = format!("there is no PCI function {address}");
    Error::new(ErrorKind::NotFound, what).with_remedy("lspci -D lists those there are")
}

/// A directory, of one function for instance. It is open: a machine has hundreds of functions with a dozen files each, and each
/// system call that a file does not take is saved thousands of times.
struct Directory<'a> {
    path: &'a Path,
    fd: OwnedFd,
}

impl<'a> Directory<'a> {
    /// Nothing if it is not there.
    fn open(path: &'a Path) -> Result<Option<Self>> {
        match openat(CWD, path, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty()) {
            Ok(fd) => Ok(Some(Self { path, fd })),
            Err(Errno::NOENT) => Ok(None),
            Err(errno) => Err(unreadable(path, &errno.into())),
        }
    }

    fn text(&self, file: &str) -> Result<String> {
        let failed = |errno: Errno| unreadable(&self.path.join(file), &errno.into());
        let file_fd =
            openat(&self.fd, file, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()).map_err(failed)?;
        let mut page = [0; PAGE];
        // The kernel makes the text of a file when it is read, and gives all of it at once.
        let length = read(&file_fd, &mut page).map_err(failed)?;
        match str::from_utf8(&page[..length]) {
            Ok(text) => Ok(text.trim().to_owned()),
            Err(_) => Err(misread(&self.path.join(file), &String::from_utf8_lossy(&page[..length]))),
        }
    }

    /// Like [`text`](Self::text); nothing if the file is not there.
    fn text_if_any(&self, file: &str) -> Result<Option<String>> {
        match self.text(file) {
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            text => text.map(Some),
        }
    }

    /// A number as the kernel writes ids: `0x10ee`.
    fn number<N: TryFrom<u64>>(&self, file: &str) -> Result<N> {
        let text = self.text(file)?;
        hex(&text)
            .and_then(|number| N::try_from(number).ok())
            .ok_or_else(|| misread(&self.path.join(file), &text))
    }

    /// The last part of what a symbolic link leads to; nothing if there is no such link.
    fn link_name(&self, file: &str) -> Result<Option<String>> {
        match readlinkat(&self.fd, file, [0_u8; 256]) {
            Ok(target) => {
                let target = Path::new(OsStr::from_bytes(target.to_bytes()));
                Ok(target.file_name().map(|name| name.to_string_lossy().into_owned()))
            }
            Err(Errno::NOENT) => Ok(None),
            Err(errno) => Err(unreadable(&self.path.join(file), &errno.into())),
        }
    }

    /// The first six lines of `resource`: first address, last address and flags of each BAR, all 0 for one that is not
    /// there.
    fn bars(&self) -> Result<[u64; 6]> {
        let text = self.text("resource")?;
        let mut sizes = [0; 6];
        for (size, line) in sizes.iter_mut().zip(text.lines()) {
            *size = bar_size(line).ok_or_else(|| misread(&self.path.join("resource"), line))?;
        }
        Ok(sizes)
    }

    fn link(&self) -> Result<Option<LinkInfo>> {
        let Some(current) = self.rate("current_link_speed", "current_link_width")? else { return Ok(None) };
        let max = self.rate("max_link_speed", "max_link_width")?;
        Ok(max.map(|max| LinkInfo { current, max }))
    }

    fn rate(&self, speed: &str, width: &str) -> Result<Option<LinkRate>> {
        let Some(speed) = self.text_if_any(speed)? else { return Ok(None) };
        let Some(lanes) = self.text_if_any(width)? else { return Ok(None) };
        // A width that the kernel cannot read is written as 255 ("unknown").
        match u8::from_str(&lanes) {
            Ok(255) => Ok(None),
            Ok(width) => Ok(Some(LinkRate { speed, width })),
            Err(_) => Err(misread(&self.path.join(width), &lanes)),
        }
    }
}

fn hex(text: &str) -> Option<u64> {
    u64::from_str_radix(text.strip_prefix("0x")?, 16).ok()
}

fn bar_size(line: &str) -> Option<u64> {
    let mut numbers = line.split_ascii_whitespace().map(hex);
    match (numbers.next()??, numbers.next()??, numbers.next()??) {
        (0, 0, _) => Some(0),
        (first, last, _) => last.checked_sub(first)?.checked_add(1),
    }
}

fn unreadable(path: &Path, error: &io::Error) -> Error {
    let what = format!("reading {}", path.display());
    match Errno::from_io_error(error) {
        Some(errno) => Error::from_errno(errno, what),
        None => Error::new(ErrorKind::System, format!("{what}: {error}")),
    }
}

fn misread(path: &Path, text: &str) -> Error {
    Error::new(ErrorKind::Protocol, format!("{} does not say what it should: {text:?}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::symlink;

    fn add(root: &Path, address: &str, files: &[(&str, &str)]) -> PathBuf {
        let path = root.join("bus/pci/devices").join(address);
        fs::create_dir_all(&path).unwrap();
        for (file, text) in files {
            fs::write(path.join(file), format!("{text}\n")).unwrap();
        }
        path
    }

    const RESOURCE: &str = "\
0x00000000f7a00000 0x00000000f7afffff 0x0000000000040200
0x0000000000000000 0x0000000000000000 0x0000000000000000
0x00000000f7b00000 0x00000000f7b0ffff 0x0000000000040200
0x0000000000000000 0x0000000000000000 0x0000000000000000
0x0000000000000000 0x0000000000000000 0x0000000000000000
0x0000000000000000 0x0000000000000000 0x0000000000000000
0x00000000f7c00000 0x00000000f7c0ffff 0x0000000000046200";

    const IDS: [(&str, &str); 7] = [
        ("vendor", "0x10ee"),
        ("device", "0x7011"),
        ("subsystem_vendor", "0x10ee"),
        ("subsystem_device", "0x0007"),
        ("revision", "0x00"),
        ("class", "0x058000"),
        ("resource", RESOURCE),
    ];

    const LINK: [(&str, &str); 4] = [
        ("current_link_speed", "5.0 GT/s PCIe"),
        ("current_link_width", "4"),
        ("max_link_speed", "8.0 GT/s PCIe"),
        ("max_link_width", "8"),
    ];

    #[test]
    fn reads_what_the_kernel_writes() {
        let root = tempfile::tempdir().unwrap();
        add(root.path(), "0000:2e:00.0", &IDS);
        let first = add(root.path(), "0000:01:00.0", &[&IDS[..], &LINK].concat());
        symlink("../../../../bus/pci/drivers/vfio-pci", first.join("driver")).unwrap();
        symlink("../../../kernel/iommu_groups/86", first.join("iommu_group")).unwrap();

        let found = Sysfs::new(root.path()).functions().unwrap();
        assert_eq!(found.len(), 2);
        let [first, second] = &found[..] else { unreachable!() };
        assert_eq!(first.address.to_string(), "0000:01:00.0");
        assert_eq!((first.vendor, first.device, first.subsystem_device), (0x10ee, 0x7011, 7));
        assert_eq!((first.class, first.revision), (0x05_8000, 0));
        assert_eq!(first.driver.as_deref(), Some("vfio-pci"));
        assert_eq!(first.iommu_group, Some(86));
        assert_eq!(first.bars, [0x10_0000, 0, 0x1_0000, 0, 0, 0]);
        let link = first.link.as_ref().unwrap();
        assert_eq!(link.current.to_string(), "5.0 GT/s x4");
        assert_eq!(link.max.to_string(), "8.0 GT/s x8");
        assert_eq!((&second.driver, second.iommu_group, &second.link), (&None, None, &None));
    }

    #[test]
    fn a_machine_without_pci_has_no_functions() {
        let root = tempfile::tempdir().unwrap();
        assert_eq!(Sysfs::new(root.path()).functions().unwrap(), []);
    }

    #[test]
    fn names_the_file_that_makes_no_sense() {
        for (file, text) in [("vendor", "10ee"), ("device", "0x1ffff"), ("resource", "0x10 0x0 0x0")] {
            let root = tempfile::tempdir().unwrap();
            let path = add(root.path(), "0000:01:00.0", &IDS);
            fs::write(path.join(file), text).unwrap();
            let error = Sysfs::new(root.path()).functions().unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Protocol);
            assert!(error.to_string().contains(&format!("0000:01:00.0/{file}")), "{error}");
        }
    }

    #[test]
    fn a_function_that_is_not_there_is_named() {
        let root = tempfile::tempdir().unwrap();
        let error = Sysfs::new(root.path()).function("0000:2e:00.0".parse().unwrap()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NotFound);
        assert!(error.to_string().contains("0000:2e:00.0"), "{error}");
    }

    #[test]
    fn sizes_do_not_overflow() {
        assert_eq!(bar_size("0x0000000000000000 0xffffffffffffffff 0x200"), None);
        assert_eq!(bar_size("0x0 0xfff 0x200"), Some(0x1000));
        assert_eq!(bar_size("0x1000 0x1fff"), None);
    }
}
