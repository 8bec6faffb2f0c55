//! Checks the engine's lists of table files, whose checksums the engine writes but does not read (lsm-tree 3.1).
//!
//! A flipped bit there could take a whole table out of the store without a word.

use std::fs;
use std::io;
use std::path::Path;

use xxhash_rust::xxh3::xxh3_128;

use super::fault::OpenError;

/// `current`: number of the list, its xxh3-128, the kind of checksum; little-endian.
const CURRENT_BYTES: usize = 8 + 16 + 1;

/// Verifies the list of every keyspace in the engine's folder.
///
/// # Errors
/// `Damaged` when a list is missing or another than was written.
pub(super) fn check(engine: &Path) -> Result<(), OpenError> {
    let keyspaces = engine.join("keyspaces");
    let refused = |error: io::Error| OpenError::of_io(&keyspaces, &error);
    for found in fs::read_dir(&keyspaces).map_err(refused)? {
        let folder = found.map_err(refused)?.path();
        if folder.is_dir() {
            check_one(&folder)?;
        }
    }
    Ok(())
}

fn check_one(folder: &Path) -> Result<(), OpenError> {
    let damaged = |why: String| OpenError::damaged(folder, why);
    let read = |name: &str| fs::read(folder.join(name)).map_err(|error| damaged(format!("{name}: {error}")));
    let current = read("current")?;
    let parts = current
        .first_chunk::<CURRENT_BYTES>()
        .filter(|_| current.len() == CURRENT_BYTES);
    let (number, rest) = parts
        .and_then(|bytes| bytes.split_first_chunk::<8>())
        .ok_or_else(|| damaged("its current file is cut".to_owned()))?;
    let sum = rest.first_chunk::<16>().map(|bytes| u128::from_le_bytes(*bytes));
    let name = format!("v{}", u64::from_le_bytes(*number));
    if sum != Some(xxh3_128(&read(&name)?)) {
        return Err(damaged(format!("the checksum of its list {name} is wrong")));
    }
    Ok(())
}
