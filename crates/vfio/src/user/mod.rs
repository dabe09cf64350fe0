//! Cards that a process emulates and serves over vfio-user.
//!
//! [`connect`] and [`negotiate`] make a [`Connection`], which is [`Transport`](crate::Transport) and
//! [`Mapper`](crate::Mapper) in one: a server has regions, interrupts and DMA maps on the same socket.
//!
//! A server that accepts several connections treats them as a VFIO device that is opened several times: each reaches
//! the same registers, and what one maps is there for the one card.

mod connect;
mod connection;
mod mapper;
mod resume;
#[cfg(test)]
mod resume_tests;
#[cfg(test)]
mod test_server;
#[cfg(test)]
mod tests;
mod transport;

pub use connect::{connect, connect_to_own, negotiate};
pub use connection::Connection;
pub(crate) use resume::{ConnectionRecord, resume};
