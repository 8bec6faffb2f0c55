//! A key set in a file, read again when it changes.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use stonechat_host::FileStamp;
use tokio::io::AsyncReadExt;
use tokio::time::Instant;

use super::KEY_SET_BYTES_MAX;
use super::key_set::KeySet;
use crate::auth::KeyError;

/// How often the file's time is looked at, however many tokens name unknown keys.
const LOOK_EVERY: Duration = Duration::from_secs(1);

struct Loaded {
    keys: Arc<KeySet>,
    stamp: FileStamp,
    look_next: Instant,
}

/// The keys of an identity provider.
pub struct JwksFile {
    path: PathBuf,
    look_every: Duration,
    loaded: Mutex<Loaded>,
}

impl JwksFile {
    /// Reads the file.
    ///
    /// # Errors
    /// It cannot be read, is malformed, or holds no key of EdDSA (Ed25519), ES256 or RS256.
    pub async fn open(path: PathBuf) -> Result<Self, KeyError> {
        Self::open_and_look_every(LOOK_EVERY, path).await
    }

    pub(in crate::auth) async fn open_and_look_every(look_every: Duration, path: PathBuf) -> Result<Self, KeyError> {
        let (keys, stamp) = read(&path).await?;
        let look_next = stonechat_host::monotonic() + look_every;
        let loaded = Mutex::new(Loaded { keys, stamp, look_next });
        Ok(Self {
            path,
            look_every,
            loaded,
        })
    }

    /// The keys of the file as it is now, or the last good ones when it cannot be used.
    pub(super) async fn current(&self) -> Arc<KeySet> {
        if let Some(known) = self.time_to_look()
            && let Err(error) = self.look(known).await
        {
            tracing::warn!(%error, "key set not read again, the last good one stays in use");
        }
        Arc::clone(&self.loaded().keys)
    }

    /// The stamp of what is loaded, for one caller in each interval.
    fn time_to_look(&self) -> Option<FileStamp> {
        let now = stonechat_host::monotonic();
        let mut loaded = self.loaded();
        if now < loaded.look_next {
            return None;
        }
        loaded.look_next = now + self.look_every;
        Some(loaded.stamp)
    }

    async fn look(&self, known: FileStamp) -> Result<(), KeyError> {
        let metadata = tokio::fs::metadata(&self.path).await;
        if FileStamp::from(&metadata.map_err(KeyError::file(&self.path))?) == known {
            return Ok(());
        }
        let (keys, stamp) = read(&self.path).await?;
        tracing::info!(path = %self.path.display(), keys = keys.len(), "key set read again");
        let mut loaded = self.loaded();
        loaded.keys = keys;
        loaded.stamp = stamp;
        Ok(())
    }

    fn loaded(&self) -> MutexGuard<'_, Loaded> {
        self.loaded.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn read(path: &Path) -> Result<(Arc<KeySet>, FileStamp), KeyError> {
    let (text, stamp) = read_text(path).await.map_err(KeyError::file(path))?;
    let keys = KeySet::parse(&text).map_err(|why| KeyError::malformed(path, why))?;
    Ok((Arc::new(keys), stamp))
}

async fn read_text(path: &Path) -> io::Result<(String, FileStamp)> {
    let file = tokio::fs::File::open(path).await?;
    let stamp = FileStamp::from(&file.metadata().await?);
    let mut text = String::new();
    file.take(KEY_SET_BYTES_MAX + 1).read_to_string(&mut text).await?;
    if text.len() as u64 > KEY_SET_BYTES_MAX {
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, "longer than 256 KiB"));
    }
    Ok((text, stamp))
}
