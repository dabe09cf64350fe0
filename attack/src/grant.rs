//! What a grant is on an emulated board: a vfio-user connection. Only what an attack needs of it, from the specification.

use anyhow::{Context, anyhow, bail};
use jitney_memory::descriptors;
use rustix::net::sockopt::{Timeout, set_socket_timeout};
use std::io::IoSlice;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

const HEADER: usize = 16;
/// A card may be at something else for as long as a will of somebody takes.
const ANSWER_LIMIT: Duration = Duration::from_secs(20);

const VERSION: u16 = 1;
const DMA_MAP: u16 = 2;
const DMA_UNMAP: u16 = 3;
const SET_IRQS: u16 = 8;
const REGION_READ: u16 = 9;
const REGION_WRITE: u16 = 10;
const DEVICE_RESET: u16 = 13;

const CONFIG: u32 = 7;
/// The command register of configuration space.
const COMMAND: u64 = 4;
const COMMAND_MASTER: u16 = 1 << 2;

/// The index of MSI-X among the kinds of interrupts.
pub(crate) const MSIX: u32 = 2;
/// Flags of SET_IRQS: no data, and trigger.
const TRIGGER_NOW: u32 = 1 | 1 << 5;

/// A negotiated connection.
#[derive(Debug)]
pub(crate) struct Grant {
    socket: OwnedFd,
    id: u16,
}

impl Grant {
    pub(crate) fn negotiate(socket: OwnedFd) -> anyhow::Result<Self> {
        set_socket_timeout(&socket, Timeout::Recv, Some(ANSWER_LIMIT)).context("SO_RCVTIMEO")?;
        let mut grant = Self { socket, id: 0 };
        let mut body = vec![0, 0, 1, 0];
        body.extend_from_slice(b"{\"capabilities\":{\"max_msg_fds\":8}}\0");
        grant.exchange(VERSION, &body, &[])??;
        Ok(grant)
    }

