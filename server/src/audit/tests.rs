//! What is whole passes; each thing that can be wrong is found by name.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use async_trait::async_trait;
use stonechat_host::{Host, ManualClock, SeededRandom};

use super::history::History;
use super::{AuditError, Audited, Part, audit};
use crate::bus::embedded::EmbeddedBus;
use crate::conversation::{Backends, Conversations, Limits};
use crate::domain::{
    Body, ClientMsgId, ConversationId, Counted, Entry, MarkerSet, Ordinal, Sender, Seq, UnixMillis, UserId,
};
use crate::storage::contract::doubled_log::{Doubled, LogDouble};
use crate::storage::memory::MemoryStore;
use crate::storage::memory::directory::MemoryDirectory;
use crate::storage::{
    AppendBatch, CONTRADICTIONS_MAX, Head, InboxHead, MarkerRaise, MessageLog, PageLimit, PayloadHash, PendingAppend,
    Prior, Projection, ReadError, StoredEntry, walk,
};
use crate::transfer::import;

const SAMPLE: &str = include_str!("../../../tests/data/sample.jsonl");

struct Silent;

impl crate::transfer::Progress for Silent {
    fn read(&mut self, _bytes: u64) {}

    fn refused(&mut self, line: u64, refusal: &crate::domain::Refusal) {
        panic!("line {line}: {}", refusal.message);
    }
}

fn host() -> Host {
    Host {
        clock: Arc::new(ManualClock::new(900_000)),
        random: Arc::new(SeededRandom::new(7)),
    }
}

/// Every kind of entry, fanned out.
async fn furnished() -> Backends {
    let store = Arc::new(MemoryStore::new(&host()));
    let backends = Backends {
        log: Arc::clone(&store) as _,
        markers: store,
        directory: Arc::new(MemoryDirectory::default()),
        bus: Arc::new(EmbeddedBus::default()),
    };
    let rules = Conversations::new(backends.clone(), host(), Limits::unpaced());
    import(&rules, &backends, &host(), SAMPLE.as_bytes(), &mut Silent)
        .await
        .unwrap();
    rules.drain().await;
    backends
}

async fn all(backends: &Backends) -> (Audited, Vec<String>) {
    let (audited, told) = part_of(backends, Part::ALL).await;
    let audited = audited.unwrap();
    assert_eq!(audited.contradictions, told.len() as u64);
    (audited, told)
}

async fn part_of(backends: &Backends, part: Part) -> (Result<Audited, AuditError>, Vec<String>) {
    let mut told = Vec::new();
    let mut tell = |_: ConversationId, why: &str| told.push(why.to_owned());
    let audited = audit(backends, part, 4, &mut tell).await;
    (audited, told)
}

async fn found(backends: &Backends, what: &str) {
    let (_, told) = all(backends).await;
    assert!(told.iter().any(|why| why.contains(what)), "{what}: {told:?}");
}

async fn longest(backends: &Backends) -> (ConversationId, Head) {
    let row = backends.markers.inbox_newest(&user("alice"), 100).await.unwrap();
    let longest = row.iter().max_by_key(|row| row.head.seq).unwrap().conversation;
    (longest, backends.log.head(longest).await.unwrap().unwrap())
}

fn user(name: &str) -> UserId {
    UserId::parse(name).unwrap()
}

#[tokio::test(start_paused = true)]
async fn what_is_whole_passes_in_one_run_or_in_parts() {
    let backends = furnished().await;
    let (audited, told) = all(&backends).await;
    assert!(told.is_empty(), "{told:?}");
    let there = walk::count_conversations(&*backends.directory).await.unwrap();
    assert_eq!(audited.conversations, there);
    assert!(audited.entries > 20 && audited.pending == 0, "{audited:?}");
    let mut parts = 0;
    for number in 1..=3 {
        let part = Part { number, of: 3 };
        parts += part_of(&backends, part).await.0.unwrap().conversations;
    }
    assert_eq!(parts, there);
}

/// I6: no marker says more than the log.
#[tokio::test(start_paused = true)]
async fn i6_markers_that_say_more_than_the_log_are_found() {
    let raise = |to: fn(&mut MarkerSet, Seq)| async move {
        let backends = furnished().await;
        let (conversation, head) = longest(&backends).await;
        let mut markers = MarkerSet::default();
        to(&mut markers, head.seq);
        let raise = MarkerRaise {
            user: user("alice"),
            conversation,
            markers,
            device: None,
        };
        backends.markers.raise(vec![raise]).await.unwrap();
        backends
    };
    let above = raise(|markers, head| markers.delivered = head.next()).await;
    found(&above, "above its head").await;
    let unseen = raise(|markers, head| markers.read.seq = head).await;
    found(&unseen, "delivered (I6)").await;
    let miscounted = |markers: &mut MarkerSet, head: Seq| {
        markers.delivered = head;
        markers.read = Counted {
            seq: head,
            ordinal: Ordinal(head.0 + 1),
        };
    };
    found(&raise(miscounted).await, "the read of alice says").await;
}

