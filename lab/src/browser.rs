//! A browser without windows, for tests that look at pages: of Debian's packages, unpacked and not installed.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use crate::Error;
use crate::cache::{Cache, write};
use crate::debian::Debian;
use crate::progress::Step;
use crate::unpacked::Unpacked;

/// A browser in the cache.
#[derive(Debug)]
pub struct Browser {
    files: Unpacked,
}

/// The script that starts it.
const SCRIPT: &str = "browser";

/// It looks for its data beside what `/proc/self/exe` says, which is the loader: hence a loader of its own, there. And it starts
/// itself again, which has to be by this script.
const WRAPPER: &str = r#"#!/bin/sh
root=${0%/*}
libraries=$root/usr/lib/x86_64-linux-gnu
program=$root/usr/lib/chromium
exec "$program/loader" --library-path "$libraries:$libraries/pulseaudio" --argv0 "$0" \
    "$program/chromium-headless-shell" --no-zygote "--browser-subprocess-path=$0" "$@"
"#;

impl Browser {
    /// Finds the browser in the cache, or fetches it from Debian's archive (110 MB, 570 MB unpacked).
    ///
    /// # Errors
    ///
    /// What keeps it from being fetched: no Debian mirror, no network, no place.
    pub fn fetch() -> Result<Self, Error> {
        let (package, suite) = ("chromium-headless-shell", "trixie");
        let path = Cache::open()?.entry("browser", &format!("{package} {suite} {WRAPPER}"), |shop| {
            let archive = Debian::default().archive(shop)?;
            let _step = Step::start("fetching a browser");
            archive.unpack_with_dependencies(&[package], suite, shop.entry)?;
            let files = Unpacked::at(shop.entry.to_owned());
            let loader = files.path("usr/lib/chromium/loader");
            fs::copy(files.loader(), &loader).map_err(Error::io("copy the loader to", &loader))?;
            let script = files.path(SCRIPT);
            write(&script, WRAPPER)?;
            fs::set_permissions(&script, fs::Permissions::from_mode(0o755))
                .map_err(Error::io("make executable", &script))
        })?;
        Ok(Self { files: Unpacked::at(path) })
    }

    /// The program, which takes Chromium's options.
    #[must_use]
    pub fn program(&self) -> PathBuf {
        self.files.path(SCRIPT)
    }
}
