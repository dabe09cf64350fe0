//! One function on its way from driver to driver.

use crate::error::Result;
use crate::kernel::Kernel;
use crate::root::{Root, system};
use jitney_pci::Address;
use jitney_vfio::ErrorKind;

/// What `driver_override` says when nothing was written to it.
const NO_OVERRIDE: &str = "(null)";

/// A function, and how it was.
#[derive(Debug, Clone)]
pub(super) struct Function<'a> {
    root: &'a Root,
    address: Address,
    driver: Option<String>,
    /// What `driver_override` said.
    chosen: String,
}

impl<'a> Function<'a> {
    pub(super) fn remember(root: &'a Root, address: Address) -> Result<Self> {
        let mut function = Self { root, address, driver: None, chosen: String::new() };
        let file = function.file("driver_override");
        let chosen = root.text(&file).map_err(|error| system(format_args!("reading /{file}"), &error))?;
        function.chosen = chosen.filter(|chosen| chosen != NO_OVERRIDE).unwrap_or_default();
        function.driver = function.driver()?;
        Ok(function)
    }

    pub(super) const fn address(&self) -> Address {
        self.address
    }

    /// The driver that has it now.
    pub(super) fn driver(&self) -> Result<Option<String>> {
        let link = self.file("driver");
        Ok(self.root.link_name(&link).map_err(|error| system(format_args!("reading /{link}"), &error))?)
    }

    /// From its driver to `vfio-pci`. Whether that took it is to be seen.
    pub(super) fn hand_over(&self, kernel: &dyn Kernel) -> Result<()> {
        self.write(kernel, &self.file("driver_override"), "vfio-pci")?;
        self.take_from_driver(kernel)?;
        self.probe(kernel)
    }

    /// From `vfio-pci` to the driver that the kernel has for it, if it has one.
    pub(super) fn give_back(&self, kernel: &dyn Kernel) -> Result<()> {
        if self.driver.as_deref() == Some("vfio-pci") {
            self.take_from_driver(kernel)?;
        }
        self.choose(kernel, "")?;
        match self.driver()? {
            None => self.probe(kernel),
            Some(_) => Ok(()),
        }
    }

    /// To what it was when it was remembered.
    pub(super) fn put_back(&self, kernel: &dyn Kernel) -> Result<()> {
        if self.driver()? != self.driver {
            self.take_from_driver(kernel)?;
        }
        self.choose(kernel, &self.chosen)?;
        match &self.driver {
            Some(driver) if self.driver()?.is_none() => {
                let bind = format!("sys/bus/pci/drivers/{driver}/bind");
                self.write(kernel, &bind, &self.address.to_string())
            }
            _ => Ok(()),
        }
    }

    fn take_from_driver(&self, kernel: &dyn Kernel) -> Result<()> {
        let Some(driver) = self.driver()? else { return Ok(()) };
        self.write(kernel, &format!("sys/bus/pci/drivers/{driver}/unbind"), &self.address.to_string())
    }

    fn choose(&self, kernel: &dyn Kernel, driver: &str) -> Result<()> {
        let file = self.file("driver_override");
        let now = self.root.text(&file).map_err(|error| system(format_args!("reading /{file}"), &error))?;
        if now.filter(|now| now != NO_OVERRIDE).unwrap_or_default() == driver {
            return Ok(());
        }
        // An empty line clears it; a write of nothing does not reach the kernel.
        self.write(kernel, &file, &format!("{driver}\n"))
    }

    fn probe(&self, kernel: &dyn Kernel) -> Result<()> {
        self.write(kernel, "sys/bus/pci/drivers_probe", &self.address.to_string())
    }

    fn write(&self, kernel: &dyn Kernel, file: &str, text: &str) -> Result<()> {
        kernel.write(&self.root.path(file), text).map_err(|error| {
            let what = format!("writing {:?} to /{file} for {}", text.trim(), self.address);
            let error = system(what, &error);
            match error.kind() {
                ErrorKind::Denied => {
                    error.with_remedy("only root may do this: put sudo in front of the command").into()
                }
                _ => error.with_remedy("sudo dmesg | tail may say more").into(),
            }
        })
    }

    fn file(&self, name: &str) -> String {
        format!("sys/bus/pci/devices/{}/{name}", self.address)
    }
}
