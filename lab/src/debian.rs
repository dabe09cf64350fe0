//! Debian's packages without root: an apt of our own beside the system's, which downloads and unpacks and installs nothing.
//!
//! Its folders are the cache's; the system's apt configuration (a proxy, for instance) holds for it too. Packages are checked
//! against Debian's archive keys, as apt always does.

use std::cell::Cell;
use std::path::Path;
use std::process::Command;
use std::{env, fs};

use crate::Error;
use crate::cache::{Workshop, write};
use crate::command::output;
use crate::progress::Step;

const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";

/// The releases that packages come from: QEMU with a vfio-user client and the small kernel's source from 13, and the kernel
/// of 12.
const SUITES: [&str; 3] = ["trixie", "trixie-backports", "bookworm"];

/// Debian's archive. Its lists are brought up to date once per run, and only if something has to be fetched.
#[derive(Default)]
pub(crate) struct Debian {
    updated: Cell<bool>,
}

/// The archive as one entry's builder sees it.
pub(crate) struct Archive<'a> {
    shop: &'a Workshop<'a>,
}

impl Debian {
    /// Opens the archive for the builder of a cache entry, which holds the cache's lock.
    pub(crate) fn archive<'a>(&self, shop: &'a Workshop<'a>) -> Result<Archive<'a>, Error> {
        let archive = Archive { shop };
        if !self.updated.get() {
            archive.update()?;
            self.updated.set(true);
        }
        Ok(archive)
    }
}

impl Archive<'_> {
    fn update(&self) -> Result<(), Error> {
        let _step = Step::start("reading Debian's package lists");
        let mirror = mirror()?;
        let root = self.shop.shared.join("apt");
        for folder in
            ["etc/apt/apt.conf.d", "etc/apt/preferences.d", "var/lib/apt/lists/partial", "var/lib/dpkg"]
        {
            let folder = root.join(folder);
            fs::create_dir_all(&folder).map_err(Error::io("make", &folder))?;
        }
        write(&root.join("var/lib/dpkg/status"), "")?;
        let sources: String =
            SUITES.iter().map(|suite| format!("deb [signed-by={KEYRING}] {mirror} {suite} main\n")).collect();
        write(&root.join("etc/apt/sources.list"), sources)?;
        // Without this, apt takes a mirror that cannot be reached for a mirror without news.
        let strict = "APT::Update::Error-Mode=any";
        output(self.apt_get().args(["update", "-o", strict]), "to read Debian's package lists").map(drop)
    }

    /// Unpacks packages with all that they depend on. `preferred` is the suite to take them from where several have them.
    pub(crate) fn unpack_with_dependencies(
        &self,
        packages: &[&str],
        preferred: &str,
        into: &Path,
    ) -> Result<(), Error> {
        let mut command = self.apt_get();
        command.args([
            "install",
            "--download-only",
            "--yes",
            "--no-install-recommends",
            "--target-release",
            preferred,
        ]);
        self.download(command, packages, into)
    }

    /// Unpacks packages and nothing that they depend on.
    pub(crate) fn unpack(&self, packages: &[&str], into: &Path) -> Result<(), Error> {
        let mut command = self.apt_get();
        command.arg("download");
        self.download(command, packages, into)
    }

    /// `install` downloads into the archives folder, `download` into the working folder: both are `debs` here.
    fn download(&self, mut command: Command, packages: &[&str], into: &Path) -> Result<(), Error> {
        let debs = tempfile::tempdir_in(self.shop.scratch).map_err(Error::io("make", self.shop.scratch))?;
        let debs = debs.path();
        fs::create_dir(debs.join("partial")).map_err(Error::io("make", debs))?;
        command
            .arg("-o")
            .arg(format!("Dir::Cache::archives={}", debs.display()))
            .args(packages)
            .current_dir(debs);
        output(&mut command, &format!("to fetch {}", packages.join(", ")))?;
        let mut names = Vec::new();
        for item in fs::read_dir(debs).map_err(Error::io("read", debs))? {
            let path = item.map_err(Error::io("read", debs))?.path();
            if path.extension().is_some_and(|extension| extension == "deb") {
                output(Command::new("dpkg-deb").arg("-x").arg(&path).arg(into), "to unpack a package")?;
                names.extend(path.file_name().map(|name| name.to_string_lossy().into_owned() + "\n"));
            }
        }
        names.sort_unstable();
        let list = self.shop.entry.join("packages.txt");
        let earlier = fs::read_to_string(&list).unwrap_or_default();
        write(&list, earlier + &names.concat())
    }

    /// The package that holds a release's current kernel: `linux-image-amd64` only points to it.
    pub(crate) fn kernel_package(&self, suite: &str) -> Result<String, Error> {
        let target = format!("linux-image-amd64/{suite}");
        let mut command = self.apt_get();
        command.args(["install", "--simulate", "--no-install-recommends", &target]);
        let plan = output(&mut command, "to find the kernel's package")?;
        kernel_in_plan(&plan)
            .map(str::to_owned)
            .ok_or_else(|| Error::Missing { what: "a kernel package".into(), place: target })
    }

    fn apt_get(&self) -> Command {
        let root = self.shop.shared.join("apt");
        let mut command = Command::new("apt-get");
        command.env("LC_ALL", "C").arg("--quiet");
        let status = root.join("var/lib/dpkg/status");
        for option in [
            format!("Dir={}", root.display()),
            format!("Dir::State::status={}", status.display()),
            "APT::Sandbox::User=".to_owned(),
            "APT::Architecture=amd64".to_owned(),
            "Acquire::IndexTargets::deb::DEP-11::DefaultEnabled=false".to_owned(),
            "Debug::NoLocking=1".to_owned(),
        ] {
            command.arg("-o").arg(option);
        }
        command
    }
}

