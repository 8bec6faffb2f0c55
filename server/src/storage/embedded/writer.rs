//! The one thread that writes: takes what has queued up, commits it as one group, answers when it is on disk.
//!
//! Jobs are applied in the order they were queued, checks included, so check and write are one step. What is true when
//! the process dies at a crash point:
//!
//! | point | of the group |
//! |---|---|
//! | `writer.batch_checked` | nothing is stored; nobody was answered |
//! | `writer.committed` | all of it is durable (hints alone: in the operating system's hands), nobody was answered, and ACKED does not name it |
//! | `writer.witnessed` | the same, and ACKED names it |
//! | `writer.answered` | all of it is durable and answered |

use std::sync::Arc;
use std::thread::JoinHandle;

use stonechat_host::{crash_point, linger, rule_holds};
use tokio::sync::oneshot;

use super::apply_log::{self, Append};
use super::apply_markers;
use super::engine::Engine;
use super::fault::{Fault, OpenError};
use super::group::Group;
use super::queue::{QUEUED_JOBS_MAX, Queue};
use super::recent::Recent;
use super::rows::Commit;
use super::space::{NO_ROOM, has_room};
use super::witness::Witness;
use crate::domain::{ConversationId, DeviceId, Seq, UserId};
use crate::storage::{AppendError, ChangeStamp, FanoutRecord, InboxHead, MarkerError, MarkerRaise, StoredEntry};
use crate::telemetry::meters::{Shed, meters};

/// Jobs of one group: all that can queue while one group is on its way to disk.
const GROUP_JOBS_MAX: usize = QUEUED_JOBS_MAX;

/// Bytes of entries after which a group takes no further job: a disk writes them in the time of a few fsyncs.
const GROUP_BYTES_MAX: usize = 1024 * 1024;

/// Exit code when a write failed: nobody knows what is on disk, and only opening the store anew can tell.
pub const EXIT_WRITE_FAILED: i32 = 74;

type AppendAnswer = Result<Vec<Arc<StoredEntry>>, AppendError>;
type MarkerAnswer = Result<(), MarkerError>;

/// Something to write.
pub(super) enum Job {
    Append(Append, oneshot::Sender<AppendAnswer>),
    Raise(Vec<MarkerRaise>, oneshot::Sender<MarkerAnswer>),
    SetPositions(
        UserId,
        DeviceId,
        Vec<(ConversationId, Seq)>,
        oneshot::Sender<MarkerAnswer>,
    ),
    ForgetDevice(UserId, DeviceId, oneshot::Sender<MarkerAnswer>),
    RaiseInbox {
        users: Vec<UserId>,
        conversation: ConversationId,
        head: InboxHead,
        touch: bool,
        answer: oneshot::Sender<MarkerAnswer>,
    },
    RecordFanout(ConversationId, FanoutRecord, oneshot::Sender<MarkerAnswer>),
    FanoutDone(ConversationId, Seq),
    RaiseSynced(UserId, DeviceId, ChangeStamp),
    /// Answered when everything queued before it is applied.
    Barrier(oneshot::Sender<MarkerAnswer>),
}

/// An answer that waits for its group.
enum Answer {
    Append(oneshot::Sender<AppendAnswer>, AppendAnswer),
    Markers(oneshot::Sender<MarkerAnswer>, MarkerAnswer),
}

impl Answer {
    fn send(self) {
        // Whoever no longer listens does not hinder the others.
        let _gone = match self {
            Self::Append(to, answer) => to.send(answer).is_err(),
            Self::Markers(to, answer) => to.send(answer).is_err(),
        };
    }
}

impl Job {
    fn bytes(&self) -> usize {
        match self {
            Self::Append(append, _) => append.stored.iter().map(|stored| stored.wire.len()).sum(),
            _ => 0,
        }
    }

    /// Whether it may wait for others: nobody looks at a clock until it is done.
    pub(super) fn is_patient(&self) -> bool {
        match self {
            Self::Append(..)
            | Self::SetPositions(..)
            | Self::ForgetDevice(..)
            | Self::RaiseInbox { .. }
            | Self::Barrier(_) => false,
            Self::Raise(..) | Self::RecordFanout(..) | Self::FanoutDone(..) | Self::RaiseSynced(..) => true,
        }
    }

    fn apply(self, group: &mut Group<'_>) -> Option<Answer> {
        match self {
            Self::Append(append, to) => {
                let done = group.run(true, |group| apply_log::append(group, append));
                Some(Answer::Append(to, done))
            }
            Self::Raise(raises, to) => marker_job(group, true, to, |group| apply_markers::raise(group, &raises)),
            Self::SetPositions(user, device, positions, to) => marker_job(group, true, to, |group| {
                apply_markers::set_positions(group, &user, &device, &positions)
            }),
            Self::ForgetDevice(user, device, to) => marker_job(group, true, to, |group| {
                apply_markers::forget_device(group, &user, &device)
            }),
            Self::RaiseInbox {
                users,
                conversation,
                head,
                touch,
                answer,
            } => marker_job(group, false, answer, |group| {
                apply_markers::raise_inbox(group, &users, conversation, head, touch)
            }),
            Self::RecordFanout(conversation, record, to) => marker_job(group, false, to, |group| {
                apply_markers::record_fanout(group, conversation, &record)
            }),
            Self::FanoutDone(conversation, up_to) => {
                hint(group, |group| apply_log::fanout_done(group, conversation, up_to))
            }
            Self::RaiseSynced(user, device, change) => hint(group, |group| {
                apply_markers::raise_synced(group, &user, &device, change)
            }),
            Self::Barrier(to) => Some(Answer::Markers(to, Ok(()))),
        }
    }

