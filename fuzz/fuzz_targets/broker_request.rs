//! A broker reads a request, as it comes and behind a good header: what it accepts, a client could have sent.

#![no_main]

use jitney_broker::protocol::{decode_request, encode_request};
use jitney_fuzz::framed;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    for message in [input, &framed(0, input)] {
        match decode_request(message) {
            Ok((number, request)) => {
                let again = encode_request(number, &request).expect("it fits into a message");
                assert_eq!(decode_request(&again), Ok((number, request)));
            }
            Err(error) => assert!(!error.to_string().is_empty()),
        }
    }
});
