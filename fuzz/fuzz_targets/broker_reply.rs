//! A client reads a reply, as it comes and behind the two good headers: what it accepts, a broker could have sent.

#![no_main]

use jitney_broker::protocol::{Message, decode_message, encode_notice, encode_reply};
use jitney_fuzz::framed;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    for message in [input, &framed(1, input), &framed(2, input), &framed(3, input)] {
        let decoded = match decode_message(message) {
            Ok(decoded) => decoded,
            Err(error) => {
                assert!(!error.to_string().is_empty());
                continue;
            }
        };
        let again = match &decoded {
            Message::Reply(number, reply) => encode_reply(*number, reply),
            Message::Notice(Some(notice)) => encode_notice(notice),
            Message::Notice(None) => continue,
        };
        assert_eq!(decode_message(&again.expect("it fits into a message")), Ok(decoded));
    }
});
