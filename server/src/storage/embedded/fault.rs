//! What can go wrong below the traits, and how it reads there.

use std::io;
use std::path::PathBuf;

use crate::storage::{AppendError, MarkerError, ReadError};

/// Something stored could not be read.
#[derive(Debug, Clone, thiserror::Error)]
pub(super) enum Fault {
    /// It contradicts itself or its checksum.
    #[error("{0}")]
    Damaged(String),
    /// The operating system or the engine refused.
    #[error("{0}")]
    Unavailable(String),
}

impl Fault {
    pub(super) fn damaged(what: impl Into<String>) -> Self {
        Self::Damaged(what.into())
    }

    fn of_io(error: &io::Error) -> Self {
        match error.kind() {
            // A file of the engine that ends too early was cut.
            io::ErrorKind::UnexpectedEof | io::ErrorKind::InvalidData => Self::Damaged(error.to_string()),
            _ => Self::Unavailable(error.to_string()),
        }
    }
}

impl From<fjall::Error> for Fault {
    fn from(error: fjall::Error) -> Self {
        match error {
            fjall::Error::Io(error) | fjall::Error::Storage(fjall::LsmError::Io(error)) => Self::of_io(&error),
            fjall::Error::Poisoned => Self::Unavailable("an earlier write failed".to_owned()),
            other => Self::Damaged(other.to_string()),
        }
    }
}

impl From<Fault> for ReadError {
    fn from(fault: Fault) -> Self {
        match fault {
            Fault::Damaged(why) => Self::Corrupt(why),
            Fault::Unavailable(why) => Self::Unavailable(why),
        }
    }
}

/// A fault while a batch is checked: nothing of it was written.
impl From<Fault> for AppendError {
    fn from(fault: Fault) -> Self {
        match fault {
            Fault::Damaged(why) => Self::Corrupt(why),
            Fault::Unavailable(why) => Self::NotDone(why),
        }
    }
}

impl From<Fault> for MarkerError {
    fn from(fault: Fault) -> Self {
        Self(fault.to_string())
    }
}

/// Why the store was not opened. Nothing was written or cut, except that a new folder may have been made.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another process has it open.
    #[error("the data folder {0} is in use by another process")]
    InUse(PathBuf),
    /// It cannot be written to.
    #[error("the data folder {path} cannot be written to: {why}")]
    NotWritable {
        /// The folder.
        path: PathBuf,
        /// What the operating system says.
        why: String,
    },
    /// It holds something else.
    #[error("{path} is not a data folder of stonechat: {why}")]
    NotAStore {
        /// The folder.
        path: PathBuf,
        /// What was found.
        why: String,
    },
    /// A newer version of stonechat wrote it.
    #[error("the data folder {path} has format {found}; this version reads up to {known}")]
    NewerFormat {
        /// The folder.
        path: PathBuf,
        /// Its format.
        found: u32,
        /// The newest format that this version reads.
        known: u32,
    },
    /// Acknowledged data is damaged or gone. Restore the folder from a copy; nothing was repaired or cut.
    #[error("the data folder {path} is damaged: {why}")]
    Damaged {
        /// The folder.
        path: PathBuf,
        /// What contradicts.
        why: String,
    },
    /// The operating system refused something else.
    #[error("the data folder {path} cannot be opened: {why}")]
    Unavailable {
        /// The folder.
        path: PathBuf,
        /// What it says.
        why: String,
    },
}

impl OpenError {
    pub(super) fn of_io(path: impl Into<PathBuf>, error: &io::Error) -> Self {
        let (path, why) = (path.into(), error.to_string());
        match error.kind() {
            io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => Self::NotWritable { path, why },
            io::ErrorKind::NotADirectory => Self::NotAStore { path, why },
            io::ErrorKind::UnexpectedEof | io::ErrorKind::InvalidData => Self::Damaged { path, why },
            _ => Self::Unavailable { path, why },
        }
    }

    pub(super) fn damaged(path: impl Into<PathBuf>, why: impl Into<String>) -> Self {
        Self::Damaged {
            path: path.into(),
            why: why.into(),
        }
    }

    pub(super) fn of_fault(path: impl Into<PathBuf>, fault: Fault) -> Self {
        match fault {
            Fault::Damaged(why) => Self::damaged(path, why),
            Fault::Unavailable(why) => Self::Unavailable { path: path.into(), why },
        }
    }
}
