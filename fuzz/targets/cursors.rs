//! See `stonechat_tests::fuzz::cursors`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    stonechat_tests::fuzz::cursors(data);
});
