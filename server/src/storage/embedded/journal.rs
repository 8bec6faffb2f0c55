//! Checks the engine's journal before the engine may cut it.
//!
//! On its own the engine (fjall 3, `TolerateCorruptTail`) cuts a journal at the first tag it does not know, with
//! everything after it, trusts lengths before it verifies them, and does not checksum the sequence number of a batch.
//! So this reads every journal first, in the engine's own format (version 3), and decides:
//!
//! | at the first byte that is not a whole, verified batch | |
//! |---|---|
//! | only zeros follow (the engine preallocates) | the end |
//! | in a journal that is not the newest | damage: it was synced before its successor was made |
//! | in the newest, and [`Acked`] names a commit that is not before it | damage |
//! | in the newest, and a whole batch follows that was written when a commit from there on was already durable | damage |
//! | in the newest, and [`Acked`] cannot be read | damage: nobody knows |
//! | before the first commit of the first journal | damage: it was durable before the folder became a store |
//! | in the newest otherwise | a torn tail that was never acknowledged: cut, and said in the log |
//!
//! What cannot be told apart: after a loss of power that left [`Acked`] behind, later damage to the very last
//! acknowledged batches looks like a torn tail.

mod parse;

#[cfg(test)]
mod tests;

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufReader, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use self::parse::{Batch, ReadBatch, read_batch};
use super::fault::OpenError;
use super::witness::Acked;

/// The number of the journal that a store is made with.
const FIRST_JOURNAL: u64 = 0;

/// What the journals hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Journals {
    /// Newest commit in them; `None` when they hold none.
    pub(super) newest: Option<u64>,
    /// Sequence number of the newest batch; the engine's, for the check that it grows.
    sequence: Option<u64>,
}

/// Where reading a journal stopped.
struct Stop {
    /// First byte that is not part of a whole batch.
    at: u64,
    /// Bytes from there to the last that is not zero; empty at a clean end.
    rest: Vec<u8>,
}

/// Verifies all journals in the engine's folder; cuts a torn tail that was never acknowledged.
///
/// # Errors
/// `Damaged` as in the table above; nothing was cut.
pub(super) fn check(engine: &Path, acked: Acked) -> Result<Journals, OpenError> {
    let refused = |error: io::Error| OpenError::of_io(engine, &error);
    let files = journal_files(engine).map_err(refused)?;
    let mut journals = Journals::default();
    let Some((newest, sealed)) = files.split_last() else {
        return Err(OpenError::damaged(engine, "it holds no journal"));
    };
    for (number, path) in sealed {
        let stop = journals.read(path)?;
        if !stop.rest.is_empty() {
            return Err(damaged_at(
                path,
                &stop,
                "it was complete before the next journal was made",
            ));
        }
        if !files.iter().any(|(other, _)| *other == number + 1) {
            return Err(OpenError::damaged(engine, format!("journal {} is missing", number + 1)));
        }
    }
    let stop = journals.read(&newest.1)?;
    if !stop.rest.is_empty() {
        if newest.0 == FIRST_JOURNAL && journals.newest.is_none() {
            return Err(damaged_at(
                &newest.1,
                &stop,
                "the commit that makes a store was durable",
            ));
        }
        journals.judge_tail(&newest.1, &stop, acked)?;
        cut(&newest.1, &stop).map_err(refused)?;
    }
    Ok(journals)
}

/// A door for fuzz targets: how many whole, verified batches a journal begins with, and how many lie anywhere in it.
#[cfg(feature = "fuzzing")]
#[must_use]
pub fn batches_in(journal: &[u8]) -> (usize, usize) {
    let (mut rest, mut whole) = (journal, 0);
    while let Ok(ReadBatch::Whole(_)) = read_batch(&mut rest) {
        whole += 1;
    }
    (whole, parse::batches_within(journal).count())
}

/// Journals by number, oldest first.
fn journal_files(engine: &Path) -> io::Result<Vec<(u64, PathBuf)>> {
    let mut files = Vec::new();
    for found in fs::read_dir(engine)? {
        let path = found?.path();
        if path.extension().is_some_and(|extension| extension == "jnl") {
            let number = path.file_stem().and_then(|stem| stem.to_str()?.parse().ok());
            let number = number.ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "a journal has no number"))?;
            files.push((number, path));
        }
    }
    files.sort_unstable();
    Ok(files)
}

