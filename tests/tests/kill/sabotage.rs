//! The checker against the real binary with one rule taken away (`host::rule_holds`): it says which promise broke, and finds
//! nothing in the same scene when the rule is there.

use std::collections::BTreeSet;
use std::time::Duration;

use stonechat_host::monotonic;
use stonechat_proto::v1;
use stonechat_proto::v1::client_frame::Body as Asked;
use stonechat_tests::checker::{Check, Verdict};
use stonechat_tests::harness::{
    Bench, Observed, PATIENCE, RawSession, append_outcome, header, history_after, send_frame, text,
};
use stonechat_tests::simulation::cluster::RULES;

use crate::crash_points::named_in_source;

/// What people do while the rule is missing.
#[derive(Clone, Copy)]
enum Scene {
    KilledAtEachAck,
    SentTwice,
    ManyAtOnce,
    Pipelined,
    DeadBeforeFanout,
    MarkedBeyondTheHead,
    MarkedBack,
    ReadByARemovedMember,
    Refused,
    ReadByAStranger,
    LostOnTheWay,
}

struct Case {
    /// What must be broken without the rule.
    check: Check,
    rule: &'static str,
    /// A second rule, taken away with and without the first: on its own its loss is caught by the first.
    besides: &'static str,
    scene: Scene,
}

const fn case(check: Check, rule: &'static str, besides: &'static str, scene: Scene) -> Case {
    Case {
        check,
        rule,
        besides,
        scene,
    }
}

/// I1, I2, I3, I4, I5 (twice, once with the bus lost: I10), I6 (twice), I7, I8, I11. What I9 bounds leaves no trace in a
/// history: it has a case of its own below.
const CASES: [Case; 11] = [
    case(Check::C1, "commit_before_answer", "", Scene::KilledAtEachAck),
    case(Check::C2, "one_place_per_id", "", Scene::SentTwice),
    case(Check::C3, "compare_and_set", "one_owner", Scene::ManyAtOnce),
    case(
        Check::C8,
        "behind_its_predecessor",
        "first_come_first_served",
        Scene::Pipelined,
    ),
    case(Check::C14, "pending_fanout_done_at_start", "", Scene::DeadBeforeFanout),
    case(Check::C11, "marks_end_at_the_head", "", Scene::MarkedBeyondTheHead),
    case(Check::C10, "registers_only_rise", "", Scene::MarkedBack),
    case(Check::C12, "clipped_to_stays", "", Scene::ReadByARemovedMember),
    case(Check::C19, "every_request_answered", "", Scene::Refused),
    case(Check::C16, "deny_by_default", "", Scene::ReadByAStranger),
    case(Check::C14, "inbox_is_compared", "events_arrive", Scene::LostOnTheWay),
];

/// What bounds the queue of a stream (I9): its loss shows in the server's memory.
const BOUND: &str = "queue_is_bounded";

/// Rules that only a store that lies shows the need of: their cases are beside it, in `server/src/storage/cql/tests/stale.rs`.
const BY_THE_STORE: [&str; 2] = ["a_full_bucket_is_settled", "a_hole_is_read_again"];

#[test]
fn every_rule_that_can_be_taken_away_has_a_case() {
    let named = named_in_source("rule_holds");
    let cases = CASES.iter().flat_map(|case| [case.rule, case.besides]);
    let cases = cases
        .filter(|rule| !rule.is_empty())
        .chain(RULES)
        .chain([BOUND])
        .chain(BY_THE_STORE);
    let cases: BTreeSet<String> = cases.map(str::to_owned).collect();
    assert_eq!(named, cases);
}

/// Without the rule nobody may come to what they wait for.
const SOON: Duration = Duration::from_secs(3);
/// Longest that anything may stay hidden (I5).
const HIDDEN_AT_MOST: Duration = Duration::from_secs(15);

/// Who sends at once, each a few messages.
const CROWD: [&str; 6] = ["alice", "bob", "carol", "dave", "erin", "frank"];

struct Stage {
    bench: Bench,
    room: String,
    alice: RawSession,
    /// Streams that stay open until the verdict.
    others: Vec<RawSession>,
}

impl Stage {
    async fn without(rules: &[&str]) -> Self {
        let limits = ["--conversation-entries-per-second", "100000"];
        let mut bench = Bench::start(&limits).await;
        let room = bench.group(&CROWD).await;
        bench.server.kill().await;
        bench.server.set_env("STONECHAT_WITHOUT", rules.join(","));
        bench.server.restart(None).await;
        let alice = bench.open("alice", "phone").await;
        Self {
            bench,
            room,
            alice,
            others: Vec::new(),
        }
    }

    async fn play(&mut self, scene: Scene) {
        match scene {
            Scene::KilledAtEachAck => self.killed_at_each_ack().await,
            Scene::SentTwice => self.sent_twice().await,
            Scene::ManyAtOnce => self.many_at_once().await,
            Scene::Pipelined => self.pipelined().await,
            Scene::DeadBeforeFanout => self.dead_before_fanout().await,
            Scene::MarkedBeyondTheHead => self.marked(&[6]).await,
            Scene::MarkedBack => self.marked(&[3, 1]).await,
            Scene::ReadByARemovedMember => self.read_by_a_removed_member().await,
            Scene::Refused => self.refused().await,
            Scene::ReadByAStranger => self.read_by_a_stranger().await,
            Scene::LostOnTheWay => self.lost_on_the_way().await,
        }
    }

