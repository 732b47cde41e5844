#![no_main]

#[allow(dead_code, reason = "each target checks one thing")]
#[path = "../checks.rs"]
mod checks;

libfuzzer_sys::fuzz_target!(|data: &[u8]| checks::driver(data));
