//! The target `envelope`: see `factum_fuzz`.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| (factum_fuzz::target("envelope").run)(bytes));
