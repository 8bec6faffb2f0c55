//! The golden bytes of client frames, to begin mutations with.

use std::fs;
use std::path::Path;

/// The conversation that the golden frames name.
pub const ROOM: &str = "6f1d9a52-8a1c-4b7e-9f57-0f2d3c4b5a69";

/// Every golden client frame, in the order of their names.
///
/// # Panics
/// The files are not there.
#[must_use]
pub fn client_frames() -> Vec<Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../proto/golden");
    let found = fs::read_dir(&folder).expect("the golden files");
    let mut paths: Vec<_> = found.map(|found| found.expect("readable").path()).collect();
    paths.retain(|path| path.to_string_lossy().contains("client_frame."));
    paths.sort_unstable();
    assert!(paths.len() > 20, "{paths:?}");
    paths
        .iter()
        .map(|path| unhex(&fs::read_to_string(path).expect("readable")))
        .collect()
}

fn unhex(text: &str) -> Vec<u8> {
    let digits: String = text.split_whitespace().collect();
    let byte = |at| u8::from_str_radix(&digits[at..at + 2], 16).expect("hex digits");
    (0..digits.len()).step_by(2).map(byte).collect()
}
