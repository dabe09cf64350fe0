//! Memory that is shared: what is not one's own cannot be had, and what is to be read cannot be written to.

use super::Play;
use crate::client::{Client, is_refused};
use crate::protocol::{Kind, Offered, Reply, Request};
use crate::round::{End, Round};
use crate::stage::Stage;
use anyhow::{Context, bail};
use jitney_memory::{Access, Mapping, Memfd, PageSize};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

pub(super) const PLAYS: &[(&str, Play)] = &[("shares", play)];

const SIZE: u64 = 64 << 10;
const OFFERS: usize = 64;
const GUESSES: usize = 200;

pub(super) fn row(round: &Round<'_>) -> anyhow::Result<()> {
    round.play(&round.role("shares", round.figure(5, 200)), End::Itself)
}

fn share(client: &mut Client, iova: u64, name: Option<&str>, memory: &OwnedFd) -> anyhow::Result<[u8; 16]> {
    let request = Request::Share { iova, name: name.map(str::to_owned), writable: false };
    let number = client.post(&request, &[memory.as_fd()])?;
    match client.answer(number).context("Share")?.reply {
        Reply::Shared { token } => Ok(token),
        other => bail!("Share was answered with {other:?}"),
    }
}

fn attach(client: &mut Client, offered: Offered) -> anyhow::Result<OwnedFd> {
    let answer = client.ask(&Request::Attach { offered })?;
    match (answer.reply, <[OwnedFd; 1]>::try_from(answer.descriptors)) {
        (Reply::Attached { size: SIZE, writable: false, .. }, Ok([memory])) => Ok(memory),
        (other, descriptors) => bail!("Attach was answered with {other:?}, {descriptors:?}"),
    }
}

fn play(stage: &Stage) -> anyhow::Result<()> {
    let mut random = stage.random();
    for round in 0..stage.count {
        let (mut maker, grant) = stage.with_card()?;
        let buffer = maker.allocate(stage.card, SIZE)?;
        // Not the memory that it says it is.
        let other = Memfd::create("other", SIZE, PageSize::Normal)?.into_fd();
        match share(&mut maker, buffer.iova, None, &other) {
            Err(error) if is_refused(&error, Kind::Invalid) => {}
            other => stage.broken(format!("other memory was shared: {other:?}")),
        }
        let name = format!("ring-{round}");
        let token = share(&mut maker, buffer.iova, Some(&name), &buffer.memory)?;
        let mut reader = stage.client()?;
        for _ in 0..GUESSES {
            let mut guess = token;
            // Some are nearly right.
            let at = random.below(16);
            guess[at] ^= u8::try_from(1 + random.below(255))?;
            match attach(&mut reader, Offered::Token(guess)) {
                Err(error) if is_refused(&error, Kind::NotFound) => {}
                other => stage.broken(format!("a guessed token was answered with {other:?}")),
            }
        }
        let memory = match random.below(2) {
            0 => attach(&mut reader, Offered::Token(token))?,
            _ => attach(&mut reader, Offered::Name(name))?,
        };
        wants_to_write(stage, &memory);
        match reader
            .post(&Request::Share { iova: buffer.iova, name: None, writable: true }, &[memory.as_fd()])
        {
            Ok(number) => match reader.answer(number) {
                Err(error) if is_refused(&error, Kind::Denied) => {}
                other => {
                    stage.broken(format!("a reader made writers: {:?}", other.map(|answer| answer.reply)))
                }
            },
            Err(error) => return Err(error),
        }
        match reader.done(&Request::Unshare { iova: buffer.iova }) {
            Err(error) if is_refused(&error, Kind::Invalid) => {}
            other => stage.broken(format!("a reader ended another's offer: {other:?}")),
        }
        // More offers than there may be.
        if round == 0 {
            hoard(stage, &mut maker)?;
        }
        // What is no memory is the end of who sends it; each of them goes without a goodbye, in any order.
        let (pipe, _writer) = rustix::pipe::pipe()?;
        let request = Request::Share { iova: buffer.iova, name: None, writable: true };
        let clients: [Client; 2] = if round % 2 == 0 { [maker, reader] } else { [reader, maker] };
        for mut client in clients {
            if random.below(2) == 0 {
                client.post(&request, &[pipe.as_fd()])?;
                while client.hear()?.is_some() {}
            }
            drop(client);
        }
        drop(grant);
        stage.did(1);
    }
    Ok(())
}

/// A reader tries what a descriptor can be used for.
fn wants_to_write(stage: &Stage, memory: &OwnedFd) {
    let again = std::fs::OpenOptions::new()
        .read(true)
        .write(true)
        .open(format!("/proc/self/fd/{}", memory.as_raw_fd()))
        .map(OwnedFd::from);
    for file in [memory].into_iter().chain(&again) {
        if Mapping::shared(file, 0, 4096, Access::ReadWrite).is_ok() {
            stage.broken("a reader mapped the memory to write to it");
        }
        if rustix::io::pwrite(file, &[1], 0).is_ok() {
            stage.broken("a reader wrote to the memory");
        }
        if rustix::fs::ftruncate(file, 0).is_ok() {
            stage.broken("a reader shortened the memory");
        }
    }
}

/// Offers as many buffers as may be, and one more.
fn hoard(stage: &Stage, client: &mut Client) -> anyhow::Result<()> {
    for number in 1..=OFFERS {
        let buffer = client.allocate(stage.card, 4096)?;
        match share(client, buffer.iova, Some(&format!("hoard-{number}")), &buffer.memory) {
            Ok(_) if number < OFFERS => {}
            Err(error) if number == OFFERS && is_refused(&error, Kind::Exhausted) => {}
            other => stage.broken(format!("offer {number} of a client was answered with {other:?}")),
        }
    }
    Ok(())
}