/// I5: a row that is behind hides messages, unless the store knows that it is.
#[tokio::test(start_paused = true)]
async fn i5_rows_that_are_behind_are_found_once_nothing_is_pending() {
    let backends = furnished().await;
    let (conversation, seq) = renamed_in_silence(&backends).await;
    let (audited, told) = all(&backends).await;
    assert!(told.is_empty() && audited.pending == 1, "{audited:?}, {told:?}");
    backends.log.fanout_done(conversation, seq).await;
    found(&backends, "(I5)").await;
}

/// One more entry, of which nobody is told.
async fn renamed_in_silence(backends: &Backends) -> (ConversationId, Seq) {
    let (conversation, head) = longest(backends).await;
    let last = backends
        .log
        .read(conversation, head.seq, head.seq, one())
        .await
        .unwrap();
    let entry = Entry {
        seq: head.seq.next(),
        client_msg_id: ClientMsgId::parse("untold").unwrap(),
        body: Body::Renamed("in silence".to_owned()),
        ..last[0].entry.clone()
    };
    (conversation, append(backends, head, entry).await.seq)
}

/// Appends past all rules; returns the new head.
async fn append(backends: &Backends, expected: Head, entry: Entry) -> Head {
    let head = expected.after(&entry);
    let batch = AppendBatch {
        conversation: entry.conversation,
        expected,
        head,
        entries: vec![PendingAppend {
            payload: PayloadHash::default(),
            entry,
        }],
    };
    backends.log.append(batch).await.unwrap();
    head
}

fn one() -> PageLimit {
    PageLimit {
        entries: 1,
        bytes: usize::MAX,
    }
}

#[tokio::test(start_paused = true)]
async fn rows_and_records_that_the_log_does_not_bear_out_are_found() {
    let backends = furnished().await;
    let (conversation, head) = longest(&backends).await;
    let ahead = InboxHead {
        seq: head.seq.next(),
        ordinal: head.ordinal,
        time: head.time,
    };
    let users = [user("alice")];
    backends
        .markers
        .raise_inbox(&users, conversation, ahead, false)
        .await
        .unwrap();
    found(&backends, "the inbox row of alice says").await;

    let backends = furnished().await;
    let (conversation, seq) = renamed_in_silence(&backends).await;
    let renamed = Projection {
        applied: seq,
        name: Some("another".to_owned()),
        ..Projection::default()
    };
    backends.directory.apply(conversation, renamed).await.unwrap();
    found(&backends, "its name in the directory").await;

    let backends = furnished().await;
    let (conversation, head) = longest(&backends).await;
    let above = Projection {
        applied: head.seq.next(),
        ..Projection::default()
    };
    backends.directory.apply(conversation, above).await.unwrap();
    found(&backends, "above its head").await;
}

/// I2, I3: a log that contradicts itself is found, whatever of it does.
#[tokio::test(start_paused = true)]
async fn i3_logs_that_contradict_themselves_are_found() {
    let twists: [(Twist, &str); 9] = [
        (Twist::Gone, "its log is gone"),
        (Twist::Unreadable, "as told"),
        (Twist::Hole, "follows 1 (I3)"),
        (Twist::TimeRunsBack, "is before that of"),
        (Twist::CountsTwice, "counts as"),
        (Twist::OtherHead, "its head is"),
        (Twist::IdLost, "leads nowhere"),
        (Twist::IdElsewhere, "leads to 1"),
        (Twist::OtherName, "its name in the directory"),
    ];
    for (twist, what) in twists {
        let mut backends = furnished().await;
        let inner = Arc::clone(&backends.log);
        let away = AtomicUsize::new(0);
        backends.log = Arc::new(Doubled(Twisted { inner, twist, away }));
        found(&backends, what).await;
    }
}

/// A store that is away for a moment does not end the audit; one that stays away does, and is no contradiction.
#[tokio::test(start_paused = true)]
async fn a_store_that_is_away_for_a_moment_is_asked_again() {
    for (away, whole) in [(2, true), (usize::MAX, false)] {
        let mut backends = furnished().await;
        let inner = Arc::clone(&backends.log);
        let (twist, away) = (Twist::None, AtomicUsize::new(away));
        backends.log = Arc::new(Doubled(Twisted { inner, twist, away }));
        let (audited, told) = part_of(&backends, Part::ALL).await;
        assert_eq!(audited.is_ok(), whole, "{audited:?}");
        assert!(told.is_empty(), "{told:?}");
    }
}

