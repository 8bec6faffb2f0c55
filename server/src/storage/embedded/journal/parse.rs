//! One batch of fjall's journal, format 3: `1 count seqno`, items, `3 xxh3(items) "FJL" 3`; numbers are little-endian.

use std::io::{self, Read};

use xxhash_rust::xxh3::Xxh3;

use crate::storage::embedded::keys::COMMIT;
use crate::storage::embedded::rows::{self, Commit};

const START: u8 = 1;
const ITEM: u8 = 2;
const END: u8 = 3;
const TRAILER: [u8; 4] = *b"FJL\x03";

/// Items of one batch: the writer makes far fewer. A damaged count ends here instead of reading on for hours.
const ITEMS_MAX: u32 = 1 << 20;
/// Bytes of one value: an entry is at most a frame of 64 KiB. A damaged length must not allocate gigabytes.
const VALUE_BYTES_MAX: usize = 1 << 20;
/// Sequence numbers count batches: no store reaches this, a flipped high bit does.
const SEQUENCE_MAX: u64 = 1 << 56;
/// Values are written uncompressed.
const UNCOMPRESSED: u8 = 0;

/// A whole, verified batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Batch {
    pub(super) sequence: u64,
    /// Its commit record; batches that the engine writes for itself have none.
    pub(super) commit: Option<Commit>,
    pub(super) bytes: u64,
}

/// What lies at a place of the journal.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum ReadBatch {
    Whole(Batch),
    /// Anything else, the end included.
    Broken,
}

/// Counts and hashes what is read.
struct Taken<'a, R> {
    reader: &'a mut R,
    hash: Xxh3,
    bytes: u64,
}

/// `Ok(None)`: the bytes are not what should be here.
type Parsed<T> = io::Result<Option<T>>;

impl<R: Read> Taken<'_, R> {
    fn fill(&mut self, buffer: &mut [u8]) -> Parsed<()> {
        match self.reader.read_exact(buffer) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
            Err(error) => return Err(error),
        }
        self.hash.update(buffer);
        self.bytes += buffer.len() as u64;
        Ok(Some(()))
    }

    fn array<const N: usize>(&mut self) -> Parsed<[u8; N]> {
        let mut buffer = [0; N];
        Ok(self.fill(&mut buffer)?.map(|()| buffer))
    }

    fn vec(&mut self, length: usize) -> Parsed<Vec<u8>> {
        let mut buffer = vec![0; length];
        Ok(self.fill(&mut buffer)?.map(|()| buffer))
    }
}

/// Unwraps a [`Parsed`], or ends with "not what should be here".
macro_rules! parsed {
    ($read:expr) => {
        match $read? {
            Some(value) => value,
            None => return Ok(None),
        }
    };
}

/// Reads one batch; the reader is left anywhere when it is broken.
///
/// # Errors
/// What the operating system says; an early end is `Broken`.
pub(super) fn read_batch(reader: &mut impl Read) -> io::Result<ReadBatch> {
    let mut taken = Taken {
        reader,
        hash: Xxh3::new(),
        bytes: 0,
    };
    Ok(whole_batch(&mut taken)?.map_or(ReadBatch::Broken, ReadBatch::Whole))
}

fn whole_batch(taken: &mut Taken<'_, impl Read>) -> Parsed<Batch> {
    let [tag] = parsed!(taken.array());
    let items = u32::from_le_bytes(parsed!(taken.array()));
    let sequence = u64::from_le_bytes(parsed!(taken.array()));
    if tag != START || items > ITEMS_MAX || sequence > SEQUENCE_MAX {
        return Ok(None);
    }
    taken.hash.reset();
    let mut commit = None;
    for _ in 0..items {
        let (key, value) = parsed!(item(taken));
        if key == COMMIT {
            commit = rows::read_commit(&value).ok();
        }
    }
    let hash = taken.hash.digest();
    let [tag] = parsed!(taken.array());
    let sum = u64::from_le_bytes(parsed!(taken.array()));
    let trailer: [u8; 4] = parsed!(taken.array());
    let whole = tag == END && sum == hash && trailer == TRAILER;
    Ok(whole.then_some(Batch {
        sequence,
        commit,
        bytes: taken.bytes,
    }))
}

fn item(taken: &mut Taken<'_, impl Read>) -> Parsed<(Vec<u8>, Vec<u8>)> {
    let [tag, _value_type, compression] = parsed!(taken.array());
    if tag != ITEM || compression != UNCOMPRESSED {
        return Ok(None);
    }
    let _keyspace: [u8; 8] = parsed!(taken.array());
    let key = u16::from_le_bytes(parsed!(taken.array()));
    let value = u32::from_le_bytes(parsed!(taken.array()));
    let stored = u32::from_le_bytes(parsed!(taken.array()));
    let length = usize::try_from(stored).unwrap_or(usize::MAX);
    if value != stored || length > VALUE_BYTES_MAX {
        return Ok(None);
    }
    let key = parsed!(taken.vec(usize::from(key)));
    let value = parsed!(taken.vec(length));
    Ok(Some((key, value)))
}

/// Whole batches anywhere in `bytes`. Content that a user made to look like one is found too: that errs on the side of
/// refusing to start.
pub(super) fn batches_within(bytes: &[u8]) -> impl Iterator<Item = Batch> {
    let starts = bytes.iter().enumerate().filter(|(_, byte)| **byte == START);
    starts.filter_map(|(at, _)| match read_batch(&mut bytes.get(at..)?) {
        Ok(ReadBatch::Whole(batch)) => Some(batch),
        _ => None,
    })
}
