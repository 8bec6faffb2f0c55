//! `Markers`: the inbox index.

use std::collections::BTreeMap;
use std::sync::Arc;

use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;

use super::samples::{conversation, user};
use crate::domain::{ConversationId, Counted, MarkerSet, Ordinal, Seq, UnixMillis, UserId};
use crate::storage::{ChangeStamp, FanoutRecord, InboxHead, InboxRaise, InboxRow, MarkerRaise, Markers};

type AnyMarkers = Arc<dyn Markers>;

const ALL: usize = usize::MAX;

fn head(seq: u64) -> InboxHead {
    InboxHead {
        seq: Seq(seq),
        ordinal: Ordinal(seq / 2),
        time: UnixMillis(i64::try_from(seq).expect("small") * 10),
    }
}

async fn raise(markers: &AnyMarkers, user: &UserId, number: u16, seq: u64, touch: bool) {
    let users = std::slice::from_ref(user);
    markers
        .raise_inbox(users, conversation(number), head(seq), touch)
        .await
        .expect("raised");
}

async fn row(markers: &AnyMarkers, user: &UserId, number: u16) -> Option<InboxRow> {
    markers.inbox_row(user, conversation(number)).await.expect("readable")
}

async fn changes(markers: &AnyMarkers, user: &UserId, after: ChangeStamp, limit: usize) -> Vec<InboxRow> {
    markers.inbox_changes(user, after, limit).await.expect("readable")
}

fn conversations_of(rows: &[InboxRow]) -> Vec<ConversationId> {
    rows.iter().map(|row| row.conversation).collect()
}

pub(crate) async fn a_raised_row_gets_a_higher_stamp(markers: AnyMarkers) {
    let ada = user("ada");
    let mut before = ChangeStamp(0);
    for seq in [1, 2, 9] {
        raise(&markers, &ada, 1, seq, false).await;
        let row = row(&markers, &ada, 1).await.expect("a row");
        assert_eq!((row.conversation, row.head), (conversation(1), head(seq)));
        assert!(row.change > before);
        assert_eq!(markers.newest_change(), row.change);
        before = row.change;
    }
}

/// I6: floors and rows of several runs, in order; what is written again, or late, changes nothing.
pub(crate) async fn what_fanout_leaves_behind_rises_and_is_seen(markers: AnyMarkers) {
    let (ada, bob, here) = (user("ada"), user("bob"), conversation(1));
    let floor = Counted {
        seq: Seq(4),
        ordinal: Ordinal(2),
    };
    let floors = vec![MarkerRaise {
        user: ada.clone(),
        conversation: here,
        markers: MarkerSet {
            unread_floor: floor,
            ..MarkerSet::default()
        },
        device: None,
    }];
    let rows = |users: &[&UserId], seq| InboxRaise {
        users: users.iter().copied().cloned().collect(),
        head: head(seq),
    };
    let record = FanoutRecord {
        floors,
        rows: vec![rows(&[&ada, &bob], 3), rows(&[&ada], 4)],
    };
    let late = FanoutRecord {
        floors: Vec::new(),
        rows: vec![rows(&[&ada, &bob], 2)],
    };
    let mut seen = Vec::new();
    for record in [record.clone(), record, late] {
        markers.record_fanout(here, record).await.expect("recorded");
        let set = markers.get(&ada, here).await.expect("readable");
        assert_eq!(set.unread_floor, floor);
        assert_eq!(markers.get(&bob, here).await.expect("readable"), MarkerSet::default());
        let (ada, bob) = (row(&markers, &ada, 1).await, row(&markers, &bob, 1).await);
        assert_eq!((ada.expect("a row").head, bob.expect("a row").head), (head(4), head(3)));
        seen.push((ada, bob));
    }
    assert!(seen.windows(2).all(|two| two[0] == two[1]), "no new stamps: {seen:?}");
}

