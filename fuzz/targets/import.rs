//! See `stonechat_tests::fuzz::import_lines`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let _ = stonechat_tests::fuzz::import_lines(data);
});
