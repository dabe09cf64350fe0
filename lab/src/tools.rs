//! What building a kernel needs beyond a C compiler, from packages: no machine has to be prepared for it.

use std::env;
use std::path::PathBuf;
use std::process::Command;

use crate::Error;
use crate::cache::Cache;
use crate::debian::Debian;
use crate::progress::Step;
use crate::unpacked::Unpacked;

/// Packages to unpack with what they depend on. `kmod` and `xz-utils` read the modules of Debian's kernels.
const PACKAGES: [&str; 8] = ["flex", "bison", "m4", "bc", "make", "xz-utils", "kmod", "libelf1t64"];

/// Packages of which only headers are needed; their dependencies, a C library's headers, would clash with the compiler's own.
const HEADERS: [&str; 1] = ["libelf-dev"];

/// Programs that get a script in the tools' `bin`.
const PROGRAMS: [&str; 7] = [
    "usr/bin/flex",
    "usr/bin/bison",
    "usr/bin/m4",
    "usr/bin/bc",
    "usr/bin/make",
    "usr/bin/xz",
    "usr/sbin/depmod",
];

/// Build tools in the cache.
pub(crate) struct Tools {
    files: Unpacked,
}

impl Tools {
    pub(crate) fn fetch(cache: &Cache, debian: &Debian) -> Result<Self, Error> {
        let ingredients = [&PACKAGES[..], &HEADERS, &PROGRAMS].concat().join(" ");
        let path = cache.entry("tools", &ingredients, |shop| {
            let archive = debian.archive(shop)?;
            let _step = Step::start("fetching build tools");
            archive.unpack_with_dependencies(&PACKAGES, "trixie", shop.entry)?;
            archive.unpack(&HEADERS, shop.entry)?;
            Unpacked::at(shop.entry.to_owned()).make_wrappers(&PROGRAMS)
        })?;
        Ok(Self { files: Unpacked::at(path) })
    }

    /// A command that finds these tools before the machine's own.
    pub(crate) fn command(&self, program: &str) -> Command {
        let bin = self.files.path("bin");
        let mut path = bin.clone().into_os_string();
        if let Some(own) = env::var_os("PATH") {
            path.push(":");
            path.push(own);
        }
        let mut command = Command::new(program);
        command.env("PATH", path).env("M4", bin.join("m4")).env("LC_ALL", "C");
        command.env("BISON_PKGDATADIR", self.files.path("usr/share/bison"));
        command
    }

    /// Variables for the kernel's makefiles. Its objtool is linked with the unpacked libelf, which may want a newer C library
    /// than the machine's: the tool gets the unpacked loader and libraries for life.
    pub(crate) fn make_variables(&self) -> [String; 2] {
        let show = |path: PathBuf| path.display().to_string();
        let (include, libraries) = (show(self.files.path("usr/include")), show(self.files.libraries()));
        let loader = show(self.files.loader());
        [
            format!("LIBELF_FLAGS=-I{include}"),
            format!(
                "LIBELF_LIBS=-L{libraries} -lelf -Wl,--allow-shlib-undefined -Wl,-rpath,{libraries} \
                 -Wl,--dynamic-linker={loader}"
            ),
        ]
    }
}
