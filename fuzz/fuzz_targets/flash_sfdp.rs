//! What a flash says of itself.

#![no_main]

use jitney_boards::flash::sfdp::{Parameters, SfdpError};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    match Parameters::parse(bytes) {
        Ok(own) => {
            assert!(own.size.is_power_of_two() && own.page.is_power_of_two() && !own.erases.is_empty());
            assert!(own.erases.iter().all(|erase| erase.size.is_power_of_two()));
        }
        Err(SfdpError::Short(needed)) => assert!(needed > bytes.len()),
        Err(_) => {}
    }
});
