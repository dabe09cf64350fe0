//! A real kernel's VFIO in a virtual machine, on a computer that has no card and without root.
//!
//! QEMU (with a client of the vfio-user protocol), kernels and a small userland come from Debian's packages into a cache; one
//! kernel is built from source, because Debian's own have no iommufd, no device cdev and no NOIOMMU. [`run`] boots each row of
//! the matrix, runs the tests in it and reports them by name; [`shell`] gives a prompt in the same guest. `cargo xtask lab` calls
//! both; `lab/README.md` says how to add a test. [`script`] runs one script, for what it writes. [`Llvm`] comes from the same cache, and so do
//! [empty systems](empty_system) for trying packages.
//!
//! ```no_run
//! let options = jitney_lab::Options { kernel: Some("small".into()), ..Default::default() };
//! let summary = jitney_lab::run(&options, &mut std::io::stdout())?;
//! assert!(summary.is_success());
//! # Ok::<(), jitney_lab::Error>(())
//! ```

mod boards;
mod boot;
mod browser;
mod cache;
mod card;
mod command;
pub mod coverage;
mod cpio;
mod debian;
mod empty_system;
mod error;
mod hotplug;
mod initramfs;
mod kernel;
mod lab;
mod lines;
mod llvm;
mod logs;
mod machine;
mod programs;
mod progress;
mod protocol;
mod qemu;
mod qmp;
mod run;
mod script;
mod suites;
mod tools;
mod unpacked;

pub use browser::Browser;
pub use card::Card;
pub use empty_system::{Contents, SUITES, empty_system};
pub use error::Error;
pub use llvm::Llvm;
pub use programs::Target;
pub use run::{Options, Summary, run, shell};
pub use script::{Script, script};
