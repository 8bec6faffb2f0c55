//! Fan-out that is late: what a store did not take, and what a node left undone, is made up for (I5).

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use super::bed::{Bed, caller, member, request, text, user};
use super::receipts::receipts;
use crate::bus::{Event, Topic};
use crate::conversation::sequencer::payload_of;
use crate::conversation::{AppendRequest, Conversations, Limits};
use crate::domain::{Body, Change, ConversationId, CorrelationId, Entry, Role, Seq};
use crate::storage::contract::hooked_markers::{Hook, HookedMarkers};
use crate::storage::{AppendBatch, Head, MarkerError, PendingAppend};

/// I5, less what a session's own look at the inbox may take.
const SOON: Duration = Duration::from_secs(5);

/// Nothing is written while it is set.
struct Out(Arc<AtomicBool>);

impl Hook for Out {
    fn write(&self) -> Result<(), MarkerError> {
        if self.0.load(Ordering::Relaxed) {
            return Err(MarkerError("the store is out".to_owned()));
        }
        Ok(())
    }
}

/// A node whose markers are out while the switch is set; on simulated time.
async fn unreliable() -> (Bed, Arc<AtomicBool>) {
    let mut bed = Bed::new(&["alice", "bob", "carol"]).await;
    let out = Arc::new(AtomicBool::new(false));
    bed.backends.markers = Arc::new(HookedMarkers {
        inner: Arc::clone(&bed.backends.markers),
        hook: Arc::new(Out(Arc::clone(&out))),
    });
    bed.conversations = Conversations::new(bed.backends.clone(), bed.host.clone(), Limits::default());
    (bed, out)
}

async fn row_of(bed: &Bed, who: &str, conversation: ConversationId) -> Option<Seq> {
    let row = bed.backends.markers.inbox_row(&user(who), conversation).await.unwrap();
    row.map(|row| row.head.seq)
}

