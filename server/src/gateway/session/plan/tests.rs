//! The planner against a model of conversations, an inbox and a device that acknowledges when it likes.

use proptest::prelude::*;

use super::*;

fn conversation(index: u8) -> ConversationId {
    ConversationId([index; 16])
}

#[derive(Debug, Clone)]
enum Step {
    /// A new entry; its live event arrives or is lost.
    Append { conversation: u8, lost: bool },
    /// A live event arrives again.
    Again { conversation: u8, seq: u64 },
    /// Work on the inbox and the reads goes on, one step.
    Work,
    /// A read fails.
    FailRead { damaged: bool },
    /// The device acknowledges a part of what it has.
    Ack { conversation: u8, share: u8 },
    /// The timer.
    LookAgain,
    /// The store is told that settled conversations may be forgotten.
    MakeRoom,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (0..6u8, any::<bool>()).prop_map(|(conversation, lost)| Step::Append { conversation, lost }),
        1 => (0..6u8, 0..40u64).prop_map(|(conversation, seq)| Step::Again { conversation, seq }),
        4 => Just(Step::Work),
        1 => any::<bool>().prop_map(|damaged| Step::FailRead { damaged }),
        3 => (0..6u8, any::<u8>()).prop_map(|(conversation, share)| Step::Ack { conversation, share }),
        1 => Just(Step::LookAgain),
        1 => Just(Step::MakeRoom),
    ]
}

/// Six conversations, their inbox and one device.
struct World {
    plan: Plan,
    limit: usize,
    heads: [u64; 6],
    /// Stamp of each conversation's inbox row.
    rows: [u64; 6],
    next_stamp: u64,
    stored: [u64; 6],
    got: [u64; 6],
    hello_heads: [u64; 6],
    /// Whose log was damaged at some time.
    damaged: [bool; 6],
    caught_up: usize,
    synced: u64,
}

impl World {
    fn new(limit: usize, heads: [u64; 6], positions: [u64; 6]) -> Self {
        let mut rows = [0; 6];
        for (index, row) in rows.iter_mut().enumerate() {
            *row = index as u64 + 1;
        }
        let stored: [u64; 6] = std::array::from_fn(|index| positions[index].min(heads[index]));
        let mut world = Self {
            plan: Plan::new(limit, ChangeStamp(0)),
            limit,
            heads,
            rows,
            next_stamp: 7,
            stored,
            got: stored,
            hello_heads: heads,
            damaged: [false; 6],
            caught_up: 0,
            synced: 0,
        };
        // The hello itself reads the first page.
        world.read_page(ChangeStamp(0));
        world
    }

    /// Takes a delivery: in order and without holes, or the promise is broken.
    fn deliver(&mut self, index: usize, seq: u64, backlog: bool) {
        assert_eq!(seq, self.got[index] + 1, "conversation {index}");
        self.got[index] = seq;
        if self.caught_up > 0 {
            assert!(!backlog, "backlog after the caught-up marker");
        }
        if seq <= self.hello_heads[index] {
            assert!(
                backlog || self.damaged[index],
                "an entry from before hello was marked live"
            );
        }
    }

    fn live(&mut self, index: usize, seq: u64) {
        if let Live::Send { backlog } = self.plan.live(conversation(index as u8), Seq(seq), true) {
            self.deliver(index, seq, backlog);
        }
    }

    fn append(&mut self, index: usize, lost: bool) {
        self.heads[index] += 1;
        self.rows[index] = self.next_stamp;
        self.next_stamp += 1;
        if !lost {
            self.live(index, self.heads[index]);
        }
    }

    fn read_page(&mut self, after: ChangeStamp) {
        let mut changed: Vec<usize> = (0..6).filter(|index| self.rows[*index] > after.0).collect();
        changed.sort_by_key(|index| self.rows[*index]);
        let end = changed.len() <= 2;
        changed.truncate(2);
        let mut seen = after;
        for index in changed {
            seen = ChangeStamp(self.rows[index]);
            let (head, position) = (Seq(self.heads[index]), Seq(self.stored[index]));
            if head > Seq::ZERO {
                self.plan.row(conversation(index as u8), head, position);
            }
        }
        self.plan.page_done(seen, end);
    }