/// I9: a log of which nothing is right is not told entry by entry.
#[tokio::test(start_paused = true)]
async fn i9_what_is_told_of_one_conversation_is_bounded() {
    let mut backends = furnished().await;
    let (conversation, head) = longest(&backends).await;
    let last = backends
        .log
        .read(conversation, head.seq, head.seq, one())
        .await
        .unwrap();
    let mut history = History::new(std::iter::empty());
    for _ in 0..10 * CONTRADICTIONS_MAX {
        history.take_in(&last[0].entry);
    }
    assert_eq!(history.found.len(), CONTRADICTIONS_MAX);

    let mut long = head;
    while long.seq.0 < 2 * CONTRADICTIONS_MAX as u64 {
        let entry = Entry {
            seq: long.seq.next(),
            client_msg_id: ClientMsgId::parse(&format!("more-{}", long.seq)).unwrap(),
            body: Body::Renamed("again".to_owned()),
            ..last[0].entry.clone()
        };
        long = append(&backends, long, entry).await;
    }
    let twisted = Twisted {
        inner: Arc::clone(&backends.log),
        twist: Twist::IdLost,
        away: AtomicUsize::new(0),
    };
    backends.log = Arc::new(Doubled(twisted));
    let told = backends.log.contradictions(conversation, long.seq).await.unwrap();
    assert_eq!(told.len(), CONTRADICTIONS_MAX);
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Twist {
    None,
    Gone,
    Unreadable,
    Hole,
    TimeRunsBack,
    CountsTwice,
    OtherHead,
    IdLost,
    IdElsewhere,
    OtherName,
}

/// A log that is not what it was: one of the first two entries of each conversation, or what is said of it.
struct Twisted {
    inner: Arc<dyn MessageLog>,
    twist: Twist,
    /// So many times it gives no page.
    away: AtomicUsize,
}

impl Twisted {
    fn twisted(&self, stored: Arc<StoredEntry>) -> Option<Arc<StoredEntry>> {
        let mut entry = stored.entry.clone();
        match (self.twist, entry.seq, &mut entry.body) {
            (Twist::Hole, Seq(2), _) => return None,
            (Twist::TimeRunsBack, Seq(2), _) => entry.time = UnixMillis(0),
            (Twist::CountsTwice, Seq(2), _) => entry.ordinal = Ordinal(entry.ordinal.0 + 1),
            (Twist::OtherName, Seq(1), Body::Created { name, .. }) => name.push('x'),
            _ => return Some(stored),
        }
        let wire = stored.wire.clone();
        Some(Arc::new(StoredEntry { entry, wire }))
    }
}

#[async_trait]
impl LogDouble for Twisted {
    fn inner(&self) -> &dyn MessageLog {
        &*self.inner
    }

    async fn head(&self, conversation: ConversationId) -> Result<Option<Head>, ReadError> {
        let head = self.inner.head(conversation).await?;
        Ok(match self.twist {
            Twist::Gone => None,
            Twist::OtherHead => head.map(|head| Head {
                epoch: head.epoch.next(),
                ..head
            }),
            _ => head,
        })
    }

    async fn read(
        &self,
        conversation: ConversationId,
        from: Seq,
        to: Seq,
        limit: PageLimit,
    ) -> Result<Vec<Arc<StoredEntry>>, ReadError> {
        let one_less = |left: usize| left.checked_sub(1);
        if self
            .away
            .fetch_update(Ordering::SeqCst, Ordering::SeqCst, one_less)
            .is_ok()
        {
            return Err(ReadError::Unavailable("for a moment".to_owned()));
        }
        if self.twist == Twist::Unreadable {
            return Err(ReadError::Corrupt("as told".to_owned()));
        }
        let page = self.inner.read(conversation, from, to, limit).await?;
        Ok(page.into_iter().filter_map(|stored| self.twisted(stored)).collect())
    }

    async fn find(
        &self,
        conversation: ConversationId,
        sender: &Sender,
        id: &ClientMsgId,
        known_head: Seq,
    ) -> Result<Option<Prior>, ReadError> {
        let prior = self.inner.find(conversation, sender, id, known_head).await?;
        Ok(match (self.twist, prior) {
            (Twist::IdLost, _) => None,
            (Twist::IdElsewhere, Some(prior)) => Some(Prior { seq: Seq(1), ..prior }),
            (_, prior) => prior,
        })
    }
}
