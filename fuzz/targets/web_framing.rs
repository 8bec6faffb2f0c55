//! See `stonechat_tests::fuzz::web_framing`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    stonechat_tests::fuzz::web_framing(data);
});