    /// The next read; it fails when it is to, by a damaged log or not.
    fn read(&mut self, fails: Option<bool>) -> bool {
        let Some(order) = self.plan.next_read() else {
            return false;
        };
        let index = usize::from(order.conversation.0[0]);
        if let Some(damaged) = fails {
            self.plan.read_failed(order, damaged);
            self.damaged[index] |= damaged;
            return true;
        }
        let last = self.heads[index].min(order.after.0 + order.entries as u64);
        let found: Vec<Seq> = (order.after.0 + 1..=last).map(Seq).collect();
        let verdicts = self.plan.read_done(order, &found);
        for (seq, verdict) in found.iter().zip(verdicts) {
            if let Some(backlog) = verdict {
                self.deliver(index, seq.0, backlog);
            }
        }
        true
    }

    /// One step of the work a session does by itself; false when there is nothing to do.
    fn work(&mut self) -> bool {
        let unknown = self.plan.unknown();
        if let Some(first) = unknown.first() {
            let position = Seq(self.stored[usize::from(first.0[0])]);
            self.plan.position(*first, position);
            return true;
        }
        self.plan.try_again();
        let mut moved = self.read(None);
        if let Some(stamp) = self.plan.mark_checkpoint() {
            self.synced(stamp);
        }
        if !moved && let Some(after) = self.plan.next_page() {
            self.read_page(after);
            moved = true;
        }
        if self.plan.take_caught_up() {
            self.caught_up += 1;
            for index in 0..6 {
                let all = self.got[index] >= self.hello_heads[index];
                assert!(all || self.damaged[index], "caught up too early");
            }
        }
        moved
    }

    fn ack(&mut self, index: usize, share: u8) {
        let open = self.got[index] - self.stored[index];
        let seq = self.stored[index] + open * u64::from(share) / 255;
        match self.plan.ack(conversation(index as u8), Seq(seq)) {
            Some(outcome) => assert_ne!(outcome, AckOutcome::BeyondSent),
            None => assert!(seq <= self.stored[index], "an open conversation was forgotten"),
        }
        self.stored[index] = self.stored[index].max(seq);
        if let Some(stamp) = self.plan.stored(conversation(index as u8), Seq(seq)) {
            self.synced(stamp);
        }
    }

    /// A stamp counts as synced only when every row up to it is stored on the device.
    fn synced(&mut self, stamp: ChangeStamp) {
        self.synced = self.synced.max(stamp.0);
        for index in 0..6 {
            if self.rows[index] <= stamp.0 {
                assert_eq!(self.stored[index], self.heads[index], "synced too early");
            }
        }
    }

    fn apply(&mut self, step: Step) {
        match step {
            Step::Append { conversation, lost } => self.append(usize::from(conversation), lost),
            Step::Again { conversation, seq } => {
                let index = usize::from(conversation);
                if seq > self.hello_heads[index] && seq <= self.heads[index] {
                    self.live(index, seq);
                }
            }
            Step::Work => {
                self.work();
            }
            Step::FailRead { damaged } => {
                self.read(Some(damaged));
            }
            Step::Ack { conversation, share } => self.ack(usize::from(conversation), share),
            Step::LookAgain => self.plan.look_again(),
            Step::MakeRoom => self.plan.make_room(),
        }
        assert!(self.plan.unacked() <= self.limit, "the window is exceeded");
    }

    fn finish(&mut self) {
        self.plan.look_again();
        for _ in 0..10_000 {
            if !self.work() && (0..6).all(|index| self.got[index] == self.stored[index]) {
                break;
            }
            for index in 0..6 {
                self.ack(index, 255);
            }
        }
        self.plan.mark_checkpoint();
    }
}

proptest! {
    /// I5, I9, P18: whatever is lost, repeated, late or unacknowledged, each conversation arrives in order without holes
    /// or doubles, never more than the window unacknowledged, and after one look at the inbox everything is there.
    #[test]
    fn everything_arrives_once_in_order_within_the_window(
        limit in 1..8usize,
        heads in prop::array::uniform6(0..20u64),
        positions in prop::array::uniform6(0..20u64),
        steps in prop::collection::vec(step(), 0..120),
    ) {
        let mut world = World::new(limit, heads, positions);
        for step in steps {
            world.apply(step);
        }
        world.finish();
        prop_assert_eq!(world.got, world.heads);
        prop_assert_eq!(world.stored, world.heads);
        prop_assert_eq!(world.caught_up, 1);
        let newest = (0..6).filter(|index| world.heads[*index] > 0).map(|index| world.rows[index]).max();
        prop_assert!(world.synced >= newest.unwrap_or(0) || world.plan.synced.0 >= newest.unwrap_or(0));
    }
}

