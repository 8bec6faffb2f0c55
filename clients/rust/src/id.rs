//! Fresh operation ids, and bytes as text.

use std::fmt::Write as _;

use stonechat_host::Random;

/// A fresh `client_msg_id`: 128 random bits, so that no two installations ever draw the same one.
pub(crate) fn fresh(random: &dyn Random) -> String {
    to_hex(&random.bytes16())
}

pub(crate) fn to_hex(bytes: &[u8]) -> String {
    bytes
        .iter()
        .fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
            // Writing to a String cannot fail.
            let _ = write!(text, "{byte:02x}");
            text
        })
}

pub(crate) fn from_hex(text: &str) -> Option<Vec<u8>> {
    if !text.is_ascii() || !text.len().is_multiple_of(2) {
        return None;
    }
    (0..text.len())
        .step_by(2)
        .map(|at| u8::from_str_radix(&text[at..at + 2], 16).ok())
        .collect()
}
