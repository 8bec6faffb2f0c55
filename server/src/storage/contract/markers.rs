//! `Markers`: registers, device positions, synced stamps.

use std::sync::Arc;

use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;

use super::samples::{conversation, device, user};
use crate::domain::{Counted, MarkerSet, Ordinal, Seq};
use crate::storage::{ChangeStamp, MarkerRaise, Markers};

type AnyMarkers = Arc<dyn Markers>;

/// Cases of a property within one test: each takes a few commits of a store with fsync.
const CASES: usize = 32;

fn counted() -> impl Strategy<Value = Counted> {
    (0..50_u64).prop_map(|seq| Counted {
        seq: Seq(seq),
        ordinal: Ordinal(seq / 2),
    })
}

fn marker_set() -> impl Strategy<Value = MarkerSet> {
    (0..50_u64, counted(), 0..50_u64, counted()).prop_map(|(delivered, read, public, floor)| MarkerSet {
        delivered: Seq(delivered),
        read,
        read_public: Seq(public),
        unread_floor: floor,
    })
}

fn raise(user_name: &str, number: u16, markers: MarkerSet) -> MarkerRaise {
    MarkerRaise {
        user: user(user_name),
        conversation: conversation(number),
        markers,
        device: None,
    }
}

fn delivered(seq: u64) -> MarkerSet {
    MarkerSet {
        delivered: Seq(seq),
        ..MarkerSet::default()
    }
}

pub(crate) async fn unknown_users_have_zero_everywhere(markers: AnyMarkers) {
    let (ada, here) = (user("ada"), conversation(1));
    assert_eq!(markers.get(&ada, here).await.expect("readable"), MarkerSet::default());
    let positions = markers.device_positions(&ada, &device("phone"), &[here]).await;
    assert_eq!(positions.expect("readable"), [Seq::ZERO]);
    let synced = markers.synced(&ada, &device("phone")).await;
    assert_eq!(synced.expect("readable"), ChangeStamp(0));
    assert_eq!(markers.inbox_row(&ada, here).await.expect("readable"), None);
    assert!(markers.inbox_newest(&ada, 10).await.expect("readable").is_empty());
    assert_eq!(markers.newest_change(), ChangeStamp(0));
}

/// I6, C10: shuffled, duplicated and grouped in any way, the registers end at the largest of each, and never step back
/// on the way there.
pub(crate) async fn registers_only_go_forward_in_any_order(markers: AnyMarkers) {
    let mut runner = TestRunner::deterministic();
    let strategy = proptest::collection::vec((marker_set(), 0..3_usize), 1..12);
    for case in 0..CASES {
        let sets = strategy.new_tree(&mut runner).expect("a value").current();
        let name = format!("u{case}");
        let mut model = MarkerSet::default();
        for (set, repeats) in &sets {
            let raises = vec![raise(&name, 1, *set); repeats + 1];
            markers.raise(raises).await.expect("raised");
            model = model.merge(*set);
            let now = markers.get(&user(&name), conversation(1)).await.expect("readable");
            assert_eq!(now, model, "after {sets:?}");
        }
        // All of it once more, backwards and in one call: nothing changes.
        let again = sets.iter().rev().map(|(set, _)| raise(&name, 1, *set)).collect();
        markers.raise(again).await.expect("raised");
        let now = markers.get(&user(&name), conversation(1)).await.expect("readable");
        assert_eq!(now, model, "after {sets:?}");
    }
}

pub(crate) async fn concurrent_raises_converge(markers: AnyMarkers) {
    let mut tasks = tokio::task::JoinSet::new();
    for number in 1..=60_u64 {
        let markers = Arc::clone(&markers);
        tasks.spawn(async move {
            let set = if number % 2 == 0 {
                delivered(number)
            } else {
                MarkerSet {
                    read_public: Seq(number),
                    ..MarkerSet::default()
                }
            };
            markers.raise(vec![raise("ada", 1, set)]).await.expect("raised");
        });
    }
    while let Some(finished) = tasks.join_next().await {
        finished.expect("no panic");
    }
    let now = markers.get(&user("ada"), conversation(1)).await.expect("readable");
    assert_eq!((now.delivered, now.read_public), (Seq(60), Seq(59)));
}

pub(crate) async fn answers_come_in_the_order_asked(markers: AnyMarkers) {
    let raises = (1..=3)
        .map(|number| raise("ada", number, delivered(u64::from(number))))
        .collect();
    markers.raise(raises).await.expect("raised");
    markers
        .raise(vec![raise("bob", 2, delivered(9))])
        .await
        .expect("raised");
    let asked = [conversation(3), conversation(9), conversation(1), conversation(3)];
    let sets = markers.get_many(&user("ada"), &asked).await.expect("readable");
    let seqs: Vec<_> = sets.iter().map(|set| set.delivered.0).collect();
    assert_eq!(seqs, [3, 0, 1, 3]);
    let asked = [user("bob"), user("cyd"), user("ada")];
    let sets = markers.of_users(conversation(2), &asked).await.expect("readable");
    let seqs: Vec<_> = sets.iter().map(|set| set.delivered.0).collect();
    assert_eq!(seqs, [9, 0, 2]);
    // More than a store would read one by one on the caller's thread.
    let many: Vec<_> = (0..500).map(conversation).collect();
    let sets = markers.get_many(&user("ada"), &many).await.expect("readable");
    assert_eq!(sets.iter().map(|set| set.delivered.0).sum::<u64>(), 6);
    assert_eq!(sets[3].delivered, Seq(3));
}

