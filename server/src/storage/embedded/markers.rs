//! `Markers` on the embedded store.

use std::collections::BTreeSet;

use async_trait::async_trait;

use super::engine::{Engine, Pair, View};
use super::fault::Fault;
use super::keys::{self, Space};
use super::rows;
use super::writer::Job;
use super::{EmbeddedStore, INLINE_READS_MAX};
use crate::domain::{ConversationId, DeviceId, MarkerSet, Seq, UserId};
use crate::storage::{ChangeStamp, FanoutRecord, InboxHead, InboxRow, MarkerError, MarkerRaise, Markers};

type Result<T> = std::result::Result<T, MarkerError>;
type Found<T> = std::result::Result<T, Fault>;

fn read_marker(engine: &Engine, key: &[u8]) -> Found<MarkerSet> {
    let row = engine.get(Space::Users, key)?;
    row.map_or_else(|| Ok(MarkerSet::default()), |bytes| rows::read_markers(&bytes))
}

fn read_number(engine: &Engine, key: &[u8]) -> Found<u64> {
    let row = engine.get(Space::Users, key)?;
    row.map_or(Ok(0), |bytes| rows::read_number(&bytes))
}

fn read_row(view: &View<'_>, user: &UserId, conversation: ConversationId) -> Found<Option<InboxRow>> {
    let row = view.get(Space::Users, &keys::row(user, conversation))?;
    row.map(|bytes| rows::read_row(conversation, &bytes)).transpose()
}

/// The row that an index entry of changes points to; both are written in one commit.
fn row_of_change(view: &View<'_>, user: &UserId, change: Found<Pair>) -> Found<InboxRow> {
    let (key, value) = change?;
    let row = read_row(view, user, rows::read_conversation(&value)?)?;
    let same = row.filter(|row| Some(row.change.0) == keys::last_number(&key));
    same.ok_or_else(|| Fault::damaged(format!("the inbox of {user} disagrees with its index")))
}

fn changes_after(engine: &Engine, user: &UserId, after: ChangeStamp, limit: usize) -> Found<Vec<InboxRow>> {
    let Some(first) = after.0.checked_add(1) else {
        return Ok(Vec::new());
    };
    let view = engine.view();
    let (from, to) = (
        keys::change(user, ChangeStamp(first)),
        keys::change(user, ChangeStamp(u64::MAX)),
    );
    let changes = view.range(Space::Users, &from, &to).take(limit);
    changes.map(|change| row_of_change(&view, user, change)).collect()
}

fn newest_changes(engine: &Engine, user: &UserId, limit: usize) -> Found<Vec<InboxRow>> {
    let view = engine.view();
    let changes = view.prefix(Space::Users, &keys::changes(user)).rev().take(limit);
    changes.map(|change| row_of_change(&view, user, change)).collect()
}

impl EmbeddedStore {
    /// Reads the rows of these keys, in their order.
    async fn rows_of<T: Send + 'static>(
        &self,
        keys: Vec<Vec<u8>>,
        read: impl Fn(&Engine, &[u8]) -> Found<T> + Send + 'static,
    ) -> Result<Vec<T>> {
        let count = keys.len();
        let read_all = move |engine: &Engine| keys.iter().map(|key| read(engine, key)).collect::<Found<Vec<T>>>();
        Ok(self.reading(count, read_all).await?)
    }
}

#[async_trait]
impl Markers for EmbeddedStore {
    async fn raise(&self, raises: Vec<MarkerRaise>) -> Result<()> {
        self.write(|answer| Job::Raise(raises, answer)).await
    }

    async fn get(&self, user: &UserId, conversation: ConversationId) -> Result<MarkerSet> {
        Ok(read_marker(self.reader(), &keys::marker(user, conversation))?)
    }

    async fn get_many(&self, user: &UserId, conversations: &[ConversationId]) -> Result<Vec<MarkerSet>> {
        let keys = conversations.iter().map(|id| keys::marker(user, *id)).collect();
        self.rows_of(keys, read_marker).await
    }

    async fn of_users(&self, conversation: ConversationId, users: &[UserId]) -> Result<Vec<MarkerSet>> {
        let keys = users.iter().map(|user| keys::marker(user, conversation)).collect();
        self.rows_of(keys, read_marker).await
    }

    async fn device_positions(
        &self,
        user: &UserId,
        device: &DeviceId,
        conversations: &[ConversationId],
    ) -> Result<Vec<Seq>> {
        let keys = conversations
            .iter()
            .map(|id| keys::position(user, device, *id))
            .collect();
        self.rows_of(keys, |engine, key| read_number(engine, key).map(Seq))
            .await
    }

    async fn set_device_positions(
        &self,
        user: &UserId,
        device: &DeviceId,
        positions: &[(ConversationId, Seq)],
    ) -> Result<()> {
        let (user, device, positions) = (user.clone(), device.clone(), positions.to_vec());
        self.write(|answer| Job::SetPositions(user, device, positions, answer))
            .await
    }

    async fn forget_device(&self, user: &UserId, device: &DeviceId) -> Result<()> {
        let (user, device) = (user.clone(), device.clone());
        self.write(|answer| Job::ForgetDevice(user, device, answer)).await
    }

    async fn synced(&self, user: &UserId, device: &DeviceId) -> Result<ChangeStamp> {
        let stamp = read_number(self.reader(), &keys::synced(user, device))?;
        Ok(ChangeStamp(stamp))
    }

    async fn raise_synced(&self, user: &UserId, device: &DeviceId, change: ChangeStamp) {
        // A hint: when the writer is gone it is lost, as in a crash.
        let _lost = self.queue(Job::RaiseSynced(user.clone(), device.clone(), change)).await;
    }

    async fn raise_inbox(
        &self,
        users: &[UserId],
        conversation: ConversationId,
        head: InboxHead,
        touch: bool,
    ) -> Result<()> {
        let users = users.to_vec();
        let job = |answer| Job::RaiseInbox {
            users,
            conversation,
            head,
            touch,
            answer,
        };
        self.write(job).await
    }

    async fn record_fanout(&self, conversation: ConversationId, record: FanoutRecord) -> Result<()> {
        self.write(|answer| Job::RecordFanout(conversation, record, answer))
            .await
    }

    async fn inbox_changes(&self, user: &UserId, after: ChangeStamp, limit: usize) -> Result<Vec<InboxRow>> {
        let first = limit.min(INLINE_READS_MAX);
        let mut rows = changes_after(self.reader(), user, after, first)?;
        let Some(last) = rows.last().filter(|_| rows.len() == first && first < limit) else {
            return Ok(rows);
        };
        let (user, after, rest) = (user.clone(), last.change, limit - first);
        let more = self
            .blocking(move |engine| changes_after(engine, &user, after, rest))
            .await?;
        // A row that changed between the two reads is in both: the later one counts.
        let again: BTreeSet<ConversationId> = more.iter().map(|row| row.conversation).collect();
        rows.retain(|row| !again.contains(&row.conversation));
        rows.extend(more);
        Ok(rows)
    }

    async fn inbox_newest(&self, user: &UserId, limit: usize) -> Result<Vec<InboxRow>> {
        let user = user.clone();
        Ok(self
            .blocking(move |engine| newest_changes(engine, &user, limit))
            .await?)
    }

    async fn inbox_row(&self, user: &UserId, conversation: ConversationId) -> Result<Option<InboxRow>> {
        Ok(read_row(&self.reader().view(), user, conversation)?)
    }

    fn store_id(&self) -> [u8; 16] {
        self.engine.store_id()
    }

    fn newest_change(&self) -> ChangeStamp {
        self.engine.newest_change()
    }
}
