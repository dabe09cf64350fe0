//! Several processes drive the same cards.

#![forbid(unsafe_code)]

pub mod machine;
pub mod protocol;
