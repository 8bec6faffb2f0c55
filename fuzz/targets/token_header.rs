//! See `stonechat_tests::fuzz::token_headers`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    stonechat_tests::fuzz::token_headers(data);
});
