//! One group far above its limit, and what the others feel of it (F18).

use std::time::Duration;

use stonechat_tests::harness::{DELIVERY, Fleet, Ground, Role, Sender, Waits, ack_waits, crewed_on, reaches_head};

/// Entries a second that a conversation may take.
const LIMIT: &str = "40";
/// What the hot group's members want each second, in all: five times that.
const HOT_PER_SECOND: usize = 200;
const HOT_MEMBERS: usize = 4;
const PAIRS: usize = 4;
/// Between two rounds: each calm sender sends one message, the hot ones their share.
const ROUND: Duration = Duration::from_millis(100);
const ROUNDS_PER_SECOND: usize = 10;

/// The hot group's members, and one sender of each pair.
struct People {
    hot: Vec<Sender>,
    calm: Vec<Sender>,
}

impl People {
    async fn gather(fleet: &mut Fleet, hot_room: &str) -> Self {
        let hot = (0..HOT_MEMBERS).map(|number| Sender::new(&format!("sender{number}"), hot_room));
        let mut people = Self {
            hot: hot.collect(),
            calm: Vec::new(),
        };
        for number in 0..PAIRS {
            let (one, other) = (format!("calm{number}"), format!("friend{number}"));
            let room = fleet.nodes[0].direct(&one, &other).await;
            people.calm.push(Sender::new(&one, &room));
        }
        let all = people.hot.iter_mut().chain(&mut people.calm);
        for (number, sender) in all.enumerate() {
            sender.connect(&fleet.nodes[number % fleet.nodes.len()]).await;
        }
        people
    }

    /// Sends for so long, with or without the hot group; returns how long the calm ones waited for their acks.
    async fn send(&mut self, fleet: &Fleet, how_long: Duration, heated: bool) -> Waits {
        let recorder = &fleet.nodes[0].recorder;
        let since = recorder.now();
        let mut rounds = tokio::time::interval(ROUND);
        for _ in 0..how_long.as_secs() as usize * ROUNDS_PER_SECOND {
            rounds.tick().await;
            for sender in &mut self.calm {
                sender.send(1).await;
            }
            let share = HOT_PER_SECOND / ROUNDS_PER_SECOND / HOT_MEMBERS;
            for sender in self.hot.iter_mut().filter(|_| heated) {
                sender.press(share).await;
            }
        }
        for sender in self.hot.iter_mut().chain(&mut self.calm) {
            sender.answers().await;
        }
        ack_waits(&recorder.history(), since, |key| key.user.0.starts_with("calm"))
    }
}

/// F18: the hot group is held at its limit, nothing that was acknowledged is lost, and what the others wait is printed.
#[tokio::test]
async fn f18_a_group_far_above_its_limit_loses_nothing() {
    let ground = Ground {
        flags: vec!["--conversation-entries-per-second", LIMIT],
        ..Ground::default()
    };
    let Some((mut fleet, crew)) = crewed_on(ground, &[Role::Both; 2]).await else {
        return;
    };
    let names: Vec<String> = (0..HOT_MEMBERS).map(|number| format!("sender{number}")).collect();
    fleet.nodes[0]
        .users(&names.iter().map(String::as_str).collect::<Vec<_>>())
        .await;
    for name in &names[2..] {
        fleet.nodes[0].add(crew.room(), name).await;
    }
    let mut people = People::gather(&mut fleet, crew.room()).await;
    let span = crate::span(6);
    let alone = people.send(&fleet, span, false).await;
    let beside = people.send(&fleet, span, true).await;
    let hot: u64 = people.hot.iter().map(Sender::acked).sum();
    let wanted: u64 = people.hot.iter().map(Sender::sent).sum();
    println!(
        "F18: acks of the others alone {alone}; beside the hot group {beside}; it got {hot} of {wanted} in {span:?}"
    );
    assert!(hot > 0 && hot < wanted, "it was above its limit");
    judge(&mut fleet, &crew, people).await;
}

/// Every ack is true, and everybody has everything.
async fn judge(fleet: &mut Fleet, crew: &stonechat_tests::harness::Crew, mut people: People) {
    let node = &fleet.nodes[0];
    for sender in &mut people.calm {
        sender.finish(node).await;
        let room = sender.room().to_owned();
        reaches_head(node, sender.session(), &room).await;
    }
    for sender in &mut people.hot {
        reaches_head(node, sender.session(), crew.room()).await;
    }
    node.verdict().await.assert_clean(&DELIVERY);
}
