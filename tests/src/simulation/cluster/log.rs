//! The log's lying twin: the log in memory behind a store that loses replies, applies late, answers slowly or not at all,
//! and shows a batch piece by piece. It never lies beyond what the contract of `MessageLog` lets a store do.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use stonechat_server::domain::{ClientMsgId, ConversationId, Sender, Seq};
use stonechat_server::storage::{
    AppendBatch, AppendError, Durability, Head, MessageLog, PageLimit, PendingAppend, Prior, ReadError, StoredEntry,
};

use super::gate::Gate;
use super::honesty::{Honesty, Id};
use super::setup::{Fate, Given, PerMille};
use super::weather::{Store, Weather};

/// Longest of a slow operation.
const SLOW_MAX: Duration = Duration::from_millis(500);
/// Longest of an ordinary append.
const APPEND_MAX: Duration = Duration::from_millis(4);
/// How long a silent reply fails to come: twice as long as a device waits.
const SILENCE: Duration = Duration::from_secs(3);
/// How often an append does what hangs in the air.
const LANDS: PerMille = PerMille(400);

type Stored = Result<Vec<Arc<StoredEntry>>, AppendError>;

/// A batch that is not done yet, or never.
struct InTheAir {
    batch: AppendBatch,
    /// Any next operation completes it; otherwise some later one may.
    half_done: bool,
}

#[derive(Default)]
struct Hidden {
    air: BTreeMap<ConversationId, Vec<InTheAir>>,
    /// Appends so far.
    appends: BTreeMap<ConversationId, u64>,
}

/// The one log behind all nodes, and what hangs in the air.
pub(super) struct Truth {
    pub(super) log: Arc<dyn MessageLog>,
    pub(super) honesty: Honesty,
    weather: Weather,
    hidden: Mutex<Hidden>,
    given: Option<Given>,
    bucket: u64,
}

impl Truth {
    pub(super) fn new(log: Arc<dyn MessageLog>, weather: Weather, given: Option<Given>, bucket: u64) -> Self {
        Self {
            log,
            honesty: Honesty::default(),
            weather,
            hidden: Mutex::default(),
            given,
            bucket,
        }
    }

    fn hidden(&self) -> MutexGuard<'_, Hidden> {
        self.hidden.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn fate(&self, conversation: ConversationId) -> Fate {
        let number = {
            let mut hidden = self.hidden();
            let count = hidden.appends.entry(conversation).or_default();
            *count += 1;
            *count - 1
        };
        let is_given = |given: &Given| (given.first..given.first + given.count).contains(&number);
        if let Some(given) = self.given.filter(is_given) {
            self.weather.count("given fates");
            return given.fate;
        }
        if self.weather.is_out(Store::Log) {
            return Fate::Refused;
        }
        let faults = self.weather.faults();
        let fates = [
            (faults.refused, "appends refused", Fate::Refused),
            (faults.lost, "appends lost", Fate::Lost),
            (faults.untold, "appends untold", Fate::Untold),
            (faults.half, "appends half done", Fate::Half),
            (faults.late, "appends in the air", Fate::Late),
        ];
        let struck = fates
            .into_iter()
            .find(|(chance, name, _)| self.weather.strikes(*chance, name));
        struck.map_or(Fate::Told, |(_, _, fate)| fate)
    }

    /// Applies what is half done, and perhaps what hangs in the air, as any later operation of the conversation may do.
    async fn land(&self, conversation: ConversationId, appends: bool) {
        let landing = {
            let mut hidden = self.hidden();
            let Some(air) = hidden.air.get_mut(&conversation) else {
                return;
            };
            let lands = |late: &mut InTheAir| late.half_done || (appends && self.weather.dice.chance(LANDS));
            let landing: Vec<InTheAir> = air.extract_if(.., lands).collect();
            if air.is_empty() {
                hidden.air.remove(&conversation);
            }
            landing
        };
        for late in landing {
            let name = match self.store(late.batch).await {
                Ok(_) => "appends done late",
                Err(_) => "late appends overtaken",
            };
            self.weather.count(name);
        }
    }

    async fn store(&self, batch: AppendBatch) -> Stored {
        let of = |pending: &PendingAppend| {
            let entry = &pending.entry;
            (entry.conversation, entry.sender.clone(), entry.client_msg_id.clone())
        };
        let ids: Vec<Id> = batch.entries.iter().map(of).collect();
        let stored = self.log.append(batch).await?;
        ids.into_iter().for_each(|id| self.honesty.stored(id));
        Ok(stored)
    }

    /// Nothing hangs in the air any more.
    pub(super) async fn settle(&self) {
        let all = std::mem::take(&mut self.hidden().air);
        for late in all.into_values().flatten() {
            let _overtaken = self.store(late.batch).await;
        }
    }

    async fn append(&self, batch: AppendBatch, fate: Fate) -> Stored {
        let unknown = |why: &str| Err(AppendError::Unknown(why.to_owned()));
        match fate {
            Fate::Told => self.store(batch).await,
            Fate::Refused => Err(AppendError::NotDone("the store is out".to_owned())),
            Fate::Lost => unknown("the request was lost"),
            Fate::Untold | Fate::Silent => {
                let _untold = self.store(batch).await;
                if fate == Fate::Silent {
                    tokio::time::sleep(SILENCE).await;
                }
                unknown("the reply was lost")
            }
            Fate::DoneTwice => {
                self.store(batch).await?;
                Err(AppendError::Conflict)
            }
            Fate::Half | Fate::Late => {
                let mut hidden = self.hidden();
                let half_done = fate == Fate::Half;
                let air = hidden.air.entry(batch.conversation).or_default();
                air.push(InTheAir { batch, half_done });
                unknown("the request hangs in the air")
            }
        }
    }