    /// The answer when there is no room; hints are dropped.
    fn refuse(self, why: &str) -> Option<Answer> {
        meters().shed.inc(Shed::Disk);
        match self {
            Self::Append(_, to) => Some(Answer::Append(to, Err(AppendError::NotDone(why.to_owned())))),
            Self::Raise(_, to)
            | Self::SetPositions(.., to)
            | Self::ForgetDevice(.., to)
            | Self::RecordFanout(.., to)
            | Self::RaiseInbox { answer: to, .. } => Some(Answer::Markers(to, Err(MarkerError(why.to_owned())))),
            Self::Barrier(to) => Some(Answer::Markers(to, Ok(()))),
            Self::FanoutDone(..) | Self::RaiseSynced(..) => None,
        }
    }
}

fn marker_job(
    group: &mut Group<'_>,
    durable: bool,
    to: oneshot::Sender<MarkerAnswer>,
    job: impl FnOnce(&mut Group<'_>) -> Result<(), Fault>,
) -> Option<Answer> {
    let done = group.run(durable, job);
    Some(Answer::Markers(to, done.map_err(MarkerError::from)))
}

fn hint(group: &mut Group<'_>, job: impl FnOnce(&mut Group<'_>) -> Result<(), Fault>) -> Option<Answer> {
    if let Err(error) = group.run(false, job) {
        tracing::error!(%error, "a hint was not written");
    }
    None
}

/// The writer's end of the queue, and what it knows.
struct Writer {
    jobs: Arc<Queue>,
    engine: Arc<Engine>,
    witness: Witness,
    commit: Commit,
    had_room: bool,
}

/// Starts the thread; it ends when its queue is closed and empty.
pub(super) fn start(
    engine: Arc<Engine>,
    witness: Witness,
    commit: Commit,
) -> Result<(Arc<Queue>, JoinHandle<()>), OpenError> {
    let path = engine.folder().path().to_owned();
    let jobs = Arc::new(Queue::new());
    let writer = Writer {
        jobs: Arc::clone(&jobs),
        engine,
        witness,
        commit,
        had_room: true,
    };
    let builder = std::thread::Builder::new().name("store-writer".to_owned());
    let thread = builder.spawn(move || writer.run());
    let thread = thread.map_err(|error| OpenError::of_io(path, &error))?;
    Ok((jobs, thread))
}

/// Ends the process: what is on disk is unknown, and whatever runs on would build on it.
fn stop(error: &dyn std::fmt::Display) -> ! {
    tracing::error!(%error, "writing failed, stopping: the outcome of unanswered writes is unknown");
    std::process::exit(EXIT_WRITE_FAILED)
}

/// A panic of the writer must not leave a process that never answers.
struct StopOnPanic;

impl Drop for StopOnPanic {
    fn drop(&mut self) {
        if std::thread::panicking() {
            stop(&"the writer panicked");
        }
    }
}

impl Writer {
    fn run(mut self) {
        let _guard = StopOnPanic;
        let mut recent = Recent::default();
        while let Some(first) = self.jobs.first() {
            self.group(first, &mut recent);
        }
        if let Err(error) = self.witness.sync() {
            tracing::error!(%error, "the record of what was acknowledged may be behind");
        }
    }

    /// Takes what has queued up behind `first`, writes it, answers.
    fn group(&mut self, first: Job, recent: &mut Recent) {
        let room = self.check_room();
        meters().store_queue.set(self.jobs.len());
        let engine = Arc::clone(&self.engine);
        let mut group = Group::new(&engine, recent);
        let mut answers = Vec::with_capacity(self.jobs.len() + 1);
        let (mut jobs, mut bytes, mut next) = (0, 0, Some(first));
        while let Some(job) = next {
            jobs += 1;
            bytes += job.bytes();
            answers.extend(if room {
                job.apply(&mut group)
            } else {
                job.refuse(NO_ROOM)
            });
            next = if jobs < GROUP_JOBS_MAX && bytes < GROUP_BYTES_MAX {
                self.jobs.next()
            } else {
                None
            };
        }
        if !rule_holds("commit_before_answer") {
            answers.drain(..).for_each(Answer::send);
            linger();
        }
        meters().commit_jobs.size(jobs);
        crash_point("writer.batch_checked");
        self.commit(group);
        answers.into_iter().for_each(Answer::send);
        crash_point("writer.answered");
    }

    fn check_room(&mut self) -> bool {
        let room = has_room(self.engine.folder().path());
        if room != self.had_room {
            tracing::warn!(room, "the disk of the data folder reached the limit of its free room");
        }
        self.had_room = room;
        room
    }

    fn commit(&mut self, group: Group<'_>) {
        let newest_change = group.newest_change();
        let started = stonechat_host::monotonic();
        let (commit, durable) = match group.commit(self.commit) {
            Ok(Some(committed)) => committed,
            Ok(None) => return,
            Err(error) => stop(&error),
        };
        if durable {
            meters().commit_seconds.since(started);
        }
        crash_point("writer.committed");
        self.commit = commit;
        if durable && let Err(error) = self.witness.note(commit.number) {
            stop(&error);
        }
        crash_point("writer.witnessed");
        self.engine.publish(newest_change);
    }
}
