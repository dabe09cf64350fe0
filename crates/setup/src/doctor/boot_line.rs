//! How the kernel's command line is changed on this distribution.

use crate::root::Root;

/// The command that adds `arguments` to the kernel's command line, for good.
pub(super) fn add(root: &Root, arguments: &str) -> String {
    match boot_loader(root) {
        BootLoader::UpdateGrub => format!(
            "sudo sed -i 's/^GRUB_CMDLINE_LINUX=\"/&{arguments} /' /etc/default/grub && sudo update-grub && sudo reboot"
        ),
        BootLoader::Grubby => {
            format!("sudo grubby --update-kernel=ALL --args=\"{arguments}\" && sudo reboot")
        }
        BootLoader::Other => {
            format!("add {arguments} to the kernel's command line in the boot loader, and reboot")
        }
    }
}

/// The command that removes `argument` from the kernel's command line.
pub(super) fn remove(root: &Root, argument: &str) -> String {
    match boot_loader(root) {
        BootLoader::UpdateGrub => {
            format!("sudo sed -i 's/\\b{argument}\\b//' /etc/default/grub && sudo update-grub && sudo reboot")
        }
        BootLoader::Grubby => {
            format!("sudo grubby --update-kernel=ALL --remove-args=\"{argument}\" && sudo reboot")
        }
        BootLoader::Other => {
            format!("remove {argument} from the kernel's command line in the boot loader, and reboot")
        }
    }
}

enum BootLoader {
    /// Debian and those that descend from it.
    UpdateGrub,
    /// RHEL, Fedora and their like.
    Grubby,
    Other,
}

/// By the names in `/etc/os-release`; os-release(5).
fn boot_loader(root: &Root) -> BootLoader {
    let text = root.text("etc/os-release").ok().flatten().unwrap_or_default();
    let names = text.lines().filter_map(|line| line.strip_prefix("ID=").or(line.strip_prefix("ID_LIKE=")));
    for name in names.flat_map(|names| names.trim_matches('"').split(' ')) {
        match name {
            "debian" | "ubuntu" => return BootLoader::UpdateGrub,
            "rhel" | "fedora" | "centos" => return BootLoader::Grubby,
            _ => {}
        }
    }
    BootLoader::Other
}
