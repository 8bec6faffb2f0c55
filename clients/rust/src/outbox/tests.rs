//! The outbox against a server that answers as it likes.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use proptest::prelude::*;
use stonechat_host::SeededRandom;
use stonechat_proto::v1::{AppendHeader, Effect, MessageContent, RefusalReason, SendRequest, message_content};

use super::*;
use crate::backoff::RetryPolicy;
use crate::store::Stored;

fn operation(conversation: &str, id: &str) -> QueuedOperation {
    let header = AppendHeader {
        conversation_id: conversation.to_owned(),
        client_msg_id: id.to_owned(),
        ..AppendHeader::default()
    };
    let content = MessageContent {
        content: Some(message_content::Content::Text(id.to_owned())),
        ..MessageContent::default()
    };
    let request = SendRequest {
        header: Some(header),
        content: Some(content),
    };
    QueuedOperation::new(Body::Send(request)).unwrap()
}

fn empty(seed: u64) -> Outbox {
    Outbox::new(Backoff::new(RetryPolicy::OPERATION, Arc::new(SeededRandom::new(seed))))
}

fn refusal(reason: RefusalReason, effect: Effect, last: &str) -> Refusal {
    Refusal {
        reason: reason.into(),
        effect: effect.into(),
        last_client_msg_id: last.to_owned(),
        ..Refusal::default()
    }
}

/// A server by the contract: frames in order, one log per conversation, duplicates by id, the predecessor rule with its
/// memory of what was refused.
#[derive(Default)]
struct Server {
    logs: BTreeMap<String, Vec<String>>,
    frames: VecDeque<(u64, Body)>,
    answers: VecDeque<(u64, Answer)>,
    /// Operations that this server refuses for good.
    poison: BTreeSet<String>,
    unanswered: VecDeque<Unanswered>,
    /// By conversation, in the order they first came: what is under way or was refused for now.
    lanes: BTreeMap<String, Vec<Unsettled>>,
}

struct Unsettled {
    id: String,
    /// Tries under way; none for one that was refused.
    flying: usize,
    /// It names none as predecessor, or one of the lane that does.
    in_line: bool,
}

struct Unanswered {
    request_id: u64,
    conversation: String,
    id: String,
    in_line: bool,
}

impl Server {
    /// Handles the oldest frame, refusing it as `mood` says.
    fn handle(&mut self, mood: u8) {
        let Some((request_id, Body::Send(request))) = self.frames.pop_front() else {
            return;
        };
        let header = request.header.unwrap();
        let log = self.logs.entry(header.conversation_id.clone()).or_default();
        let stored = log.iter().position(|id| *id == header.client_msg_id);
        let newest = log.last().cloned().unwrap_or_default();
        let lane = self.lanes.entry(header.conversation_id.clone()).or_default();
        let mut previous = header.previous_client_msg_id.clone();
        let predecessor = lane.iter().find(|append| append.id == previous);
        let in_line = previous.is_empty() || predecessor.is_some_and(|append| append.in_line);
        if !previous.is_empty() && predecessor.is_none() {
            lane.retain(|append| append.flying > 0);
        }
        let known = lane.iter().position(|append| append.id == header.client_msg_id);
        let place = known.unwrap_or_else(|| {
            lane.push(Unsettled {
                id: header.client_msg_id.clone(),
                flying: 0,
                in_line,
            });
            lane.len() - 1
        });
        lane[place].flying += 1;
        lane[place].in_line = in_line;
        if previous.is_empty() && place > 0 {
            previous.clone_from(&lane[place - 1].id);
        }
        let not_done = |reason| Answer::Refused(refusal(reason, Effect::NotDone, ""));
        let answer = if let Some(at) = stored {
            appended(&header, at, true)
        } else if mood == 1 {
            not_done(RefusalReason::RateLimited)
        } else if mood == 2 {
            not_done(RefusalReason::Unavailable)
        } else if !previous.is_empty() && previous != newest {
            Answer::Refused(refusal(RefusalReason::OutOfOrder, Effect::NotDone, &newest))
        } else if self.poison.contains(&header.client_msg_id) {
            not_done(RefusalReason::Blocked)
        } else {
            log.push(header.client_msg_id.clone());
            if mood == 3 {
                Answer::Refused(refusal(RefusalReason::Internal, Effect::Unknown, ""))
            } else {
                appended(&header, log.len() - 1, false)
            }
        };
        self.unanswered.push_back(Unanswered {
            request_id,
            conversation: header.conversation_id,
            id: header.client_msg_id,
            in_line,
        });
        self.answers.push_back((request_id, answer));
    }