/// A reader that never acknowledges costs its window and no more.
#[test]
fn without_acks_no_more_than_the_window_is_sent() {
    let mut world = World::new(3, [10; 6], [0; 6]);
    for _ in 0..100 {
        world.work();
    }
    assert_eq!(world.got.iter().sum::<u64>(), 3);
    assert_eq!(world.plan.unacked(), 3);
}

/// T12: an ack of what was never sent is told apart from a late or repeated one.
#[test]
fn an_ack_beyond_what_was_sent_is_noticed() {
    let mut world = World::new(8, [3, 0, 0, 0, 0, 0], [0; 6]);
    while world.work() {}
    let first = conversation(0);
    assert_eq!(world.plan.ack(first, Seq(2)), Some(AckOutcome::Freed(2)));
    assert_eq!(world.plan.ack(first, Seq(2)), Some(AckOutcome::Freed(0)));
    assert_eq!(world.plan.ack(first, Seq(1)), Some(AckOutcome::Freed(0)));
    assert_eq!(world.plan.ack(first, Seq(4)), Some(AckOutcome::BeyondSent));
    assert_eq!(world.plan.ack(conversation(9), Seq(1)), None);
}

/// An entry that the inbox promised but the user may not read does not keep the stream from catching up.
#[test]
fn an_unreadable_head_is_given_up() {
    let mut plan = Plan::new(8, ChangeStamp(0));
    plan.row(conversation(1), Seq(5), Seq::ZERO);
    plan.page_done(ChangeStamp(1), true);
    let order = plan.next_read().expect("a read");
    assert!(!plan.take_caught_up());
    plan.read_done(order, &[]);
    assert!(plan.is_drained());
    assert!(plan.take_caught_up());
}

/// I5: a conversation whose log is damaged keeps neither others nor the end of the backlog from anybody, and is delivered once
/// it was mended; until then a new stream begins before it. One that cannot be read at the moment is waited for.
#[test]
fn i5_what_cannot_be_read_hides_nothing_else() {
    let mut plan = Plan::new(8, ChangeStamp(0));
    let [damaged, failing, other] = [1, 2, 3].map(conversation);
    plan.row(damaged, Seq(1), Seq::ZERO);
    plan.row(failing, Seq(1), Seq::ZERO);
    plan.page_done(ChangeStamp(2), false);
    for is_damaged in [true, false] {
        let order = plan.next_read().expect("a read");
        plan.read_failed(order, is_damaged);
    }
    assert_eq!(plan.next_read(), None);
    assert_eq!(
        plan.next_page(),
        Some(ChangeStamp(2)),
        "others wait for what cannot be read"
    );
    plan.row(other, Seq(1), Seq::ZERO);
    plan.page_done(ChangeStamp(3), true);
    let order = plan.next_read().expect("a read of the other");
    assert_eq!(
        (order.conversation, plan.read_done(order, &[Seq(1)])),
        (other, vec![Some(true)])
    );
    assert!(!plan.take_caught_up(), "what fails for the moment is still owed");
    plan.try_again();
    let order = plan.next_read().expect("another try");
    assert_eq!(
        (order.conversation, plan.read_done(order, &[Seq(1)])),
        (failing, vec![Some(true)])
    );
    assert!(plan.take_caught_up());
    assert!(
        plan.mark_checkpoint().is_none(),
        "a new stream would begin behind what nobody got"
    );
    plan.look_again();
    let order = plan.next_read().expect("a look whether it was mended");
    assert_eq!(
        (order.conversation, plan.read_done(order, &[Seq(1)])),
        (damaged, vec![Some(false)])
    );
    assert_eq!(plan.live(other, Seq(2), true), Live::Send { backlog: false });
}

/// I9: more conversations than a session may remember are not lost: the inbox is read again.
#[test]
fn too_many_live_conversations_fall_back_to_the_inbox() {
    let mut plan = Plan::new(8, ChangeStamp(0));
    plan.page_done(ChangeStamp(0), true);
    for index in 0..=PULLS_MAX {
        let mut id = [0; 16];
        id[..8].copy_from_slice(&(index as u64).to_be_bytes());
        assert_eq!(plan.live(ConversationId(id), Seq(1), true), Live::Later);
    }
    assert_eq!(plan.unknown().len(), PULLS_MAX);
    assert!(plan.inbox_behind);
}
