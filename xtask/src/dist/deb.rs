//! A package for Debian and what is made of it, deb(5). Written here and not by dpkg-deb, so that it can be made anywhere.

use super::package::{File, Package};
use super::tarball::{self, Archive};
use anyhow::Context;
use ar::{Builder, Header};

pub(super) fn bytes(package: &Package) -> anyhow::Result<Vec<u8>> {
    let files = package.files_for("zsh/vendor-completions");
    let mut control = vec![File::new("control", about(package, &files))];
    let conffiles: String =
        files.iter().filter(|file| file.is_config).map(|file| format!("/{}\n", file.path)).collect();
    if !conffiles.is_empty() {
        control.push(File::new("conffiles", conffiles));
    }
    control.extend(
        package.deb_scripts.iter().map(|(name, text)| File::program(*name, text.as_bytes().to_vec())),
    );
    control.sort_by(|one, other| one.path.cmp(&other.path));
    let time = package.time;
    let mut archive = Builder::new(Vec::new());
    for (name, content) in [
        ("debian-binary", b"2.0\n".to_vec()),
        ("control.tar.gz", tarball::bytes(&Archive { files: control, time })?),
        ("data.tar.gz", tarball::bytes(&Archive { files, time })?),
    ] {
        let mut header = Header::new(name.into(), content.len() as u64);
        header.set_mode(0o100_644);
        header.set_mtime(time.into());
        archive.append(&header, &*content).with_context(|| name.to_owned())?;
    }
    Ok(archive.into_inner()?)
}

fn about(package: &Package, files: &[File]) -> String {
    let Package { name, version, summary, needs, .. } = package;
    let size: usize = files.iter().map(|file| file.bytes.len().div_ceil(1024)).sum();
    let mut depends = needs.of_debian();
    depends.push("passwd".to_owned());
    // An empty line of the description is a dot.
    let lines = package
        .description
        .lines()
        .map(|line| if line.is_empty() { " .\n".to_owned() } else { format!(" {line}\n") });
    format!(
        "Package: {name}\nVersion: {version}\nArchitecture: amd64\nMaintainer: The jitney authors\nInstalled-Size: {size}\n\
         Depends: {}\nSection: utils\nPriority: optional\nDescription: {summary}\n{}",
        depends.join(", "),
        lines.collect::<String>()
    )
}

#[cfg(test)]
mod tests {
    use super::super::package::example;
    use super::*;
    use crate::process;
    use std::process::Command;

    #[test]
    fn it_is_the_same_each_time_and_dpkg_reads_it() {
        let package = bytes(&example("1.2.3")).unwrap();
        assert_eq!(package, bytes(&example("1.2.3")).unwrap());
        if Command::new("dpkg-deb").arg("--version").output().is_err() {
            return println!("skipped: there is no dpkg-deb");
        }
        let path = std::env::temp_dir().join(format!("xtask-deb-{}.deb", std::process::id()));
        std::fs::write(&path, package).unwrap();
        let ask =
            |option: &str| process::run(Command::new("dpkg-deb").arg(option).arg(&path), false).unwrap();
        let (info, contents) = (ask("--info"), ask("--contents"));
        std::fs::remove_file(&path).unwrap();
        assert!(
            info.success && info.text.contains("Version: 1.2.3") && info.text.contains("postinst"),
            "{}",
            info.text
        );
        assert!(
            contents.text.contains("root/root") && contents.text.contains("2023-11-14"),
            "{}",
            contents.text
        );
        assert!(
            contents.text.contains(" ./usr/share/zsh/vendor-completions/_example\n"),
            "{}",
            contents.text
        );
    }
}