    fn answer(&mut self) -> Option<(u64, Answer)> {
        let (request_id, answer) = self.answers.pop_front()?;
        let answered = self.unanswered.pop_front()?;
        assert_eq!(answered.request_id, request_id);
        let again = match &answer {
            Answer::Refused(refusal) => match refusal.reason() {
                RefusalReason::OutOfOrder => answered.in_line,
                RefusalReason::Blocked => false,
                _ => true,
            },
            _ => false,
        };
        let lane = self.lanes.entry(answered.conversation).or_default();
        if let Some(place) = lane.iter().position(|append| append.id == answered.id) {
            lane[place].flying = lane[place].flying.saturating_sub(1);
            if !again {
                lane.remove(place);
            }
        }
        Some((request_id, answer))
    }

    fn cut(&mut self) {
        self.frames.clear();
        self.answers.clear();
        self.unanswered.clear();
        self.lanes.clear();
    }
}

fn appended(header: &AppendHeader, at: usize, duplicate: bool) -> Answer {
    Answer::Appended(Appended {
        conversation_id: header.conversation_id.clone(),
        client_msg_id: header.client_msg_id.clone(),
        seq: at as u64 + 1,
        duplicate,
        ..Appended::default()
    })
}

struct World {
    outbox: Outbox,
    server: Server,
    /// What a store would hold: unfinished operations in order.
    journal: Stored,
    taken: Vec<(String, String)>,
    accepted: BTreeSet<String>,
    failed: BTreeSet<String>,
    now: Instant,
    request: u64,
}

impl World {
    fn new(poison: BTreeSet<String>) -> Self {
        Self {
            outbox: empty(1),
            server: Server {
                poison,
                ..Server::default()
            },
            journal: Stored::default(),
            taken: Vec::new(),
            accepted: BTreeSet::new(),
            failed: BTreeSet::new(),
            now: stonechat_host::monotonic(),
            request: 0,
        }
    }

    fn step(&mut self, action: u8, mood: u8) {
        match action {
            0..=2 => self.take(action),
            3..=5 => self.send(),
            6..=8 => self.server.handle(mood),
            9..=11 => self.deliver_answer(),
            12 => self.now += Duration::from_millis(300),
            13 => {
                self.server.cut();
                self.outbox.disconnected();
            }
            _ => self.restart(),
        }
    }

    fn take(&mut self, conversation: u8) {
        let conversation = format!("c{conversation}");
        let id = format!("m{}", self.taken.len());
        let operation = operation(&conversation, &id);
        self.journal.apply(Record::Queued(operation.clone()));
        self.outbox.push(operation, None);
        self.taken.push((conversation, id));
    }

    fn send(&mut self) {
        self.request += 1;
        if let Some(body) = self.outbox.next(self.now, self.request) {
            self.server.frames.push_back((self.request, body));
        }
    }

    fn deliver_answer(&mut self) {
        let Some((request_id, answer)) = self.server.answer() else {
            return;
        };
        if let Some((settled, finished)) = self.outbox.answer(self.now, request_id, answer) {
            let Record::Finished { client_msg_id: id, .. } = &finished else {
                panic!("not finished: {finished:?}")
            };
            let id = id.clone();
            self.journal.apply(finished);
            let fresh = match settled {
                Settled::Accepted(_) => self.accepted.insert(id),
                Settled::Failed { client_msg_id, .. } => self.failed.insert(client_msg_id),
            };
            assert!(fresh, "settled twice");
        }
    }

