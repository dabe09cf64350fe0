//! A client reads a reply, as it comes and behind the two good headers: what it accepts, a broker could have sent.

#![no_main]

use jitney_broker::protocol::{decode_reply, encode_reply};
use jitney_fuzz::framed;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    for message in [input, &framed(1, input), &framed(2, input)] {
        match decode_reply(message) {
            Ok((number, reply)) => {
                let again = encode_reply(number, &reply).expect("it fits into a message");
                assert_eq!(decode_reply(&again), Ok((number, reply)));
            }
            Err(error) => assert!(!error.to_string().is_empty()),
        }
    }
});
