//! The data folder: who may use it, and whether it is ours.
//!
//! ```text
//! LOCK      held as long as the store is open
//! FORMAT    "stonechat store 1", written last when the folder is made
//! CREATING  there while the folder is made: an interrupted making starts over, and nothing was acknowledged in it
//! ACKED     what was acknowledged (see `witness`)
//! log/      the engine's files
//! ```
//! Other files (the directory, secrets) may be put beside them once the store is open.

use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use super::fault::OpenError;

/// Version of keys, values and files. Raise it with a migration when any of them changes.
pub(super) const FORMAT: u32 = 1;
const FORMAT_TEXT: &str = "stonechat store ";

const LOCK_FILE: &str = "LOCK";
const FORMAT_FILE: &str = "FORMAT";
const CREATING_FILE: &str = "CREATING";

/// The folder, locked for this process.
pub(super) struct Folder {
    path: PathBuf,
    _lock: File,
}

/// What was found in a locked folder.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Found {
    /// Nothing, or an interrupted making: a store must be made.
    New,
    /// A store of our format.
    Store,
}

impl Folder {
    /// Makes the folder when it is missing (readable by its owner only) and locks it.
    pub(super) fn claim(path: &Path) -> Result<Self, OpenError> {
        let refused = |error: io::Error| OpenError::of_io(path, &error);
        make_private_folder(path).map_err(refused)?;
        let mut options = OpenOptions::new();
        let opened = options
            .create(true)
            .truncate(false)
            .write(true)
            .open(path.join(LOCK_FILE));
        let lock = opened.map_err(refused)?;
        match lock.try_lock() {
            Ok(()) => Ok(Self {
                path: path.to_owned(),
                _lock: lock,
            }),
            Err(TryLockError::WouldBlock) => Err(OpenError::InUse(path.to_owned())),
            Err(TryLockError::Error(error)) => Err(refused(error)),
        }
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Where the engine's files are.
    pub(super) fn engine(&self) -> PathBuf {
        self.path.join("log")
    }

    /// Whether a store must be made here. An interrupted making is cleared away.
    pub(super) fn inspect(&self) -> Result<Found, OpenError> {
        match fs::read_to_string(self.path.join(FORMAT_FILE)) {
            Ok(text) => self.check_format(&text).map(|()| Found::Store),
            Err(error) if error.kind() == io::ErrorKind::NotFound => self.prepare_making(),
            Err(error) => Err(OpenError::of_io(&self.path, &error)),
        }
    }

    fn check_format(&self, text: &str) -> Result<(), OpenError> {
        let path = self.path.clone();
        let number = text
            .strip_prefix(FORMAT_TEXT)
            .and_then(|rest| rest.trim_end().parse().ok());
        match number {
            Some(FORMAT) => Ok(()),
            Some(found) if found > FORMAT => Err(OpenError::NewerFormat {
                path,
                found,
                known: FORMAT,
            }),
            _ => Err(OpenError::damaged(path, "its FORMAT file is not readable")),
        }
    }

    fn prepare_making(&self) -> Result<Found, OpenError> {
        let refused = |error: io::Error| OpenError::of_io(&self.path, &error);
        if self.path.join(CREATING_FILE).try_exists().map_err(refused)? {
            remove_folder(&self.engine()).map_err(refused)?;
            return Ok(Found::New);
        }
        for found in fs::read_dir(&self.path).map_err(refused)? {
            let name = found.map_err(refused)?.file_name();
            if name != LOCK_FILE {
                return Err(OpenError::NotAStore {
                    path: self.path.clone(),
                    why: format!("it holds {} but no {FORMAT_FILE} file", name.display()),
                });
            }
        }
        self.write(CREATING_FILE, b"").map_err(refused)?;
        Ok(Found::New)
    }

    /// The store is whole: from now on it is opened, never made again.
    pub(super) fn seal(&self) -> Result<(), OpenError> {
        let refused = |error: io::Error| OpenError::of_io(&self.path, &error);
        self.write("FORMAT.new", format!("{FORMAT_TEXT}{FORMAT}\n").as_bytes())
            .map_err(refused)?;
        fs::rename(self.path.join("FORMAT.new"), self.path.join(FORMAT_FILE)).map_err(refused)?;
        self.sync().map_err(refused)?;
        fs::remove_file(self.path.join(CREATING_FILE)).map_err(refused)
    }

    fn write(&self, name: &str, bytes: &[u8]) -> io::Result<()> {
        let mut file = File::create(self.path.join(name))?;
        file.write_all(bytes)?;
        file.sync_all()?;
        self.sync()
    }

    /// Makes names in the folder durable.
    fn sync(&self) -> io::Result<()> {
        File::open(&self.path)?.sync_all()
    }
}

fn make_private_folder(path: &Path) -> io::Result<()> {
    let mut builder = DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(path)
}

fn remove_folder(path: &Path) -> io::Result<()> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}
