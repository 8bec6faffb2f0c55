//! The log's rule for one conversation, with conditions that can be taken away.

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;

use crate::domain::{ClientMsgId, ConversationId, Sender, Seq};
use crate::storage::{
    AppendBatch, AppendError, Durability, Head, MessageLog, PageLimit, Prior, ReadError, StoredEntry,
};

/// What is in force.
#[derive(Debug, Clone, Copy)]
pub(super) struct Rules {
    /// The head must be at the seq that the batch expects.
    pub(super) head: bool,
    /// The membership must be of the epoch that the batch expects.
    pub(super) epoch: bool,
    /// An id has one place: it is looked up before, and it must be free when the batch is written.
    pub(super) ids: bool,
}

pub(super) const ALL: Rules = Rules {
    head: true,
    epoch: true,
    ids: true,
};

/// The rows of one conversation.
#[derive(Debug, Clone)]
pub(super) struct Table {
    pub(super) rules: Rules,
    pub(super) head: Head,
    pub(super) entries: BTreeMap<Seq, Arc<StoredEntry>>,
    ids: BTreeMap<(Sender, ClientMsgId), Prior>,
    newest: BTreeMap<Sender, ClientMsgId>,
}

impl Table {
    pub(super) fn new(rules: Rules) -> Self {
        Self {
            rules,
            head: Head::default(),
            entries: BTreeMap::new(),
            ids: BTreeMap::new(),
            newest: BTreeMap::new(),
        }
    }

    pub(super) fn place_of(&self, sender: &Sender, id: &ClientMsgId) -> Option<Seq> {
        let holds = |stored: &&Arc<StoredEntry>| stored.entry.sender == *sender && stored.entry.client_msg_id == *id;
        self.entries.values().find(holds).map(|stored| stored.entry.seq)
    }

    /// One conditional batch: all of it or nothing. As a database would, it writes over what is there if the conditions
    /// let it.
    pub(super) fn append(&mut self, batch: &AppendBatch) -> Result<(), AppendError> {
        let rules = self.rules;
        let taken = batch.entries.iter().any(|pending| {
            let entry = &pending.entry;
            self.ids
                .contains_key(&(entry.sender.clone(), entry.client_msg_id.clone()))
        });
        if (rules.head && self.head.seq != batch.expected.seq)
            || (rules.epoch && self.head.epoch != batch.expected.epoch)
            || (rules.ids && taken)
        {
            return Err(AppendError::Conflict);
        }
        for pending in &batch.entries {
            let entry = &pending.entry;
            let stored = StoredEntry {
                entry: entry.clone(),
                wire: Bytes::new(),
            };
            let (seq, payload) = (entry.seq, pending.payload);
            let key = (entry.sender.clone(), entry.client_msg_id.clone());
            self.ids.insert(key, Prior { seq, payload });
            self.newest.insert(entry.sender.clone(), entry.client_msg_id.clone());
            self.entries.insert(seq, Arc::new(stored));
        }
        self.head = batch.head;
        Ok(())
    }
}

/// The table as a log to read from, at one instant.
pub(super) struct Instant(pub(super) Table);

#[async_trait]
impl MessageLog for Instant {
    fn durability(&self) -> Durability {
        Durability::Memory
    }

    async fn append(&self, _batch: AppendBatch) -> Result<Vec<Arc<StoredEntry>>, AppendError> {
        Err(AppendError::NotDone("an instant does not change".to_owned()))
    }

    async fn head(&self, _conversation: ConversationId) -> Result<Option<Head>, ReadError> {
        Ok(Some(self.0.head))
    }

    async fn read(
        &self,
        _conversation: ConversationId,
        from: Seq,
        to: Seq,
        limit: PageLimit,
    ) -> Result<Vec<Arc<StoredEntry>>, ReadError> {
        let entries = self.0.entries.range(from..=to).map(|(_, stored)| Arc::clone(stored));
        Ok(entries.take(limit.entries).collect())
    }

    async fn find(
        &self,
        _conversation: ConversationId,
        sender: &Sender,
        id: &ClientMsgId,
        _known_head: Seq,
    ) -> Result<Option<Prior>, ReadError> {
        let found = self.0.ids.get(&(sender.clone(), id.clone())).copied();
        Ok(found.filter(|_| self.0.rules.ids))
    }

    async fn newest_id(
        &self,
        _conversation: ConversationId,
        sender: &Sender,
    ) -> Result<Option<ClientMsgId>, ReadError> {
        Ok(self.0.newest.get(sender).cloned())
    }

    async fn fanout_pending(&self) -> Result<Vec<(ConversationId, Seq)>, ReadError> {
        Ok(Vec::new())
    }

    async fn fanout_done(&self, _conversation: ConversationId, _up_to: Seq) {}
}
