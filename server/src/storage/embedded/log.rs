//! `MessageLog` on the embedded store.

use std::sync::Arc;

use async_trait::async_trait;
use tokio::sync::oneshot;

use super::EmbeddedStore;
use super::apply_log::Append;
use super::engine::{Engine, View};
use super::fault::Fault;
use super::keys::{self, Space};
use super::rows;
use super::writer::Job;
use crate::domain::{ClientMsgId, ConversationId, Sender, Seq};
use crate::storage::rules::{check_shape, encode_all, page_is_full};
use crate::storage::{
    AppendBatch, AppendError, Durability, Head, MessageLog, PageLimit, Prior, ReadError, StoredEntry,
};
use crate::wire::entry;

/// The head, when it agrees with the entries.
fn checked_head(view: &View<'_>, conversation: ConversationId) -> Result<Option<Head>, Fault> {
    if let Some(bytes) = view.get(Space::Index, &keys::head(conversation))? {
        return rows::read_head(&bytes).map(Some);
    }
    match view.prefix(Space::Entries, &conversation.0).next() {
        None => Ok(None),
        Some(found) => {
            found?;
            Err(Fault::damaged(format!("{conversation} has entries but no head")))
        }
    }
}

fn read_page(
    engine: &Engine,
    conversation: ConversationId,
    from: Seq,
    to: Seq,
    limit: PageLimit,
) -> Result<Vec<Arc<StoredEntry>>, Fault> {
    let view = engine.view();
    let Some(head) = checked_head(&view, conversation)? else {
        return Ok(Vec::new());
    };
    let (from, to) = (from.max(head.floor), to.min(head.seq));
    if from > to {
        return Ok(Vec::new());
    }
    let mut page = Page::new(conversation, from, limit);
    let (from, to_key) = (keys::entry(conversation, from), keys::entry(conversation, to));
    for row in view.range(Space::Entries, &from, &to_key) {
        let (key, value) = row?;
        page.push(keys::seq_of_entry(&key), &value)?;
        if page.is_full() {
            return Ok(page.entries);
        }
    }
    if page.next <= to {
        return Err(page.hole());
    }
    Ok(page.entries)
}

/// A page under construction: every entry must be the one after the last.
struct Page {
    conversation: ConversationId,
    next: Seq,
    limit: PageLimit,
    bytes: usize,
    entries: Vec<Arc<StoredEntry>>,
}

impl Page {
    fn new(conversation: ConversationId, from: Seq, limit: PageLimit) -> Self {
        Self {
            conversation,
            next: from,
            limit,
            bytes: 0,
            entries: Vec::new(),
        }
    }

    fn hole(&self) -> Fault {
        Fault::damaged(format!(
            "entry {} of {} is missing below the head",
            self.next, self.conversation
        ))
    }

    fn push(&mut self, seq: Option<Seq>, wire: &[u8]) -> Result<(), Fault> {
        if seq != Some(self.next) {
            return Err(self.hole());
        }
        let entry = entry::decode(wire).map_err(|error| Fault::damaged(error.to_string()))?;
        if (entry.conversation, entry.seq) != (self.conversation, self.next) {
            return Err(Fault::damaged(format!(
                "entry {} of {} is another one",
                self.next, self.conversation
            )));
        }
        self.bytes += wire.len();
        self.next = self.next.next();
        let wire = bytes::Bytes::copy_from_slice(wire);
        self.entries.push(Arc::new(StoredEntry { entry, wire }));
        Ok(())
    }

    fn is_full(&self) -> bool {
        page_is_full(self.limit, self.entries.len(), self.bytes)
    }
}

fn all_pending(engine: &Engine) -> Result<Vec<(ConversationId, Seq)>, Fault> {
    let read = |row: Result<_, Fault>| {
        let (key, value): (fjall::Slice, fjall::Slice) = row?;
        let conversation = keys::last_conversation(&key);
        let conversation = conversation.ok_or_else(|| Fault::damaged("a fan-out mark names no conversation"))?;
        Ok((conversation, Seq(rows::read_number(&value)?)))
    };
    engine.view().prefix(Space::Index, keys::PENDING).map(read).collect()
}

#[async_trait]
impl MessageLog for EmbeddedStore {
    fn durability(&self) -> Durability {
        Durability::LocalFsync
    }

    async fn append(&self, batch: AppendBatch) -> Result<Vec<Arc<StoredEntry>>, AppendError> {
        check_shape(&batch)?;
        let stored = encode_all(&batch);
        let (to, answer) = oneshot::channel();
        let queued = self.queue(Job::Append(Append { batch, stored }, to)).await;
        queued.map_err(|why| AppendError::NotDone(why.to_owned()))?;
        answer
            .await
            .unwrap_or_else(|_| Err(AppendError::Unknown("the writer stopped".to_owned())))
    }

    async fn head(&self, conversation: ConversationId) -> Result<Option<Head>, ReadError> {
        Ok(checked_head(&self.reader().view(), conversation)?)
    }

    async fn read(
        &self,
        conversation: ConversationId,
        from: Seq,
        to: Seq,
        limit: PageLimit,
    ) -> Result<Vec<Arc<StoredEntry>>, ReadError> {
        let span = usize::try_from(to.0.saturating_sub(from.0)).unwrap_or(usize::MAX);
        let rows = limit.entries.min(span.saturating_add(1));
        let read = self.reading(rows, move |engine| read_page(engine, conversation, from, to, limit));
        Ok(read.await?)
    }

    async fn find(
        &self,
        conversation: ConversationId,
        sender: &Sender,
        id: &ClientMsgId,
        _known_head: Seq,
    ) -> Result<Option<Prior>, ReadError> {
        let row = self.reader().get(Space::Index, &keys::id(conversation, sender, id))?;
        Ok(row.map(|bytes| rows::read_prior(&bytes)).transpose()?)
    }

    async fn newest_id(&self, conversation: ConversationId, sender: &Sender) -> Result<Option<ClientMsgId>, ReadError> {
        let row = self.reader().get(Space::Index, &keys::newest(conversation, sender))?;
        let parse = |bytes: fjall::Slice| {
            let text = std::str::from_utf8(&bytes).ok();
            let id = text.and_then(|text| ClientMsgId::parse(text).ok());
            id.ok_or_else(|| Fault::damaged("the newest id of a sender is not an id"))
        };
        Ok(row.map(parse).transpose()?)
    }

    async fn fanout_pending(&self) -> Result<Vec<(ConversationId, Seq)>, ReadError> {
        self.barrier().await.map_err(|error| ReadError::Unavailable(error.0))?;
        Ok(self.blocking(all_pending).await?)
    }

    async fn fanout_pending_from(&self, conversation: ConversationId) -> Result<Option<Seq>, ReadError> {
        let row = self.reader().get(Space::Index, &keys::pending(conversation))?;
        let first = row.map(|bytes| rows::read_number(&bytes)).transpose()?;
        Ok(first.map(Seq))
    }

    async fn fanout_done(&self, conversation: ConversationId, up_to: Seq) {
        // A hint: when the writer is gone it is lost, as in a crash.
        let _lost = self.queue(Job::FanoutDone(conversation, up_to)).await;
    }
}
