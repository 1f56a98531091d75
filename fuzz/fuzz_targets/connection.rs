//! The target `connection`: see `factum_fuzz`.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| (factum_fuzz::target("connection").run)(bytes));
