#![no_main]

use skep_proto::fuzz::{Kind, fuzz_calls, fuzz_object};

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    fuzz_calls(bytes);
    if let Some((&choice, rest)) = bytes.split_first() {
        fuzz_object(Kind::ALL[usize::from(choice) % Kind::ALL.len()], rest);
    }
});