    async fn say(&mut self, text: &str) -> u64 {
        self.bench.send(&mut self.alice, &self.room, text).await
    }

    async fn killed_at_each_ack(&mut self) {
        for round in 0..3 {
            self.say(&format!("acknowledged {round}")).await;
            self.bench.server.kill_and_restart().await;
            self.alice = self.bench.open("alice", "phone").await;
        }
    }

    async fn sent_twice(&mut self) {
        for _ in 0..2 {
            let same = send_frame(&self.room, "same", "same");
            let answer = self.alice.request(same, PATIENCE).await;
            assert!(matches!(append_outcome(&answer), Some(Ok(_))), "{answer:?}");
        }
        self.all_have_it(vec![]).await;
    }

    async fn many_at_once(&mut self) {
        let mut streams = Vec::new();
        for user in CROWD {
            streams.push((self.bench.open(user, "tablet").await, Vec::new()));
        }
        for (stream, asked) in &mut streams {
            for number in 0..10 {
                let id = format!("m{number}");
                asked.push(stream.ask(send_frame(&self.room, &id, &id)).await);
            }
        }
        let mut open = Vec::new();
        for (mut stream, asked) in streams {
            let all = |seen: &Observed| asked.iter().all(|request| seen.answers.contains_key(request));
            stream.until("all answers", PATIENCE, all).await;
            open.push(stream);
        }
        self.all_have_it(open).await;
    }

    /// What is refused, since another one came before its turn, is sent again, a few times.
    async fn pipelined(&mut self) {
        let mut open: Vec<String> = (0..200).map(|number| format!("m{number}")).collect();
        for _ in 0..3 {
            let mut asked = Vec::new();
            for id in &open {
                asked.push(self.alice.ask(send_frame(&self.room, id, id)).await);
            }
            let all = |seen: &Observed| asked.iter().all(|request| seen.answers.contains_key(request));
            self.alice.until("all answers", PATIENCE, all).await;
            let seen = self.alice.observed();
            let mut refused = asked
                .iter()
                .map(|request| matches!(append_outcome(&seen.answers[request]), Some(Err(_))));
            open.retain(|_| refused.next().unwrap_or(false));
        }
        self.all_have_it(vec![]).await;
    }

    async fn dead_before_fanout(&mut self) {
        self.bench.server.kill().await;
        self.bench.server.restart(Some("append.stored:1")).await;
        let alice = self.bench.open("alice", "phone").await;
        alice.ask(send_frame(&self.room, "stored", "stored")).await;
        self.bench.server.wait().await;
        drop(alice);
        self.bench.server.restart(None).await;
        self.alice = self.bench.open("alice", "phone").await;
        let bob = self.bench.open("bob", "phone").await;
        self.all_have_it(vec![bob]).await;
    }

    /// Bob marks these as delivered, in a conversation of three entries.
    async fn marked(&mut self, seqs: &[u64]) {
        self.say("two").await;
        self.say("three").await;
        let mut bob = self.bench.open("bob", "phone").await;
        for seq in seqs {
            let mark = Asked::MarkDelivered(v1::MarkDeliveredRequest {
                conversation_id: self.room.clone(),
                seq: *seq,
            });
            bob.request(mark, PATIENCE).await;
        }
        let nothing_new = Asked::MarkDelivered(v1::MarkDeliveredRequest {
            conversation_id: self.room.clone(),
            seq: 0,
        });
        bob.request(nothing_new, PATIENCE).await;
        self.all_have_it(vec![bob]).await;
    }

    async fn read_by_a_removed_member(&mut self) {
        self.bench.remove(&self.room, "carol").await;
        self.say("without carol").await;
        self.read_by("carol").await;
    }

    async fn read_by_a_stranger(&mut self) {
        self.bench.users(&["mallory"]).await;
        self.say("not for mallory").await;
        self.read_by("mallory").await;
    }

    async fn read_by(&mut self, user: &str) {
        let mut reader = self.bench.open(user, "phone").await;
        let query = Asked::History(history_after(&self.room, 0, 100));
        reader.request(query, PATIENCE).await;
        self.all_have_it(vec![]).await;
    }

    async fn refused(&mut self) {
        for (id, previous) in [("first", ""), ("refused", "nobody"), ("second", "first")] {
            let mut header = header(&self.room, id);
            previous.clone_into(&mut header.previous_client_msg_id);
            let content = Some(text(id));
            let send = v1::SendRequest {
                header: Some(header),
                content,
            };
            let request = self.alice.ask(Asked::Send(send)).await;
            if id != "refused" {
                self.alice.answer(request, PATIENCE).await;
            }
        }
        self.all_have_it(vec![]).await;
    }

