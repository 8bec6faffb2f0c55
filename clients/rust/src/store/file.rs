//! A store in one file: an append-only journal of JSON lines, fsynced, compacted by an atomic rename.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use super::{ClientStore, QueuedOperation, Record, StoreError, Stored};
use crate::id::{from_hex, to_hex};

/// Lines a journal may have beyond twice the live ones before it is rewritten: rewriting stays rare, the file small.
const SLACK_LINES: usize = 4_096;

/// One line of the journal.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Line {
    /// An operation: a `stonechat.v1.ClientFrame` in hex.
    Queued(String),
    /// A finished operation's id, as older versions wrote it.
    Finished(String),
    /// A finished operation's conversation and id.
    FinishedIn(String, String),
    /// Conversation and seq.
    Position(String, u64),
    /// A list cursor in hex.
    Cursor(String),
}

/// Remembers in a file. One process at a time: the journal is locked while the store lives.
#[derive(Clone)]
pub struct FileStore(Arc<Mutex<Journal>>);

struct Journal {
    path: PathBuf,
    file: File,
    /// Holds the lock; the journal itself is replaced by compaction.
    _lock: File,
    stored: Stored,
    lines: usize,
    /// Bytes of whole, written lines.
    length: u64,
    /// A write failed and could not be undone: nothing may be written after it.
    broken: bool,
}

impl FileStore {
    /// Opens or creates the journal at `path`. An unfinished last line, left by a crash, is dropped: it was never
    /// reported as written.
    ///
    /// # Errors
    /// Damaged, in use by another process, or not accessible.
    pub fn open(path: impl Into<PathBuf>) -> Result<Self, StoreError> {
        let path = path.into();
        let journal =
            Journal::open(&path).map_err(|error| StoreError::Unreadable(format!("{}: {error}", path.display())))?;
        Ok(Self(Arc::new(Mutex::new(journal))))
    }
}

#[async_trait]
impl ClientStore for FileStore {
    async fn load(&self) -> Result<Stored, StoreError> {
        Ok(self.0.lock().unwrap_or_else(PoisonError::into_inner).stored.clone())
    }

    async fn append(&self, records: &[Record]) -> Result<(), StoreError> {
        let journal = Arc::clone(&self.0);
        let records = records.to_vec();
        let write = move || {
            let mut journal = journal.lock().unwrap_or_else(PoisonError::into_inner);
            journal.append(&records)
        };
        tokio::task::spawn_blocking(write)
            .await
            .unwrap_or_else(|error| Err(StoreError::Unknown(error.to_string())))
    }
}

