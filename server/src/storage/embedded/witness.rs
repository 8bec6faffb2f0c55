//! ACKED: the number of the newest commit that may have been acknowledged.
//!
//! The engine cannot tell an unacknowledged torn tail from acknowledged data that was damaged later; this file can. The
//! writer notes each durable commit here after it returned and before anybody hears of it, without a second fsync: a
//! killed process loses nothing of it, a loss of power may leave it some seconds behind, and never ahead.
//!
//! Two slots are written in turn, each with its checksum, so that one torn write leaves the other.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use xxhash_rust::xxh3::xxh3_64;

const FILE: &str = "ACKED";
/// Number and checksum.
const SLOT_BYTES: usize = 16;
/// Slots lie in different sectors, so that no torn sector takes both.
const SLOT_GAP: usize = 4_096;

/// The open file.
pub(super) struct Witness {
    file: File,
}

/// What the file says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Acked {
    /// Every commit up to this one is durable.
    UpTo(u64),
    /// The file is missing or damaged.
    Unreadable,
}

fn path_in(folder: &Path) -> PathBuf {
    folder.join(FILE)
}

fn slot(number: u64) -> [u8; SLOT_BYTES] {
    let mut bytes = [0; SLOT_BYTES];
    bytes[..8].copy_from_slice(&number.to_be_bytes());
    let sum = xxh3_64(&bytes[..8]);
    bytes[8..].copy_from_slice(&sum.to_be_bytes());
    bytes
}

fn number_in(bytes: &[u8]) -> Option<u64> {
    let (slot_bytes, _) = bytes.split_first_chunk::<SLOT_BYTES>()?;
    let (number, _) = slot_bytes.split_first_chunk::<8>()?;
    let number = u64::from_be_bytes(*number);
    (slot(number) == *slot_bytes).then_some(number)
}

impl Acked {
    /// Reads the file of a store.
    pub(super) fn read(folder: &Path) -> io::Result<Self> {
        let mut bytes = Vec::new();
        match File::open(path_in(folder)) {
            // More than both slots is not ours: do not read it all.
            Ok(file) => file.take(2 * SLOT_GAP as u64).read_to_end(&mut bytes)?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Self::Unreadable),
            Err(error) => return Err(error),
        };
        let slots = [number_in(&bytes), bytes.get(SLOT_GAP..).and_then(number_in)];
        Ok(slots.into_iter().flatten().max().map_or(Self::Unreadable, Self::UpTo))
    }
}

impl Witness {
    /// Opens or makes the file, says `number` in both slots, durably.
    pub(super) fn open(folder: &Path, number: u64) -> io::Result<Self> {
        let mut options = OpenOptions::new();
        let file = options.create(true).truncate(false).write(true).open(path_in(folder))?;
        let mut witness = Self { file };
        witness.write(0, number)?;
        witness.write(SLOT_GAP, number)?;
        witness.file.sync_all()?;
        Ok(witness)
    }

    /// Notes that every commit up to `number` is durable.
    pub(super) fn note(&mut self, number: u64) -> io::Result<()> {
        let place = if number.is_multiple_of(2) { 0 } else { SLOT_GAP };
        self.write(place, number)
    }

    /// Makes what was noted durable, at a clean stop.
    pub(super) fn sync(&self) -> io::Result<()> {
        self.file.sync_all()
    }

    fn write(&mut self, place: usize, number: u64) -> io::Result<()> {
        self.file.seek(SeekFrom::Start(place as u64))?;
        self.file.write_all(&slot(number))
    }
}
