//! What is in the packages, and where.

use super::build::{Built, LIBRARY};
use super::package::{File, Package, RpmScripts};
use super::tarball::{Archive, gzip};
use crate::workspace;
use anyhow::{Context, ensure};
use std::fs;
use std::path::Path;

/// Where the units look for the command in the repository, for who installs it by hand.
const BY_HAND: &str = "/usr/local/bin/jitney";

const DESCRIPTION: &str = "\
Several processes drive the same PCIe cards from user space, through VFIO, at
the same time and safely: one broker owns the cards, programs use them.

It tests, measures, programs and emulates FPGA boards, and runs programs for
the vendor's XDMA driver as they are.";

/// The command, with the broker as a service that nothing starts until it is told to.
pub(super) fn command(built: &Built, version: &str, time: u32) -> anyhow::Result<Package> {
    let mut files = vec![
        File::program("usr/bin/jitney", read(&built.command)?),
        File::new(format!("usr/lib/jitney/{LIBRARY}"), read(&built.library)?),
        File::config("etc/jitney/config.toml", &packaging("config.toml")?),
        File::config("etc/jitney/policy.toml", &packaging("policy.toml")?),
        File::new("usr/lib/systemd/system/jitney.service", unit("jitney.service")?),
        File::new("usr/lib/systemd/system/jitney.socket", packaging("jitney.socket")?),
        File::new("usr/lib/sysusers.d/jitney.conf", packaging("jitney.sysusers")?),
        File::new("usr/lib/tmpfiles.d/jitney.conf", packaging("jitney.tmpfiles")?),
    ];
    files.extend(beside("usr/share", built)?);
    Ok(Package {
        name: "jitney",
        version: version.to_owned(),
        summary: "PCIe cards that several programs share, from user space",
        description: DESCRIPTION,
        files,
        deb_scripts: &[
            ("postinst", include_str!("../../../packaging/deb/postinst")),
            ("prerm", include_str!("../../../packaging/deb/prerm")),
            ("postrm", include_str!("../../../packaging/deb/postrm")),
        ],
        rpm_scripts: RpmScripts {
            after_install: include_str!("../../../packaging/rpm/post"),
            before_removal: include_str!("../../../packaging/rpm/preun"),
            after_removal: include_str!("../../../packaging/rpm/postun"),
        },
        needs: built.needs.clone(),
        time,
    })
}

/// The static command in a folder that can be unpacked below /usr/local or anywhere.
pub(super) fn portable(built: &Built, package: &Package) -> anyhow::Result<Archive> {
    let top = format!("jitney-{}-x86_64-linux", package.version);
    let mut files = vec![
        File::program("bin/jitney", read(&built.alone)?),
        File::new(format!("lib/jitney/{LIBRARY}"), read(&built.library)?),
    ];
    files.extend(beside("share", built)?);
    for entry in fs::read_dir(workspace::root().join("packaging"))? {
        let path = entry?.path();
        // What is in folders is for packages.
        if path.is_file() && !path.ends_with("copyright") && !path.ends_with("README.md") {
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            files.push(File::new(format!("share/doc/jitney/packaging/{name}"), read(&path)?));
        }
    }
    for file in &mut files {
        file.path = format!("{top}/{}", file.path.replace("{zsh}", "zsh/site-functions"));
    }
    files.sort_by(|one, other| one.path.cmp(&other.path));
    Ok(Archive { files, time: package.time })
}

/// Manual, completions and documentation, below `share`.
fn beside(share: &str, built: &Built) -> anyhow::Result<Vec<File>> {
    let mut files = Vec::new();
    for (name, text) in &built.pages {
        files.push(File::new(format!("{share}/man/man1/{name}.gz"), gzip(text)?));
    }
    for (shell, script) in &built.completions {
        let place = match *shell {
            "bash" => "bash-completion/completions/jitney",
            "zsh" => "{zsh}/_jitney",
            _ => "fish/vendor_completions.d/jitney.fish",
        };
        files.push(File::new(format!("{share}/{place}"), script.clone()));
    }
    let doc = format!("{share}/doc/jitney");
    files.push(File::new(format!("{doc}/copyright"), packaging("copyright")?));
    files.push(File::new(format!("{doc}/third-party.txt.gz"), gzip(built.third_party.as_bytes())?));
    for name in ["README.md", "CHANGELOG.md", "LICENSE-MIT", "LICENSE-APACHE"] {
        files.push(File::new(format!("{doc}/{name}"), read(&workspace::root().join(name))?));
    }
    for entry in fs::read_dir(workspace::root().join("docs"))? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "md") {
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            files.push(File::new(format!("{doc}/docs/{name}"), read(&path)?));
        }
    }
    Ok(files)
}

/// A unit for a command that a package has installed.
fn unit(name: &str) -> anyhow::Result<String> {
    let text = packaging(name)?;
    ensure!(text.contains(BY_HAND), "packaging/{name} does not start {BY_HAND}");
    Ok(text.replace(BY_HAND, "/usr/bin/jitney"))
}

fn packaging(name: &str) -> anyhow::Result<String> {
    let path = workspace::root().join("packaging").join(name);
    fs::read_to_string(&path).with_context(|| path.display().to_string())
}

fn read(path: &Path) -> anyhow::Result<Vec<u8>> {
    fs::read(path).with_context(|| path.display().to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_unit_starts_what_the_package_installs() {
        let unit = unit("jitney.service").unwrap();
        assert!(
            unit.contains("\nExecStart=/usr/bin/jitney broker --system\n") && !unit.contains("/usr/local")
        );
    }
}