    fn check_bucket(&self, batch: &AppendBatch) {
        let bucket = |seq: Seq| seq.0 / self.bucket;
        let seqs = batch.entries.iter().map(|pending| pending.entry.seq);
        let edges: Vec<u64> = seqs.map(bucket).collect();
        assert!(
            edges.windows(2).all(|pair| pair[0] == pair[1]),
            "a batch straddles buckets: {edges:?}"
        );
    }
}

/// The log as one node sees it.
pub(super) struct NodeLog {
    truth: Arc<Truth>,
    gate: Arc<Gate>,
}

impl NodeLog {
    pub(super) fn new(truth: Arc<Truth>, gate: Arc<Gate>) -> Self {
        Self { truth, gate }
    }

    /// The way to the store; a read may take its look before or after the wait.
    async fn travel(&self, conversation: ConversationId, appends: bool) {
        self.gate.pass().await;
        let weather = &self.truth.weather;
        weather.delay(weather.faults().slow, "slow operations", SLOW_MAX).await;
        self.truth.land(conversation, appends).await;
    }

    async fn back<T>(&self, answer: T) -> T {
        let weather = &self.truth.weather;
        weather.delay(weather.faults().slow, "slow operations", SLOW_MAX).await;
        self.gate.pass().await;
        answer
    }

    fn readable(&self) -> Result<(), ReadError> {
        let weather = &self.truth.weather;
        let unread = weather.faults().unread;
        if weather.is_out(Store::Log) || weather.strikes(unread, "reads that failed") {
            return Err(ReadError::Unavailable("the store is out".to_owned()));
        }
        Ok(())
    }

    /// Fewer than asked for, never none.
    fn shorten(&self, limit: PageLimit) -> PageLimit {
        let weather = &self.truth.weather;
        let short = weather.faults().short_pages;
        if !weather.strikes(short, "short pages") {
            return limit;
        }
        PageLimit {
            entries: 1 + weather.dice.index(limit.entries.min(4)),
            bytes: limit.bytes,
        }
    }
}

#[async_trait]
impl MessageLog for NodeLog {
    fn durability(&self) -> Durability {
        Durability::Memory
    }

    async fn append(&self, batch: AppendBatch) -> Stored {
        self.truth.check_bucket(&batch);
        self.truth.weather.count("appends");
        let fate = self.truth.fate(batch.conversation);
        self.travel(batch.conversation, true).await;
        tokio::time::sleep(self.truth.weather.dice.millis(APPEND_MAX)).await;
        let answer = self.truth.append(batch, fate).await;
        if matches!(answer, Err(AppendError::Conflict)) {
            self.truth.weather.count("conflicts");
        }
        self.back(answer).await
    }

    async fn head(&self, conversation: ConversationId) -> Result<Option<Head>, ReadError> {
        self.travel(conversation, false).await;
        self.readable()?;
        let answer = self.truth.log.head(conversation).await;
        self.back(answer).await
    }

    async fn read(
        &self,
        conversation: ConversationId,
        from: Seq,
        to: Seq,
        limit: PageLimit,
    ) -> Result<Vec<Arc<StoredEntry>>, ReadError> {
        self.travel(conversation, false).await;
        self.readable()?;
        let answer = self.truth.log.read(conversation, from, to, self.shorten(limit)).await;
        self.back(answer).await
    }

    async fn find(
        &self,
        conversation: ConversationId,
        sender: &Sender,
        id: &ClientMsgId,
        known_head: Seq,
    ) -> Result<Option<Prior>, ReadError> {
        self.travel(conversation, false).await;
        self.readable()?;
        let found = self.truth.log.find(conversation, sender, id, known_head).await;
        // Nothing before the known head need be searched, so nothing there is found.
        let answer = found.map(|prior| prior.filter(|prior| prior.seq > known_head));
        self.back(answer).await
    }

    async fn newest_id(&self, conversation: ConversationId, sender: &Sender) -> Result<Option<ClientMsgId>, ReadError> {
        self.travel(conversation, false).await;
        self.readable()?;
        let answer = self.truth.log.newest_id(conversation, sender).await;
        self.back(answer).await
    }

    async fn fanout_pending(&self) -> Result<Vec<(ConversationId, Seq)>, ReadError> {
        self.gate.pass().await;
        self.readable()?;
        let answer = self.truth.log.fanout_pending().await;
        self.back(answer).await
    }

    async fn fanout_pending_from(&self, conversation: ConversationId) -> Result<Option<Seq>, ReadError> {
        self.travel(conversation, false).await;
        self.readable()?;
        let answer = self.truth.log.fanout_pending_from(conversation).await;
        self.back(answer).await
    }

    async fn fanout_done(&self, conversation: ConversationId, up_to: Seq) {
        self.gate.pass().await;
        self.truth.log.fanout_done(conversation, up_to).await;
    }
}