    /// The app dies; what the store holds is tried again.
    fn restart(&mut self) {
        self.server.cut();
        self.outbox = empty(2);
        for operation in &self.journal.outbox {
            self.outbox.push(operation.clone(), None);
        }
    }

    /// The server is well from now on.
    fn finish(&mut self) {
        for _ in 0..20_000 {
            if self.outbox.len() == 0 {
                return;
            }
            self.now += Duration::from_millis(50);
            self.send();
            self.server.handle(0);
            self.deliver_answer();
        }
        panic!("the outbox does not drain");
    }

    fn check(&self) {
        for (conversation, log) in &self.server.logs {
            let wanted: Vec<&String> = self
                .taken
                .iter()
                .filter(|(taken, id)| taken == conversation && !self.server.poison.contains(id))
                .map(|(_, id)| id)
                .collect();
            assert_eq!(log.iter().collect::<Vec<_>>(), wanted, "I4: order of {conversation}");
        }
        for (_, id) in &self.taken {
            let refused = self.server.poison.contains(id);
            assert_eq!(self.failed.contains(id), refused, "{id} refused for good");
            assert_eq!(self.accepted.contains(id), !refused, "I1: {id} accepted");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    /// I1, I2, I4: whatever the server answers and whatever is cut or restarted, each operation is stored once, in the
    /// order taken, or reported as refused.
    #[test]
    fn i4_order_is_kept_and_nothing_is_lost(
        steps in prop::collection::vec((0_u8..15, 0_u8..5), 0..400),
        poison in prop::collection::btree_set(0_usize..60, 0..8),
    ) {
        let mut world = World::new(poison.into_iter().map(|at| format!("m{at}")).collect());
        for (action, mood) in steps {
            world.step(action, mood);
        }
        world.finish();
        world.check();
    }
}

#[test]
fn a_pipeline_names_each_predecessor() {
    let mut outbox = empty(1);
    let now = stonechat_host::monotonic();
    for id in ["a", "b", "c"] {
        outbox.push(operation("x", id), None);
    }
    let mut previous = Vec::new();
    for request in 1..=3 {
        let Some(Body::Send(send)) = outbox.next(now, request) else {
            panic!("nothing to send")
        };
        previous.push(send.header.unwrap().previous_client_msg_id);
    }
    assert_eq!(previous, ["", "a", "b"]);
    assert!(outbox.next(now, 4).is_none());
}

/// R10: while the server asks for patience, one operation per conversation is tried, and that ever more rarely.
#[test]
fn r10_a_server_that_refuses_for_a_minute_sees_few_tries() {
    let mut outbox = empty(7);
    let start = stonechat_host::monotonic();
    for at in 0..1_000 {
        outbox.push(operation("x", &format!("m{at}")), None);
    }
    let (mut now, mut tries) = (start, 0);
    while now < start + Duration::from_secs(60) {
        if outbox.next(now, tries + 1).is_some() {
            tries += 1;
            let no = refusal(RefusalReason::Unavailable, Effect::NotDone, "");
            assert!(outbox.answer(now, tries, Answer::Refused(no)).is_none());
        }
        now += Duration::from_millis(10);
    }
    assert!((4..=40).contains(&tries), "{tries} tries");
}

/// A conversation that must wait does not hold up another one.
#[test]
fn lanes_are_independent_and_take_turns() {
    let mut outbox = empty(1);
    let now = stonechat_host::monotonic();
    for id in ["a", "b"] {
        outbox.push(operation("x", id), None);
    }
    outbox.push(operation("y", "c"), None);
    let order: Vec<String> = (1..=3)
        .map(|request| match outbox.next(now, request) {
            Some(Body::Send(send)) => send.header.unwrap().client_msg_id,
            _ => panic!("nothing to send"),
        })
        .collect();
    assert_eq!(order, ["a", "c", "b"]);
}