pub(crate) async fn users_and_devices_with_common_prefixes_are_apart(markers: AnyMarkers) {
    let here = conversation(1);
    for (number, name) in ["a", "ab", "abc"].into_iter().enumerate() {
        let seq = Seq(number as u64 + 1);
        markers
            .raise(vec![raise(name, 1, delivered(seq.0))])
            .await
            .expect("raised");
        let set = markers
            .set_device_positions(&user("a"), &device(name), &[(here, seq)])
            .await;
        set.expect("set");
    }
    for (number, name) in ["a", "ab", "abc"].into_iter().enumerate() {
        let seq = Seq(number as u64 + 1);
        assert_eq!(markers.get(&user(name), here).await.expect("readable").delivered, seq);
        let positions = markers.device_positions(&user("a"), &device(name), &[here]).await;
        assert_eq!(positions.expect("readable"), [seq]);
    }
    markers
        .forget_device(&user("a"), &device("ab"))
        .await
        .expect("forgotten");
    for (name, seq) in [("a", 1), ("ab", 0), ("abc", 3)] {
        let positions = markers.device_positions(&user("a"), &device(name), &[here]).await;
        assert_eq!(positions.expect("readable"), [Seq(seq)]);
    }
}

pub(crate) async fn device_positions_rise_by_raising_and_move_freely_by_setting(markers: AnyMarkers) {
    let (ada, phone) = (user("ada"), device("phone"));
    let here = conversation(1);
    let position = async || {
        let asked = [conversation(2), here];
        let positions = markers.device_positions(&ada, &phone, &asked).await.expect("readable");
        assert_eq!(positions[0], Seq::ZERO, "the other conversation is untouched");
        positions[1].0
    };
    for (seq, wanted) in [(5, 5), (3, 5), (8, 8)] {
        let mut raised = raise("ada", 1, delivered(seq));
        raised.device = Some((phone.clone(), Seq(seq)));
        markers.raise(vec![raised]).await.expect("raised");
        assert_eq!(position().await, wanted);
    }
    for seq in [2, 20, 0] {
        markers
            .set_device_positions(&ada, &phone, &[(here, Seq(seq))])
            .await
            .expect("set");
        assert_eq!(position().await, seq);
    }
    let delivered = markers.get(&ada, here).await.expect("readable").delivered;
    assert_eq!(delivered, Seq(8), "the user's marker does not follow a device down");
}

pub(crate) async fn a_position_that_goes_down_takes_the_synced_stamp_with_it(markers: AnyMarkers) {
    let (ada, phone) = (user("ada"), device("phone"));
    for (seq, wanted) in [(5, 7), (6, 7), (6, 7), (2, 0)] {
        markers.raise_synced(&ada, &phone, ChangeStamp(7)).await;
        let positions = [(conversation(1), Seq(seq))];
        let set = markers.set_device_positions(&ada, &phone, &positions);
        set.await.expect("set");
        assert_eq!(
            markers.synced(&ada, &phone).await.expect("readable"),
            ChangeStamp(wanted)
        );
    }
}

pub(crate) async fn forgetting_a_device_takes_positions_and_synced_of_it_alone(markers: AnyMarkers) {
    let (ada, phone, web) = (user("ada"), device("phone"), device("web"));
    let asked: Vec<_> = (0..50).map(conversation).collect();
    let positions: Vec<_> = asked.iter().map(|id| (*id, Seq(4))).collect();
    for device in [&phone, &web] {
        markers
            .set_device_positions(&ada, device, &positions)
            .await
            .expect("set");
        markers.raise_synced(&ada, device, ChangeStamp(3)).await;
    }
    markers
        .raise(vec![raise("ada", 1, delivered(4))])
        .await
        .expect("raised");
    markers.forget_device(&ada, &phone).await.expect("forgotten");
    markers.forget_device(&ada, &phone).await.expect("again is harmless");
    let of_phone = markers.device_positions(&ada, &phone, &asked).await.expect("readable");
    assert!(of_phone.iter().all(|seq| *seq == Seq::ZERO));
    let of_web = markers.device_positions(&ada, &web, &asked).await.expect("readable");
    assert!(of_web.iter().all(|seq| *seq == Seq(4)));
    assert_eq!(markers.synced(&ada, &phone).await.expect("readable"), ChangeStamp(0));
    assert_eq!(markers.synced(&ada, &web).await.expect("readable"), ChangeStamp(3));
    assert_eq!(
        markers.get(&ada, conversation(1)).await.expect("readable").delivered,
        Seq(4)
    );
}

pub(crate) async fn synced_only_goes_forward(markers: AnyMarkers) {
    let (ada, phone) = (user("ada"), device("phone"));
    for (change, wanted) in [(5, 5), (3, 5), (9, 9)] {
        markers.raise_synced(&ada, &phone, ChangeStamp(change)).await;
        // The stamp is a hint that need not be there at once; writes of one store are in order.
        markers
            .set_device_positions(&ada, &phone, &[(conversation(1), Seq(1))])
            .await
            .expect("set");
        assert_eq!(
            markers.synced(&ada, &phone).await.expect("readable"),
            ChangeStamp(wanted)
        );
    }
}

pub(crate) async fn the_store_has_one_id(markers: AnyMarkers) {
    let id = markers.store_id();
    assert_ne!(id, [0; 16]);
    markers
        .raise(vec![raise("ada", 1, delivered(1))])
        .await
        .expect("raised");
    assert_eq!(markers.store_id(), id);
}
