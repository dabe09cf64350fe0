//! The library of jitney for C: what a user reads is `include/jitney.h`, which is made of what is exported here, and docs/c.md.
//!
//! What holds for all of it: a function has a body of safe code in `boundary::run`, which no panic leaves, and which keeps what
//! went wrong for `jitney_last_error`. A handle is a number that is looked up (`handle`) and no address, so that a wrong one
//! is refused. What a program gives the library as an address is looked at in `pointer` and nowhere else; other unsafe code there is
//! to hear of forks (`handle`) and to hand out the thread's error (`error`).

#![expect(
    unsafe_code,
    reason = "exported names, which could be those of something else; addresses are looked at in `pointer`"
)]

mod ahead;
mod boundary;
mod handle;
mod pointer;
mod time;

// In the order of the header.

mod error;

mod bus;

mod card;

mod board;

mod emulated;

mod registers;

mod buffer;

mod channel;

mod transfer;

mod stream;

mod interrupt;

mod lease;

mod flash;

mod watch;

pub use board::*;
pub use buffer::*;
pub use bus::*;
pub use card::*;
pub use channel::*;
pub use emulated::*;
pub use error::*;
pub use flash::*;
pub use interrupt::*;
pub use lease::*;
pub use registers::*;
pub use stream::*;
pub use transfer::*;
pub use watch::*;

use std::ffi::{CStr, c_char};

/// The number of the interface: that of the header is `JITNEY_ABI_VERSION`. While the library's version is 0.x, each minor
/// version has an interface of its own.
pub const JITNEY_ABI_VERSION: u32 = 1;

const VERSION: &CStr = match CStr::from_bytes_with_nul(concat!(env!("CARGO_PKG_VERSION"), "\0").as_bytes()) {
    Ok(version) => version,
    Err(_) => c"",
};

/// The library's version, as `0.1.0`. The text is the library's and stays.
#[unsafe(no_mangle)]
pub extern "C" fn jitney_version() -> *const c_char {
    VERSION.as_ptr()
}

/// The number of the interface that the library has; a program that was compiled for another one (`JITNEY_ABI_VERSION`) must not
/// go on.
#[unsafe(no_mangle)]
pub extern "C" fn jitney_abi_version() -> u32 {
    JITNEY_ABI_VERSION
}
