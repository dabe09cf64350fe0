//! A server reads a request: two bytes of command, then the body.

#![no_main]

use jitney_vfio_user::Request;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    let Some((command, body)) = input.split_first_chunk() else { return };
    match Request::decode(u16::from_ne_bytes(*command), body) {
        Ok(request) => {
            let mut out = Vec::new();
            request.encode(0, &mut out);
            assert_eq!(Request::decode(request.command().number(), &out[16..]), Ok(request));
        }
        Err(error) => assert!(error.errno() != 0 && !error.to_string().is_empty()),
    }
});
