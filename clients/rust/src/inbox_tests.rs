//! In-order delivery against a stream that loses and repeats.

use proptest::prelude::*;

use super::*;

const CONVERSATION: &str = "c";

fn entry(seq: u64) -> Entry {
    Entry {
        conversation_id: CONVERSATION.to_owned(),
        seq,
        ..Entry::default()
    }
}

fn delivery(seq: u64) -> Delivery {
    Delivery {
        entry: Some(entry(seq)),
        backlog: false,
    }
}

fn seqs(handed: &[Handed]) -> Vec<u64> {
    handed.iter().map(|(entry, _)| entry.seq).collect()
}

fn page(from: u64, to: u64, has_more: bool) -> HistoryPage {
    HistoryPage {
        conversation_id: CONVERSATION.to_owned(),
        entries: (from..=to).map(entry).collect(),
        has_more,
        ..HistoryPage::default()
    }
}

fn at(seq: u64) -> Inbox {
    Inbox::new(BTreeMap::from([(CONVERSATION.to_owned(), seq)]), true)
}

#[test]
fn c5_duplicates_are_dropped_and_acknowledged_again() {
    let mut inbox = at(5);
    assert_eq!(inbox.deliver(delivery(5)), (Vec::new(), None));
    assert_eq!(inbox.next_ack().map(|ack| ack.seq), Some(5));
    let (handed, gap) = inbox.deliver(delivery(6));
    assert_eq!((seqs(&handed), gap), (vec![6], None));
    assert_eq!(inbox.deliver(delivery(6)), (Vec::new(), None));
}

#[test]
fn a_gap_is_fetched_before_what_follows_it() {
    let mut inbox = at(5);
    let (handed, gap) = inbox.deliver(delivery(9));
    let gap = gap.unwrap();
    assert_eq!((seqs(&handed), gap.after, gap.until), (vec![], 5, 8));
    assert_eq!(inbox.deliver(delivery(10)), (Vec::new(), None));
    let (handed, gap) = inbox.repair(&gap, page(6, 7, true));
    assert_eq!(seqs(&handed), [6, 7]);
    let gap = gap.unwrap();
    assert_eq!((gap.after, gap.until), (7, 8));
    let (handed, gap) = inbox.repair(&gap, page(8, 8, false));
    assert_eq!((seqs(&handed), gap), (vec![8, 9, 10], None));
}

/// I7: seqs outside of the user's stays are not theirs, and do not block what is.
#[test]
fn a_hole_that_history_does_not_fill_is_passed_over() {
    let mut inbox = at(5);
    let gap = inbox.deliver(delivery(9)).1.unwrap();
    let (handed, next) = inbox.repair(&gap, page(6, 5, false));
    assert_eq!((seqs(&handed), next), (vec![9], None));
}

#[test]
fn nothing_is_acknowledged_above_what_the_stream_brought() {
    let mut inbox = at(0);
    let gap = inbox.deliver(delivery(3)).1.unwrap();
    inbox.repair(&gap, page(1, 2, false));
    inbox.confirm(CONVERSATION, 3);
    inbox.disconnected();
    assert_eq!(inbox.next_ack(), None);
    inbox.deliver(delivery(2));
    assert_eq!(inbox.next_ack().map(|ack| ack.seq), Some(2));
}

#[test]
fn a_confirmation_that_was_never_sent_is_told_in_the_next_hello() {
    let mut inbox = at(0);
    inbox.deliver(delivery(1));
    assert!(inbox.confirm(CONVERSATION, 1));
    let positions = inbox.disconnected();
    assert_eq!(positions.first().map(|position| position.seq), Some(1));
}

#[test]
fn what_another_stream_of_the_device_acknowledged_is_fetched() {
    let mut inbox = at(5);
    let row = ConversationSummary {
        conversation_id: CONVERSATION.to_owned(),
        device_seq: 8,
        ..ConversationSummary::default()
    };
    let gap = inbox.note_row(&row).unwrap();
    assert_eq!((gap.after, gap.until), (5, 8));
}

#[test]
fn a_log_that_ends_earlier_voids_what_is_above_and_goes_on_from_there() {
    let mut inbox = at(9);
    assert!(!inbox.rewind(CONVERSATION, 9));
    assert!(inbox.rewind(CONVERSATION, 4));
    assert_eq!(seqs(&inbox.deliver(delivery(5)).0), [5]);
}

#[derive(Debug, Clone)]
enum Step {
    Deliver,
    Lose,
    Repeat(u64),
    Confirm,
    Fetch(u64),
    Reconnect,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => Just(Step::Deliver),
        2 => Just(Step::Lose),
        2 => (1_u64..40).prop_map(Step::Repeat),
        2 => Just(Step::Confirm),
        4 => (1_u64..5).prop_map(Step::Fetch),
        1 => Just(Step::Reconnect),
    ]
}

/// A stream over a log of `head` entries that loses and repeats, and history that always answers.
struct World {
    inbox: Inbox,
    head: u64,
    next: u64,
    acked: u64,
    gap: Option<Gap>,
    handed: Vec<u64>,
}

impl World {
    fn take(&mut self, (handed, gap): (Vec<Handed>, Option<Gap>)) {
        self.handed.extend(seqs(&handed));
        self.gap = gap.or_else(|| self.gap.take());
    }

    fn deliver(&mut self, seq: u64) {
        if (1..=self.head).contains(&seq) {
            let result = self.inbox.deliver(delivery(seq));
            self.take(result);
        }
    }

    fn fetch(&mut self, limit: u64) {
        if let Some(gap) = self.gap.take() {
            let to = gap.until.min(gap.after + limit);
            let result = self.inbox.repair(&gap, page(gap.after + 1, to, to < gap.until));
            self.take(result);
        }
    }

    fn confirm(&mut self) {
        if let Some(newest) = self.handed.last() {
            self.inbox.confirm(CONVERSATION, *newest);
        }
        while let Some(ack) = self.inbox.next_ack() {
            self.acked = self.acked.max(ack.seq);
        }
    }

    fn reconnect(&mut self) {
        self.gap = None;
        let told = self.inbox.disconnected().first().map_or(0, |position| position.seq);
        self.acked = self.acked.max(told);
        self.next = self.acked + 1;
    }

    fn step(&mut self, step: &Step) {
        match step {
            Step::Deliver => {
                self.deliver(self.next);
                self.next += 1;
            }
            Step::Lose => self.next += 1,
            Step::Repeat(seq) => self.deliver((*seq).min(self.next.saturating_sub(1))),
            Step::Confirm => self.confirm(),
            Step::Fetch(limit) => self.fetch(*limit),
            Step::Reconnect => self.reconnect(),
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    /// C5, I5: whatever is lost or repeated, the app gets 1, 2, 3 … once each, and all of it in the end.
    #[test]
    fn c5_every_entry_once_and_in_order(head in 1_u64..40, steps in prop::collection::vec(step(), 0..200)) {
        let mut world = World { inbox: at(0), head, next: 1, acked: 0, gap: None, handed: Vec::new() };
        for step in &steps {
            world.step(step);
        }
        world.reconnect();
        for _ in 0..=head {
            world.step(&Step::Deliver);
        }
        while world.gap.is_some() {
            world.fetch(3);
        }
        prop_assert_eq!(world.handed, (1..=head).collect::<Vec<_>>());
    }
}
