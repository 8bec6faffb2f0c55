//! Stores and a bus that take their time, without failing: acks wait for the log alone, and nothing stays behind (I5, I8, I9).

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures_util::future::join_all;
use tokio::sync::watch;

use super::bed::{Bed, caller, id, member, request, text, user};
use crate::bus::hooked::{HookedBus, PublishHook};
use crate::bus::{Event, Subscription, Topic};
use crate::conversation::limits::{FANOUT_QUEUE_MAX, FANOUT_ROUND_MAX};
use crate::conversation::{AppendRequest, Conversations, Limits};
use crate::domain::{ClientMsgId, ConversationId, Role, Sender, Seq};
use crate::storage::contract::doubled_log::{Doubled, LogDouble};
use crate::storage::contract::hooked_markers::{Hook, HookedMarkers};
use crate::storage::{AppendBatch, AppendError, MessageLog, Prior, ReadError, StoredEntry};

/// I5, less what a session's own look at the inbox may take.
const SOON: Duration = Duration::from_secs(5);
/// Far more than fan-out keeps.
const MANY: u64 = 4 * (FANOUT_QUEUE_MAX + FANOUT_ROUND_MAX) as u64;

/// Lets pass while it is open.
struct Gate(watch::Receiver<bool>);

impl Gate {
    async fn pass(&self) {
        let mut gate = self.0.clone();
        let _gone = gate.wait_for(|open| *open).await;
    }
}

#[async_trait]
impl Hook for Gate {
    async fn held(&self) {
        self.pass().await;
    }
}

#[async_trait]
impl PublishHook for Gate {
    async fn passes(&self) -> bool {
        self.pass().await;
        true
    }
}

/// What takes its time.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Slow {
    Rows,
    Bus,
}

/// A node on simulated time with a gate before one of its backends.
async fn gated(slow: Slow) -> (Bed, watch::Sender<bool>) {
    let mut bed = Bed::new(&["alice", "bob", "carol"]).await;
    let (open, gate) = watch::channel(true);
    match slow {
        Slow::Rows => {
            bed.backends.markers = Arc::new(HookedMarkers {
                inner: Arc::clone(&bed.backends.markers),
                hook: Arc::new(Gate(gate)),
            });
        }
        Slow::Bus => {
            bed.backends.bus = Arc::new(HookedBus::new(Gate(gate)));
        }
    }
    bed.conversations = Conversations::new(bed.backends.clone(), bed.host.clone(), Limits::default());
    (bed, open)
}

/// The highest seq a subscriber was told of without a hole behind what it had.
async fn told_up_to(events: &mut Subscription, mut seq: Seq, head: Seq) -> Seq {
    while seq < head {
        let event = tokio::time::timeout(SOON, events.next()).await;
        let Ok(Some(Event::Entries(entries, _))) = event else {
            break;
        };
        for stored in entries.iter() {
            if stored.entry.seq == seq.next() {
                seq = stored.entry.seq;
            }
        }
    }
    seq
}

async fn row_of(bed: &Bed, who: &str, conversation: ConversationId) -> Option<Seq> {
    let row = bed.backends.markers.inbox_row(&user(who), conversation).await.unwrap();
    row.map(|row| row.head.seq)
}

