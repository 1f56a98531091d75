//! The target `directory`: see `factum_fuzz`.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| (factum_fuzz::target("directory").run)(bytes));
