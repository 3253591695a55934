//! Fuzzes `approval` of the entry points.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    steward_fuzz::approval(bytes);
});