/// An outage outlasts every try, and then some silence in which the conversation would leave memory.
#[tokio::test(start_paused = true)]
async fn i5_what_fan_out_could_not_write_is_made_up_for_once_the_store_works_again() {
    for (outage, sends) in [(4, 1), (4, 3), (600, 400)] {
        let (bed, out) = unreliable().await;
        let group = bed.group("alice", &[member("bob", Role::Member)]).await;
        bed.conversations.settled(&user("bob")).await;
        out.store(true, Ordering::Relaxed);
        for number in 0..sends {
            bed.send("alice", group, &format!("m{number}")).await;
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        let added = Change::SetMembers(vec![member("carol", Role::Member)]);
        let added = bed.append("alice", group, "add", added).await.unwrap().seq;
        tokio::time::sleep(Duration::from_secs(outage)).await;
        assert_eq!(row_of(&bed, "bob", group).await, Some(Seq(1)));
        let pending = bed.backends.log.fanout_pending_from(group).await.unwrap();
        assert_eq!(pending, Some(Seq(2)), "done is not said of what is owed");
        out.store(false, Ordering::Relaxed);
        tokio::time::sleep(SOON).await;
        assert_eq!(row_of(&bed, "bob", group).await, Some(added));
        assert_eq!(row_of(&bed, "carol", group).await, Some(added));
        assert_eq!(bed.unread("carol", group).await, 0);
        assert_eq!(bed.backends.log.fanout_pending_from(group).await.unwrap(), None);
    }
}

/// The same for what is sent while older entries are owed: it waits for them, and no longer.
#[tokio::test(start_paused = true)]
async fn i5_what_comes_behind_something_owed_is_written_behind_it() {
    let (bed, out) = unreliable().await;
    let group = bed.group("alice", &[member("bob", Role::Member)]).await;
    bed.conversations.settled(&user("bob")).await;
    out.store(true, Ordering::Relaxed);
    bed.send("alice", group, "first").await;
    tokio::time::sleep(Duration::from_secs(4)).await;
    out.store(false, Ordering::Relaxed);
    for number in 0..5 {
        bed.send("alice", group, &format!("m{number}")).await;
    }
    tokio::time::sleep(SOON).await;
    assert_eq!(row_of(&bed, "bob", group).await, Some(Seq(7)));
    assert_eq!(bed.backends.log.fanout_pending_from(group).await.unwrap(), None);
    assert_eq!(bed.unread("bob", group).await, 6);
}

/// Appends as a node does that dies before it fans out, or before it even knows.
async fn append_and_die(bed: &Bed, request: &AppendRequest) -> Seq {
    let expected = bed.backends.log.head(request.conversation).await.unwrap().unwrap();
    let Change::Message(content) = request.change.clone() else {
        panic!("a message");
    };
    let head = Head {
        seq: expected.seq.next(),
        ordinal: expected.ordinal.next(),
        ..expected
    };
    let entry = Entry {
        conversation: request.conversation,
        seq: head.seq,
        time: head.time,
        ordinal: head.ordinal,
        sender: caller("alice").sender(),
        client_msg_id: request.client_msg_id.clone(),
        correlation: CorrelationId::default(),
        origin_time: None,
        body: Body::Message(content),
    };
    let payload = payload_of(request).0;
    let batch = AppendBatch {
        conversation: request.conversation,
        expected,
        entries: vec![PendingAppend { entry, payload }],
        head,
    };
    bed.backends.log.append(batch).await.unwrap();
    head.seq
}

/// Found by simulation: a node gave up or died, its batch was stored, and the retry came to a node that had loaded the
/// conversation before or loads it now. An ack says that fan-out is under way.
#[tokio::test]
async fn i5_what_is_acknowledged_as_a_duplicate_is_fanned_out_by_whoever_acknowledges_it() {
    for loaded_before in [true, false] {
        let bed = Bed::new(&["alice", "bob"]).await;
        let group = bed.group("alice", &[member("bob", Role::Member)]).await;
        let node = bed.other_node();
        if loaded_before {
            node.get(&caller("bob"), group).await.unwrap();
        }
        let request = request(group, "m", text("m"));
        let seq = append_and_die(&bed, &request).await;
        let mut events = bed.backends.bus.subscribe(Topic::User(user("bob"))).await;
        let again = node.append(&caller("alice"), request).await.unwrap();
        assert_eq!((again.seq, again.duplicate), (seq, true));
        node.settled(&user("bob")).await;
        assert_eq!(
            row_of(&bed, "bob", group).await,
            Some(seq),
            "loaded before: {loaded_before}"
        );
        let told = events.next().await.unwrap();
        let Event::Entries(entries, _) = told else {
            panic!("{told:?}");
        };
        assert_eq!(entries.last().map(|stored| stored.entry.seq), Some(seq));
    }
}

/// The same, when nobody tries again: a node that starts fans out what is pending.
#[tokio::test]
async fn i5_a_start_fans_out_what_a_crash_left() {
    let bed = Bed::new(&["alice", "bob"]).await;
    let group = bed.group("alice", &[member("bob", Role::Member)]).await;
    let seq = append_and_die(&bed, &request(group, "m", text("m"))).await;
    assert_eq!(bed.other_node().recover().await, Ok(1));
    assert_eq!(row_of(&bed, "bob", group).await, Some(seq));
}

/// I6, I8: what could not be stored is not taken for stored: the ack is refused, and when it comes again the sender hears of it.
#[tokio::test(start_paused = true)]
async fn i6_an_ack_that_failed_moves_the_marker_when_it_comes_again() {
    let (bed, out) = unreliable().await;
    let group = bed.group("alice", &[member("bob", Role::Member)]).await;
    let (first, second) = (
        bed.send("alice", group, "m1").await,
        bed.send("alice", group, "m2").await,
    );
    bed.conversations.settled(&user("bob")).await;
    let mut events = bed.backends.bus.subscribe(Topic::User(user("alice"))).await;
    let bob = caller("bob");
    let ack = async |seq| bed.conversations.acknowledge(&bob, &[(group, seq)]).await.remove(0);
    assert!(ack(first.seq).await.is_ok());
    assert_eq!(receipts(&mut events).await.delivered_to_all, first.seq);
    out.store(true, Ordering::Relaxed);
    assert!(ack(second.seq).await.is_err());
    out.store(false, Ordering::Relaxed);
    assert!(ack(second.seq).await.is_ok());
    let told = tokio::time::timeout(SOON, receipts(&mut events)).await;
    assert_eq!(told.expect("alice hears of it").delivered_to_all, second.seq);
}
