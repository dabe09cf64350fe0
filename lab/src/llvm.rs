//! LLVM's programs that read what instrumented programs count, of the release that Rust's compiler is built on: rustup has
//! them as a component, distributions' compilers come without.

use std::process::Command;

use crate::Error;
use crate::cache::Cache;
use crate::debian::Debian;
use crate::progress::Step;
use crate::unpacked::Unpacked;

/// LLVM in the cache.
#[derive(Debug)]
pub struct Llvm {
    files: Unpacked,
}

impl Llvm {
    /// The release: it reads what compilers of this and of earlier ones make, not of later ones.
    pub const RELEASE: u32 = 22;

    /// Finds LLVM in the cache, or fetches it from Debian's archive.
    ///
    /// # Errors
    ///
    /// What keeps it from being fetched: no Debian mirror, no network, no place.
    pub fn fetch() -> Result<Self, Error> {
        let (package, suite) = (format!("llvm-{}", Self::RELEASE), "trixie");
        let path = Cache::open()?.entry("llvm", &format!("{package} {suite}"), |shop| {
            let archive = Debian::default().archive(shop)?;
            let _step = Step::start("fetching LLVM's programs for coverage");
            archive.unpack_with_dependencies(&[&package], suite, shop.entry)
        })?;
        Ok(Self { files: Unpacked::at(path) })
    }

    /// A command that starts one of its programs, such as `llvm-cov`.
    pub fn command(&self, program: &str) -> Command {
        self.files.command(&format!("usr/lib/llvm-{}/bin/{program}", Self::RELEASE))
    }
}
