//! `Bus`: live delivery, presence and session control between nodes. It may lose anything at any moment (I10): every
//! reader heals from the log.

#[cfg(test)]
pub(crate) mod contract;
pub mod embedded;
#[cfg(test)]
pub(crate) mod hooked;
mod nodes;
pub mod redis;

pub use nodes::NodeRecord;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::mpsc;
use tokio::time::Instant;

use crate::domain::{ClockOffset, ConversationId, DeviceId, Seq, SessionId, StreamName, UnixMillis, UserId};
use crate::storage::StoredEntry;
use crate::telemetry::meters::{Held, meters};

/// Events a subscriber may leave unread: above it they are dropped and the subscriber is told that it lagged. Large
/// enough for a burst of two full windows, small enough that a stalled session costs no more than its window.
pub const SUBSCRIPTION_EVENTS_MAX: usize = 512;

/// Bytes of entries that a subscriber may leave unread, as well: two windows of texts of two KiB. Entries are shared by all who
/// hear of them, so this bounds what a stalled session keeps from being freed.
pub const SUBSCRIPTION_BYTES_MAX: usize = 1024 * 1024;

/// What one can subscribe to.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Topic {
    /// What is published once for many users, to every gateway: which of the channels of that. Of the bus alone, which hands it
    /// to the topics of the users that it names. First in order, so that it is subscribed before those.
    Gateways(u8),
    /// What is published once for a busy large group, to the gateways that have a member of it. Of the bus alone, as well, and
    /// subscribed before the topics of users.
    Conversation(ConversationId),
    /// Everything for a user's sessions.
    User(UserId),
    /// Control of one session, from whatever node a Submit or a replacing stream arrives at.
    Session(SessionId),
    /// Presence of one user, for those who watch it.
    Presence(UserId),
}

/// What is published.
#[derive(Debug, Clone)]
pub enum Event {
    /// New entries of one conversation for the user, in order: those that one commit stored. When they were acknowledged,
    /// by this node's monotonic clock, if it was here and now.
    Entries(Arc<[Arc<StoredEntry>]>, Option<Instant>),
    /// Markers of other members moved.
    Receipts(Arc<ReceiptsMoved>),
    /// The user's own markers, settings or membership of a conversation changed; read the row again.
    OwnRow(ConversationId),
    /// Somebody types, or stopped.
    Typing {
        /// Where.
        conversation: ConversationId,
        /// Who.
        user: UserId,
        /// True when they stopped.
        stopped: bool,
    },
    /// Presence of a watched user.
    Presence(UserPresence),
    /// A stream of this device and name took over: all others of that name end.
    Replaced {
        /// The device.
        device: DeviceId,
        /// The stream's name.
        stream: StreamName,
        /// The session that stays.
        by: SessionId,
    },
    /// The user's tokens were revoked (`None`), or one of their devices removed: streams opened with tokens of before end.
    Revoked {
        /// The device; `None` for all of them.
        device: Option<DeviceId>,
        /// Tokens issued up to then.
        at: UnixMillis,
    },
    /// A frame for a session that came by Submit.
    Control(SessionControl),
    /// Events may have been lost. Never published: [`Publisher::lost`] puts it there, so that a subscriber to whom
    /// nothing else comes looks too.
    Lost,
}

impl Event {
    /// Bytes of the entries that it keeps in memory; all else is small.
    fn bytes(&self) -> usize {
        match self {
            Self::Entries(entries, _) => entries.iter().map(|stored| stored.wire.len()).sum(),
            _ => 0,
        }
    }
}

/// Session frames that came by Submit.
#[derive(Debug, Clone)]
pub struct SessionControl {
    /// Session frames in order, as encoded `stonechat.v1.ClientFrame`.
    pub frames: Vec<bytes::Bytes>,
}

/// Public markers of members that moved.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReceiptsMoved {
    /// Where.
    pub conversation: ConversationId,
    /// Whose, with delivered and public read.
    pub members: Vec<(UserId, Seq, Seq)>,
    /// Every member but the recipient of the event has received up to here.
    pub delivered_to_all: Seq,
    /// Every member but the recipient of the event has publicly read up to here.
    pub read_by_all: Seq,
}

/// What a user shows of themself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Status {
    /// No live stream, or wants to look so.
    Offline,
    /// Away, or all apps in the background.
    Away,
    /// Not to be disturbed.
    Busy,
    /// In the foreground.
    Online,
}

/// Presence of one user, merged over sessions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UserPresence {
    /// Who.
    pub user: UserId,
    /// Status.
    pub status: Status,
    /// Last activity, when known.
    pub last_active: Option<UnixMillis>,
}

/// What one session says of its user: one record of `user_status:{user}`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StatusRecord {
    /// Status of this session.
    pub status: Status,
    /// Last activity on it.
    pub last_active: UnixMillis,
    /// Gateway that holds the session.
    pub gateway: String,
    /// The record is worth nothing after this, by the reader's clock.
    pub valid_until: UnixMillis,
}

