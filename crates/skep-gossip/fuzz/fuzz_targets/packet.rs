#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| skep_gossip::fuzz::fuzz_packet(bytes));
