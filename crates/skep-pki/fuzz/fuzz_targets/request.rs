#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| skep_pki::fuzz::fuzz_request(bytes));
