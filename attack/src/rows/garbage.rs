//! What is no message, and what is nearly one.

use super::Play;
use crate::body::Body;
use crate::client::Client;
use crate::protocol::{Heard, Kind, MAX_MESSAGE, Offered, Refusal, Request, Step, message};
use crate::round::{End, Round};
use crate::stage::{Random, Stage};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use std::os::fd::AsFd;

pub(super) const PLAYS: &[(&str, Play)] =
    &[("garbage", play_garbage), ("unreadable", play_unreadable), ("mutated", play_mutated)];

pub(super) fn garbage(round: &Round<'_>) -> anyhow::Result<()> {
    round.play(&round.role("garbage", round.figure(5, 200)), End::Itself)
}

/// Messages that are none: each is answered with an error of number 0 and the end.
fn play_garbage(stage: &Stage) -> anyhow::Result<()> {
    let valid = Request::Usage { after: None }.encode(7);
    let with = |at: usize, value: u8| {
        let mut bytes = valid.clone();
        bytes[at] = value;
        bytes
    };
    let mut random = stage.random();
    let mut noise = vec![0; 60_000];
    random.fill(&mut noise);
    let nonsense: Vec<Vec<u8>> = vec![
        vec![0],
        b"GET / HTTP/1.1\r\n\r\n".to_vec(),
        vec![0xff; 64],
        valid[..15].to_vec(),
        valid[..16].to_vec(),
        [valid.clone(), vec![0]].concat(),
        with(0, 1),
        with(3, 0xff),
        with(4, 1),
        with(4, 2),
        with(4, 4),
        with(5, 1),
        with(6, 1),
        with(6, 2),
        with(6, 3),
        with(7, 0x80),
        message(0, &vec![0; MAX_MESSAGE]),
        noise,
    ];
    for _ in 0..stage.count {
        for bytes in &nonsense {
            for known in [false, true] {
                let mut client = if known { stage.client()? } else { stage.stranger()? };
                client.say(bytes, &[])?;
                expect_the_end(stage, &mut client, bytes)?;
                stage.did(1);
            }
        }
        // An empty one is the end of its sender, who had something.
        let (client, _grant) = stage.with_card()?;
        client.say(&[], &[])?;
    }
    Ok(())
}

fn expect_the_end(stage: &Stage, client: &mut Client, bytes: &[u8]) -> anyhow::Result<()> {
    let shown = &bytes[..bytes.len().min(20)];
    match client.hear()? {
        Some((Heard::Refused { number: 0, .. }, _)) => {}
        other => stage.broken(format!("{shown:x?} was answered with {other:?}")),
    }
    if let Some((other, _)) = client.hear()? {
        stage.broken(format!("{shown:x?} was followed by {other:?}"));
    }
    Ok(())
}

pub(super) fn unreadable(round: &Round<'_>) -> anyhow::Result<()> {
    round.play(&round.role("unreadable", round.figure(10, 500)), End::Itself)
}

