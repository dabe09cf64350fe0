//! What a machine and its processes say of themselves: `/proc`, limits, capabilities, access to nodes of `/dev`, users and groups.
//!
//! All of it is read, nothing is changed, and everything takes a [`Root`]: `/` for this machine, or a folder that
//! imitates one. What processes choose for themselves, such as their names, is fit to be shown: see [`presentable`].

#![forbid(unsafe_code)]

pub mod accounts;
mod caller;
mod node;
mod process;
mod root;

pub use caller::Caller;
pub use node::{Node, node};
pub use process::{Found, OpenFile, Process, catches, open_files, presentable, search};
pub use root::{Root, Seen};
