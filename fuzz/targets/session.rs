//! See `stonechat_tests::fuzz::session`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let _ = stonechat_tests::fuzz::session(data);
});
