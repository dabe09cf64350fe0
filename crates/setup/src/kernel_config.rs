//! What the running kernel was built with.

use crate::root::{Root, unseen};
use std::fs::File;
use std::io::{ErrorKind, Read};

const COMPRESSED: &str = "proc/config.gz";
/// A configuration has some 300 KB.
const LIMIT: u64 = 16 << 20;

/// The configuration of the running kernel.
#[derive(Debug, Clone)]
pub(crate) struct KernelConfig {
    text: String,
    /// The file it is from, as `proc/config.gz`.
    pub(crate) source: String,
}

impl KernelConfig {
    /// From `/boot/config-RELEASE`, else from `/proc/config.gz`; or why neither could be seen.
    pub(crate) fn read(root: &Root) -> Result<Self, String> {
        let release = root.text("proc/sys/kernel/osrelease").ok().flatten();
        let plain = release.map(|release| format!("boot/config-{release}"));
        if let Some(source) = &plain {
            match root.text(source) {
                Ok(Some(text)) => return Ok(Self { text, source: source.clone() }),
                Ok(None) => {}
                Err(error) => return Err(unseen(source, &error)),
            }
        }
        let mut text = String::new();
        let read = File::open(root.path(COMPRESSED))
            .and_then(|file| flate2::read::GzDecoder::new(file).take(LIMIT).read_to_string(&mut text));
        match read {
            Ok(_) => Ok(Self { text, source: COMPRESSED.to_owned() }),
            Err(error) if error.kind() == ErrorKind::NotFound => {
                let plain = plain.unwrap_or_else(|| "boot/config-RELEASE".to_owned());
                Err(format!("could not be seen: there is neither /{plain} nor /{COMPRESSED}"))
            }
            Err(error) => Err(unseen(COMPRESSED, &error)),
        }
    }

    /// The letter that an option has: `y` built in, `m` a module.
    fn option(&self, name: &str) -> Option<&str> {
        let line =
            |line: &'_ str| line.strip_prefix("CONFIG_")?.strip_prefix(name)?.strip_prefix('=').map(str::len);
        let found = self.text.lines().find(|text| line(text).is_some())?;
        found.split_once('=').map(|(_, letter)| letter)
    }

    pub(crate) fn lacks(&self, name: &str) -> bool {
        self.option(name).is_none()
    }

    /// Whether it says of an option that it is not set, rather than not knowing it.
    fn refuses(&self, name: &str) -> bool {
        self.text.lines().any(|line| line == format!("# CONFIG_{name} is not set"))
    }

    /// Whether the interface by group and container is built. Its own option is newer than the interface.
    pub(crate) fn has_groups(&self) -> bool {
        !self.lacks("VFIO_IOMMU_TYPE1") && !self.refuses("VFIO_GROUP")
    }

    /// Whether the interface by device and iommufd is built.
    pub(crate) fn has_devices(&self) -> bool {
        !self.lacks("IOMMUFD") && !self.lacks("VFIO_DEVICE_CDEV")
    }
}