pub(crate) async fn a_lower_or_equal_head_changes_nothing_unless_touched(markers: AnyMarkers) {
    let ada = user("ada");
    raise(&markers, &ada, 1, 5, false).await;
    let first = row(&markers, &ada, 1).await.expect("a row");
    for seq in [5, 4, 0] {
        raise(&markers, &ada, 1, seq, false).await;
        assert_eq!(row(&markers, &ada, 1).await, Some(first));
    }
    assert_eq!(markers.newest_change(), first.change);
    let mut before = first;
    for seq in [5, 3] {
        raise(&markers, &ada, 1, seq, true).await;
        let touched = row(&markers, &ada, 1).await.expect("a row");
        assert_eq!(touched.head, first.head, "a touch never lowers the head");
        assert!(touched.change > before.change);
        before = touched;
    }
    raise(&markers, &ada, 2, 0, false).await;
    assert_eq!(row(&markers, &ada, 2).await, None, "there is nothing to show");
}

pub(crate) async fn markers_do_not_touch_the_inbox(markers: AnyMarkers) {
    let ada = user("ada");
    raise(&markers, &ada, 1, 5, false).await;
    let before = row(&markers, &ada, 1).await;
    let raised = MarkerRaise {
        user: ada.clone(),
        conversation: conversation(1),
        markers: MarkerSet {
            delivered: Seq(5),
            ..MarkerSet::default()
        },
        device: None,
    };
    markers.raise(vec![raised]).await.expect("raised");
    assert_eq!(row(&markers, &ada, 1).await, before);
}

pub(crate) async fn changes_hold_each_conversation_once_oldest_first(markers: AnyMarkers) {
    let ada = user("ada");
    for (number, seq) in [(1, 1), (2, 1), (3, 1), (1, 2), (1, 3), (2, 2)] {
        raise(&markers, &ada, number, seq, false).await;
    }
    let rows = changes(&markers, &ada, ChangeStamp(0), ALL).await;
    assert_eq!(
        conversations_of(&rows),
        [conversation(3), conversation(1), conversation(2)]
    );
    assert!(rows.is_sorted_by(|one, two| one.change < two.change));
    for row in &rows {
        let alone = markers.inbox_row(&ada, row.conversation).await.expect("readable");
        assert_eq!(alone, Some(*row));
    }
    let after = changes(&markers, &ada, rows[0].change, ALL).await;
    assert_eq!(after, rows[1..], "after is exclusive");
    assert!(changes(&markers, &ada, rows[2].change, ALL).await.is_empty());
    assert!(changes(&markers, &ada, ChangeStamp(u64::MAX), ALL).await.is_empty());
    assert!(changes(&markers, &user("ad"), ChangeStamp(0), ALL).await.is_empty());
}

pub(crate) async fn the_newest_rows_come_newest_first(markers: AnyMarkers) {
    let ada = user("ada");
    for number in 1..=5 {
        raise(&markers, &ada, number, 1, false).await;
    }
    raise(&markers, &ada, 2, 1, true).await;
    raise(&markers, &user("adam"), 9, 1, false).await;
    let newest = markers.inbox_newest(&ada, 3).await.expect("readable");
    assert_eq!(
        conversations_of(&newest),
        [conversation(2), conversation(5), conversation(4)]
    );
    assert_eq!(markers.inbox_newest(&ada, 99).await.expect("readable").len(), 5);
    assert!(markers.inbox_newest(&ada, 0).await.expect("readable").is_empty());
}

pub(crate) async fn paging_through_changes_misses_nothing(markers: AnyMarkers) {
    let ada = user("ada");
    for number in 0..50 {
        raise(&markers, &ada, number, 1, false).await;
    }
    let mut seen = Vec::new();
    let mut cursor = ChangeStamp(0);
    loop {
        let page = changes(&markers, &ada, cursor, 7).await;
        assert!(page.len() <= 7);
        let Some(last) = page.last() else { break };
        cursor = last.change;
        seen.extend(conversations_of(&page));
        // What changes meanwhile comes again, later.
        if seen.len() == 7 {
            raise(&markers, &ada, 0, 2, false).await;
        }
    }
    let wanted: Vec<_> = (0..50).chain([0]).map(conversation).collect();
    assert_eq!(seen, wanted);
}