/// What a user used of a limit that all nodes share, since it was last said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Spent {
    /// Who.
    pub user: UserId,
    /// The time in which the steady rate pays for it.
    pub used: Duration,
    /// Farther ahead of now than this nobody gets: bounds how long somebody waits.
    pub most: Duration,
}

/// Live delivery and presence. Nothing here is durable.
#[async_trait]
pub trait Bus: Send + Sync {
    /// Subscribes. Events published after this returned arrive, in order per publisher, unless they are lost.
    async fn subscribe(&self, topic: Topic) -> Subscription;

    /// Publishes to a topic; returns how many subscribers there were, 0 when unknown.
    async fn publish(&self, topic: &Topic, event: Event) -> usize;

    /// Publishes one event to the topics of many users; returns the users with no subscriber. `None` when that is not known:
    /// a bus of several nodes may tell gateways once, instead of every user.
    async fn publish_to_users(&self, users: &[UserId], event: Event) -> Option<Vec<UserId>>;

    /// Sets what a session says of its user.
    async fn set_status(&self, user: &UserId, session: &SessionId, record: StatusRecord);

    /// Forgets what a session said.
    async fn clear_status(&self, user: &UserId, session: &SessionId);

    /// All records of these users, in the order asked, expired ones included. A bus that knows that a gateway lives or is
    /// gone says so: by a later `valid_until`, or by leaving out its records.
    async fn statuses(&self, users: &[UserId]) -> Vec<Vec<StatusRecord>>;

    /// Says that a node is alive, for so long.
    async fn announce_node(&self, node: &NodeRecord, valid: Duration);

    /// Says that a node goes.
    async fn withdraw_node(&self, name: &str);

    /// The nodes that are alive, by name; `None` when the bus cannot tell now: what was known before is the best guess.
    async fn nodes(&self) -> Option<Vec<NodeRecord>>;

    /// How far this node's clock is ahead of the one clock that all nodes on this bus can ask; `None` where there is none, or it
    /// does not answer.
    async fn clock(&self) -> Option<ClockOffset> {
        None
    }

    /// Adds what users used, and says for each, in order, how far ahead of now all that they used of any node is paid for.
    /// `None` where the bus cannot tell, as one of a single process never does: there a node's own count is all there is.
    async fn spend(&self, spent: &[Spent]) -> Vec<Option<Duration>> {
        vec![None; spent.len()]
    }
}

/// Receives the events of one topic; dropping it unsubscribes.
pub struct Subscription {
    events: mpsc::Receiver<Event>,
    unread_bytes: Arc<AtomicUsize>,
    lagged: Arc<AtomicBool>,
    _guard: Box<dyn std::any::Any + Send + Sync>,
    _counted: Held,
}

/// Where an implementation puts the events of one subscription.
pub struct Publisher {
    events: mpsc::Sender<Event>,
    unread_bytes: Arc<AtomicUsize>,
    lagged: Arc<AtomicBool>,
}

impl Publisher {
    /// Hands an event over without waiting; when the subscriber is full it is dropped and the subscriber told.
    pub fn offer(&self, event: Event) {
        let bytes = event.bytes();
        let unread = self.unread_bytes.fetch_add(bytes, Ordering::AcqRel);
        // A large event is taken by who has nothing unread, or nobody ever would.
        let fits = unread == 0 || unread.saturating_add(bytes) <= SUBSCRIPTION_BYTES_MAX;
        if !fits || self.events.try_send(event).is_err() {
            self.unread_bytes.fetch_sub(bytes, Ordering::AcqRel);
            meters().bus_events_lost.inc();
            self.lagged.store(true, Ordering::Release);
        }
    }

    /// Tells the subscriber that events may have been lost, and wakes it.
    pub fn lost(&self) {
        if !self.lagged.swap(true, Ordering::AcqRel) {
            // Where there is no room, there are events that wake it.
            let _ = self.events.try_send(Event::Lost);
        }
    }
}

impl Subscription {
    /// A subscription and its publisher's end; `guard` is dropped with the subscription.
    #[must_use]
    pub fn channel(guard: Box<dyn std::any::Any + Send + Sync>) -> (Publisher, Self) {
        let (sender, receiver) = mpsc::channel(SUBSCRIPTION_EVENTS_MAX);
        let lagged = Arc::new(AtomicBool::new(false));
        let unread_bytes = Arc::<AtomicUsize>::default();
        let publisher = Publisher {
            events: sender,
            unread_bytes: Arc::clone(&unread_bytes),
            lagged: Arc::clone(&lagged),
        };
        let subscription = Self {
            events: receiver,
            unread_bytes,
            lagged,
            _guard: guard,
            _counted: meters().bus_subscriptions.hold(),
        };
        (publisher, subscription)
    }

    /// The next event; `None` when the bus is gone.
    pub async fn next(&mut self) -> Option<Event> {
        let event = self.events.recv().await?;
        self.unread_bytes.fetch_sub(event.bytes(), Ordering::AcqRel);
        Some(event)
    }

    /// Whether events were lost since the last call: read the heads again.
    pub fn take_lagged(&self) -> bool {
        self.lagged.swap(false, Ordering::AcqRel)
    }
}