/// Bodies that cannot be read: each is answered with an error (2 invalid) of its number, and the client stays.
fn play_unreadable(stage: &Stage) -> anyhow::Result<()> {
    let start = |index| Body::default().varint(index);
    let bodies: Vec<Vec<u8>> = vec![
        Vec::new(),
        start(200).bytes(),
        start(u64::MAX).bytes(),
        vec![0x80; 12],
        start(2).bytes(),
        start(2).varint(u64::from(u32::MAX) + 1).bytes(),
        start(2).varint(0).u8(0).bytes(),
        start(1).u8(2).bytes(),
        // A list of steps that says it has as many as there are numbers.
        start(6).varint(0).string("x").varint(0).varint(u64::MAX).bytes(),
        start(6).varint(0).string("x").varint(2).varint(0).bytes(),
        start(6).varint(0).string("x").varint(0).varint(1).varint(2).bytes(),
        start(6).varint(0).varint(5).u8(0xff).u8(0xfe).u8(0x80).u8(0).u8(0).varint(0).varint(0).bytes(),
        start(7).varint(0).varint(0).u8(7).bytes(),
        start(6).varint(0).varint(u64::MAX).bytes(),
        // A token that is too short, an offer of no kind, an option that is neither there nor not.
        start(15).varint(0).u8(1).bytes(),
        start(15).varint(2).string("x").bytes(),
        start(14).varint(0).u8(2).bool(true).bytes(),
        start(18).bytes(),
    ];
    // These can be read, and are as wrong.
    let odd = [
        Request::lease(stage.card, "H2C", &[]),
        Request::lease(stage.card, "", &[]),
        Request::lease(stage.card, &"x".repeat(33), &[]),
        Request::lease(stage.card, "a/b", &[]),
        Request::Allocate { card: None, size: 0, align: 1, top: u64::MAX, page_shift: 12 },
        Request::Allocate { card: None, size: 1, align: 0, top: u64::MAX, page_shift: 12 },
        Request::Allocate { card: None, size: 1, align: 3, top: u64::MAX, page_shift: 12 },
        Request::Allocate { card: None, size: 1, align: 1 << 63, top: 4095, page_shift: 12 },
        Request::Allocate { card: None, size: u64::MAX, align: 1, top: u64::MAX, page_shift: 12 },
        Request::Allocate {
            card: None,
            size: u64::MAX - 4095,
            align: 1 << 63,
            top: u64::MAX,
            page_shift: 12,
        },
        Request::Allocate { card: None, size: 1, align: 1, top: 0, page_shift: 12 },
        Request::Allocate { card: None, size: 1, align: 1, top: u64::MAX, page_shift: 255 },
        Request::Allocate { card: Some(u32::MAX), size: 1, align: 1, top: u64::MAX, page_shift: 12 },
        Request::Open { card: u32::MAX },
        Request::Close { card: u32::MAX },
        Request::Free { iova: 0 },
        Request::Free { iova: u64::MAX },
        Request::Release { card: stage.card, lease: u64::MAX, will: true },
        Request::Wire { card: stage.card, vector: u16::MAX },
        Request::Silence { card: stage.card, vector: u16::MAX },
        Request::Reset { card: u32::MAX },
        Request::Unshare { iova: u64::MAX },
        Request::Attach { offered: Offered::Token([0; 16]) },
        Request::Attach { offered: Offered::Name("nobody".to_owned()) },
        Request::Attach { offered: Offered::Name("x".repeat(60_000)) },
        Request::Traffic { client: u64::MAX },
    ];
    let (mut client, _grant) = stage.with_card()?;
    for _ in 0..stage.count {
        for body in &bodies {
            client.say(&message(77, body), &[])?;
            match client.hear()? {
                Some((Heard::Refused { number: 77, refusal: Refusal { kind: Kind::Invalid, .. } }, _)) => {}
                other => {
                    stage.broken(format!("the body {body:x?} was answered with {other:?}"));
                    client = stage.client()?;
                }
            }
            stage.did(1);
        }
        for request in &odd {
            let number = client.post(request, &[])?;
            match client.hear()? {
                Some((Heard::Refused { number: same, .. }, _)) if same == number => {}
                other => {
                    stage.broken(format!("{request:?} was answered with {other:?}"));
                    client = stage.client()?;
                }
            }
            stage.did(1);
        }
    }
    client.users().map(drop)
}

pub(super) fn mutated(round: &Round<'_>) -> anyhow::Result<()> {
    round.play(&round.role("mutated", round.figure(4000, 200_000)), End::Itself)
}

/// Valid requests with something wrong in them, in any order, on connections that last as long as they may.
fn play_mutated(stage: &Stage) -> anyhow::Result<()> {
    let mut random = stage.random();
    let event = jitney_memory::EventFd::new()?;
    let mut client = None;
    for number in 0..stage.count {
        let at = match &mut client {
            Some(client) => client,
            none => none.insert(fresh(stage, &mut random)?),
        };
        let request = any_request(stage, &mut random);
        let mut bytes = request.encode(u64::from(number) + 10);
        mutate(&mut bytes, &mut random);
        let descriptors = [event.as_fd()];
        let beside = matches!(request, Request::Wire { .. } | Request::Share { .. }) || random.below(50) == 0;
        let said = at.say(&bytes, if beside { &descriptors } else { &[] });
        let (mut alive, mut heard) = (said.is_ok(), 0);
        // What is there to be read is read now and then only.
        while alive && random.below(3) > 0 && heard < 200 && readable(at) {
            alive = at.hear()?.is_some();
            heard += 1;
        }
        if !alive || random.below(100) == 0 {
            client = None;
        }
        stage.did(1);
    }
    Ok(())
}

