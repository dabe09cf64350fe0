//! A stream of messages arrives whole, and in pieces as long as the first byte says: the same comes out.

#![no_main]

use jitney_vfio_user::{FrameError, Frames, Header};
use libfuzzer_sys::fuzz_target;

type Received = (Vec<(Header, Vec<u8>)>, Result<(), FrameError>);

fn receive(pieces: impl Iterator<Item: AsRef<[u8]>>) -> Received {
    let (mut frames, mut messages) = (Frames::with_limit(4096), Vec::new());
    for piece in pieces {
        frames.push(piece.as_ref());
        loop {
            match frames.next_message() {
                Ok(Some(message)) => messages.push((message.header, message.body.to_vec())),
                Ok(None) => break,
                Err(error) => return (messages, Err(error)),
            }
        }
        assert!(frames.missing() > 0 && frames.space().len() == frames.missing());
    }
    (messages, Ok(()))
}

fuzz_target!(|input: &[u8]| {
    let Some((piece, stream)) = input.split_first() else { return };
    let pieces = stream.chunks(usize::from(*piece).max(1));
    assert_eq!(receive(pieces), receive([stream].into_iter()));
});