impl Journal {
    fn open(path: &Path) -> io::Result<Self> {
        let lock = open_locked(&path.with_extension("lock"))?;
        let mut file = OpenOptions::new().read(true).append(true).create(true).open(path)?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes)?;
        // Everything after the last newline is a line a crash cut off.
        let length = bytes.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
        let mut stored = Stored::default();
        let mut lines = 0;
        for line in bytes[..length]
            .split(|byte| *byte == b'\n')
            .filter(|line| !line.is_empty())
        {
            lines += 1;
            stored.apply(decode(line).ok_or_else(|| damaged(lines))?);
        }
        file.set_len(length as u64)?;
        sync_folder(path)?;
        Ok(Self {
            path: path.to_owned(),
            file,
            _lock: lock,
            stored,
            lines,
            length: length as u64,
            broken: false,
        })
    }

    fn append(&mut self, records: &[Record]) -> Result<(), StoreError> {
        if self.broken {
            return Err(StoreError::NotWritten(
                "an earlier write failed; open it again".to_owned(),
            ));
        }
        let bytes = encode(records).map_err(|error| StoreError::NotWritten(error.to_string()))?;
        let written = self.file.write_all(&bytes).and_then(|()| self.file.sync_data());
        if let Err(error) = written {
            return Err(self.undo(&error));
        }
        self.length += bytes.len() as u64;
        self.lines += records.len();
        for record in records {
            self.stored.apply(record.clone());
        }
        self.compact_when_due();
        Ok(())
    }

    /// Takes a failed write back, so that a restart does not find what was reported as not written.
    fn undo(&mut self, error: &io::Error) -> StoreError {
        let undone = self.file.set_len(self.length).and_then(|()| self.file.sync_data());
        if undone.is_ok() {
            return StoreError::NotWritten(error.to_string());
        }
        self.broken = true;
        StoreError::Unknown(error.to_string())
    }

    fn compact_when_due(&mut self) {
        let live = self.stored.outbox.len() + self.stored.positions.len() + 1;
        if self.lines <= 2 * live + SLACK_LINES {
            return;
        }
        // A journal that could not be rewritten is only longer than it need be.
        if let Err(error) = self.compact() {
            tracing::warn!(%error, "the client's journal was not compacted");
        }
    }

    fn compact(&mut self) -> io::Result<()> {
        let records = live_records(&self.stored);
        let bytes = encode(&records)?;
        let fresh_path = self.path.with_extension("new");
        let mut fresh = File::create(&fresh_path)?;
        fresh.write_all(&bytes)?;
        fresh.sync_all()?;
        let mut reopened = OpenOptions::new().read(true).append(true).open(&fresh_path)?;
        reopened.seek(SeekFrom::End(0))?;
        std::fs::rename(&fresh_path, &self.path)?;
        self.file = reopened;
        self.lines = records.len();
        self.length = bytes.len() as u64;
        sync_folder(&self.path)
    }
}

fn open_locked(path: &Path) -> io::Result<File> {
    let lock = OpenOptions::new().write(true).create(true).truncate(false).open(path)?;
    lock.try_lock().map_err(|error| {
        io::Error::new(
            io::ErrorKind::ResourceBusy,
            format!("in use by another process: {error}"),
        )
    })?;
    Ok(lock)
}

/// A rename or creation is durable only once its folder is.
fn sync_folder(path: &Path) -> io::Result<()> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    File::open(folder.unwrap_or_else(|| Path::new(".")))?.sync_all()
}

fn damaged(line: usize) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("line {line} is damaged"))
}

fn live_records(stored: &Stored) -> Vec<Record> {
    let positions = stored.positions.iter().map(|(conversation_id, seq)| Record::Position {
        conversation_id: conversation_id.clone(),
        seq: *seq,
    });
    positions
        .chain([Record::Cursor(stored.cursor.clone())])
        .chain(stored.outbox.iter().cloned().map(Record::Queued))
        .collect()
}

fn encode(records: &[Record]) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    for record in records {
        serde_json::to_writer(&mut bytes, &to_line(record))?;
        bytes.push(b'\n');
    }
    Ok(bytes)
}

fn to_line(record: &Record) -> Line {
    match record {
        Record::Queued(operation) => Line::Queued(to_hex(&operation.encode())),
        Record::Finished {
            conversation_id,
            client_msg_id,
        } => Line::FinishedIn(conversation_id.clone(), client_msg_id.clone()),
        Record::Position { conversation_id, seq } => Line::Position(conversation_id.clone(), *seq),
        Record::Cursor(cursor) => Line::Cursor(to_hex(cursor)),
    }
}

fn finished(conversation_id: String, client_msg_id: String) -> Record {
    Record::Finished {
        conversation_id,
        client_msg_id,
    }
}

fn decode(line: &[u8]) -> Option<Record> {
    Some(match serde_json::from_slice(line).ok()? {
        Line::Queued(hex) => Record::Queued(QueuedOperation::decode(&from_hex(&hex)?)?),
        Line::Finished(client_msg_id) => finished(String::new(), client_msg_id),
        Line::FinishedIn(conversation_id, client_msg_id) => finished(conversation_id, client_msg_id),
        Line::Position(conversation_id, seq) => Record::Position { conversation_id, seq },
        Line::Cursor(hex) => Record::Cursor(from_hex(&hex)?),
    })
}

#[cfg(test)]
#[path = "file_tests.rs"]
mod tests;