    /// Sends a command and waits for its reply: the body, or the errno with which the card refuses it.
    fn exchange(
        &mut self,
        command: u16,
        body: &[u8],
        descriptors: &[BorrowedFd<'_>],
    ) -> anyhow::Result<Result<Vec<u8>, CardError>> {
        self.id = self.id.wrapping_add(1);
        let size = u32::try_from(HEADER + body.len())?;
        let mut header = Vec::with_capacity(HEADER);
        header.extend_from_slice(&self.id.to_ne_bytes());
        header.extend_from_slice(&command.to_ne_bytes());
        header.extend_from_slice(&size.to_ne_bytes());
        header.extend_from_slice(&[0; 8]);
        descriptors::send_all(&self.socket, &[IoSlice::new(&header), IoSlice::new(body)], descriptors)?;
        let mut header = [0; HEADER];
        self.receive(&mut header)?;
        let [i0, i1, c0, c1, s0, s1, s2, s3, f0, _, _, _, e0, e1, e2, e3] = header;
        if u16::from_ne_bytes([i0, i1]) != self.id || u16::from_ne_bytes([c0, c1]) != command {
            bail!("the card answers something else than was asked");
        }
        let size = usize::try_from(u32::from_ne_bytes([s0, s1, s2, s3]))?;
        let mut body = vec![0; size.checked_sub(HEADER).context("a reply of the card is too short")?];
        if !body.is_empty() {
            self.receive(&mut body)?;
        }
        let errno = u32::from_ne_bytes([e0, e1, e2, e3]);
        Ok(if f0 & 1 << 5 == 0 { Ok(body) } else { Err(CardError { command, errno }) })
    }

    fn receive(&self, bytes: &mut [u8]) -> anyhow::Result<()> {
        descriptors::receive_exact(&self.socket, bytes, 8)?.context("the card has hung up").map(drop)
    }

    pub(crate) fn read(&mut self, region: u32, offset: u64, count: u32) -> anyhow::Result<Vec<u8>> {
        let reply = self.exchange(REGION_READ, &access(region, offset, count), &[])??;
        Ok(reply.get(16..).context("a short reply to REGION_READ")?.to_vec())
    }

    pub(crate) fn write(&mut self, region: u32, offset: u64, data: &[u8]) -> anyhow::Result<()> {
        let mut body = access(region, offset, u32::try_from(data.len())?);
        body.extend_from_slice(data);
        self.exchange(REGION_WRITE, &body, &[])??;
        Ok(())
    }

    pub(crate) fn read32(&mut self, bar: u8, offset: u64) -> anyhow::Result<u32> {
        let bytes = self.read(bar.into(), offset, 4)?;
        Ok(u32::from_le_bytes(bytes.try_into().map_err(|_| anyhow!("a register of another size"))?))
    }

    pub(crate) fn write32(&mut self, bar: u8, offset: u64, value: u32) -> anyhow::Result<()> {
        self.write(bar.into(), offset, &value.to_le_bytes())
    }

    fn command(&mut self) -> anyhow::Result<u16> {
        let bytes = self.read(CONFIG, COMMAND, 2)?;
        Ok(u16::from_le_bytes(bytes.try_into().map_err(|_| anyhow!("COMMAND of another size"))?))
    }

    pub(crate) fn set_command(&mut self, command: u16) -> anyhow::Result<()> {
        self.write(CONFIG, COMMAND, &command.to_le_bytes())
    }

    pub(crate) fn is_master(&mut self) -> anyhow::Result<bool> {
        Ok(self.command()? & COMMAND_MASTER != 0)
    }

    /// Asks for memory to be mapped, which only the card's owner may; whether it was.
    pub(crate) fn map(
        &mut self,
        memory: impl AsFd,
        iova: u64,
        size: u64,
    ) -> anyhow::Result<Result<(), CardError>> {
        let mut body = Vec::new();
        body.extend_from_slice(&32_u32.to_ne_bytes());
        body.extend_from_slice(&3_u32.to_ne_bytes());
        for field in [0, iova, size] {
            body.extend_from_slice(&field.to_ne_bytes());
        }
        Ok(self.exchange(DMA_MAP, &body, &[memory.as_fd()])?.map(drop))
    }

    /// Asks for memory to be unmapped, all of it if there is no range.
    pub(crate) fn unmap(&mut self, range: Option<(u64, u64)>) -> anyhow::Result<Result<(), CardError>> {
        let mut body = Vec::new();
        body.extend_from_slice(&24_u32.to_ne_bytes());
        body.extend_from_slice(&(if range.is_some() { 0_u32 } else { 2 }).to_ne_bytes());
        let (iova, size) = range.unwrap_or_default();
        for field in [iova, size] {
            body.extend_from_slice(&field.to_ne_bytes());
        }
        Ok(self.exchange(DMA_UNMAP, &body, &[])?.map(drop))
    }

    /// Interrupts, as if the card did. With a count of 0 it disables the kind.
    pub(crate) fn trigger(
        &mut self,
        index: u32,
        start: u32,
        count: u32,
    ) -> anyhow::Result<Result<(), CardError>> {
        let mut body = Vec::new();
        for field in [20, TRIGGER_NOW, index, start, count] {
            body.extend_from_slice(&field.to_ne_bytes());
        }
        Ok(self.exchange(SET_IRQS, &body, &[])?.map(drop))
    }

    pub(crate) fn reset(&mut self) -> anyhow::Result<Result<(), CardError>> {
        Ok(self.exchange(DEVICE_RESET, &[], &[])?.map(drop))
    }
}

fn access(region: u32, offset: u64, count: u32) -> Vec<u8> {
    let mut body = Vec::with_capacity(16);
    body.extend_from_slice(&offset.to_ne_bytes());
    body.extend_from_slice(&region.to_ne_bytes());
    body.extend_from_slice(&count.to_ne_bytes());
    body
}

/// The card refuses a command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct CardError {
    command: u16,
    pub(crate) errno: u32,
}

impl std::fmt::Display for CardError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "the card refuses command {} with errno {}", self.command, self.errno)
    }
}

impl std::error::Error for CardError {}
