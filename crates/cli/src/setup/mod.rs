//! The commands that get a PC ready for VFIO: `doctor`, `who`, `bind`, `unbind`.

pub(crate) mod args;
mod bind;
mod doctor;
mod named;
mod who;

pub(crate) use bind::{bind, unbind};
pub(crate) use doctor::doctor;
pub(crate) use who::who;
