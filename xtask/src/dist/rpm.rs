//! A package for Fedora, RHEL, SUSE and others that use rpm.

use super::package::{Package, folders};
use anyhow::Context;
use rpm::{BuildConfig, CompressionWithLevel, Dependency, FileOptions, PackageBuilder};

/// Folders of the package's own; all others are the system's.
const OWN: [&str; 3] = ["etc/jitney", "usr/lib/jitney", "usr/share/doc/jitney"];

/// Whether the package's removal is to take a folder: one of its own, or below one.
fn is_own(folder: &str) -> bool {
    let below =
        |own: &&str| folder.strip_prefix(*own).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
    OWN.iter().any(below)
}

pub(super) fn bytes(package: &Package) -> anyhow::Result<Vec<u8>> {
    let Package { name, version, summary, description, rpm_scripts, time, .. } = package;
    let files = package.files_for("zsh/site-functions");
    let config = BuildConfig::default().compression(CompressionWithLevel::Gzip(9)).source_date(*time);
    let mut builder = PackageBuilder::new(name, version, "MIT OR Apache-2.0", "x86_64", summary);
    builder.using_config(config).description(*description).build_host("localhost").cookie("localhost");
    for folder in folders(&files).iter().filter(|folder| is_own(folder)) {
        builder
            .with_dir_entry(FileOptions::dir(format!("/{folder}")).permissions(0o755))
            .with_context(|| folder.clone())?;
    }
    for file in &files {
        let mode = u16::try_from(file.mode).context("a file's mode")?;
        let options = FileOptions::new(format!("/{}", file.path)).permissions(mode);
        let options = if file.is_config { options.config().noreplace() } else { options };
        builder.with_file_contents(file.bytes.clone(), options).with_context(|| file.path.clone())?;
    }
    for need in package.needs.of_rpm() {
        builder.requires(Dependency::any(need));
    }
    builder.post_install_script(rpm_scripts.after_install);
    builder.pre_uninstall_script(rpm_scripts.before_removal);
    builder.post_uninstall_script(rpm_scripts.after_removal);
    let mut bytes = Vec::new();
    builder.build()?.write(&mut bytes)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::super::package::example;
    use super::*;

    #[test]
    fn it_is_the_same_each_time_and_says_what_is_in_it() {
        let made = bytes(&example("1.2.3")).unwrap();
        assert_eq!(made, bytes(&example("1.2.3")).unwrap());
        let read = rpm::Package::parse(&mut &*made).unwrap();
        assert_eq!(
            (read.metadata.get_name().unwrap(), read.metadata.get_version().unwrap()),
            ("example", "1.2.3")
        );
        let files = read.metadata.get_file_entries().unwrap();
        let paths: Vec<String> =
            files.iter().map(|file| file.path().to_string_lossy().into_owned()).collect();
        assert!(paths.contains(&"/usr/share/zsh/site-functions/_example".to_owned()), "{paths:?}");
    }
}