/// The mirror that this machine's own package sources name, unless the environment names another.
pub(crate) fn mirror() -> Result<String, Error> {
    if let Some(named) = env::var("JITNEY_LAB_MIRROR").ok().filter(|named| !named.is_empty()) {
        return Ok(named);
    }
    let mut command = Command::new("apt-get");
    command.args(["indextargets", "--format", "$(REPO_URI) $(ORIGIN)", "Created-By: Packages"]);
    let targets = output(&mut command, "to find this machine's Debian mirror")?;
    debian_mirror(&targets).map(str::to_owned).ok_or(Error::NoMirror)
}

/// The archive itself, not the security archive, which holds updates only. Where the lists were never fetched apt knows no
/// origin and leaves the word as it is; then the name of the folder tells.
fn debian_mirror(targets: &str) -> Option<&str> {
    targets.lines().filter_map(|line| line.split_once(' ')).find_map(|(uri, origin)| {
        let folder = uri.trim_end_matches('/').rsplit('/').next()?;
        let known = origin == "Debian" && !folder.contains("security");
        (known || folder == "debian").then_some(uri)
    })
}

/// Finds the kernel among lines like `Inst linux-image-6.1.0-50-amd64 (6.1.176-1 Debian:12/oldstable [amd64])`.
fn kernel_in_plan(plan: &str) -> Option<&str> {
    let installed = plan.lines().filter_map(|line| line.strip_prefix("Inst ")?.split(' ').next());
    let mut kernels = installed.filter(|name| {
        name.strip_prefix("linux-image-").is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit()))
    });
    kernels.next()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mirror_is_the_main_archive() {
        let targets = "https://other.example/apt/ Other\nhttps://a.example/debian-security/ Debian\n\
                       https://a.example/debian/ Debian\n";
        assert_eq!(debian_mirror(targets), Some("https://a.example/debian/"));
        assert_eq!(debian_mirror("https://b.example/debian $(ORIGIN)\n"), Some("https://b.example/debian"));
        assert_eq!(debian_mirror("https://u.example/ubuntu Ubuntu\n"), None);
        assert_eq!(debian_mirror(""), None);
    }

    #[test]
    fn the_kernel_is_told_from_the_package_that_points_to_it() {
        let plan = "Inst kmod (34 Debian:13/stable [amd64])\n\
                    Inst linux-image-6.12.107+deb13-amd64 (6.12.107-1 Debian:13/stable [amd64])\n\
                    Inst linux-image-amd64 (6.12.107-1 Debian:13/stable [amd64])\n";
        assert_eq!(kernel_in_plan(plan), Some("linux-image-6.12.107+deb13-amd64"));
        assert_eq!(kernel_in_plan("Inst linux-image-amd64 (6.12)\n"), None);
    }
}
