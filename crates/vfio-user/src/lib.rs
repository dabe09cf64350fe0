//! The vfio-user protocol as types: messages in and out of bytes, and nothing else.
//!
//! vfio-user carries the VFIO interface of one device over a UNIX stream socket: a client (a virtual machine monitor,
//! or a driver) asks, a server (an emulated device) answers, and descriptors of memory and interrupts travel beside the
//! messages. This crate knows the messages. Sockets, descriptors and what a device does are for those who use it.
//!
//! | To | use |
//! |---|---|
//! | cut the stream into messages | [`Frames`] |
//! | read a request (server) | [`Request::decode`] |
//! | answer it (server) | the functions of [`reply`] |
//! | write a request (client) | [`Request::encode`], [`Request::encode_posted`] |
//! | read the answer (client) | [`Header::check_reply`], then the `decode` of what was asked for, such as [`DeviceInfo::decode`] or [`RegionAccess::data`] |
//! | memory that has no descriptor | [`DmaRequest`]: here the server asks and the client answers |
//!
//! Encoders append to a `Vec<u8>` that the caller keeps, so that a register access allocates nothing. Decoders borrow
//! from the message, check every length and count that the peer chose before they believe it, and say in a
//! [`DecodeError`] which field of which command was wrong and with which errno to answer.
//!
//! Source: "vfio-user Protocol Specification", `docs/interop/vfio-user.rst` of QEMU and `docs/vfio-user.rst` of
//! libvfio-user. Section names in this documentation are those of that text. All numbers are in the byte order of the
//! host ("Protocol Specification"): both ends run on one machine.
//!
//! Left out, and refused with ENOTSUP: migration and device features, dirty page tracking, region I/O descriptors
//! (ioeventfd) and coalesced writes. No peer sends the last unless `write_multiple` was agreed on.
//!
//! ```
//! use jitney_vfio_user::{Frames, Header, RegionAccess, Request, reply};
//!
//! // The client reads four bytes at 0x40 of region 0 ...
//! let access = RegionAccess { region: 0, offset: 0x40, count: 4 };
//! let mut to_server = Vec::new();
//! Request::RegionRead(access).encode(7, &mut to_server);
//!
//! // ... the server answers ...
//! let mut frames = Frames::new();
//! frames.push(&to_server);
//! let message = frames.next_message()?.expect("a whole message");
//! let Request::RegionRead(asked) = Request::decode(message.header.command, message.body)? else { panic!() };
//! let mut to_client = Vec::new();
//! reply::region_read(&message.header, asked, &mut to_client).copy_from_slice(&[1, 2, 3, 4]);
//!
//! // ... and the client has its data.
//! let mut frames = Frames::new();
//! frames.push(&to_client);
//! let message = frames.next_message()?.expect("a whole message");
//! message.header.check_reply(7, Request::RegionRead(access).command())?;
//! assert_eq!(access.data(message.body)?, [1, 2, 3, 4]);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

#![forbid(unsafe_code)]

mod command;
mod device;
mod dma;
mod error;
mod fields;
mod frames;
mod header;
mod io_fds;
mod irq;
mod region;
pub mod reply;
mod request;
mod version;

pub use command::Command;
pub use device::{DeviceFlags, DeviceInfo};
pub use dma::{DmaAccess, DmaMap, DmaMapFlags, DmaRequest, DmaUnmap};
pub use error::{DecodeError, ReplyError, errno};
pub use frames::{FrameError, Frames, Message};
pub use header::{Header, HeaderFlags};
pub use io_fds::IoFdsQuery;
pub use irq::{IrqAction, IrqData, IrqFlags, IrqInfo, SetIrqs};
pub use region::{MmapArea, RegionAccess, RegionFlags, RegionInfo, RegionInfoReply, RegionQuery};
pub use request::Request;
pub use version::{Capabilities, TwinSocket, Version};

/// Most bytes of data in one read or write, of a region or of memory: the protocol's default of 1 MiB, which is also
/// the most this crate accepts (section "Version", `max_data_xfer_size`).
pub const MAX_DATA_XFER_SIZE: u32 = 1 << 20;

/// Largest message accepted, in bytes: the header, the 16 bytes before the data of a transfer, and the data.
pub const MAX_MESSAGE_SIZE: u32 = 16 + 16 + MAX_DATA_XFER_SIZE;

/// Most descriptors beside one message. The specification sets no limit; QEMU refuses a peer that announces more.
pub const MAX_MESSAGE_FDS: u32 = 16;
