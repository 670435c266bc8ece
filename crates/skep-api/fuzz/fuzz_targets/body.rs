#![no_main]

use skep_api::{BodyKind, fuzz_body};

// The first byte says what the rest is read as.
libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    if let Some((first, rest)) = bytes.split_first() {
        fuzz_body(BodyKind::ALL[usize::from(*first) % BodyKind::ALL.len()], rest);
    }
});
