//! The embedded backends: fjall for log and markers, SQLite for the directory.
//!
//! [`EmbeddedStore`] is `MessageLog` and `Markers` in one store with one journal, so that a later `fanout_done` never
//! outlives the inbox rows ahead of it. What is stored carries checksums that are verified before it is believed: the
//! journal's and the table lists' at opening (`journal`, `manifest`), each table block's by the engine whenever it is
//! read from disk (lsm-tree 3.1 `Block::from_file`, xxh3-128). So a flipped bit is a typed error, never a wrong answer
//! (F4).

pub mod directory;

mod apply_log;
mod apply_markers;
mod closing;
mod engine;
mod fault;
mod folder;
mod group;
mod journal;
#[cfg(feature = "fuzzing")]
pub use journal::batches_in;
mod keys;
mod log;
mod manifest;
mod markers;
mod queue;
mod recent;
mod rows;
mod space;
mod witness;
mod writer;

#[cfg(test)]
mod tests;

pub use fault::OpenError;
pub use writer::EXIT_WRITE_FAILED;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use stonechat_host::Host;
use tokio::sync::oneshot;

use self::closing::Closing;
use self::engine::Engine;
use self::fault::Fault;
use self::folder::{Folder, Found};
use self::queue::{Queue, Stopped};
use self::rows::Commit;
use self::witness::{Acked, Witness};
use self::writer::Job;
use super::markers::MarkerError;
use crate::telemetry::meters::meters;

/// The engine closes within this, or is left: it may be in the middle of writing a table of 16 MiB.
const CLOSE_WITHIN: Duration = Duration::from_secs(20);

/// Rows that are read on the caller's thread: some ten microseconds, where the way to another thread and back costs several
/// times that. More go to a thread that may block.
const INLINE_READS_MAX: usize = 32;

/// Log and markers in a local folder.
pub struct EmbeddedStore {
    jobs: Arc<Queue>,
    writer: Option<JoinHandle<()>>,
    engine: Arc<Engine>,
    // Dropped behind it, so that this is what ends the engine.
    _closing: Closing<Arc<Engine>>,
}

impl EmbeddedStore {
    /// Opens the store in `path`, or makes one when the folder is empty or missing. Locks the folder until the store is
    /// dropped. Open it before anything else is put into the folder. Reads the whole journal, so it may take seconds.
    ///
    /// # Errors
    /// See [`OpenError`].
    pub fn open(path: &Path, host: &Host) -> Result<Self, OpenError> {
        let folder = Folder::claim(path)?;
        let (engine, mut commit) = match folder.inspect()? {
            Found::New => make(folder, host)?,
            Found::Store => recover(folder)?,
        };
        // Made durable just now, or synced by the engine while it opened its journal.
        commit.durable = commit.number;
        let witness = Witness::open(path, commit.number).map_err(|error| OpenError::of_io(path, &error))?;
        let engine = Arc::new(engine);
        let (jobs, writer) = writer::start(Arc::clone(&engine), witness, commit)?;
        Ok(Self {
            jobs,
            writer: Some(writer),
            _closing: Closing::new(Arc::clone(&engine), CLOSE_WITHIN),
            engine,
        })
    }

    /// Hands a job to the writer; waits while its queue is full.
    async fn queue(&self, job: Job) -> Result<(), &'static str> {
        let stopped = |Stopped| "the store is stopping; nothing was written";
        self.jobs.push(job).await.map_err(stopped)
    }

    /// Hands a job of markers to the writer and waits for its answer.
    async fn write(
        &self,
        job: impl FnOnce(oneshot::Sender<Result<(), MarkerError>>) -> Job,
    ) -> Result<(), MarkerError> {
        let (to, answer) = oneshot::channel();
        self.queue(job(to)).await.map_err(|why| MarkerError(why.to_owned()))?;
        answer
            .await
            .unwrap_or_else(|_| Err(MarkerError("the writer stopped".to_owned())))
    }

    /// Returns when everything queued before is applied.
    async fn barrier(&self) -> Result<(), MarkerError> {
        self.write(Job::Barrier).await
    }

    /// The engine, to read from; each time is counted.
    fn reader(&self) -> &Arc<Engine> {
        meters().store_reads.inc();
        &self.engine
    }

    /// Reads so many rows: few at once, more on a thread that may block.
    async fn reading<T: Send + 'static>(
        &self,
        rows: usize,
        read: impl FnOnce(&Engine) -> Result<T, Fault> + Send + 'static,
    ) -> Result<T, Fault> {
        if rows > INLINE_READS_MAX {
            return self.blocking(read).await;
        }
        let engine = self.reader();
        catch_unwind(AssertUnwindSafe(|| read(engine))).unwrap_or_else(|_| Err(gave_up("a panic")))
    }

    /// Reads on a thread that may block.
    async fn blocking<T: Send + 'static>(
        &self,
        read: impl FnOnce(&Engine) -> Result<T, Fault> + Send + 'static,
    ) -> Result<T, Fault> {
        let engine = Arc::clone(self.reader());
        let read = tokio::task::spawn_blocking(move || read(&engine));
        read.await.unwrap_or_else(|error| Err(gave_up(&error.to_string())))
    }
}

/// The engine asserts what it reads: a panic of it is damage.
fn gave_up(why: &str) -> Fault {
    Fault::damaged(format!("the engine gave up: {why}"))
}

impl Drop for EmbeddedStore {
    /// Everything queued is written and answered before the folder is free again.
    fn drop(&mut self) {
        self.jobs.close();
        if let Some(writer) = self.writer.take()
            && writer.join().is_err()
        {
            tracing::error!("the writer did not end in order");
        }
    }
}

fn make(folder: Folder, host: &Host) -> Result<(Engine, Commit), OpenError> {
    let path = folder.path().to_owned();
    let mut engine = Engine::open(folder)?;
    let commit = engine.make_state(host.random.bytes16());
    let commit = commit.map_err(|fault| OpenError::of_fault(&path, fault))?;
    Witness::open(&path, commit.number).map_err(|error| OpenError::of_io(&path, &error))?;
    engine.folder().seal()?;
    Ok((engine, commit))
}

fn recover(folder: Folder) -> Result<(Engine, Commit), OpenError> {
    let path = folder.path().to_owned();
    let acked = Acked::read(&path).map_err(|error| OpenError::of_io(&path, &error))?;
    manifest::check(&folder.engine())?;
    let journals = journal::check(&folder.engine(), acked)?;
    let mut engine = Engine::open(folder)?;
    let commit = engine.load_state().map_err(|fault| OpenError::of_fault(&path, fault))?;
    if journals.newest.is_some_and(|newest| newest != commit.number) {
        return Err(OpenError::damaged(
            path,
            "the engine read another newest commit than its journal holds",
        ));
    }
    match acked {
        Acked::UpTo(acked) if acked > commit.number => {
            let why = format!(
                "commit {acked} was acknowledged, but the newest here is {}",
                commit.number
            );
            return Err(OpenError::damaged(path, why));
        }
        Acked::UpTo(_) => {}
        Acked::Unreadable => {
            tracing::warn!(path = %path.display(), "the record of what was acknowledged was unreadable")
        }
    }
    Ok((engine, commit))
}
