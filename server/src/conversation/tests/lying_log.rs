//! Logs that check, lie, fail or wait: the real one behind them stays right.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use async_trait::async_trait;
use tokio::sync::watch;

use crate::domain::{ClientMsgId, ConversationId, Sender, Seq};
use crate::storage::contract::doubled_log::{Doubled, LogDouble};
use crate::storage::{AppendBatch, AppendError, Head, MessageLog, PageLimit, Prior, ReadError, StoredEntry};

type Log = Arc<dyn MessageLog>;

/// What happens to the n-th append.
pub(crate) enum Lie {
    /// The reply is lost though it was done.
    DoneButUnknown,
    /// The request is lost and nothing was done.
    LostBefore,
    /// Somebody else was faster.
    Conflict,
    /// The store refuses.
    Refused,
}

type Decide = Box<dyn Fn(u64, &AppendBatch) -> Option<Lie> + Send + Sync>;
type Fail = Box<dyn Fn(ConversationId, Seq, Seq) -> Option<ReadError> + Send + Sync>;

struct LyingLog {
    inner: Log,
    appends: AtomicU64,
    decide: Decide,
    fail: Fail,
    /// While it is set nobody learns what is stored under an id.
    unfound: Arc<AtomicBool>,
    /// Nothing below is kept.
    floor: Seq,
    /// Appends go through while it is open.
    open: watch::Receiver<bool>,
    /// Appends that came to the gate.
    came: watch::Sender<u64>,
    /// The last question of a load is answered while it is open.
    loads: watch::Receiver<bool>,
    /// Loads that came to the gate.
    loading: watch::Sender<u64>,
}

impl LyingLog {
    fn before(inner: Log) -> Self {
        Self {
            inner,
            appends: AtomicU64::new(0),
            decide: Box::new(|_, _| None),
            fail: Box::new(|_, _, _| None),
            unfound: Arc::default(),
            floor: Seq::ZERO,
            open: watch::channel(true).1,
            came: watch::Sender::new(0),
            loads: watch::channel(true).1,
            loading: watch::Sender::new(0),
        }
    }
}

/// Lies about appends as `decide` says; it gets the append's number, from 0, and the batch.
pub(crate) fn lying(
    decide: impl Fn(u64, &AppendBatch) -> Option<Lie> + Send + Sync + 'static,
) -> impl FnOnce(Log) -> Log {
    move |inner| {
        Arc::new(Doubled(LyingLog {
            decide: Box::new(decide),
            ..LyingLog::before(inner)
        }))
    }
}

/// Fails reads as `fail` says; it gets the conversation and the first and last seq that are asked for.
pub(super) fn failing(
    fail: impl Fn(ConversationId, Seq, Seq) -> Option<ReadError> + Send + Sync + 'static,
) -> impl FnOnce(Log) -> Log {
    move |inner| {
        Arc::new(Doubled(LyingLog {
            fail: Box::new(fail),
            ..LyingLog::before(inner)
        }))
    }
}

/// Cannot say what is stored under an id while the switch is set.
pub(super) fn unfound(switch: &Arc<AtomicBool>) -> impl FnOnce(Log) -> Log {
    let unfound = Arc::clone(switch);
    move |inner| {
        Arc::new(Doubled(LyingLog {
            unfound,
            ..LyingLog::before(inner)
        }))
    }
}

/// What a test holds of a gate.
pub(crate) struct Gate {
    /// What it is for goes through while it is open.
    pub(crate) open: watch::Sender<bool>,
    /// How many came to it.
    pub(crate) came: watch::Receiver<u64>,
}

/// A log whose appends wait while a gate is closed; it is open at first.
pub(crate) fn gated(inner: Log) -> (Gate, Log) {
    let (open, passage) = watch::channel(true);
    let log = LyingLog {
        open: passage,
        ..LyingLog::before(inner)
    };
    let came = log.came.subscribe();
    (Gate { open, came }, Arc::new(Doubled(log)))
}

/// A log that keeps loads of conversations waiting while the gate is closed; it is open at first.
pub(super) fn slow_to_load(inner: Log) -> (Gate, Log) {
    let (open, passage) = watch::channel(true);
    let log = LyingLog {
        loads: passage,
        ..LyingLog::before(inner)
    };
    let came = log.loading.subscribe();
    (Gate { open, came }, Arc::new(Doubled(log)))
}

/// Says that nothing below `floor` is kept.
pub(super) fn kept_from(floor: Seq) -> impl FnOnce(Log) -> Log {
    move |inner| {
        Arc::new(Doubled(LyingLog {
            floor,
            ..LyingLog::before(inner)
        }))
    }
}

/// Fails the test when a batch straddles a bucket.
pub(super) fn bucket_checked(bucket: u64) -> impl FnOnce(Log) -> Log {
    lying(move |_, batch| {
        let seqs: Vec<u64> = batch.entries.iter().map(|pending| pending.entry.seq.0).collect();
        assert_eq!(
            seqs.first().map(|seq| seq / bucket),
            seqs.last().map(|seq| seq / bucket),
            "{seqs:?}"
        );
        None
    })
}

#[async_trait]
impl LogDouble for LyingLog {
    fn inner(&self) -> &dyn MessageLog {
        &*self.inner
    }

    async fn append(&self, batch: AppendBatch) -> Result<Vec<Arc<StoredEntry>>, AppendError> {
        let number = self.appends.fetch_add(1, Ordering::Relaxed);
        self.came.send_modify(|came| *came += 1);
        // The test may be over, and its end of the gate gone: then it is open.
        drop(self.open.clone().wait_for(|open| *open).await);
        match (self.decide)(number, &batch) {
            None => self.inner.append(batch).await,
            Some(Lie::Conflict) => Err(AppendError::Conflict),
            Some(Lie::Refused) => Err(AppendError::NotDone("full".to_owned())),
            Some(Lie::LostBefore) => Err(AppendError::Unknown("request lost".to_owned())),
            Some(Lie::DoneButUnknown) => {
                self.inner.append(batch).await?;
                Err(AppendError::Unknown("reply lost".to_owned()))
            }
        }
    }

    async fn head(&self, conversation: ConversationId) -> Result<Option<Head>, ReadError> {
        let head = self.inner.head(conversation).await?;
        Ok(head.map(|head| Head {
            floor: head.floor.max(self.floor),
            ..head
        }))
    }

    async fn read(
        &self,
        conversation: ConversationId,
        from: Seq,
        to: Seq,
        limit: PageLimit,
    ) -> Result<Vec<Arc<StoredEntry>>, ReadError> {
        match (self.fail)(conversation, from, to) {
            None => self.inner.read(conversation, from, to, limit).await,
            Some(error) => Err(error),
        }
    }

    async fn find(
        &self,
        conversation: ConversationId,
        sender: &Sender,
        id: &ClientMsgId,
        known_head: Seq,
    ) -> Result<Option<Prior>, ReadError> {
        if self.unfound.load(Ordering::Relaxed) {
            return Err(ReadError::Unavailable("no answer".to_owned()));
        }
        self.inner.find(conversation, sender, id, known_head).await
    }

    async fn fanout_pending_from(&self, conversation: ConversationId) -> Result<Option<Seq>, ReadError> {
        self.loading.send_modify(|came| *came += 1);
        drop(self.loads.clone().wait_for(|open| *open).await);
        self.inner.fanout_pending_from(conversation).await
    }
}