    /// A message that no event tells of, and that no other follows.
    async fn lost_on_the_way(&mut self) {
        let bob = self.bench.open("bob", "phone").await;
        self.say("the last one").await;
        self.all_have_it_within(HIDDEN_AT_MOST, vec![bob]).await;
    }

    async fn all_have_it(&mut self, others: Vec<RawSession>) {
        self.all_have_it_within(SOON, others).await;
    }

    /// Gives alice and others this time to come to the head.
    async fn all_have_it_within(&mut self, time: Duration, mut others: Vec<RawSession>) {
        let head = self.bench.entries(&self.room).await.last().map_or(0, |entry| entry.seq);
        let until = monotonic() + time;
        for session in others.iter_mut().chain([&mut self.alice]) {
            let left = until.saturating_duration_since(monotonic());
            let _never = session.sees(left, |seen| seen.reached(&self.room) >= head).await;
        }
        self.others = others;
    }

    /// Streams that ask for pages, and read none of them.
    async fn asked_for_and_not_read(&mut self) -> Vec<RawSession> {
        for number in 0..PAGE_ENTRIES {
            self.say(&format!("{number:0PAGE_ENTRY_BYTES$}")).await;
        }
        let mut streams = Vec::new();
        for user in &CROWD[1..] {
            let stream = self.bench.open(user, "phone").await;
            stream.pause();
            for _ in 0..PAGES {
                let page = history_after(&self.room, 0, PAGE_ENTRIES + 1);
                stream.ask(Asked::History(page)).await;
            }
            streams.push(stream);
        }
        streams
    }
}

/// Pages that each of a crowd asks for, 160 KiB each.
const PAGES: usize = 150;
const PAGE_ENTRIES: u32 = 20;
const PAGE_ENTRY_BYTES: usize = 8 * 1024;
/// What five streams that do not read may cost at most: a queue of 1 MiB, pages under way, and buffers, of each. All that they
/// ask for is above 110 MiB.
const STALLED_BYTES_MAX: u64 = 48 * 1024 * 1024;

/// How long it took until the server had grown by more than it may; `None` when it did not in time.
async fn outgrows(rules: &[&str], patience: Duration) -> Option<Duration> {
    let mut stage = Stage::without(rules).await;
    let before = stage.bench.server.resident_bytes();
    let started = monotonic();
    let _streams = stage.asked_for_and_not_read().await;
    let mut most = 0;
    while most <= STALLED_BYTES_MAX && started.elapsed() < patience {
        most = most.max(stage.bench.server.resident_bytes().saturating_sub(before));
        tokio::time::sleep(LOOK_EVERY).await;
    }
    println!("without {rules:?}: {most} bytes more");
    (most > STALLED_BYTES_MAX).then(|| started.elapsed())
}

/// Between two looks at the memory, which nothing announces.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// I9: without its bound the queue of a stream that is not read takes whatever is asked for.
#[tokio::test]
async fn i9_a_queue_without_bound_is_noticed() {
    let took = outgrows(&[BOUND], PATIENCE).await.expect("the bound is missed");
    let patience = (took * 2).max(SOON);
    assert_eq!(outgrows(&[], patience).await, None, "the bound holds");
}

async fn verdict(scene: Scene, rules: &[&str]) -> Verdict {
    let mut stage = Stage::without(rules).await;
    stage.play(scene).await;
    stage.bench.verdict().await
}

async fn is_noticed(case: &Case) {
    verdict(case.scene, &[case.besides]).await.assert_clean(&[case.check]);
    let broken = verdict(case.scene, &[case.rule, case.besides]).await;
    println!("without {}:\n{broken}", case.rule);
    assert!(
        broken.failed().contains(&case.check),
        "{} is not missed:\n{broken}",
        case.rule
    );
}

macro_rules! is_noticed {
    ($($test:ident = $index:literal,)*) => {
        $(#[tokio::test]
        async fn $test() {
            is_noticed(&CASES[$index]).await;
        })*

        #[test]
        fn every_case_has_a_test() {
            assert_eq!([$($index),*].len(), CASES.len());
        }
    };
}

is_noticed! {
    i1_answering_before_the_commit_is_noticed = 0,
    i2_taking_an_id_twice_is_noticed = 1,
    i3_appending_wherever_the_head_is_is_noticed = 2,
    i4_passing_over_a_predecessor_is_noticed = 3,
    i5_forgetting_pending_fan_out_is_noticed = 4,
    i6_a_mark_beyond_the_head_is_noticed = 5,
    i6_a_register_that_falls_is_noticed = 6,
    i7_reading_outside_of_ones_stays_is_noticed = 7,
    i8_a_silent_refusal_is_noticed = 8,
    i11_allowing_everything_is_noticed = 9,
    i5_i10_never_comparing_the_inbox_is_noticed = 10,
}

/// A binary that can be told to break promises says so when it starts.
#[tokio::test]
async fn a_binary_built_for_tests_says_so() {
    let bench = Bench::start(&[]).await;
    let log = std::fs::read_to_string(bench.server.log_file()).expect("a log");
    assert!(
        log.contains("built for tests (features sabotage, crash-points)"),
        "{log}"
    );
}
