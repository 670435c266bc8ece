#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| skep_image::fuzz::fuzz_manifest(bytes));
