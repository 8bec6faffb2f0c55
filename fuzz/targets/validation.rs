//! See `stonechat_tests::fuzz::validation`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    stonechat_tests::fuzz::validation(data);
});