/// The store of rows, or the bus, stands still for as long as a busy conversation sends: no ack waits, what is kept for it is
/// bounded, and once it goes on everything is there, in order, for who joined meanwhile as well.
#[tokio::test(start_paused = true)]
async fn i5_i9_acks_wait_neither_for_slow_rows_nor_for_a_slow_bus() {
    for slow in [Slow::Rows, Slow::Bus] {
        let (bed, open) = gated(slow).await;
        let group = bed.group("alice", &[member("bob", Role::Member)]).await;
        bed.conversations.settled(&user("bob")).await;
        let mut events = bed.backends.bus.subscribe(Topic::User(user("bob"))).await;
        open.send_replace(false);
        let (mut told, mut head) = (Seq(1), Seq(1));
        for number in 0..MANY {
            let name = format!("m{number}");
            let sending = tokio::time::timeout(SOON, bed.send("alice", group, &name));
            head = sending
                .await
                .unwrap_or_else(|_| panic!("{slow:?}: no ack of {name}"))
                .seq;
            if slow == Slow::Rows {
                told = told_up_to(&mut events, told, head).await;
                assert_eq!(told, head, "live deliveries wait for no rows");
            }
        }
        let added = crate::domain::Change::SetMembers(vec![member("carol", Role::Member)]);
        head = head.max(bed.append("alice", group, "add", added).await.unwrap().seq);
        let kept = bed.conversations.core.barrier.under_way();
        assert!(
            kept <= FANOUT_QUEUE_MAX + FANOUT_ROUND_MAX + 3,
            "{slow:?}: {kept} batches are kept"
        );
        let pending = bed.backends.log.fanout_pending_from(group).await.unwrap();
        assert!(
            pending.is_some_and(|from| from <= Seq(3)),
            "{pending:?} is left to the log"
        );
        open.send_replace(true);
        told = told_up_to(&mut events, told, head).await;
        assert_eq!(told, head, "{slow:?}: everything is told, in order");
        tokio::time::sleep(SOON).await;
        for who in ["bob", "carol"] {
            assert_eq!(row_of(&bed, who, group).await, Some(head), "{slow:?}: {who}");
        }
        assert_eq!(
            (bed.unread("bob", group).await, bed.unread("carol", group).await),
            (MANY, 0)
        );
        assert_eq!(bed.backends.log.fanout_pending_from(group).await.unwrap(), None);
        assert_eq!(bed.conversations.core.barrier.under_way(), 0);
    }
}

/// Every answer of it comes late.
struct LateLog {
    inner: Arc<dyn MessageLog>,
    late: watch::Receiver<Duration>,
}

impl LateLog {
    async fn wait(&self) {
        let late = *self.late.borrow();
        tokio::time::sleep(late).await;
    }
}

#[async_trait]
impl LogDouble for LateLog {
    fn inner(&self) -> &dyn MessageLog {
        &*self.inner
    }

    async fn append(&self, batch: AppendBatch) -> Result<Vec<Arc<StoredEntry>>, AppendError> {
        self.wait().await;
        self.inner.append(batch).await
    }

    async fn find(
        &self,
        conversation: ConversationId,
        sender: &Sender,
        id: &ClientMsgId,
        known_head: Seq,
    ) -> Result<Option<Prior>, ReadError> {
        self.wait().await;
        self.inner.find(conversation, sender, id, known_head).await
    }

    async fn newest_id(&self, conversation: ConversationId, sender: &Sender) -> Result<Option<ClientMsgId>, ReadError> {
        self.wait().await;
        self.inner.newest_id(conversation, sender).await
    }
}

/// Pipelined, each behind the one before.
fn pipelined(group: ConversationId, count: u64) -> Vec<AppendRequest> {
    let name = |number: u64| format!("m{number}");
    let requests = (0..count).map(|number| AppendRequest {
        previous: number.checked_sub(1).map(|before| id(&name(before))),
        ..request(group, &name(number), text("text"))
    });
    requests.collect()
}

/// I4, I8: a log whose every answer takes long is asked for all that waits at once: acks are slow by some answers, not by some for
/// each message.
#[tokio::test(start_paused = true)]
async fn i8_a_slow_log_means_slow_acks_and_not_none() {
    const LATE: Duration = Duration::from_millis(2_500);
    let (slow, late) = watch::channel(Duration::ZERO);
    let wrap = |inner| Arc::new(Doubled(LateLog { inner, late })) as Arc<dyn MessageLog>;
    let bed = Bed::with(&["alice"], Limits::default(), wrap).await;
    let group = bed.group("alice", &[]).await;
    slow.send_replace(LATE);
    let alice = caller("alice");
    let sends = pipelined(group, 40).into_iter();
    let sends = sends.map(|request| bed.conversations.append(&alice, request));
    let started = stonechat_host::monotonic();
    let acks = join_all(sends).await;
    let seqs: Vec<u64> = acks.into_iter().map(|ack| ack.expect("stored").seq.0).collect();
    assert_eq!(seqs, (2..42).collect::<Vec<u64>>());
    assert!(started.elapsed() <= LATE * 8, "it took {:?}", started.elapsed());
}
