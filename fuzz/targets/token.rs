//! See `stonechat_tests::fuzz::secret_tokens`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    stonechat_tests::fuzz::secret_tokens(data);
});
