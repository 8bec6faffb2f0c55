//! A node's conversation rules on in-memory backends, and short ways to speak to them.

use std::sync::Arc;

use stonechat_host::{Host, ManualClock, SeededRandom};

use crate::bus::embedded::EmbeddedBus;
use crate::conversation::{
    AppendRequest, Appended, Backends, Caller, Conversations, CreateRequest, HistoryAnchor, HistoryPage, HistoryQuery,
    Limits,
};
use crate::domain::authorization::Actor;
use crate::domain::{
    Change, ClientMsgId, Content, ConversationId, CorrelationId, DeviceId, Kind, Member, MessageContent, Refusal, Role,
    Seq, UnixMillis, UserId,
};
use crate::storage::MessageLog;
use crate::storage::memory::MemoryStore;
use crate::storage::memory::directory::MemoryDirectory;

pub(super) struct Bed {
    pub(super) conversations: Conversations,
    pub(super) backends: Backends,
    pub(super) clock: Arc<ManualClock>,
    pub(super) host: Host,
}

pub(super) fn user(name: &str) -> UserId {
    UserId::parse(name).unwrap()
}

pub(super) fn id(text: &str) -> ClientMsgId {
    ClientMsgId::parse(text).unwrap()
}

pub(super) fn caller(name: &str) -> Caller {
    Caller {
        actor: Actor::User(user(name)),
        device: Some(DeviceId::parse("phone").unwrap()),
        correlation: CorrelationId([7; 16]),
    }
}

pub(super) fn member(name: &str, role: Role) -> Member {
    Member { user: user(name), role }
}

pub(super) fn text(text: &str) -> Change {
    Change::Message(MessageContent {
        content: Content::Text(text.to_owned()),
        reply_to: None,
        media: Vec::new(),
    })
}

/// A 1:1 to create.
pub(super) fn direct(from: &str, to: &str, msg_id: &str) -> CreateRequest {
    CreateRequest {
        client_msg_id: id(msg_id),
        owner: user(from),
        kind: Kind::Direct,
        name: String::new(),
        members: vec![member(to, Role::Member)],
        created: None,
    }
}

impl Bed {
    pub(super) async fn new(users: &[&str]) -> Self {
        Self::with(users, Limits::default(), |log| log).await
    }

    /// `wrap` may put a log that lies in front of the real one.
    pub(super) async fn with(
        users: &[&str],
        limits: Limits,
        wrap: impl FnOnce(Arc<dyn MessageLog>) -> Arc<dyn MessageLog>,
    ) -> Self {
        let clock = Arc::new(ManualClock::new(1_000_000));
        let host = Host {
            clock: Arc::clone(&clock) as Arc<_>,
            random: Arc::new(SeededRandom::new(1)),
        };
        let store = Arc::new(MemoryStore::new(&host));
        let backends = Backends {
            log: wrap(Arc::clone(&store) as Arc<_>),
            markers: store,
            directory: Arc::new(MemoryDirectory::default()),
            bus: Arc::new(EmbeddedBus::default()),
        };
        for name in users {
            backends
                .directory
                .ensure_user(&user(name), UnixMillis(0))
                .await
                .unwrap();
        }
        Self {
            conversations: Conversations::new(backends.clone(), host.clone(), limits),
            backends,
            clock,
            host,
        }
    }

    /// Another node on the same backends: it has seen nothing of what this one holds in memory.
    pub(super) fn other_node(&self) -> Conversations {
        Conversations::new(self.backends.clone(), self.host.clone(), Limits::default())
    }

    pub(super) async fn group(&self, owner: &str, members: &[Member]) -> ConversationId {
        let request = CreateRequest {
            client_msg_id: id("create"),
            owner: user(owner),
            kind: Kind::Group,
            name: "group".to_owned(),
            members: members.to_vec(),
            created: None,
        };
        self.conversations.create(&caller(owner), request).await.unwrap().id
    }

    pub(super) async fn append(
        &self,
        who: &str,
        conversation: ConversationId,
        msg_id: &str,
        change: Change,
    ) -> Result<Appended, Refusal> {
        self.conversations
            .append(&caller(who), request(conversation, msg_id, change))
            .await
    }

    pub(super) async fn send(&self, who: &str, conversation: ConversationId, msg_id: &str) -> Appended {
        self.append(who, conversation, msg_id, text(msg_id)).await.unwrap()
    }

    pub(super) async fn unread(&self, who: &str, conversation: ConversationId) -> u64 {
        let summary = self
            .conversations
            .summary(&user(who), None, conversation)
            .await
            .unwrap();
        summary.map_or(0, |summary| summary.markers.unread_count)
    }
}

pub(super) fn request(conversation: ConversationId, msg_id: &str, change: Change) -> AppendRequest {
    AppendRequest {
        conversation,
        client_msg_id: id(msg_id),
        previous: None,
        known_head: Seq::ZERO,
        change,
        origin_time: None,
    }
}

/// A page of history as alice reads it.
pub(super) async fn page(
    bed: &Bed,
    group: ConversationId,
    anchor: HistoryAnchor,
    limit: usize,
) -> Result<HistoryPage, Refusal> {
    page_of(&bed.conversations, "alice", group, anchor, limit).await
}

/// A page of history as somebody reads it on some node.
pub(super) async fn page_of(
    node: &Conversations,
    who: &str,
    conversation: ConversationId,
    anchor: HistoryAnchor,
    limit: usize,
) -> Result<HistoryPage, Refusal> {
    let query = HistoryQuery {
        conversation,
        anchor,
        limit,
        until: None,
    };
    node.history(&caller(who), query).await
}

pub(super) fn seqs(page: &HistoryPage) -> Vec<u64> {
    page.entries.iter().map(|stored| stored.entry.seq.0).collect()
}