impl Journals {
    fn read(&mut self, path: &Path) -> Result<Stop, OpenError> {
        let refused = |error: io::Error| OpenError::of_io(path, &error);
        let mut reader = BufReader::new(File::open(path).map_err(refused)?);
        let mut at = 0;
        while let ReadBatch::Whole(batch) = read_batch(&mut reader).map_err(refused)? {
            self.take(&batch)
                .map_err(|why| OpenError::damaged(path, format!("at byte {at}: {why}")))?;
            at += batch.bytes;
        }
        reader.seek(SeekFrom::Start(at)).map_err(refused)?;
        let rest = rest_without_zeros(&mut reader).map_err(refused)?;
        Ok(Stop { at, rest })
    }

    fn take(&mut self, batch: &Batch) -> Result<(), String> {
        if self.sequence.is_some_and(|before| batch.sequence <= before) {
            return Err("a batch is out of sequence".to_owned());
        }
        self.sequence = Some(batch.sequence);
        if let Some(commit) = batch.commit {
            if self.newest.is_some_and(|before| commit.number != before + 1) {
                return Err(format!(
                    "commit {} follows another than the one before it",
                    commit.number
                ));
            }
            self.newest = Some(commit.number);
        }
        Ok(())
    }

    fn judge_tail(&self, path: &Path, stop: &Stop, acked: Acked) -> Result<(), OpenError> {
        let Acked::UpTo(acked) = acked else {
            return Err(damaged_at(
                path,
                stop,
                "the record of what was acknowledged is damaged as well",
            ));
        };
        if self.newest.is_some_and(|newest| newest < acked) {
            return Err(damaged_at(path, stop, &format!("commit {acked} was acknowledged")));
        }
        if let Some(later) = self.durable_proof(&stop.rest) {
            return Err(damaged_at(
                path,
                stop,
                &format!("commit {later} follows, which was written after it was durable"),
            ));
        }
        Ok(())
    }

    /// The number of a whole batch in `rest` that knew a commit before it, which is damaged, to be durable.
    fn durable_proof(&self, rest: &[u8]) -> Option<u64> {
        let commit = parse::batches_within(rest).find_map(|batch| batch.commit)?;
        let first_damaged = self
            .newest
            .map_or_else(|| commit.number.saturating_sub(1), |newest| newest + 1);
        (commit.durable >= first_damaged).then_some(commit.number)
    }
}

fn damaged_at(path: &Path, stop: &Stop, why: &str) -> OpenError {
    OpenError::damaged(path, format!("at byte {}: not a whole batch, though {why}", stop.at))
}

/// What follows, up to the last byte that is not zero.
fn rest_without_zeros(reader: &mut impl Read) -> io::Result<Vec<u8>> {
    const BLOCK: usize = 64 * 1024;
    static ZEROS: [u8; BLOCK] = [0; BLOCK];
    let (mut rest, mut zeros) = (Vec::new(), 0_usize);
    let mut block = vec![0; BLOCK];
    loop {
        let read = reader.read(&mut block)?;
        if read == 0 {
            break;
        }
        if block[..read] == ZEROS[..read] {
            zeros += read;
            continue;
        }
        rest.resize(rest.len() + zeros, 0);
        zeros = 0;
        rest.extend_from_slice(&block[..read]);
    }
    let end = rest.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
    rest.truncate(end);
    Ok(rest)
}

fn cut(path: &Path, stop: &Stop) -> io::Result<()> {
    tracing::warn!(
        journal = %path.display(),
        at = stop.at,
        bytes = stop.rest.len(),
        "cutting a torn tail that was never acknowledged"
    );
    let file = OpenOptions::new().write(true).open(path)?;
    file.set_len(stop.at)?;
    file.sync_all()
}

/// Where each whole batch ends.
#[cfg(test)]
pub(super) fn batch_ends(path: &Path) -> Vec<u64> {
    let mut reader = BufReader::new(File::open(path).expect("a journal"));
    let (mut at, mut ends) = (0, Vec::new());
    while let ReadBatch::Whole(batch) = read_batch(&mut reader).expect("readable") {
        at += batch.bytes;
        ends.push(at);
    }
    ends
}