fn fresh(stage: &Stage, random: &mut Random) -> anyhow::Result<Client> {
    Ok(if random.below(2) == 0 { stage.client()? } else { stage.with_card()?.0 })
}

fn readable(client: &Client) -> bool {
    let now = Timespec { tv_sec: 0, tv_nsec: 0 };
    matches!(poll(&mut [PollFd::new(&client.socket, PollFlags::IN)], Some(&now)), Ok(1))
}

/// A number that is small, or at an edge, or anything.
fn any_number(random: &mut Random) -> u64 {
    match random.below(6) {
        0 => 0,
        1 => random.next() % 4,
        2 => 1 << random.below(64),
        3 => (1 << random.below(64)) - 1,
        4 => u64::MAX - random.next() % 8192,
        _ => random.next(),
    }
}

fn any_request(stage: &Stage, random: &mut Random) -> Request {
    let small = |random: &mut Random| u32::try_from(any_number(random) & 0xffff_ffff).unwrap_or(0);
    let card = if random.below(8) > 0 { stage.card } else { small(random) };
    let vector = u16::try_from(random.next() & 0x1f).unwrap_or(0) + 1;
    // Not the good client's parts, and no waits: those have rows of their own.
    let will = |random: &mut Random| -> Vec<Step> {
        (0..random.below(3))
            .map(|_| Step::Write { bar: 2, offset: 0x3000 + any_number(random) % 0x40 * 4, value: 0 })
            .collect()
    };
    match random.below(19) {
        0 => Request::hello("mutated"),
        1 => Request::Cards { after: (random.below(2) == 0).then(|| small(random)) },
        2 => Request::Open { card },
        3 => Request::Close { card },
        4 => Request::Allocate {
            card: (random.below(4) > 0).then_some(card),
            size: any_number(random) % (4 << 20),
            align: any_number(random),
            top: any_number(random),
            page_shift: [12, 12, 12, 21, 30, 0, 255][random.below(7)],
        },
        5 => Request::Free { iova: any_number(random) },
        6 => Request::Lease {
            card,
            part: format!("m{}", random.below(9)),
            shared: random.below(2) == 0,
            will: will(random),
            wait: [0, 0, 1, 50, u32::MAX][random.below(5)],
        },
        7 => Request::Release { card, lease: any_number(random), will: random.below(2) == 0 },
        8 => Request::Wire { card, vector },
        9 => Request::Silence { card, vector },
        10 => Request::Usage { after: Some(any_number(random)) },
        12 => Request::Withdraw { number: any_number(random) % 0x1000 },
        11 => Request::lease(card, &format!("irq{vector}"), &will(random)),
        13 => Request::Share {
            iova: any_number(random),
            name: (random.below(2) == 0).then(|| format!("m{}", random.below(9))),
            writable: random.below(2) == 0,
        },
        14 => Request::Attach {
            offered: match random.below(2) {
                0 => Offered::Token(random.next().to_le_bytes().repeat(2).try_into().unwrap_or([0; 16])),
                _ => Offered::Name(format!("m{}", random.below(9))),
            },
        },
        15 => Request::Unshare { iova: any_number(random) },
        16 => Request::Tallies,
        17 => Request::Traffic { client: any_number(random) },
        _ => Request::Goodbye,
    }
}

/// Changes a message, or leaves it as it is.
fn mutate(bytes: &mut Vec<u8>, random: &mut Random) {
    match random.below(8) {
        0 => {
            let at = random.below(bytes.len());
            bytes[at] ^= 1 << random.below(8);
        }
        1 => bytes.truncate(random.below(bytes.len()) + 1),
        2 => {
            let mut more = vec![0; random.below(64)];
            random.fill(&mut more);
            bytes.extend_from_slice(&more);
        }
        // The same, with a size that is right.
        3 if bytes.len() > 17 => {
            let at = 16 + random.below(bytes.len() - 16);
            bytes[at] = bytes[at].wrapping_add(u8::try_from(random.next() & 0x7f).unwrap_or(1));
        }
        _ => {}
    }
}