/// I5: nobody's list is cut short because it is long.
pub(crate) async fn a_long_page_is_whole(markers: AnyMarkers) {
    let ada = user("ada");
    for number in 0..200 {
        raise(&markers, &ada, number, 1, false).await;
    }
    let wanted: Vec<_> = (0..200).map(conversation).collect();
    for limit in [31, 32, 33, 64, 199, 200, 201, ALL] {
        let page = changes(&markers, &ada, ChangeStamp(0), limit).await;
        assert_eq!(conversations_of(&page), wanted[..limit.min(200)], "limit {limit}");
    }
}

#[derive(Default)]
struct Model {
    rows: BTreeMap<(usize, u16), (u64, u64)>,
    clock: u64,
}

impl Model {
    fn raise(&mut self, user: usize, number: u16, seq: u64, touch: bool) {
        let before = self.rows.get(&(user, number)).map_or(0, |(seq, _)| *seq);
        if seq > before || touch {
            self.clock += 1;
            self.rows.insert((user, number), (before.max(seq), self.clock));
        }
    }

    fn of(&self, user: usize) -> Vec<(ConversationId, u64)> {
        let mut rows: Vec<_> = self.rows.iter().filter(|((owner, _), _)| *owner == user).collect();
        rows.sort_by_key(|(_, (_, changed))| *changed);
        rows.iter()
            .map(|((_, number), (seq, _))| (conversation(*number), *seq))
            .collect()
    }
}

/// Any sequence of raises and touches of several users gives the rows, the order and the newest-first view of a model.
pub(crate) async fn the_inbox_agrees_with_a_model(markers: AnyMarkers) {
    let mut runner = TestRunner::deterministic();
    let step = (
        proptest::collection::vec(0..3_usize, 1..4),
        0..5_u16,
        0..6_u64,
        any::<bool>(),
    );
    let strategy = proptest::collection::vec(step, 1..20);
    for case in 0..16 {
        let steps = strategy.new_tree(&mut runner).expect("a value").current();
        let names: Vec<_> = (0..3).map(|number| user(&format!("case{case}.{number}"))).collect();
        let mut model = Model::default();
        for (users, number, seq, touch) in &steps {
            let mut distinct = users.clone();
            distinct.sort_unstable();
            distinct.dedup();
            let named: Vec<_> = distinct.iter().map(|user| names[*user].clone()).collect();
            let raised = markers
                .raise_inbox(&named, conversation(*number), head(*seq), *touch)
                .await;
            raised.expect("raised");
            distinct
                .into_iter()
                .for_each(|user| model.raise(user, *number, *seq, *touch));
        }
        for (number, name) in names.iter().enumerate() {
            let rows = changes(&markers, name, ChangeStamp(0), ALL).await;
            let seen: Vec<_> = rows.iter().map(|row| (row.conversation, row.head.seq.0)).collect();
            assert_eq!(seen, model.of(number), "after {steps:?}");
            let mut newest = markers.inbox_newest(name, ALL).await.expect("readable");
            newest.reverse();
            assert_eq!(newest, rows, "after {steps:?}");
        }
    }
}

/// No stamp is given out twice, whoever raises.
pub(crate) async fn stamps_grow_across_users_and_concurrent_raises(markers: AnyMarkers) {
    let names: Vec<_> = (0..10).map(|number| user(&format!("u{number}"))).collect();
    let mut tasks = tokio::task::JoinSet::new();
    for number in 0..20 {
        let (markers, names) = (Arc::clone(&markers), names.clone());
        tasks.spawn(async move {
            let raised = markers.raise_inbox(&names, conversation(number), head(1), false).await;
            raised.expect("raised");
        });
    }
    while let Some(finished) = tasks.join_next().await {
        finished.expect("no panic");
    }
    let mut stamps = Vec::new();
    for name in &names {
        let rows = changes(&markers, name, ChangeStamp(0), ALL).await;
        assert_eq!(rows.len(), 20);
        stamps.extend(rows.iter().map(|row| row.change));
    }
    stamps.sort_unstable();
    stamps.dedup();
    assert_eq!(stamps.len(), 200);
    assert_eq!(stamps.last(), Some(&markers.newest_change()));
}
