//! Getting a PC ready for VFIO: what is missing, who holds what, handing a card over and giving it back.
//!
//! ```no_run
//! use jitney_setup::{BindOptions, Doctor, Root};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let card = "0000:2e:00.0".parse()?;
//! println!("{}", Doctor::new(Root::default()).examine(Some(card)));
//!
//! let options = BindOptions { owner: Some("alice".to_owned()), ..BindOptions::default() };
//! let bound = jitney_setup::bind(&Root::default(), card, &options)?;
//! println!("programs open {}; for good:\n{}", bound.node.display(), bound.udev_rule);
//! # Ok(())
//! # }
//! ```
//!
//! [`Doctor`] and [`who_holds`] only look, work for every user, and say what they could not see. [`bind`], [`unbind`] and
//! [`forget`] need root; what they cannot do completely, they undo.
//!
//! Everything takes a [`Root`], the folder that holds `sys`, `proc`, `dev`, `etc` and `boot`: `/` for this machine, or one
//! that imitates a machine.

#![forbid(unsafe_code)]

mod bind;
mod doctor;
mod error;
mod express;
mod holders;
#[cfg(test)]
mod imitation;
mod kernel;
mod kernel_config;
mod link;
mod neighbours;
mod nodes;
mod persist;
mod root;
mod udev;

pub use bind::{BindOptions, Bound, Released, Replug, Use, bind, forget, unbind};
pub use doctor::{Check, Doctor, Report, Verdict};
pub use error::{Error, Result};
pub use holders::{Holder, Holders, Scope, who_holds};
pub use link::{Port, port_above, retrain};
pub use root::Root;
